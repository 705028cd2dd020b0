"""Verifies Ed25519ph signatures (RFC 8032, 5.1), which the cryptography library does not offer.

Sigstore's logs take Ed25519 keys in this form alone, since it signs a digest (SHA-512). Verifying
needs no secret, so nothing here has to run in constant time. Signs nothing.
"""

from __future__ import annotations

import hashlib

SIGNATURE_BYTES = 64
KEY_BYTES = 32
DIGEST_BYTES = 64  # of SHA-512

_P = 2**255 - 19
_ORDER = 2**252 + 27742317777372353535851937790883648493
_D = -121665 * pow(121666, -1, _P) % _P
_ROOT_OF_MINUS_ONE = pow(2, (_P - 1) // 4, _P)
# RFC 8032, 2 and 5.1: dom2(1, ""), the prefix of all that Ed25519ph hashes.
_DOMAIN = b"SigEd25519 no Ed25519 collisions\x01\x00"

# Extended homogeneous coordinates: x = X/Z, y = Y/Z, x*y = T/Z.
_Point = tuple[int, int, int, int]
_NEUTRAL: _Point = (0, 1, 1, 0)
_BASE_X = 15112221349535400772501151409588531511454012693041857206046113283949847762202
_BASE_Y = 46316835694926478169428394003475163141307993866256225615783033603165251855960
_BASE: _Point = (_BASE_X, _BASE_Y, 1, _BASE_X * _BASE_Y % _P)


def verify_prehashed(key: bytes, signature: bytes, digest: bytes) -> bool:
    """Return whether *signature* was made by *key* over the message with *digest*.

    RFC 8032, 5.1.7, the equation without cofactor, as most libraries have it. Keys of small order,
    which it leaves to the reader, are refused.

    Args:
        key: 32 bytes.
        signature: 64 bytes; of any other length it is wrong.
        digest: SHA-512 of the message, 64 bytes.
    """
    if len(signature) != SIGNATURE_BYTES or len(digest) != DIGEST_BYTES:
        return False
    public = _decode(key)
    encoded, scalar = signature[:KEY_BYTES], int.from_bytes(signature[KEY_BYTES:], "little")
    if public is None or _is_of_small_order(public) or scalar >= _ORDER:
        return False
    hashed = hashlib.sha512(_DOMAIN + encoded + key + digest).digest()
    challenge = int.from_bytes(hashed, "little") % _ORDER
    x, y, z, t = public
    minus_public = (-x % _P, y, z, -t % _P)
    # S*B - k*A is R. It is compared as it is encoded, so only one encoding of R counts.
    return _encode(_sum_of_multiples(scalar, _BASE, challenge, minus_public)) == encoded


def _decode(encoded: bytes) -> _Point | None:
    """Return the point, None if there is none or it is not encoded canonically."""
    if len(encoded) != KEY_BYTES:
        return None
    number = int.from_bytes(encoded, "little")
    sign, y = number >> 255, number & (1 << 255) - 1
    if y >= _P:
        return None
    # x*x = (y*y - 1) / (d*y*y + 1); RFC 8032, 5.1.3.
    u, v = (y * y - 1) % _P, (_D * y * y + 1) % _P
    x = u * pow(v, 3, _P) * pow(u * pow(v, 7, _P), (_P - 5) // 8, _P) % _P
    if (v * x * x - u) % _P:
        x = x * _ROOT_OF_MINUS_ONE % _P
        if (v * x * x - u) % _P:
            return None
    if x == 0 and sign:
        return None
    if x & 1 != sign:
        x = _P - x
    return (x, y, 1, x * y % _P)


def _is_of_small_order(point: _Point) -> bool:
    """Return whether eight times the point is nothing: such a key fits any message."""
    for _ in range(3):
        point = _add(point, point)
    return point[0] % _P == 0 and (point[1] - point[2]) % _P == 0


def _encode(point: _Point) -> bytes:
    inverse = pow(point[2], -1, _P)
    x, y = point[0] * inverse % _P, point[1] * inverse % _P
    return (y | (x & 1) << 255).to_bytes(KEY_BYTES, "little")


def _add(one: _Point, two: _Point) -> _Point:
    # RFC 8032, 5.1.4. It is complete: it doubles as well.
    a = (one[1] - one[0]) * (two[1] - two[0]) % _P
    b = (one[1] + one[0]) * (two[1] + two[0]) % _P
    c = 2 * one[3] * two[3] * _D % _P
    d = 2 * one[2] * two[2] % _P
    e, f, g, h = b - a, d - c, d + c, b + a
    return (e * f % _P, g * h % _P, f * g % _P, e * h % _P)


def _sum_of_multiples(first: int, one: _Point, second: int, two: _Point) -> _Point:
    """Return first * one + second * two, by the doublings that both share."""
    both = _add(one, two)
    result = _NEUTRAL
    for bit in range(max(first.bit_length(), second.bit_length()) - 1, -1, -1):
        result = _add(result, result)
        chosen = (first >> bit & 1, second >> bit & 1)
        if chosen != (0, 0):
            result = _add(result, {(1, 0): one, (0, 1): two, (1, 1): both}[chosen])
    return result
