"""`python -m tests.real install|up|status|down`: the real Sigstore services, for a person."""

from __future__ import annotations

import argparse
import sys

from tests.real.install import InstallError, install


def main() -> int:
    """Do what the command line says; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.real", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("install", help="build and install what is missing")
    one.add_argument("-p", "--jobs", type=int, help="compilers at once (default: all cores)")
    arguments = parser.parse_args()
    try:
        install(jobs=arguments.jobs)
    except InstallError as exc:
        sys.stderr.write(f"{exc}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
