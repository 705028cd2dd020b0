"""Reads an identity token (a JWT) without trusting it, and tells whether a CA could take it.

Nobody here verifies the token's signature: the certificate authority does. So what a token
says may decide how an error reads and what a certificate must say, never what a caller may do.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import TYPE_CHECKING, NoReturn

from keylessd.core.strict_json import JsonValue, StrictJsonError, loads
from keylessd.errors import TokenError
from keylessd.secret import Secret

if TYPE_CHECKING:
    from collections.abc import Mapping

DEFAULT_AUDIENCE = "sigstore"
MAX_TOKEN = 32 << 10  # characters; real ones are 0.5 to 4 KiB
MAX_AUDIENCES = 64
MAX_CLAIM = 1024  # characters of issuer, subject and address; they are shown in errors
# A call to the CA is not begun with less: Fulcio gives no leeway at all on `exp`.
MIN_REMAINING = timedelta(seconds=10)
# Fulcio's leeway on `nbf`, for clocks that differ.
EARLY = timedelta(minutes=5)
MAX_EPOCH = 253402300799  # the last second of the year 9999
UNSIGNED = frozenset({"none", "hs256", "hs384", "hs512"})
MAX_KNOWN = 256  # tokens of which is remembered what they say
_FORGOTTEN = Secret("")
BASE64URL = re.compile(r"[A-Za-z0-9_-]+")


@dataclass(frozen=True, slots=True)
class IdentityToken:
    """The claims of a token that matter here. None of them is verified.

    Attributes:
        raw: The token itself.
        sha256: SHA-256 of the token's text; names it where the token must not appear.
        issuer: ``iss``.
        subject: ``sub``.
        email: ``email``, if it has one.
        email_verified: Whether the issuer says it verified *email*.
        audience: ``aud``, always as a tuple.
        expires: ``exp``.
        issued: ``iat``, if it has one; informative only.
        federated_issuer: The upstream issuer that a federating one (Dex) names.
        claims: The other claims that are text, by name.
        not_before: ``nbf``, if it has one.
    """

    raw: Secret
    sha256: bytes
    issuer: str
    subject: str
    email: str | None
    email_verified: bool
    audience: tuple[str, ...]
    expires: datetime
    issued: datetime | None
    federated_issuer: str | None
    claims: Mapping[str, str]
    not_before: datetime | None = None

    @property
    def identity_hint(self) -> str:
        """Who the token seems to be: its email address, else its subject."""
        return self.email if self.email is not None else self.subject


def parse_token(raw: Secret) -> IdentityToken:
    """Read the claims of a token.

    Args:
        raw: The compact form of a signed JWT: three parts of base64url between dots.

    Raises:
        TokenError: ``token_malformed``; it never quotes the token.
    """
    text = raw.reveal()
    if len(text) > MAX_TOKEN:
        _malformed(f"it has {len(text)} characters; the limit is {MAX_TOKEN}")
    parts = text.split(".")
    if len(parts) != 3 or not all(BASE64URL.fullmatch(part) for part in parts):  # noqa: PLR2004
        _malformed("it is not three parts of base64url between dots")
    algorithm = _json_part(parts[0], "header").get("alg")
    if not isinstance(algorithm, str) or algorithm.lower() in UNSIGNED:
        _malformed("it is not signed with a public key")
    claims = _json_part(parts[1], "payload")
    email = _optional_text(claims, "email")
    return IdentityToken(
        raw=raw,
        sha256=hashlib.sha256(text.encode()).digest(),
        issuer=_text(claims, "iss"),
        subject=_text(claims, "sub"),
        email=email,
        email_verified=_is_true(claims.get("email_verified")),
        audience=_audience(claims.get("aud")),
        expires=_moment(claims, "exp"),
        issued=_moment(claims, "iat") if claims.get("iat") is not None else None,
        federated_issuer=_federated_issuer(claims.get("federated_claims")),
        claims=MappingProxyType({k: v for k, v in claims.items() if isinstance(v, str)}),
        not_before=_moment(claims, "nbf") if claims.get("nbf") is not None else None,
    )


class KnownTokens:
    """Reads tokens, and remembers what they said; of the tokens themselves nothing stays.

    A build farm signs thousands of artifacts with one token.
    """

    def __init__(self) -> None:
        self._known: dict[bytes, IdentityToken] = {}  # by SHA-256; their raw text is not theirs

    def read(self, raw: Secret) -> IdentityToken:
        """Return what parse_token() returns, and raise what it raises."""
        sha256 = hashlib.sha256(raw.reveal().encode(errors="surrogatepass")).digest()
        known = self._known.get(sha256)
        if known is None:
            known = parse_token(raw)
            if len(self._known) >= MAX_KNOWN:
                del self._known[next(iter(self._known))]
            self._known[sha256] = replace(known, raw=_FORGOTTEN)
            return known
        return replace(known, raw=raw)


def check_token(
    token: IdentityToken,
    *,
    now: datetime,
    audience: str = DEFAULT_AUDIENCE,
    needs_email: bool = False,
) -> None:
    """Check what the CA is sure to check, to fail with the reason that it would not give.

    Args:
        token: The token.
        now: Current time, UTC.
        audience: What its ``aud`` must contain.
        needs_email: Whether the CA certifies the email address of this issuer's tokens, which
            it does only if the issuer verified it.

    Raises:
        TokenError: ``token_expired``, ``token_audience``, ``token_unverified_email``, or
            ``token_rejected`` for one that is not valid yet.
    """
    if token.not_before is not None and token.not_before > now + EARLY:
        raise TokenError(
            "token_rejected",
            f"the identity token is not valid for another {seconds_text(token.not_before - now)},"
            f" until {token.not_before.isoformat()}",
            hint="compare the clock of this machine with that of the token's issuer",
        )
    remaining = token.expires - now
    if remaining <= timedelta(0):
        raise TokenError(
            "token_expired",
            f"the identity token ended {seconds_text(-remaining)} ago, at"
            f" {token.expires.isoformat()}",
            hint="run `keyless login`, or get a fresh token from its issuer; a job of a CI system"
            " gets one of its own if SIGSTORE_ID_TOKEN is not set",
        )
    if remaining < MIN_REMAINING:
        raise TokenError(
            "token_expired",
            f"the identity token ends in {seconds_text(remaining)}; at least"
            f" {seconds_text(MIN_REMAINING)} are needed to use it",
            hint="run `keyless login`, or get a fresh token from its issuer; a job of a CI system"
            " gets one of its own if SIGSTORE_ID_TOKEN is not set",
        )
    if audience not in token.audience:
        found = ", ".join(repr(entry[:200]) for entry in token.audience[:4])
        raise TokenError(
            "token_audience",
            f"the identity token is for audience {found}; the certificate authority wants"
            f" {audience!r}",
            hint=f"ask the issuer for a token with audience {audience}",
        )
    if needs_email and token.email is None:
        raise TokenError(
            "token_unverified_email",
            f"the identity token of {token.issuer!r} has no email address to certify",
            hint="ask the issuer for the scope `openid email`",
        )
    if needs_email and not token.email_verified:
        raise TokenError(
            "token_unverified_email",
            f"the issuer {token.issuer!r} did not verify the address {token.email!r}",
            hint="have the address confirmed there, or sign as somebody whose address is",
        )


def seconds_text(span: timedelta) -> str:
    """Return a span in whole seconds with its unit."""
    return f"{int(span.total_seconds())} s"


def _malformed(reason: str) -> NoReturn:
    raise TokenError(
        "token_malformed",
        f"the identity token cannot be read: {reason}",
        hint="pass the ID token itself (a JWT), a file that holds it, or - for standard input",
    )


def _json_part(part: str, name: str) -> dict[str, JsonValue]:
    try:
        raw = base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
        value = loads(raw, max_bytes=MAX_TOKEN)
    except (binascii.Error, StrictJsonError):
        _malformed(f"its {name} is not JSON in base64url")
    if not isinstance(value, dict):
        _malformed(f"its {name} is not a JSON object")
    return value


def _text(claims: Mapping[str, JsonValue], name: str) -> str:
    value = claims.get(name)
    if not isinstance(value, str) or not value:
        _malformed(f"it has no claim {name}")
    return _short(name, value)


def _short(name: str, value: str) -> str:
    if len(value) > MAX_CLAIM:
        _malformed(f"its claim {name} has {len(value)} characters; the limit is {MAX_CLAIM}")
    return value


def _optional_text(claims: Mapping[str, JsonValue], name: str) -> str | None:
    value = claims.get(name)
    if value is not None and not isinstance(value, str):
        _malformed(f"its claim {name} is no text")
    return _short(name, value) if value else None


def _audience(value: JsonValue) -> tuple[str, ...]:
    entries = [value] if isinstance(value, str) else value
    if not isinstance(entries, list) or not 1 <= len(entries) <= MAX_AUDIENCES:
        _malformed("it has no claim aud")
    texts = tuple(entry for entry in entries if isinstance(entry, str) and entry)
    if len(texts) != len(entries):
        _malformed("its claim aud holds something that is not text")
    return texts


def _moment(claims: Mapping[str, JsonValue], name: str) -> datetime:
    value = claims.get(name)
    # Some issuers write fractions of a second.
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value < MAX_EPOCH:
        _malformed(f"its claim {name} is no time")
    return datetime.fromtimestamp(value, UTC)


def _is_true(value: JsonValue) -> bool:
    # Fulcio takes the text forms too.
    return value is True or value in ("true", "True")


def _federated_issuer(value: JsonValue) -> str | None:
    connector = value.get("connector_id") if isinstance(value, dict) else None
    return connector if isinstance(connector, str) and connector else None
