"""The bytes that a DSSE envelope's signature is over. Parses no envelope, verifies nothing."""

from __future__ import annotations


def pae(payload_type: str, payload: bytes) -> bytes:
    """Return the pre-authentication encoding (DSSE protocol, version 1).

    Args:
        payload_type: Media type of the payload; its length counts UTF-8 bytes, not characters.
        payload: The payload itself, not its base64.
    """
    kind = payload_type.encode("utf-8")
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)
