"""Opens the rest of the daemon: HTTP client, trust, operations. The server's only way to them."""

from __future__ import annotations

import grp
import os
import pwd
import random
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from types import MappingProxyType
from typing import TYPE_CHECKING

import trio

from keyless._version import __version__
from keylessd.clock import SystemClock
from keylessd.errors import ShuttingDownError
from keylessd.flow.threads import Threads
from keylessd.identity.ambient.source import AmbientSource
from keylessd.identity.held.google import ACCOUNT_VARIABLE
from keylessd.identity.held.identities import HeldIdentities
from keylessd.identity.held.secrets import CREDENTIALS_VARIABLE
from keylessd.identity.held.source import Parts
from keylessd.identity.keep_secret_service import BUS_VARIABLES, open_keep
from keylessd.identity.provider import Providers
from keylessd.identity.session_facts import Caps
from keylessd.ops import house
from keylessd.server.files import FileCache
from keylessd.server.handlers import Handlers
from keylessd.server.limits import MIB
from keylessd.services.http import HttpClient, new_client
from keylessd.spiffe_names import ENDPOINT_VARIABLE
from keylessd.trust.current import Trust
from keylessd.trust.instances import configured

if TYPE_CHECKING:
    from keylessd.identity.keep import Keep
    from keylessd.ops.house import House
    from keylessd.server.app import Daemon
    from keylessd.server.dispatch import Handler
    from keylessd.settings import Settings
    from keylessd.trust.material import Purpose, TrustMaterial
    from keylessd.trust.status import InstanceStatus
    from keylessd.trust.where import Where

USER_AGENT = f"keylessd/{__version__}"
LEDGER = "ledger.jsonl"  # in the state directory
# All of the environment that matters in here.
VARIABLES = (ACCOUNT_VARIABLE, CREDENTIALS_VARIABLE, ENDPOINT_VARIABLE, *BUS_VARIABLES)
NO_VARIABLES: Mapping[str, str] = MappingProxyType({})


class TrustInForce:
    """The trust of the settings in force: a reload puts another in its place.

    Requests that began with the old one keep what they got from it; those that still wait for it
    ask the new one.
    """

    def __init__(self, trust: Trust) -> None:
        self._trust = trust
        self._replaced = trio.Event()

    @property
    def default(self) -> str:
        """Name of the default instance."""
        return self._trust.default

    def replace(self, trust: Trust) -> None:
        """Put *trust* in force; run() starts it and ends its predecessor."""
        self._trust = trust
        self._replaced.set()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keep the trust in force fresh, whichever it is; runs until cancelled."""
        async with trio.open_nursery() as nursery:
            while True:
                self._replaced = trio.Event()
                scope = await nursery.start(self._run_one, self._trust)
                task_status.started()
                task_status = trio.TASK_STATUS_IGNORED
                await self._replaced.wait()
                scope.cancel()

    async def _run_one(
        self, trust: Trust, *, task_status: trio.TaskStatus[trio.CancelScope]
    ) -> None:
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                await nursery.start(trust.run)
                task_status.started(scope)

    async def material(self, where: Where, purpose: Purpose = "sign") -> TrustMaterial:
        """Return what *where* means; see Trust.material()."""
        return await self._ask(lambda trust: trust.material(where, purpose))

    async def refresh(self, instance: str) -> TrustMaterial:
        """Renew one instance; see Trust.refresh()."""
        return await self._ask(lambda trust: trust.refresh(instance))

    async def _ask(self, question: Callable[[Trust], Awaitable[TrustMaterial]]) -> TrustMaterial:
        while True:
            asked = self._trust
            try:
                return await question(asked)
            except ShuttingDownError:
                if asked is self._trust:
                    raise
                # It ended because another took its place.

    def status(self) -> list[InstanceStatus]:
        """Return the state of every instance."""
        return self._trust.status()


class HouseRooms:
    """The rooms behind the server, as it sees them."""

    def __init__(
        self,
        operations: House,
        *,
        http: HttpClient,
        trust: TrustInForce,
        make_trust: Callable[[Settings], Trust],
        ambient: AmbientSource,
        held: HeldIdentities,
        files: FileCache,
        settings: Settings,
    ) -> None:
        self._house = operations
        self._http = http
        self._trust = trust
        self._make_trust = make_trust
        self._ambient = ambient
        self._held = held
        self._files = files
        self._settings = settings

    def handlers(self, daemon: Daemon) -> Mapping[str, Handler]:
        """Return the handlers of all operations."""
        return Handlers(self._house, trust=self._trust, files=self._files, daemon=daemon).table()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Renew trust in the background; runs until cancelled."""
        await self._trust.run(task_status=task_status)

    def apply(self, settings: Settings) -> None:
        """Put other instances and bounds in force.

        Keys stay, and so do the HTTP client with its proxy and the directories: those are for
        the next start.

        Raises:
            InvalidInputError: an instance names a file that cannot be read, or an identity a
                user that nobody is; nothing changed.
        """
        trust: Trust | None = None
        if _trust_settings(self._settings) != _trust_settings(settings):
            trust = self._make_trust(settings)
        self._held.apply(settings.identities)
        # From here on nothing fails.
        if trust is not None:
            self._trust.replace(trust)
        self._settings = settings
        self._ambient.apply(settings.ambient)
        self._http.allow_cleartext(settings.http.cleartext_hosts)
        self._house.ledger.on_failure = settings.ledger_failure
        self._house.sessions.caps = _caps(settings)
        self._files.resize(settings.limits.file_cache_mib * MIB)

    async def settle(self) -> None:
        """Finish what is under way without a request and would be lost otherwise."""
        await self._house.sessions.settle()

    def cut(self) -> int:
        """Cancel also what is past its point of no return."""
        return self._house.sign.cut()

    def drop_keys(self) -> int:
        """Forget all signing keys."""
        return self._house.ring.drop_all()


