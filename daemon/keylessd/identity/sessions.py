"""All login sessions: finds the one that is meant, and keeps those in use fresh.

A renewal runs in the daemon's own nursery, one at a time for each session, and everybody who
needs it waits for it; whoever stops waiting does not stop it. Nothing here starts a login.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import trio

from keylessd.errors import DaemonError, IdentityError, LoginRequiredError
from keylessd.flow.under_way import UnderWay
from keylessd.identity.keep import KeepError, SessionKey
from keylessd.identity.moment import Moment
from keylessd.identity.renewal import SessionOverError, taken_up
from keylessd.identity.session import OUTLIVED, Session, login_required
from keylessd.identity.session_facts import Caps, Ended, Login, SessionStatus
from keylessd.log import EventLog

if TYPE_CHECKING:
    from keylessd.identity.renewal import Renewer
    from keylessd.identity.token import IdentityToken
    from keylessd.secret import Secret

TICK_SECONDS = 10.0  # between two looks at what is due; no token is renewed so late that it matters
MAX_SESSIONS = 64  # of one user; those that are over go first
DAY = 24 * 3600.0
# (user, SHA-256 of a token, whether to its very end) -> whether a certificate that was issued for
# that token still serves that user; not to its end means: until it should be renewed.
Certified = Callable[[int, bytes, bool], bool]

_log = EventLog(__name__)


class Sessions:
    """The sessions of all users."""

    def __init__(
        self,
        renewer: Renewer,
        *,
        nursery: trio.Nursery,
        caps: Caps | None = None,
        certified: Certified = lambda *_: False,
    ) -> None:
        """Store the parts; run() does what goes on by itself.

        Args:
            renewer: Renews one.
            nursery: Runs renewals; ends with the daemon.
            caps: How long logins last.
            certified: Tells whether a certificate makes a token unneeded.
        """
        self.caps = caps if caps is not None else Caps()
        self.certified = certified
        self._renewer = renewer
        self._clock = renewer.clock
        self._background = UnderWay(nursery)
        self._sessions: dict[SessionKey, Session] = {}
        self._defaults: dict[tuple[int, str], SessionKey] = {}
        self._renewing: dict[Session, trio.Event] = {}
        self._loaded: set[int] = set()
        self._unread: dict[int, KeepError] = {}
        self._loading = trio.Lock()
        self._is_ending = False

    async def run(self) -> None:
        """Renew what is due and end what is over, until cancelled."""
        while True:
            await trio.sleep(TICK_SECONDS)
            self.tick()

    def tick(self) -> None:
        """Look once at everything."""
        if self._is_ending:
            return
        now = Moment.now(self._clock)
        for key, session in list(self._sessions.items()):
            self._end_if_over(session, now)
            if session.is_due(now):
                self._start_renewal(session)
            elif session.over is not None and session.ends.plus(DAY).left(now) <= 0:
                self._drop(key)

    async def settle(self) -> None:
        """Begin nothing more, and wait for what is under way, if its result is for the next daemon.

        An issuer that rotates has used a refresh token up when it answers: whoever ends before
        the answer is kept has lost the login.
        """
        self._is_ending = True
        if self._renewer.outlives:
            await self._background.wait()

    async def load(self, owner_uid: int) -> None:
        """Take up what was kept of a user's sessions, once."""
        if owner_uid in self._loaded:
            return
        async with self._loading:
            if owner_uid not in self._loaded:
                await self._load(owner_uid)

    async def _load(self, owner_uid: int) -> None:
        try:
            kept = await self._renewer.load(owner_uid)
        except KeepError as exc:
            # A keyring that is locked now may be open for the next request.
            _log.warning("sessions.not_loaded", uid=owner_uid, problem=exc.message)
            self._unread[owner_uid] = exc
            return
        self._unread.pop(owner_uid, None)
        self._loaded.add(owner_uid)
        now = Moment.now(self._clock)
        for one in kept:
            if one.key.owner_uid != owner_uid or one.key in self._sessions:
                continue
            self._sessions[one.key] = taken_up(one, now, self.caps.lifetime)
            if one.is_default:
                self._defaults[owner_uid, one.key.instance] = one.key
            if owner_uid in self._renewer.withheld:
                await self._renewer.forget(one.key)
        _log.info("sessions.loaded", uid=owner_uid, count=len(kept))

    def unread(self, owner_uid: int) -> KeepError | None:
        """Return why what was kept of a user's sessions is not known, if it is not."""
        return self._unread.get(owner_uid)

    async def withhold(self, owner_uid: int) -> None:
        """Let nothing of a user's sessions outlive the daemon, until restore(): it is locked.

        A lock is gone with the daemon; what would be back without it must not be there.
        """
        if self._renewer.outlives:
            self._renewer.withheld.add(owner_uid)
            await self.load(owner_uid)
            for session in self.find(owner_uid):
                if owner_uid in self._renewer.withheld:  # else it was unlocked meanwhile
                    await self._renewer.forget(session.key)

    async def restore(self, owner_uid: int) -> None:
        """Keep a user's sessions as before withhold()."""
        if owner_uid in self._renewer.withheld:
            self._renewer.withheld.discard(owner_uid)
            for session in self.find(owner_uid):
                is_default = self._status(session).is_default
                await self._renewer.keep(session, None, is_default=is_default)

    # --- finding ----------------------------------------------------------------------------

    def find(
        self,
        owner_uid: int,
        *,
        instance: str | None = None,
        identity: str | None = None,
        issuer: str | None = None,
    ) -> list[Session]:
        """Return the sessions of a user that fit, those that are over last."""
        found = [
            session
            for key, session in self._sessions.items()
            if key.owner_uid == owner_uid
            and instance in (None, key.instance)
            and issuer in (None, key.issuer)
            and identity in (None, key.identity, session.subject)
        ]
        return sorted(found, key=lambda session: session.over is not None)

    def default(self, owner_uid: int, instance: str, issuer: str | None = None) -> Session | None:
        """Return the session that is meant where nobody is named, or None.

        Raises:
            LoginRequiredError: there are several, and none is the default.
        """
        found = self.find(owner_uid, instance=instance, issuer=issuer)
        chosen = self._sessions.get(self._defaults.get((owner_uid, instance)) or _NOBODY)
        if chosen is not None and chosen in found:
            return chosen
        if len(found) > 1:
            names = ", ".join(repr(one.key.identity) for one in found[:8])
            raise LoginRequiredError(
                f"several identities are logged in on instance {instance!r}, and none of them is"
                f" the default: {names}",
                hint="name one with --identity, or run `keyless login --default --identity NAME`",
            )
        return found[0] if found else None

    async def make_default(self, key: SessionKey) -> None:
        """Let *key* be meant where nobody is named for its instance; kept, if sessions are."""
        where = (key.owner_uid, key.instance)
        before, self._defaults[where] = self._defaults.get(where), key
        for one in {before, key}:
            session = self._sessions.get(one) if one is not None else None
            if session is not None and before != key:
                await self._renewer.keep(session, None, is_default=one == key)

    def status(self, owner_uid: int) -> list[SessionStatus]:
        """Return a user's sessions, those used last first."""
        now = Moment.now(self._clock)
        found = self.find(owner_uid)
        for session in found:
            self._end_if_over(session, now)
            session.token_left(now)
        found.sort(key=lambda session: session.used.boot, reverse=True)
        return [self._status(session) for session in found]

    def _status(self, session: Session) -> SessionStatus:
        key, (state, reason) = session.key, session.state()
        held = session.held
        return SessionStatus(
            key=key,
            state=state,
            reason=reason,
            expires=None if held is None else held.ends.wall,
            token_sha256=None if held is None else held.token.sha256,
            ends=session.ends.wall,
            last_used=session.used.wall if session.was_used else None,
            is_renewable=session.is_renewable,
            is_default=self._defaults.get((key.owner_uid, key.instance)) == key,
        )

    # --- using ------------------------------------------------------------------------------

    async def token(self, session: Session, *, must_live: bool) -> IdentityToken:
        """Return a token of a session.

        Args:
            session: From find() or default(), for that user's own request.
            must_live: Whether the token itself is needed. Else one that has ended will do while
                a certificate that it has earned does.

        Raises:
            LoginRequiredError: only a person can help.
            IdentityError: ``identity_unavailable``, retryable: it cannot be renewed now.
        """
        now = Moment.now(self._clock)
        if self._end_if_over(session, now):
            raise login_required(session.key, session.over or "")
        session.used, session.was_used = now, True
        held = session.held
        if held is not None and session.token_left(now) > 0:
            if session.is_due(now):
                self._start_renewal(session)
            return held.token
        if held is not None and not must_live:
            to_its_end = not session.is_renewable
            if self.certified(session.key.owner_uid, held.token.sha256, to_its_end):
                return held.token
        return await self._renewed(session)

    async def _renewed(self, session: Session) -> IdentityToken:
        """Return the token of a renewal that is waited for."""
        before = session.held
        if not session.is_renewable:
            raise login_required(session.key, OUTLIVED)
        if session.is_quiet(Moment.now(self._clock)):
            raise self._not_now(session)
        await self._start_renewal(session).wait()
        if session.over is not None:
            raise login_required(session.key, session.over)
        if session.held is None or session.held is before:
            raise self._not_now(session)
        if session.token_left(Moment.now(self._clock)) <= 0:
            raise IdentityError(
                "identity_unavailable",
                f"the issuer {session.key.issuer!r} gives tokens that end before they can be used",
                hint="compare this machine's clock with the issuer's",
            )
        return session.held.token

    def _not_now(self, session: Session) -> IdentityError:
        failure, now = session.failure, Moment.now(self._clock)
        why = "the daemon is stopping" if failure is None else failure.error.message
        return IdentityError(
            "identity_unavailable",
            f"the session of {session.key.identity!r} cannot be renewed now: {why}",
            retryable=True,
            retry_after_seconds=None if failure is None else max(0.0, failure.retry_at - now.boot),
        )

    # --- renewing ---------------------------------------------------------------------------

    def _start_renewal(self, session: Session) -> trio.Event:
        """Return the event that ends the renewal under way, or a new one."""
        done = self._renewing.get(session)
        if done is None:
            done = self._renewing[session] = trio.Event()
            try:
                self._background.start_soon(self._renew, session, done)
            except RuntimeError:  # trio's word for: this nursery has ended
                del self._renewing[session]
                done.set()
        return done

    async def _renew(self, session: Session, done: trio.Event) -> None:
        key = session.key
        try:
            is_default = self._defaults.get((key.owner_uid, key.instance)) == key
            held = await self._renewer.renew(session, is_default=is_default)
            if self._sessions.get(key) is session and session.over is None:
                session.renewed(held)
                _log.debug("session.renewed", identity=key.identity, instance=key.instance)
        except SessionOverError as exc:
            if session.over is None:
                session.end(str(exc))
                _log.warning("session.over", identity=key.identity, reason=str(exc))
                await self._renewer.forget(key)
            if exc.refresh_token is not None:
                await self._renewer.give_back(key, exc.refresh_token)
        except DaemonError as exc:
            session.failed(exc, Moment.now(self._clock), self._renewer.rng)
            _log.warning("session.renewal_failed", identity=key.identity, problem=exc.message)
        finally:
            self._renewing.pop(session, None)
            done.set()

    # --- beginning and ending -----------------------------------------------------------------

    async def begin(self, key: SessionKey, login: Login, *, as_default: bool) -> SessionStatus:
        """Take a login; it replaces the session of the same key.

        It becomes the default of its instance if that is asked, or if it is alone there.
        """
        now = Moment.now(self._clock)
        session = Session(
            key=key,
            subject=login.held.token.subject,
            logged_in=now,
            ends=now.plus(self.caps.lifetime),
            used=now,
            held=login.held,
            refresh_token=login.refresh_token,
            nonce=login.nonce,
        )
        usable = [one for one in self.find(key.owner_uid, instance=key.instance) if not one.over]
        becomes_default = as_default or not any(one.key != key for one in usable)
        self._make_room(key)
        if (before := self._sessions.get(key)) is not None:
            before.end("another login took its place")
        self._sessions[key] = session
        if becomes_default and not self._status(session).is_default:
            await self.make_default(key)
        else:
            is_default = self._status(session).is_default
            await self._renewer.keep(session, None, is_default=is_default)
        _log.info("session.began", uid=key.owner_uid, identity=key.identity, issuer=key.issuer)
        return self._status(session)

    async def end(self, session: Session) -> Ended:
        """End a session because its owner wants it: forget it here, and at the issuer."""
        key, refresh_token = session.key, session.refresh_token
        session.end("you logged out")
        self._drop(key)
        reason = await self._renewer.forget(key)
        refused = await self._renewer.give_back(key, refresh_token)
        _log.info("session.ended", uid=key.owner_uid, identity=key.identity)
        return Ended(key, revoked=refused is None, reason=reason or refused)

    def _end_if_over(self, session: Session, now: Moment) -> bool:
        """End a session whose time has come; return whether it is over."""
        if session.over is None:
            why = session.why_over(now, idle_seconds=self.caps.idle)
            if why is not None:
                refresh_token = session.refresh_token
                session.end(why)
                _log.info("session.over", identity=session.key.identity, reason=why)
                self._background.start_soon(self._leave, session.key, refresh_token)
        return session.over is not None

    async def _leave(self, key: SessionKey, refresh_token: Secret | None) -> None:
        await self._renewer.forget(key)
        await self._renewer.give_back(key, refresh_token)

    def _drop(self, key: SessionKey) -> None:
        self._sessions.pop(key, None)
        if self._defaults.get((key.owner_uid, key.instance)) == key:
            del self._defaults[key.owner_uid, key.instance]

    def _make_room(self, key: SessionKey) -> None:
        others: Iterable[Session] = [one for one in self.find(key.owner_uid) if one.key != key]
        ranked = sorted(others, key=lambda one: (one.over is None, one.used.boot))
        for session in ranked[: max(0, len(ranked) - MAX_SESSIONS + 1)]:
            refresh_token = session.refresh_token
            session.end("too many sessions")
            self._drop(session.key)
            self._background.start_soon(self._leave, session.key, refresh_token)


_NOBODY = SessionKey(-1, "", "", "", "")
