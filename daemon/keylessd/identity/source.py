"""Where an identity token comes from: what every source promises, and the first source.

So far the caller's own token is the only one. A source that holds a session, asks the
environment or starts a login has the same interface.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from keylessd.errors import LoginRequiredError
from keylessd.identity.token import IdentityToken, parse_token

if TYPE_CHECKING:
    from keylessd.secret import Secret


@dataclass(frozen=True, slots=True)
class IdentityRequest:
    """Whose identity is wanted, and for what.

    Attributes:
        owner_uid: The user the request runs for. No other user's session may serve it.
        instance: Name of the Sigstore instance the identity is for, or None where the request
            names none. The trust root is not needed to know who somebody is, so it need not be
            there yet.
        supplied: The token the caller sent with this request; for this request only.
    """

    owner_uid: int
    instance: str | None
    supplied: Secret | None


class IdentitySource(Protocol):
    """Gives tokens."""

    async def token(self, request: IdentityRequest) -> IdentityToken:
        """Return a token to sign with.

        It may be one that nobody has verified; ``check_token`` and the CA come after.

        Raises:
            LoginRequiredError: there is no identity, at once and without asking anybody.
            TokenError: there is a token, but it cannot be read.
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
                hint="run the command again with --identity-token TOKEN, FILE or -, or set"
                " SIGSTORE_ID_TOKEN",
            )
        return parse_token(request.supplied)