def _caps(settings: Settings) -> Caps:
    return Caps(lifetime=settings.sessions.lifetime, idle=settings.sessions.idle)


def _trust_settings(settings: Settings) -> tuple[object, ...]:
    """Return what a change of which needs another Trust."""
    return (
        settings.default_instance,
        dict(settings.instances),
        settings.sandbox_dir,
        settings.verify_with_expired_trust,
    )


@asynccontextmanager
async def open_rooms(
    settings: Settings, *, environ: Mapping[str, str] = NO_VARIABLES
) -> AsyncGenerator[HouseRooms]:
    """Open client, trust and operations; close them in the reverse order.

    Args:
        settings: In force at first.
        environ: Those of VARIABLES that are set.

    Raises:
        DaemonError: an instance's file cannot be read, an identity names a user that nobody
            is, the ledger cannot be opened, or a package that the settings ask for is missing.
    """
    if settings.cache_dir is None or settings.state_dir is None:
        raise ValueError("cache_dir and state_dir must be known here")
    cache_dir, state_dir = settings.cache_dir, settings.state_dir
    clock, rng, threads = SystemClock(), random.SystemRandom(), Threads()
    keep: Keep | None = None
    if settings.persist == "secret-service":
        keep = open_keep(environ, state_dir, threads)
    async with new_client(proxy=settings.http.proxy) as client:
        http = HttpClient(
            client,
            rng=rng,
            user_agent=USER_AGENT,
            cleartext_hosts=settings.http.cleartext_hosts,
        )

        def make_trust(settings: Settings) -> Trust:
            sandbox = settings.sandbox_dir or state_dir / "sandbox"
            return Trust(
                configured(settings.instances.values(), sandbox_dir=sandbox),
                default=settings.default_instance,
                http=http,
                cache_dir=cache_dir,
                clock=clock,
                threads=threads,
                rng=rng,
                verify_with_expired_trust=settings.verify_with_expired_trust,
            )

        trust = TrustInForce(make_trust(settings))
        operations: House | None = None
        try:
            async with trio.open_nursery() as nursery:
                ambient = AmbientSource(http, clock, settings.ambient)
                held = HeldIdentities(
                    Parts(
                        http=http,
                        clock=clock,
                        rng=rng,
                        threads=threads,
                        nursery=nursery,
                        environ=environ,
                        providers=Providers(http, clock=clock, nursery=nursery),
                    ),
                    own_uid=os.geteuid(),
                    system=settings.system,
                    find_user=lambda name: pwd.getpwnam(name).pw_uid,
                    find_group=lambda name: grp.getgrnam(name).gr_gid,
                )
                held.apply(settings.identities)
                operations = house.build(
                    http=http,
                    trust=trust,
                    clock=clock,
                    rng=rng,
                    threads=threads,
                    nursery=nursery,
                    ledger_path=state_dir / LEDGER,
                    reuse=settings.reuse,
                    ledger_failure=settings.ledger_failure,
                    caps=_caps(settings),
                    keep=keep,
                    ambient=ambient,
                    held=held,
                )
                files = FileCache(settings.limits.file_cache_mib * MIB)
                yield HouseRooms(
                    operations,
                    http=http,
                    trust=trust,
                    make_trust=make_trust,
                    ambient=ambient,
                    held=held,
                    files=files,
                    settings=settings,
                )
                nursery.cancel_scope.cancel()
        finally:
            # After everything that could still write to it.
            if operations is not None:
                operations.ledger.close()
