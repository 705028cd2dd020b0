"""Reads a signature that lies in files of its own, as the command line names them."""

import os

from keyless._surroundings import read_file
from keyless.errors import KeylessError
from keyless.values import Detached

TYPE_CHECKING = False
if TYPE_CHECKING:
    from keyless.cli._options import Options

# Key of each option and the field it fills; what the file is, for messages.
PARTS = {
    "signature": "signature",
    "certificate": "certificate",
    "certificate_chain": "certificate_chain",
    "rfc3161_timestamp": "timestamp",
}
WHAT = {
    "bundle": "bundle",
    "signature": "signature",
    "certificate": "certificate",
    "certificate_chain": "certificate chain",
    "rfc3161_timestamp": "timestamp",
}


def detached_of(options: "Options") -> "Detached | None":
    """Return the parts that were named, with the bundle if one was named too; None if no part.

    Raises:
        KeylessError: ``file_error``, ``too_large``; ``usage`` without a signature.
    """
    given = {name: options.text(name) for name in PARTS}
    if not any(given.values()):
        return None
    bundle = options.text("bundle")
    if bundle is None and given["signature"] is None:
        named = next(name for name, path in given.items() if path)
        raise KeylessError(
            "usage",
            f"--{named.replace('_', '-')} needs --signature, or --bundle with cosign's JSON of old",
        )
    parts: dict[str, bytes | None] = {
        field: None if given[name] is None else _part(name, given[name] or "")
        for name, field in PARTS.items()
    }
    return Detached(**parts, bundle=None if bundle is None else read_file(bundle, what="--bundle"))


def _part(name: str, path: str) -> bytes:
    # cosign takes the signature itself there too, and scripts give it.
    if name == "signature" and path != "-" and not os.path.exists(path) and _is_base64(path):
        return path.encode("ascii")
    return read_file(path, what=f"--{name.replace('_', '-')}")


def _is_base64(text: str) -> bool:
    """Return whether *text* can be a signature in base64 and hardly a path: 64 bytes and more."""
    return (
        len(text) >= 84  # noqa: PLR2004  # the shortest, of Ed25519, has 88
        and len(text) % 4 == 0
        and all(c.isascii() and (c.isalnum() or c in "+/=") for c in text)
    )
