"""Logging in and out, locking: what a user does to the sessions of that user and nobody else."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from keylessd.core.signing_config import select_oidc
from keylessd.errors import BusyError, LoginRequiredError, NoServiceError
from keylessd.identity.keep import SessionKey
from keylessd.identity.login.flows import LoginRequest
from keylessd.identity.session import State
from keylessd.trust.where import Where

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from keylessd.clock import Clock
    from keylessd.identity.lock import Locks
    from keylessd.identity.login.browser import BrowserLogin
    from keylessd.identity.login.device import DeviceLogin
    from keylessd.identity.login.flows import Tell
    from keylessd.identity.login.pasted import PastedLogin
    from keylessd.identity.session_facts import Ended, Login, SessionStatus
    from keylessd.identity.sessions import Sessions
    from keylessd.keys.ring import KeyRing
    from keylessd.ops.identity import Instances
    from keylessd.ops.owner import Owner
    from keylessd.secret import Secret
    from keylessd.trust.material import TrustMaterial

Flow = Literal["browser", "device", "oob"]

CLIENT_ID = "sigstore"  # what every issuer of a public Sigstore knows the tools as
MAX_LOGINS = 4  # of one user at once; each has a port or a question open


@dataclass(frozen=True, slots=True)
class LoginOrder:
    """What a user asks for.

    Attributes:
        owner: For whom.
        where: Whose issuer.
        flow: How.
        connector: Which of a federating issuer's issuers, or None.
        identity: Who should log in, or None for anybody.
        client_id: Whom the issuer knows us as; None for the usual.
        as_default: Whether the session becomes the default of its instance.
    """

    owner: Owner
    where: Where
    flow: Flow = "browser"
    connector: str | None = None
    identity: str | None = None
    client_id: str | None = None
    as_default: bool = False


@dataclass(frozen=True, slots=True)
class LoginRooms:
    """The three ways to log in."""

    browser: BrowserLogin
    device: DeviceLogin
    pasted: PastedLogin


class LoginOps:
    """The operations on sessions.

    Args:
        material: Returns trust root and services of a request's choice.
        instances: Knows what a request's choice of Sigstore is called.
        sessions: The sessions.
        locks: The locks.
        rooms: Where people log in.
        clock: Wall clock.
        ring: The keys; those of who logs out are forgotten.
    """

    def __init__(
        self,
        *,
        material: Callable[[Where], Awaitable[TrustMaterial]],
        instances: Instances,
        sessions: Sessions,
        locks: Locks,
        rooms: LoginRooms,
        clock: Clock,
        ring: KeyRing,
    ) -> None:
        self._material = material
        self._instances = instances
        self._sessions = sessions
        self._locks = locks
        self._rooms = rooms
        self._clock = clock
        self._ring = ring
        self._under_way: Counter[int] = Counter()

    async def login(self, order: LoginOrder, tell: Tell) -> SessionStatus:
        """Let a person log in, and return the session.

        If a usable session of the named identity is to become the default, nobody is asked.

        Raises:
            IdentityError: ``locked``, ``login_denied``, ``login_failed``.
            BusyError: too many logins are under way.
            DaemonError: trust or the issuer cannot be had.
        """
        uid = order.owner.uid
        self._locks.check(uid)
        await self._sessions.load(uid)
        material = await self._material(order.where)
        instance = await self._instances.name(order.where)
        issuer = _issuer_of(material, self._clock)
        if order.as_default and order.identity is not None:
            found = self._usable(uid, instance, order.identity, issuer)
            if found is not None:
                await self._sessions.make_default(found)
                return self._status_of(found)
        if self._under_way[uid] >= MAX_LOGINS:
            raise BusyError(f"{MAX_LOGINS} logins are under way", retry_after_seconds=30.0)
        client_id = order.client_id or CLIENT_ID
        request = LoginRequest(uid, issuer, client_id, order.connector, order.identity)
        self._under_way[uid] += 1
        try:
            login = await self._flow(order.flow)(request, tell)
        finally:
            self._under_way[uid] -= 1
        self._locks.check(uid)  # it may have been locked meanwhile
        key = SessionKey(
            owner_uid=uid,
            instance=instance,
            issuer=issuer,
            client_id=client_id,
            identity=login.held.token.identity_hint,
        )
        return await self._sessions.begin(key, login, as_default=order.as_default)

    def login_code(self, owner: Owner, login: str, code: Secret) -> None:
        """Take the code that a page showed.

        Raises:
            InvalidInputError: no login of this user waits for it.
        """
        self._rooms.pasted.give(owner.uid, login, code)

    async def logout(
        self, owner: Owner, *, instance: str | None, identity: str | None, everyone: bool
    ) -> list[Ended]:
        """End sessions; see the protocol, 8.8.

        Raises:
            LoginRequiredError: there is none that fits.
        """
        await self._sessions.load(owner.uid)
        if everyone or instance is not None or identity is not None:
            found = self._sessions.find(owner.uid, instance=instance, identity=identity)
        else:
            session = self._sessions.default(owner.uid, await self._instances.name(Where()))
            found = [] if session is None else [session]
        if not found and not everyone:
            raise LoginRequiredError("nobody is logged in that could be logged out")
        ended = []
        for session in found:
            ended.append(await self._sessions.end(session))
            key = session.key
            self._ring.forget(owner.uid, issuer=key.issuer, identity=key.identity)
        return ended

    async def lock(self, owner: Owner, passphrase: bytes) -> None:
        """Refuse to sign for a user from now on; see Locks.lock()."""
        await self._locks.lock(owner.uid, passphrase)
        await self._sessions.withhold(owner.uid)

    async def unlock(self, owner: Owner, passphrase: bytes, *, connection: int) -> None:
        """Sign again for a user; see Locks.unlock()."""
        await self._locks.unlock(owner.uid, passphrase, connection=connection)
        await self._sessions.restore(owner.uid)

    def is_locked(self, owner: Owner) -> bool:
        """Return whether signing is locked for a user."""
        return self._locks.is_locked(owner.uid)

    def _flow(self, flow: Flow) -> Callable[[LoginRequest, Tell], Awaitable[Login]]:
        match flow:
            case "browser":
                return self._rooms.browser.login
            case "device":
                return self._rooms.device.login
            case "oob":
                return self._rooms.pasted.login

    def _usable(self, uid: int, instance: str, identity: str, issuer: str) -> SessionKey | None:
        found = self._sessions.find(uid, instance=instance, identity=identity, issuer=issuer)
        for status in self._sessions.status(uid):
            if status.state is not State.LOGIN_REQUIRED and any(
                status.key == session.key for session in found
            ):
                return status.key
        return None

    def _status_of(self, key: SessionKey) -> SessionStatus:
        return next(one for one in self._sessions.status(key.owner_uid) if one.key == key)


def _issuer_of(material: TrustMaterial, clock: Clock) -> str:
    if material.signing_config is None:
        raise NoServiceError(
            f"nothing says which issuer instance {material.instance!r} logs in with",
            hint="give a signing configuration, or --oidc-issuer URL",
        )
    return select_oidc(material.signing_config, clock.now()).url
