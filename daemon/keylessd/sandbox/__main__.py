"""The sandbox's command: ``python -m keylessd.sandbox up | env | token | status | down``.

Exit statuses: 0, 1 for a failure, 2 for the command line, 3 for a package that is missing.
"""

from __future__ import annotations

import sys

MISSING = 3


def _main() -> int:
    try:
        # Here and not above, so that a missing package can be told in a sentence.
        from keylessd.sandbox.command import main  # noqa: PLC0415

        return main()
    except ModuleNotFoundError as exc:
        package = (exc.name or "").split(".")[0]
        if package in ("", "keyless", "keylessd"):
            raise
        sys.stderr.write(
            f"keyless sandbox: {package} is missing; install with: pip install 'keyless[sandbox]'\n"
        )
        return MISSING


if __name__ == "__main__":
    sys.exit(_main())
