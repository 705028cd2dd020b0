"""Where an identity token comes from: what every source promises, and the caller's own token.

A source that holds a session or asks the environment has the same interface.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from keylessd.errors import LoginRequiredError
from keylessd.identity.token import IdentityToken, parse_token

if TYPE_CHECKING:
    from keylessd.secret import Secret


@dataclass(frozen=True, slots=True)
class AmbientGrant:
    """What the caller found in its own environment: leave to fetch a token, for this request.

    Attributes:
        kind: Which environment; one of those that the protocol lists.
        token: What the environment gave the caller to authenticate with.
        url: Where to ask, where the environment says.
        job: Which job is running, where the environment needs to be told.
        audience: Whom the token is to be for, or None for the usual one.
    """

    kind: str
    token: Secret
    url: str | None = None
    job: str | None = None
    audience: str | None = None


@dataclass(frozen=True, slots=True)
class IdentityRequest:
    """Whose identity is wanted, and for what.

    Attributes:
        owner_uid: The user the request runs for. No other user's session may serve it.
        instance: Name of the Sigstore instance the identity is for, or None where the request
            names none. The trust root is not needed to know who somebody is, so it need not be
            there yet.
        supplied: The token the caller sent with this request; for this request only.
        ambient: What the caller's environment grants; for this request only.
        identity: Who the caller wants to sign as: an email address or a subject exactly, or the
            name of an identity that the daemon holds; None for whoever comes first.
        issuer: The OIDC issuer that is in force: what the request states, else what is known of
            the instance, else None.
        groups: All groups of the user that are known, for what policy gives to groups.
        names_services: Whether the request itself says, by a URL or in a file, where the token
            will be sent.
        must_live: Whether the token itself is needed. Else a session may return one that has
            ended, as long as a certificate that was issued for it still serves.
    """

    owner_uid: int
    instance: str | None
    supplied: Secret | None
    ambient: AmbientGrant | None = None
    identity: str | None = None
    issuer: str | None = None
    groups: frozenset[int] = frozenset()
    names_services: bool = False
    must_live: bool = True


@dataclass(frozen=True, slots=True)
class Chosen:
    """The token that serves a request, and where it came from.

    Attributes:
        token: The token.
        source: ``supplied``, ``ambient:KIND``, ``session``, or ``held:NAME`` with the name that
            the settings give it.
    """

    token: IdentityToken
    source: str


class IdentitySource(Protocol):
    """Gives tokens."""

    async def token(self, request: IdentityRequest) -> IdentityToken:
        """Return a token to sign with.

        It may be one that nobody has verified; ``check_token`` and the CA come after.

        Raises:
            LoginRequiredError: there is no identity, at once and without asking anybody.
            TokenError: there is a token, but it cannot be read.
            IdentityError: ``identity_unavailable``: this source was meant, and failed. Final for
                the request: no other identity takes its place.
        """
        ...


class SuppliedToken:
    """The token that the caller sent along; there is no other."""

    async def token(self, request: IdentityRequest) -> IdentityToken:
        """Return the caller's token.

        Raises:
            LoginRequiredError: the request brought none.
            TokenError: ``token_malformed``.
        """
        if request.supplied is None:
            where = "" if request.instance is None else f" on instance {request.instance!r}"
            raise LoginRequiredError(
                f"there is no identity to sign as{where}: the request brought no identity token",
                hint="run `keyless login`, or give a token with --identity-token TOKEN, FILE or -,"
                " or SIGSTORE_ID_TOKEN",
            )
        return parse_token(request.supplied)
