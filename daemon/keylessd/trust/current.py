"""The trust in force: answers every request's "whom do I believe, and which services do I use".

Owns the sources of all instances and their background renewal. How a TUF refresh works is in
``trust.update``; when it is due, in ``trust.tuf_source``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import trio

from keylessd.core.signing_config import parse_trust_config
from keylessd.errors import InvalidInputError, ShuttingDownError, UnknownInstanceError
from keylessd.flow.singleflight import CallAbandonedError, SingleFlight
from keylessd.services.urls import printable
from keylessd.trust.file_source import FileSource
from keylessd.trust.instances import FileInstance, InstanceSpec, SandboxInstance, TufInstance
from keylessd.trust.material import TrustMaterial
from keylessd.trust.parsed import Parsed, version_of
from keylessd.trust.repository import Repository
from keylessd.trust.sandbox_source import SandboxSource
from keylessd.trust.stated_urls import with_stated_urls
from keylessd.trust.tuf_source import TufSource

if TYPE_CHECKING:
    import random
    from pathlib import Path

    from keylessd.clock import Clock
    from keylessd.flow.threads import Threads
    from keylessd.services.http import HttpClient
    from keylessd.trust.material import Purpose
    from keylessd.trust.status import InstanceStatus
    from keylessd.trust.where import Urls, Where

Source = TufSource | FileSource | SandboxSource


class Trust:
    """Holds one source per instance."""

    def __init__(
        self,
        instances: Mapping[str, InstanceSpec],
        *,
        default: str,
        http: HttpClient,
        cache_dir: Path,
        clock: Clock,
        threads: Threads,
        rng: random.Random,
        verify_with_expired_trust: bool = False,
        repository: Repository | None = None,
    ) -> None:
        """Store the parts; nothing is read, no request is made.

        Args:
            instances: By name; see ``trust.instances``.
            default: Name of the one that is meant where none is named.
            http: Fetches TUF repositories, and says which URLs may be stated.
            cache_dir: Private directory; created 0700 when it is first needed.
            clock: Tells what has expired.
            threads: Runs python-tuf and reads files.
            rng: Jitter of renewals.
            verify_with_expired_trust: Whether verification may go on with expired material when
                it cannot be renewed. Signing never does.
            repository: Replaces the network and the cache, in tests.

        Raises:
            UnknownInstanceError: If *default* is not one of the instances.
        """
        self._http = http
        self._clock = clock
        self._threads = threads
        self._rng = rng
        self._verify_with_expired = verify_with_expired_trust
        self._parsed = Parsed(threads)
        self._repository = repository or Repository(
            http=http, cache_dir=cache_dir, clock=clock, threads=threads
        )
        self._sources = {name: self._source(spec) for name, spec in instances.items()}
        self._default = default
        self._named(default)
        self._flights: SingleFlight[TrustMaterial] | None = None
        self._running = trio.Event()

    @property
    def default(self) -> str:
        """Name of the default instance."""
        return self._default

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keep the instances in use fresh, until cancelled.

        Nothing is waited for before ``started()``: the default instance loads from its cache, or
        else from the network, in the background, and a request that comes first joins in.
        """
        async with trio.open_nursery() as nursery:
            self._flights = SingleFlight(nursery)
            self._running.set()
            for name, source in self._sources.items():
                if isinstance(source, TufSource):
                    if name == self._default:
                        source.want()
                    nursery.start_soon(source.keep_fresh, self._flights)
            task_status.started()
            # Without TUF instances nothing else would hold the nursery open for requests' calls.
            await trio.sleep_forever()

    async def material(self, where: Where, purpose: Purpose = "sign") -> TrustMaterial:
        """Return what *where* means.

        It is consistent in itself and never changes: an operation asks once, at its start.

        Args:
            where: The request's choice.
            purpose: What it is for. Expired material is refused for both; see the constructor.

        Raises:
            UnknownInstanceError: If the instance is not known.
            TrustUnavailableError: If nothing is held and nothing can be fetched.
            TrustExpiredError: If what is held has expired and cannot be renewed.
            TrustInvalidError: If nothing is held and what was obtained is not valid.
            InvalidInputError: If the files or URLs of the request are not valid, or contradict
                each other.
        """
        trusted_root, signing_config = await self._files(where)
        if trusted_root is not None:
            base = await self._of_request(trusted_root, signing_config)
        else:
            base = await self._of_instance(where.instance or self._default, purpose)
            if signing_config is not None:
                base = await self._with_config(base, signing_config)
        return self._with_urls(base, where.urls) if where.urls else base

    async def refresh(self, instance: str) -> TrustMaterial:
        """Renew one instance now, because somebody asked.

        Raises:
            RateLimitedError: If that was asked too often.
            UnknownInstanceError: If the instance is not known.
            TrustUnavailableError: If it cannot be obtained; what is held stays in force.
            TrustExpiredError: If what is served has expired; the same.
            TrustInvalidError: If what is served is not valid; the same.
        """
        source = self._named(instance)
        if isinstance(source, FileSource):
            return await source.refresh()
        flights = await self._ready()
        try:
            return await source.refresh(flights)
        except CallAbandonedError as exc:
            raise ShuttingDownError("the daemon is shutting down") from exc

    def status(self) -> list[InstanceStatus]:
        """Return the state of every instance, the default one first."""
        names = sorted(self._sources, key=lambda name: (name != self._default, name))
        return [self._sources[name].status() for name in names]

    # --- where from ------------------------------------------------------------------------

    def _source(self, spec: InstanceSpec) -> Source:
        match spec:
            case TufInstance():
                return self._tuf_source(spec)
            case FileInstance():
                return self._file_source(spec)
            case SandboxInstance():
                return SandboxSource(
                    spec,
                    tuf=lambda instance: self._tuf_source(instance, refresh_first=True),
                    files=self._file_source,
                )

    def _tuf_source(self, instance: TufInstance, *, refresh_first: bool = False) -> TufSource:
        return TufSource(
            instance,
            repository=self._repository,
            parsed=self._parsed,
            clock=self._clock,
            rng=self._rng,
            verify_with_expired_trust=self._verify_with_expired,
            refresh_first=refresh_first,
        )

    def _file_source(self, instance: FileInstance) -> FileSource:
        return FileSource(instance, parsed=self._parsed, clock=self._clock, threads=self._threads)

    def _named(self, name: str) -> Source:
        try:
            return self._sources[name]
        except KeyError:
            raise UnknownInstanceError(
                f"no instance is called {printable(name)!r}; known are"
                f" {', '.join(sorted(self._sources))}",
                hint="add it to the settings, or name one of those",
            ) from None

    async def _ready(self) -> SingleFlight[TrustMaterial]:
        await self._running.wait()
        assert self._flights is not None  # noqa: S101  # set before the event
        return self._flights

    async def _of_instance(self, name: str, purpose: Purpose) -> TrustMaterial:
        source = self._named(name)
        if isinstance(source, FileSource):
            return await source.get()
        flights = await self._ready()
        try:
            return await source.get(purpose, flights)
        except CallAbandonedError as exc:
            raise ShuttingDownError("the daemon is shutting down") from exc

    # --- what the request brings -------------------------------------------------------------

    async def _files(self, where: Where) -> tuple[bytes | None, bytes | None]:
        """Return trusted root and signing config of the request, refusing contradictions."""
        given = where.trusted_root, where.signing_config
        if where.trust_config is not None:
            if given != (None, None):
                raise InvalidInputError(
                    "a trust config holds both files; a trusted root or signing config beside it"
                    " contradicts it"
                )
            given = await self._threads.run(
                "disk", parse_trust_config, where.trust_config, abandon_on_cancel=True
            )
        if given[0] is not None and where.instance is not None:
            raise InvalidInputError(
                f"instance {printable(where.instance)!r} and a trusted root file exclude each other"
            )
        return given

    async def _of_request(self, trusted_root: bytes, signing_config: bytes | None) -> TrustMaterial:
        root = await self._parsed.trusted_root(trusted_root)
        config = None
        if signing_config is not None:
            config = await self._parsed.signing_config(signing_config)
        return TrustMaterial(
            instance=f"files:{root.sha256[:12]}",
            trusted_root=root,
            signing_config=config,
            version=version_of(trusted_root, signing_config),
            source="request",
            fetched=self._clock.now(),
            expires=None,
        )

    async def _with_config(self, base: TrustMaterial, signing_config: bytes) -> TrustMaterial:
        config = await self._parsed.signing_config(signing_config)
        version = version_of(base.version.encode(), signing_config)
        return replace(base, signing_config=config, version=version)

    def _with_urls(self, base: TrustMaterial, urls: Urls) -> TrustMaterial:
        for url in (urls.fulcio, urls.rekor, urls.oidc_issuer, urls.tsa):
            if url is not None:
                self._http.check(url)
        config = with_stated_urls(base.signing_config, urls, base.trusted_root)
        version = version_of(base.version.encode(), None, urls)
        return replace(base, signing_config=config, version=version)
