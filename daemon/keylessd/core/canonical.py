"""Canonical JSON (RFC 8785) of the values that Sigstore signs. Writes only; no floats."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from keylessd.core.strict_json import JsonValue

# RFC 8785, 3.2.2.3 writes numbers as IEEE 754 doubles: above this, integers lose digits.
MAX_INTEGER = (1 << 53) - 1


def canonical_json(value: JsonValue) -> bytes:
    """Return *value* in the one form that RFC 8785 allows, as UTF-8.

    Args:
        value: Built of str, int, bool, None, list and dict.

    Raises:
        ValueError: A float, an integer beyond 2**53 - 1, a lone surrogate, or another type
            is in it. Nothing that Sigstore signs has one.
    """
    text = json.dumps(_ordered(value), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.encode("utf-8")


def _ordered(value: JsonValue) -> JsonValue:
    """Return a copy with the keys of every object in the order of RFC 8785."""
    if isinstance(value, dict):
        # RFC 8785, 3.2.3: by UTF-16 code units, which differs from Python's code points.
        keys = sorted(value, key=lambda key: key.encode("utf-16-be"))
        return {key: _ordered(value[key]) for key in keys}
    if isinstance(value, list):
        return [_ordered(item) for item in value]
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, int) and abs(value) <= MAX_INTEGER:
        return value
    raise ValueError(f"no canonical form for this {type(value).__name__}")
