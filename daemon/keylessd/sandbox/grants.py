"""Remembers who logged in at the sandbox's issuer, and rotates refresh tokens. No HTTP.

A refresh token works once. Whoever presents a used one shows that it was copied, so everything
that came of that login ends (RFC 9700, 4.14.2). Only hashes of tokens are stored.
"""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from keylessd.clock import Clock
    from keylessd.sandbox.vault import Vault

RandomBytes = Callable[[int], bytes]

DOCUMENT = "oidc-grants.json"
TOKEN_BYTES = 32
# A login that nobody refreshed for so long has ended; it also bounds the document.
IDLE_LIFETIME = timedelta(days=90)
GRANTS_MAX = 10_000


class OAuthError(Exception):
    """An answer in the form of RFC 6749, 5.2; ``error`` is its code."""

    def __init__(self, error: str, description: str, *, status: int = 400) -> None:
        super().__init__(description)
        self.error = error
        self.description = description
        self.status = status


@dataclass(frozen=True, slots=True)
class Person:
    """Who logged in.

    Attributes:
        identity: An email address, or any other text: then a bare subject.
        connector: The upstream issuer that is claimed to have authenticated them, or "".
    """

    identity: str
    connector: str = ""


@dataclass(slots=True)
class Grant:
    """What one login granted to one client."""

    client_id: str
    scopes: tuple[str, ...]
    person: Person
    nonce: str
    last_used: datetime
    current: str = ""  # SHA-256 of the refresh token that works now, in hex
    obsoleted: datetime | None = None  # when the one before it was replaced
    used: list[str] = field(default_factory=list)


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def random_text(random_bytes: RandomBytes, size: int = TOKEN_BYTES) -> str:
    """Return *size* random bytes in base64url without padding."""
    return base64.urlsafe_b64encode(random_bytes(size)).rstrip(b"=").decode()


class Grants:
    """The logins that can be refreshed.

    Args:
        vault: Keeps them over a restart.
        clock: Tells when a login went stale.
        reuse_interval: For how long after a rotation the token before it is still taken, and
            rotates again; some issuers allow that, so that a lost reply does no harm.
        random_bytes: Source of tokens.
    """

    def __init__(
        self,
        vault: Vault,
        *,
        clock: Clock,
        reuse_interval: timedelta = timedelta(0),
        random_bytes: RandomBytes = secrets.token_bytes,
    ) -> None:
        self._vault = vault
        self._clock = clock
        self._reuse_interval = reuse_interval
        self._random_bytes = random_bytes
        self._grants = _load(vault)

    def __len__(self) -> int:
        return len(self._grants)

    def open(
        self, *, client_id: str, scopes: tuple[str, ...], person: Person, nonce: str
    ) -> tuple[Grant, str]:
        """Remember a login; return it with its first refresh token."""
        now = self._clock.now()
        self._grants = [
            grant for grant in self._grants[-GRANTS_MAX:] if now - grant.last_used < IDLE_LIFETIME
        ]
        grant = Grant(client_id, scopes, person, nonce, now)
        self._grants.append(grant)
        return grant, self._rotate(grant)

    def refresh(self, token: str, *, client_id: str) -> tuple[Grant, str]:
        """Return the login that *token* belongs to, and the token that replaces it.

        Raises:
            OAuthError: ``invalid_grant``. If the token was used before, its login has ended.
        """
        digest = _hash(token)
        for grant in self._grants:
            if grant.client_id != client_id:
                continue
            if digest == grant.current or self._lately_current(grant, digest):
                return grant, self._rotate(grant)
            if digest in grant.used:
                self._end(grant)
                raise OAuthError("invalid_grant", "the refresh token was used before")
        raise OAuthError("invalid_grant", "the refresh token is not known")

    def revoke(self, token: str, *, client_id: str) -> None:
        """End the login that *token* belongs to; an unknown token is no error (RFC 7009, 2.2)."""
        digest = _hash(token)
        for grant in list(self._grants):
            if grant.client_id == client_id and (digest == grant.current or digest in grant.used):
                self._end(grant)

    def end(self, grant: Grant) -> None:
        """End *grant*, if it still is."""
        if grant in self._grants:
            self._end(grant)

    def _lately_current(self, grant: Grant, digest: str) -> bool:
        return (
            grant.obsoleted is not None
            and grant.used[-1:] == [digest]
            and self._clock.now() - grant.obsoleted < self._reuse_interval
        )

    def _rotate(self, grant: Grant) -> str:
        token = random_text(self._random_bytes)
        now = self._clock.now()
        if grant.current:
            grant.used.append(grant.current)
            grant.obsoleted = now
        grant.current = _hash(token)
        grant.last_used = now
        self._save()
        return token

    def _end(self, grant: Grant) -> None:
        self._grants.remove(grant)
        self._save()

    def _save(self) -> None:
        values = [
            {
                "client_id": grant.client_id,
                "scopes": list(grant.scopes),
                "identity": grant.person.identity,
                "connector": grant.person.connector,
                "nonce": grant.nonce,
                "last_used": grant.last_used.isoformat(),
                "current": grant.current,
                "obsoleted": None if grant.obsoleted is None else grant.obsoleted.isoformat(),
                "used": grant.used,
            }
            for grant in self._grants
        ]
        self._vault.save(DOCUMENT, json.dumps(values).encode())


def _load(vault: Vault) -> list[Grant]:
    raw = vault.load(DOCUMENT)
    if raw is None:
        return []
    return [
        Grant(
            client_id=value["client_id"],
            scopes=tuple(value["scopes"]),
            person=Person(value["identity"], value["connector"]),
            nonce=value["nonce"],
            last_used=datetime.fromisoformat(value["last_used"]),
            current=value["current"],
            obsoleted=(
                None if value["obsoleted"] is None else datetime.fromisoformat(value["obsoleted"])
            ),
            used=value["used"],
        )
        for value in json.loads(raw)
    ]
