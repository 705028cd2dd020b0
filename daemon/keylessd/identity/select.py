"""Whose token it is: asks the sources in their order, and takes no other for one that failed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from keylessd.errors import IdentityError, InvalidInputError, LoginRequiredError
from keylessd.identity.session import login_command
from keylessd.identity.source import Chosen, IdentitySource
from keylessd.identity.token import IdentityToken, KnownTokens

if TYPE_CHECKING:
    from keylessd.identity.held.identities import HeldState
    from keylessd.identity.lock import Locks
    from keylessd.identity.session import Session
    from keylessd.identity.sessions import Sessions
    from keylessd.identity.source import IdentityRequest


class HeldIdentity(IdentitySource, Protocol):
    """One of those that the daemon has by its settings."""

    @property
    def name(self) -> str:
        """What the settings call it."""
        ...


class HeldIdentities(Protocol):
    """Identities that the daemon has by its settings, given out by policy only."""

    def named(self, request: IdentityRequest) -> HeldIdentity | None:
        """Return the one that ``request.identity`` names, or None if there is none.

        Raises:
            NotAllowedError: there is, and this user may not use it.
        """
        ...

    def granted(self, request: IdentityRequest) -> HeldIdentity | None:
        """Return the first that this user may use without naming it, or None."""
        ...

    async def look(self, request: IdentityRequest) -> None:
        """Find out whom those are that this user may use."""
        ...

    def describe(self, request: IdentityRequest, *, anywhere: bool = False) -> list[HeldState]:
        """Return the state of those that this user may use; asks nobody.

        Args:
            request: Who asks.
            anywhere: For whatever instance.
        """
        ...


class NoHeldIdentities:
    """The settings name none."""

    def named(self, request: IdentityRequest) -> HeldIdentity | None:
        """Return None."""
        del request
        return None

    def granted(self, request: IdentityRequest) -> HeldIdentity | None:
        """Return None."""
        del request
        return None

    async def look(self, request: IdentityRequest) -> None:
        """Do nothing."""

    def describe(self, request: IdentityRequest, *, anywhere: bool = False) -> list[HeldState]:
        """Return nothing."""
        del request, anywhere
        return []


class Selection:
    """The source of all identities.

    The first of these that applies is the one, and if it fails, nobody else is: the token that
    came with the request; what the caller's environment grants; whom the request names; the
    default session of the instance; what the daemon holds for everybody that policy lets.

    Args:
        locks: Refuse a locked user before anything else.
        sessions: The logins.
        ambient: Fetches what environments grant; None if it cannot.
        held: What the settings name.
    """

    def __init__(
        self,
        *,
        locks: Locks,
        sessions: Sessions,
        ambient: IdentitySource | None = None,
        held: HeldIdentities | None = None,
    ) -> None:
        self._locks = locks
        self._sessions = sessions
        self._ambient = ambient
        self._held = held if held is not None else NoHeldIdentities()
        self._known = KnownTokens()

    async def token(self, request: IdentityRequest) -> IdentityToken:
        """Return a token to sign with; see choose()."""
        return (await self.choose(request)).token

    async def choose(self, request: IdentityRequest) -> Chosen:
        """Return a token to sign with, and where it came from.

        Raises:
            IdentityError: ``locked``, or ``identity_unavailable``.
            LoginRequiredError: there is nobody, or only a person can help.
            TokenError: a token that was sent cannot be read.
            InvalidInputError: the name fits several.
        """
        self._locks.check(request.owner_uid)
        if request.supplied is not None:
            token = self._meant(request, self._known.read(request.supplied))
            return Chosen(token, "supplied")
        if request.ambient is not None:
            token = self._meant(request, await self._of_environment(request))
            return Chosen(token, f"ambient:{request.ambient.kind}")
        await self._sessions.load(request.owner_uid)
        if request.identity is not None:
            return await self._of_name(request)
        if request.instance is not None:
            session = self._sessions.default(request.owner_uid, request.instance, request.issuer)
            if session is not None:
                return await self._of_session(session, request)
        held = self._held.granted(request)
        if held is not None:
            return await _of_held(held, request)
        raise self._nobody(request)

    async def _of_environment(self, request: IdentityRequest) -> IdentityToken:
        if self._ambient is None:
            raise IdentityError(
                "identity_unavailable", "this daemon fetches no identities of environments"
            )
        return await self._ambient.token(request)

    async def _of_name(self, request: IdentityRequest) -> Chosen:
        held = self._held.named(request)
        if held is not None:
            return await _of_held(held, request)
        session = self._named_session(request)
        if session is None:
            raise self._nobody(request)
        return await self._of_session(session, request)

    async def _of_session(self, session: Session, request: IdentityRequest) -> Chosen:
        token = await self._sessions.token(session, must_live=request.must_live)
        return Chosen(token, "session")

    def _named_session(self, request: IdentityRequest) -> Session | None:
        found = self._sessions.find(
            request.owner_uid,
            instance=request.instance,
            identity=request.identity,
            issuer=request.issuer,
        )
        usable = [session for session in found if session.over is None] or found
        if len(usable) > 1:
            issuers = ", ".join(repr(session.key.issuer) for session in usable[:8])
            raise InvalidInputError(
                f"{request.identity!r} is logged in more than once: at {issuers}",
                hint="say which with --oidc-issuer, or log out of the others",
            )
        return usable[0] if usable else None

    def _meant(self, request: IdentityRequest, token: IdentityToken) -> IdentityToken:
        """Return *token* if it is of whom the request names, if it names somebody."""
        if request.identity in (None, token.identity_hint, token.subject):
            return token
        raise IdentityError(
            "identity_unavailable",
            f"the token is for {token.identity_hint!r}, and {request.identity!r} was asked for",
            hint="leave out --identity, or give a token of that identity",
        )

    def _nobody(self, request: IdentityRequest) -> LoginRequiredError:
        where = "" if request.instance is None else f" on instance {request.instance!r}"
        login = login_command(request.instance, identity=request.identity)
        if request.identity is not None:
            problem = f"nobody called {request.identity!r} is logged in{where}"
        else:
            problem = f"there is no identity to sign as{where}: nobody is logged in"
        hint = (
            f"run {login} (with --device where there is no display), or give a token with"
            " --identity-token or SIGSTORE_ID_TOKEN"
        )
        unread = self._sessions.unread(request.owner_uid)
        if unread is not None:
            problem += f"; logins from before cannot be read: {unread.message}"
            hint = hint if unread.hint is None else f"{unread.hint}; or {hint}"
        return LoginRequiredError(problem, hint=hint)


async def _of_held(held: HeldIdentity, request: IdentityRequest) -> Chosen:
    return Chosen(await held.token(request), f"held:{held.name}")
