"""Renews one session with its refresh token, so that no answer of the issuer loses the login.

An issuer that rotates takes each refresh token once. So: what comes back is kept before it is
used; an answer that was lost is asked for once more at once, for the window in which issuers
allow that; and whoever comes back under another name is not let in.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import trio

from keylessd.errors import DaemonError, IdentityError, ServiceReplyError, ServiceUnavailableError
from keylessd.identity.id_token import Expected
from keylessd.identity.keep import KeepError, KeptSession
from keylessd.identity.moment import Moment
from keylessd.identity.session import HeldToken, Session, hold
from keylessd.identity.token_endpoint import GrantError, TokenEndpoint, Verdict, revoke
from keylessd.log import EventLog

if TYPE_CHECKING:
    import random

    from keylessd.clock import Clock
    from keylessd.identity.keep import Keep, SessionKey
    from keylessd.identity.provider import Provider, Providers
    from keylessd.identity.token import IdentityToken
    from keylessd.identity.token_endpoint import TokenReply
    from keylessd.secret import Secret
    from keylessd.services.http import HttpClient

SKEW_WORTH_TELLING = timedelta(seconds=30)
NOT_KEPT = "its refresh token could not be stored: the login will not outlive the daemon"
SAVE_SECONDS = 10.0  # a store that takes longer is not waited for

_log = EventLog(__name__)


class SessionOverError(Exception):
    """Only a new login helps; the text says why.

    Attributes:
        refresh_token: What the issuer sent all the same and nobody wants, or None.
    """

    def __init__(self, why: str, refresh_token: Secret | None = None) -> None:
        super().__init__(why)
        self.refresh_token = refresh_token


class Renewer:
    """Renews sessions, and gives back what is not wanted any more.

    Args:
        http: Asks.
        providers: Knows the issuers.
        clock: Both clocks.
        rng: Jitter.
        keep: Keeps what may outlive us.
    """

    def __init__(
        self,
        http: HttpClient,
        *,
        providers: Providers,
        clock: Clock,
        rng: random.Random,
        keep: Keep,
    ) -> None:
        self.clock = clock
        self.rng = rng
        self._http = http
        self._providers = providers
        self._keep = keep
        self._keeping = trio.Lock()
        self.withheld: set[int] = set()  # users of whom nothing is kept

    @property
    def outlives(self) -> bool:
        """Whether what is kept is there for the next daemon."""
        return self._keep.outlives

    async def renew(self, session: Session, *, is_default: bool) -> HeldToken:
        """Return a new token of the same person; the session gets the new refresh token.

        Raises:
            SessionOverError: the issuer has ended the login, or somebody else came back.
            DaemonError: not now.
        """
        refresh_token = session.refresh_token
        if refresh_token is None:
            raise SessionOverError("the issuer gave no leave to renew it")
        provider = await self._providers.discover(session.key.issuer)
        sent = Moment.now(self.clock)
        reply = await self._ask(provider, session, refresh_token)
        note_skew(reply, session.key.issuer)
        if reply.refresh_token is not None and reply.refresh_token != refresh_token:
            # Before anything else that could fail, and not cancelled in between.
            with trio.CancelScope(shield=True):
                await self.keep(session, reply.refresh_token, is_default=is_default)
        if session.over is not None:  # meanwhile
            raise SessionOverError(session.over, reply.refresh_token)
        if reply.id_token is None:
            why = "its issuer sends no ID token when it is renewed"
            raise SessionOverError(why, session.refresh_token)
        expected = Expected(
            session.key.client_id,
            nonce=session.nonce,
            nonce_may_lack=True,
            access_token=reply.access_token,
        )
        try:
            token = await self._providers.verify(provider, reply.id_token, expected)
        except IdentityError as exc:
            _log.warning("session.token_invalid", issuer=session.key.issuer, problem=exc.message)
            raise skew_told(exc, reply) from exc
        if changed := _other(session, token):
            raise SessionOverError(changed, session.refresh_token)
        return hold(token, sent=sent, expires_in=reply.expires_in, rng=self.rng)

    async def _ask(self, provider: Provider, session: Session, refresh_token: Secret) -> TokenReply:
        if provider.token_endpoint is None:
            raise IdentityError(
                "identity_unavailable", f"the issuer {provider.issuer!r} has no token endpoint"
            )
        endpoint = TokenEndpoint(
            self._http, self.clock, provider.token_endpoint, client_id=session.key.client_id
        )
        lost = False
        try:
            try:
                return await endpoint.refresh(refresh_token)
            except (ServiceUnavailableError, ServiceReplyError):
                # The issuer may have done it, and only the answer is lost.
                lost = True
                return await endpoint.refresh(refresh_token)
        except GrantError as exc:
            if exc.verdict is Verdict.RETRY:
                raise
            raise SessionOverError(_why(exc, lost=lost)) from exc

    # --- keeping ----------------------------------------------------------------------------

    async def load(self, owner_uid: int) -> list[KeptSession]:
        """Return what is kept for a user.

        Raises:
            KeepError: the store cannot be asked now.
        """
        async with self._keeping:
            return await self._keep.load(owner_uid)

    async def keep(
        self, session: Session, refresh_token: Secret | None, *, is_default: bool
    ) -> None:
        """Keep a refresh token, then let the session have it, unless it is over by then.

        Args:
            session: Whose.
            refresh_token: The new one; None: the session's own, whichever it is when its turn
                has come, since only something else about it has changed.
            is_default: Whether the session is the default of its instance.
        """
        async with self._keeping:
            token = session.refresh_token if refresh_token is None else refresh_token
            if session.over is not None or token is None:
                return
            if session.key.owner_uid in self.withheld:
                session.refresh_token = token
                return
            kept = KeptSession(
                key=session.key,
                subject=session.subject,
                refresh_token=token,
                logged_in=session.logged_in.wall,
                ends=session.ends.wall,
                is_default=is_default,
            )
            problem: str | None = "the store did not answer"
            try:
                with trio.move_on_after(SAVE_SECONDS):
                    await self._keep.save(kept)
                    problem = None
            except KeepError as exc:
                problem = exc.message
            if session.over is None:
                session.refresh_token = token
        if problem is None:
            session.note = None
            return
        if session.note is None:
            _log.warning("session.not_kept", identity=session.key.identity, problem=problem)
        session.note = f"{NOT_KEPT} ({problem})"

    async def forget(self, key: SessionKey) -> str | None:
        """Forget what is kept of a session; return why that failed, or None."""
        try:
            async with self._keeping:
                await self._keep.forget(key)
        except KeepError as exc:
            _log.warning("session.not_forgotten", identity=key.identity, problem=exc.message)
            return f"its refresh token may still be in the store: {exc.message}"
        return None

    async def give_back(self, key: SessionKey, refresh_token: Secret | None) -> str | None:
        """Give a refresh token back to its issuer; return why that is not done, or None."""
        if refresh_token is None:
            return "the issuer gave no refresh token; its last ID token runs out by itself"
        try:
            provider = await self._providers.discover(key.issuer)
            if provider.revocation_endpoint is None:
                return (
                    "the issuer has no way to revoke it: it is forgotten here, and stays valid"
                    " there"
                )
            await revoke(
                self._http,
                provider.revocation_endpoint,
                client_id=key.client_id,
                refresh_token=refresh_token,
            )
        except DaemonError as exc:
            return f"the issuer did not revoke it: {exc.message}"
        return None


def _why(exc: GrantError, *, lost: bool) -> str:
    if exc.verdict is not Verdict.DEAD:
        return f"its issuer refuses to renew it: {exc.message}"
    if lost:
        return (
            "the answer to a renewal was lost, and its issuer takes no refresh token twice"
            f" ({exc.message})"
        )
    return (
        "its issuer has ended it; some issuers do when the same account logs in elsewhere"
        f" ({exc.message})"
    )


def _other(session: Session, token: IdentityToken) -> str | None:
    """Say whether a renewed token is of somebody else."""
    if (token.subject, token.identity_hint) == (session.subject, session.key.identity):
        return None
    _log.warning(
        "session.identity_changed",
        uid=session.key.owner_uid,
        issuer=session.key.issuer,
        identity=session.key.identity,
        found=token.identity_hint,
    )
    return f"its issuer renewed it as somebody else ({token.identity_hint!r})"


def note_skew(reply: TokenReply, issuer: str) -> None:
    """Log a difference of clocks that is worth telling."""
    if reply.ahead is not None and abs(reply.ahead) > SKEW_WORTH_TELLING:
        _log.warning("clock.differs", issuer=issuer, ahead=int(reply.ahead.total_seconds()))


def skew_told(error: DaemonError, reply: TokenReply) -> DaemonError:
    """Return *error* with the difference of the clocks in it, if that may be the cause."""
    if reply.ahead is None or abs(reply.ahead) <= SKEW_WORTH_TELLING:
        return error
    side = "ahead of" if reply.ahead > timedelta(0) else "behind"
    seconds = int(abs(reply.ahead).total_seconds())
    return IdentityError(
        error.code,
        f"{error.message}; this machine's clock is {seconds} s {side} the issuer's",
        retryable=error.retryable,
        hint="set this machine's clock",
    )


def taken_up(kept: KeptSession, now: Moment, lifetime: float) -> Session:
    """Return the session that was kept.

    Args:
        kept: As it was kept.
        now: From when on it counts as used.
        lifetime: Seconds that a login may last; the settings may have become stricter since.
    """

    def moment(wall: datetime) -> Moment:
        return Moment(wall, now.boot + (wall - now.wall).total_seconds())

    logged_in = moment(kept.logged_in)
    return Session(
        key=kept.key,
        subject=kept.subject,
        logged_in=logged_in,
        ends=min(moment(kept.ends), logged_in.plus(lifetime), key=lambda one: one.boot),
        used=now,
        refresh_token=kept.refresh_token,
    )
