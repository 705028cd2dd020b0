"""One refresh of one TUF instance: blocking, in a worker thread, under the cache's lock.

python-tuf's Updater applies the rules of the client workflow; this module gives it the time,
the first root and a directory, and publishes the outcome as a whole.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from tuf.api.exceptions import DownloadError, ExpiredMetadataError, RepositoryError
from tuf.ngclient.config import UpdaterConfig
from tuf.ngclient.updater import Updater

from keylessd.errors import (
    DaemonError,
    TrustExpiredError,
    TrustInvalidError,
    TrustUnavailableError,
)
from keylessd.services.urls import printable, shown_url
from keylessd.trust.instances import TRUSTED_ROOT_TARGET, TufInstance
from keylessd.trust.offline import Checked, check
from keylessd.trust.store import InstanceStore, Published

if TYPE_CHECKING:
    from tuf.api.metadata import TargetFile  # type: ignore[attr-defined]  # not declared as export
    from tuf.ngclient.fetcher import FetcherInterface

MAX_TARGET = 1 << 20  # bytes; the largest real one has 8 KiB


def update(
    instance: TufInstance, store: InstanceStore, fetcher: FetcherInterface, now: datetime
) -> Checked:
    """Bring the cache up to date and return what it holds then.

    Args:
        instance: Which repository, from which first root.
        store: Its cache, prepared and locked by the caller.
        fetcher: Downloads.
        now: The time by which metadata has expired or not (UTC).

    Raises:
        TrustUnavailableError: If something could not be downloaded or written.
        TrustExpiredError: If the repository's newest metadata has expired.
        TrustInvalidError: If what it serves is not what its keys have signed, or is older than
            what was seen before. In all three cases the published set is as it was.
    """
    where = shown_url(instance.url)
    try:
        store.sweep()
        return _update(instance, store, fetcher, now)
    except ExpiredMetadataError as exc:
        raise TrustExpiredError(
            f"the TUF repository {where} serves expired metadata: {printable(str(exc))}"
        ) from exc
    except DownloadError as exc:
        raise TrustUnavailableError(
            f"the TUF repository {where} could not be read: {printable(str(exc))}",
            hint="check the network; behind a proxy set [http] proxy in the daemon's settings",
        ) from exc
    except OSError as exc:
        raise TrustUnavailableError(
            f"the cache {store.directory} could not be written: {exc.strerror or exc}"
        ) from exc
    except DaemonError:
        raise
    except Exception as exc:
        # python-tuf promises RepositoryError. Whatever else hostile metadata provokes in it
        # must not end the daemon either.
        raise TrustInvalidError(
            f"the TUF repository {where} is not trusted:"
            f" {printable(str(exc)) or type(exc).__name__}"
        ) from exc


def _update(
    instance: TufInstance, store: InstanceStore, fetcher: FetcherInterface, now: datetime
) -> Checked:
    updater = Updater(
        str(store.metadata),
        instance.url,
        str(store.targets),
        f"{instance.url.rstrip('/')}/targets/",
        fetcher,
        UpdaterConfig(max_root_rotations=256),
        bootstrap=instance.root,
    )
    # python-tuf 7.0 reads the clock itself, once, at construction, and has no argument for it.
    trusted = updater._trusted_set  # noqa: SLF001
    first_version = trusted.root.version
    trusted.reference_time = now
    updater.refresh()

    files: dict[str, bytes] = {}
    for name in (TRUSTED_ROOT_TARGET, instance.signing_config_target):
        target = trusted.targets.targets.get(name)
        if target is not None:
            files[name] = _target(updater, target, store.targets)
    history = store.metadata / "root_history"
    published = Published(
        roots=tuple(
            (history / f"{version}.root.json").read_bytes()
            for version in range(first_version + 1, trusted.root.version + 1)
        ),
        timestamp=(store.metadata / "timestamp.json").read_bytes(),
        snapshot=(store.metadata / "snapshot.json").read_bytes(),
        targets=(store.metadata / "targets.json").read_bytes(),
        files=files,
        fetched=now,
    )
    # By the same code that an offline start will use: what it would refuse is not published.
    checked = check(
        published,
        first_root=instance.root,
        signing_config_target=instance.signing_config_target,
    )
    store.publish(published)
    return checked


def _target(updater: Updater, target: TargetFile, directory: Path) -> bytes:
    if target.length > MAX_TARGET:
        raise RepositoryError(f"{target.path} has {target.length} bytes; {MAX_TARGET} are allowed")
    path = str(directory / quote(target.path, safe=""))
    # python-tuf writes the file in place; a half of one has another hash, and is loaded anew.
    if updater.find_cached_target(target, path) is None:
        updater.download_target(target, path)
    return Path(path).read_bytes()
