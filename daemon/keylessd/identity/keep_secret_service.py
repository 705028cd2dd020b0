"""Keeps sessions in the user's Secret Service (GNOME Keyring, KWallet), through ``keyring``.

All sessions of one daemon are one item there, so that finding them again needs no index beside it.
The item is named after the state directory, of which one daemon at a time has the lock. Nothing
here asks a person anything: a keyring that is locked or missing is an error that says so.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Generic, Protocol, TypeVar

import trio

from keylessd import log
from keylessd.core.strict_json import JsonValue, StrictJsonError, loads
from keylessd.identity.keep import KeepError, KeptSession, SessionKey
from keylessd.secret import Secret
from keylessd.services.urls import printable

if TYPE_CHECKING:
    from keylessd.flow.threads import Threads

THREADS: Final = "keyring"  # the kind of work; one thread, so that calls never overtake each other
# A keyring answers in milliseconds, or it waits for a person. Less than what waits for us waits.
DEADLINE_SECONDS: Final = 8.0
SERVICE: Final = "keyless"
VERSION: Final = 1
MAX_TEXT: Final = 256 << 10  # bytes of all sessions together
MAX_SESSIONS: Final = 64
MAX_FIELD: Final = 8192  # characters; refresh tokens have some hundred, some thousand at the most

# Where the session's D-Bus is said to be.
BUS_VARIABLES: Final = ("DBUS_SESSION_BUS_ADDRESS", "XDG_RUNTIME_DIR")
_LOOK: Final = "look whether it waits for you to unlock it"

T = TypeVar("T")

_log = log.EventLog(__name__)


class Store(Protocol):
    """One text in a safe place. Its methods block, and raise whatever goes wrong."""

    def read(self) -> str | None:
        """Return the text, or None if there is none."""
        ...

    def write(self, text: str) -> None:
        """Put *text* in place of what is there; it is durable on return."""
        ...

    def delete(self) -> None:
        """Remove the text; that there is none is no error."""
        ...


class SecretServiceKeep:
    """Keeps sessions beyond the life of the daemon."""

    outlives = True

    def __init__(self, store: Store, threads: Threads) -> None:
        """Store the parts; nothing is asked.

        Args:
            store: Where the text of all sessions is.
            threads: Runs what blocks, under the kind THREADS with a limit of one.
        """
        self._store = store
        self._threads = threads
        self._stuck: _Call[Any] | None = None

    async def load(self, owner_uid: int) -> list[KeptSession]:
        """Return what is kept for a user; whatever cannot be read is left out.

        Raises:
            KeepError: the keyring cannot be asked now.
        """
        kept = await self._run("read", self._read)
        return [session for session in kept.values() if session.key.owner_uid == owner_uid]

    async def save(self, session: KeptSession) -> None:
        """Keep *session* in place of the one with its key; durable on return.

        Raises:
            KeepError: it is not kept, or not known to be.
        """

        def change(kept: dict[SessionKey, KeptSession]) -> None:
            kept[session.key] = session
            while len(kept) > MAX_SESSIONS:
                # The daemon has no more than these either; it is about to say so.
                oldest = min(kept.values(), key=lambda one: (one == session, one.logged_in))
                del kept[oldest.key]

        await self._run("write", lambda: self._change(change))

    async def forget(self, key: SessionKey) -> None:
        """Forget a session; one that is not kept is no error.

        Raises:
            KeepError: it may still be there.
        """

        def change(kept: dict[SessionKey, KeptSession]) -> None:
            kept.pop(key, None)

        await self._run("write", lambda: self._change(change))

    async def _run(self, what: str, work: Callable[[], T]) -> T:
        if self._stuck is not None and self._stuck.is_running:
            raise KeepError("the keyring does not answer", hint=_LOOK)
        call = _Call(work)
        with trio.move_on_after(DEADLINE_SECONDS):
            try:
                # A call that waits for a person cannot be ended. It keeps the only thread, so what
                # is asked later comes later, however long it takes.
                return await self._threads.run(THREADS, call.run, abandon_on_cancel=True)
            except KeepError:
                raise
            except Exception as exc:  # noqa: BLE001  # the library's errors are no closed tree
                raise _unusable(what, exc) from None
        # Nobody waits so long again until it is over.
        self._stuck = call
        raise KeepError(
            f"the keyring did not answer within {DEADLINE_SECONDS:g} seconds", hint=_LOOK
        )

    # --- in the thread ----------------------------------------------------------------------

    def _read(self) -> dict[SessionKey, KeptSession]:
        text = self._store.read()
        return {} if text is None else parse_kept(text)

    def _change(self, change: Callable[[dict[SessionKey, KeptSession]], None]) -> None:
        kept = self._read()
        before = dict(kept)
        change(kept)
        if not kept:
            self._store.delete()
        elif kept != before:
            text = format_kept(kept)
            if len(text) > MAX_TEXT:
                raise KeepError(f"the sessions have {len(text)} bytes; the limit is {MAX_TEXT}")
            self._store.write(text)


class _Call(Generic[T]):
    """Work in the thread, and whether it goes on."""

    def __init__(self, work: Callable[[], T]) -> None:
        self._work = work
        self.is_running = True

    def run(self) -> T:
        """Do the work; blocks."""
        try:
            return self._work()
        finally:
            self.is_running = False


def _unusable(what: str, exc: Exception) -> KeepError:
    kind = type(exc).__name__
    hint = None
    if kind in {"KeyringLocked", "LockedException"}:
        hint = "unlock the keyring; logging in to the desktop does"
    elif kind in {"SecretServiceNotAvailableException", "InitError", "NoKeyringError"}:
        hint = "run a Secret Service such as gnome-keyring on the session's D-Bus"
    said = printable(str(exc))
    return KeepError(f"the keyring cannot be {_PAST[what]}: {kind}: {said}", hint=hint)


_PAST: Final = {"read": "read", "write": "written"}


# --- the text of all sessions ----------------------------------------------------------------


def format_kept(kept: Mapping[SessionKey, KeptSession]) -> str:
    """Return the text that parse_kept() reads."""
    sessions = [
        {
            "owner_uid": one.key.owner_uid,
            "instance": one.key.instance,
            "issuer": one.key.issuer,
            "client_id": one.key.client_id,
            "identity": one.key.identity,
            "subject": one.subject,
            "refresh_token": one.refresh_token.reveal(),
            "logged_in": one.logged_in.isoformat(),
            "ends": one.ends.isoformat(),
            "is_default": one.is_default,
        }
        for one in kept.values()
    ]
    return json.dumps({"version": VERSION, "sessions": sessions}, separators=(",", ":"))


def parse_kept(text: str) -> dict[SessionKey, KeptSession]:
    """Read the text of all sessions. What is damaged is left out: it can only be logged in anew.

    Raises:
        KeepError: a later version wrote it. It must not be replaced.
    """
    try:
        document = loads(text.encode(), max_bytes=MAX_TEXT)
    except StrictJsonError:
        document = None
    version = document.get("version") if isinstance(document, dict) else None
    if isinstance(version, int) and version > VERSION:
        raise KeepError(
            f"the sessions in the keyring have version {version}; this daemon knows {VERSION}",
            hint="use the newer daemon, or remove the item of keyless from the keyring",
        )
    sessions = document.get("sessions") if isinstance(document, dict) else None
    kept: dict[SessionKey, KeptSession] = {}
    damaged = 0
    for value in sessions if isinstance(sessions, list) else [None]:
        session = _session(value)
        if session is None:
            damaged += 1
        elif len(kept) < MAX_SESSIONS:
            kept[session.key] = session
    if damaged:
        _log.warning("keyring.damaged", sessions=damaged)
    return kept


def _session(value: JsonValue) -> KeptSession | None:
    if not isinstance(value, dict):
        return None
    uid, is_default = value.get("owner_uid"), value.get("is_default")
    names = ("instance", "issuer", "client_id", "identity", "subject", "refresh_token")
    texts = [value.get(name) for name in names]
    times = [_moment(value.get(name)) for name in ("logged_in", "ends")]
    instance, issuer, client_id, identity, subject, token = (
        text if isinstance(text, str) and 0 < len(text) <= MAX_FIELD else None for text in texts
    )
    logged_in, ends = times
    if (
        not isinstance(uid, int)
        or isinstance(uid, bool)
        or not isinstance(is_default, bool)
        or instance is None
        or issuer is None
        or client_id is None
        or identity is None
        or subject is None
        or token is None
        or logged_in is None
        or ends is None
    ):
        return None
    return KeptSession(
        key=SessionKey(uid, instance, issuer, client_id, identity),
        subject=subject,
        refresh_token=Secret(token),
        logged_in=logged_in,
        ends=ends,
        is_default=is_default,
    )


def _moment(value: JsonValue) -> datetime | None:
    try:
        moment = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        return None
    return None if moment is None or moment.tzinfo is None else moment.astimezone(UTC)


# --- the Secret Service ----------------------------------------------------------------------


def open_keep(environ: Mapping[str, str], state_dir: Path, threads: Threads) -> SecretServiceKeep:
    """Return what keeps the sessions of the daemon with this state directory; nothing is asked.

    Args:
        environ: Those of BUS_VARIABLES that are set.
        state_dir: The daemon's, of which it has the lock.
        threads: Has the kind THREADS with a limit of one.

    Raises:
        KeepError: a package is missing; the message says how to install it.
    """
    try:
        store = SecretServiceStore(session_bus(environ), state_dir)
    except ModuleNotFoundError as exc:
        name = (exc.name or "keyring").partition(".")[0]
        raise KeepError(
            f'persist = "secret-service" needs the package {name}; install with:'
            " pip install 'keyless[keyring]'"
        ) from exc
    return SecretServiceKeep(store, threads)


def session_bus(environ: Mapping[str, str]) -> str:
    """Return the D-Bus address of the session: as the environment says, else where systemd has it.

    Args:
        environ: Those of BUS_VARIABLES that are set.
    """
    address, runtime = (environ.get(name) for name in BUS_VARIABLES)
    if address or not runtime:
        return address or ""
    return f"unix:path={runtime}/bus"


class SecretServiceStore:
    """One item of the user's default keyring."""

    def __init__(self, bus: str, state_dir: Path) -> None:
        """Load the library; nothing is asked.

        Args:
            bus: D-Bus address of the session, from session_bus().
            state_dir: The daemon's; the item is named after it.

        Raises:
            ModuleNotFoundError: the extra ``keyring`` is not installed.
        """
        # Loaded here and not at the top: a daemon that keeps nothing has no use for them.
        import secretstorage  # noqa: PLC0415
        from jeepney.io.blocking import (  # type: ignore[import-untyped]  # noqa: PLC0415
            open_dbus_connection,
        )
        from keyring.backends.SecretService import Keyring  # noqa: PLC0415
        from keyring.errors import InitError, KeyringLocked  # noqa: PLC0415

        class QuietKeyring(Keyring):
            """The library's own, but it neither makes a keyring nor asks for a password."""

            def get_preferred_collection(self) -> Any:  # noqa: ANN401
                if not bus:
                    raise InitError("there is no D-Bus session")
                connection = open_dbus_connection(bus)
                try:
                    if secretstorage.check_service_availability(connection):
                        collection = secretstorage.Collection(connection)
                        if not collection.is_locked():
                            return collection
                        problem: Exception = KeyringLocked("the default keyring is locked")
                    else:
                        problem = InitError("no Secret Service answers on the session's D-Bus")
                except BaseException:
                    connection.close()
                    raise
                connection.close()
                raise problem

        self._keyring: Any = QuietKeyring()  # type: ignore[no-untyped-call]
        self._name = str(state_dir)

    def read(self) -> str | None:
        """Return the text of the item, or None."""
        text = self._keyring.get_password(SERVICE, self._name)
        return text if text is None else str(text)

    def write(self, text: str) -> None:
        """Make or replace the item."""
        self._keyring.set_password(SERVICE, self._name, text)

    def delete(self) -> None:
        """Remove the item."""
        collection = self._keyring.get_preferred_collection()
        with closing(collection.connection):
            for item in list(collection.search_items({"service": SERVICE, "username": self._name})):
                item.delete()
