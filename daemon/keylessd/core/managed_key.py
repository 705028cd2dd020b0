"""Reads the managed key that a caller trusts: alone, or with the period in which it was in use."""

from __future__ import annotations

from keylessd.core.keys import MAX_KEY_BYTES, NO_PSS, PublicKey, key_details, load_public_key
from keylessd.core.strict_json import Fields, StrictJsonError, loads
from keylessd.core.trusted_root import time_range_of
from keylessd.core.verified import ManagedKey
from keylessd.errors import InvalidInputError

_PUBLIC_KEY = frozenset({"rawBytes", "keyDetails", "validFor"})
# Names that say something of the signature too; of the key itself they say what the others do.
_SAME_KEY = {
    "PKIX_ECDSA_P384_SHA_256": "PKIX_ECDSA_P384_SHA_384",
    "PKIX_ECDSA_P521_SHA_256": "PKIX_ECDSA_P521_SHA_512",
    "PKIX_ED25519_PH": "PKIX_ED25519",
}


def read_managed_key(raw: bytes) -> ManagedKey:
    """Return the key that *raw* is, with its period if it has one.

    Args:
        raw: PEM or DER as `load_public_key` takes it; or the JSON of Sigstore's PublicKey message,
            as trust roots have it: ``rawBytes``, ``keyDetails``, ``validFor``, of which the latter
            two may be absent.

    Raises:
        InvalidInputError: It is none of these, or not a key of the kind that it says.
    """
    if not raw.lstrip().startswith(b"{"):
        return ManagedKey(load_public_key(raw))
    try:
        value = loads(raw, max_bytes=MAX_KEY_BYTES)
        fields = Fields(value, path="publicKey", known=_PUBLIC_KEY, closed=True)
        valid_for = time_range_of(fields, "validFor")
        if (
            valid_for is not None
            and valid_for.start is not None
            and not valid_for.contains(valid_for.start)
        ):
            fields.fail("validFor", "it ends before it starts")
        details = fields.text("keyDetails")
        encoded = fields.octets("rawBytes")
    except StrictJsonError as exc:
        raise InvalidInputError(f"the public key cannot be used: {exc}") from exc
    key = load_public_key(encoded)
    if "RSA_PSS" in details:
        raise InvalidInputError(NO_PSS)
    if details and not _is_of_kind(key, details):
        raise InvalidInputError(f"the public key is not of the kind {details[:100]!r}")
    return ManagedKey(key, valid_for)


def _is_of_kind(key: PublicKey, details: str) -> bool:
    return key_details(key) == _SAME_KEY.get(details, details)
