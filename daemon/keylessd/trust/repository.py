"""The asynchronous face of TUF instances: loads from the cache, refreshes over the network.

Holds nothing: what is in force is decided in ``trust.tuf_source``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from keylessd.errors import TrustInvalidError, TrustUnavailableError
from keylessd.services.urls import shown_url
from keylessd.trust.downloads import Downloads
from keylessd.trust.store import InstanceStore

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    from keylessd.clock import Clock
    from keylessd.flow.threads import Threads
    from keylessd.services.http import HttpClient
    from keylessd.trust.instances import TufInstance
    from keylessd.trust.offline import Checked

REFRESH_SECONDS = 90.0  # all of it, with a walk over several roots on a slow line


class Repository:
    """TUF repositories and their caches below one directory."""

    def __init__(
        self, *, http: HttpClient, cache_dir: Path, clock: Clock, threads: Threads
    ) -> None:
        """Store the parts; nothing is read."""
        self._http = http
        self._cache_dir = cache_dir
        self._clock = clock
        self._threads = threads

    async def load(self, instance: TufInstance) -> Checked | None:
        """Return the verified content of the cache, expired or not; None if it has none.

        Raises:
            CacheRefusedError: If the cache is not ours alone.
            TrustInvalidError: If it does not verify, for example because the instance has
                another first root now. A refresh mends that.
        """
        store = InstanceStore(self._cache_dir, instance.cache_key)
        return await self._threads.run("disk", _load, instance, store)

    async def refresh(self, instance: TufInstance) -> Checked:
        """Bring the cache up to date and return its content.

        Raises:
            TrustUnavailableError: See ``trust.update.update``; also if it takes too long.
            TrustExpiredError: The same.
            TrustInvalidError: The same.
        """
        store = InstanceStore(self._cache_dir, instance.cache_key)
        store.prepare()
        downloads = Downloads(self._http)
        try:
            with trio.fail_after(REFRESH_SECONDS):
                async with store.locked():
                    # Never abandoned: the lock is held until the thread has ended.
                    return await self._threads.run(
                        "tuf", _refresh, instance, store, downloads, self._clock.now()
                    )
        except trio.TooSlowError as exc:
            raise TrustUnavailableError(
                f"the TUF repository {shown_url(instance.url)} did not deliver"
                f" within {REFRESH_SECONDS:g} seconds"
            ) from exc
        except OSError as exc:
            raise TrustUnavailableError(
                f"the cache {store.directory} cannot be locked: {exc.strerror}"
            ) from exc
        finally:
            await downloads.aclose()


def _load(instance: TufInstance, store: InstanceStore) -> Checked | None:
    # In the thread: python-tuf takes a tenth of a second to import.
    from keylessd.trust.offline import check  # noqa: PLC0415

    if not store.exists():
        return None
    store.check()
    published = store.read()
    if published is None:
        raise TrustInvalidError(f"the cache {store.directory} is damaged")
    return check(
        published,
        first_root=instance.root,
        signing_config_target=instance.signing_config_target,
    )


def _refresh(
    instance: TufInstance, store: InstanceStore, downloads: Downloads, now: datetime
) -> Checked:
    from keylessd.trust.fetcher import HttpxFetcher  # noqa: PLC0415
    from keylessd.trust.update import update  # noqa: PLC0415

    return update(instance, store, HttpxFetcher(downloads), now)
