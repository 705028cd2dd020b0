"""What SPIFFE calls things: identities, and where an agent listens. Pure."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import unquote, urlsplit

MAX_SPIFFE_ID: Final = 2048  # bytes (SPIFFE ID, 2.3)
MAX_SOCKET_PATH: Final = 107  # bytes; the kernel takes no more
ENDPOINT_VARIABLE: Final = "SPIFFE_ENDPOINT_SOCKET"

# SPIFFE ID, 2: a trust domain of lower-case letters, and segments of a path.
_SPIFFE_ID: Final = re.compile(r"spiffe://[a-z0-9._-]{1,255}(?:/[A-Za-z0-9._-]+)*")


def is_spiffe_id(text: str) -> bool:
    """Return whether *text* is a SPIFFE ID, with or without a path."""
    if len(text) > MAX_SPIFFE_ID or _SPIFFE_ID.fullmatch(text) is None:
        return False
    segments = text.removeprefix("spiffe://").split("/")
    return not {".", ".."} & set(segments)


def agent_socket(text: str) -> str:
    """Return the path of the Unix socket that an endpoint names.

    SPIFFE Workload Endpoint, 4: ``unix:///path``. Many programs write the bare path, which is
    taken as well. ``tcp`` is not: who asks there cannot be told from anybody else.

    Raises:
        ValueError: It is neither; the message says what is wrong.
    """
    path = text
    if not text.startswith("/"):
        parts = urlsplit(text)
        if parts.scheme != "unix":
            raise ValueError(f"{text!r} is neither an absolute path nor unix:///PATH")
        if parts.netloc or parts.query or parts.fragment or not parts.path.startswith("/"):
            raise ValueError(f"{text!r} is not unix:// with an absolute path and nothing else")
        path = unquote(parts.path, errors="strict")
    if not path.isprintable() or path.endswith("/"):
        raise ValueError(f"{text!r} does not name a socket")
    if len(path.encode()) > MAX_SOCKET_PATH:
        raise ValueError(f"the path of a socket has at most {MAX_SOCKET_PATH} bytes")
    return path
