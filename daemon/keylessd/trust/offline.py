"""Verifies a published set of TUF metadata without a network. Decides nothing about expiry.

The same rules as of a refresh (TUF specification 1.0, 5.3 to 5.7), from the first trusted root to
the targets' hashes, on python-tuf's public metadata API. That API is light to import; its client
is not, and a daemon that starts from its cache does not need it. Import this module in a worker
thread all the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, TypeVar

from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import (  # type: ignore[attr-defined]  # documented there, not declared
    Metadata,
    Root,
    Snapshot,
    Targets,
    Timestamp,
)

from keylessd.errors import TrustInvalidError
from keylessd.services.urls import printable
from keylessd.trust.instances import TRUSTED_ROOT_TARGET

if TYPE_CHECKING:
    from keylessd.trust.store import Published


_Role = TypeVar("_Role", Root, Timestamp, Snapshot, Targets)


@dataclass(frozen=True, slots=True)
class Checked:
    """What a verified set says.

    Attributes:
        trusted_root: The TrustedRoot JSON.
        signing_config: The SigningConfig JSON, None if the repository has none.
        fetched: When the repository last confirmed it (UTC).
        expires: The earliest end of the four roles (UTC).
        root_version: Version of the newest root.
    """

    trusted_root: bytes
    signing_config: bytes | None
    fetched: datetime
    expires: datetime
    root_version: int


def check(published: Published, *, first_root: bytes, signing_config_target: str) -> Checked:
    """Verify every signature, version, length and hash of *published*.

    Args:
        published: From the cache, unverified.
        first_root: The root that is trusted from the start.
        signing_config_target: Name of the signing configuration's target.

    Raises:
        TrustInvalidError: If anything does not fit.
    """
    try:
        return _check(published, first_root, signing_config_target)
    except (RepositoryError, ValueError, KeyError, TypeError, AttributeError) as exc:
        raise TrustInvalidError(
            f"the cached trust root does not verify: {printable(str(exc))}"
        ) from exc


def _check(published: Published, first_root: bytes, signing_config_target: str) -> Checked:
    root = _newest_root(first_root, published.roots)
    timestamp = _role(Timestamp, published.timestamp, root)

    snapshot_meta = timestamp.snapshot_meta
    snapshot_meta.verify_length_and_hashes(published.snapshot)
    snapshot = _role(Snapshot, published.snapshot, root)
    _same_version("snapshot", snapshot.version, snapshot_meta.version)

    targets_meta = snapshot.meta["targets.json"]
    targets_meta.verify_length_and_hashes(published.targets)
    targets = _role(Targets, published.targets, root)
    _same_version("targets", targets.version, targets_meta.version)

    contents: dict[str, bytes] = {}
    for name in (TRUSTED_ROOT_TARGET, signing_config_target):
        if name in targets.targets:
            targets.targets[name].verify_length_and_hashes(published.files[name])
            contents[name] = published.files[name]
    if TRUSTED_ROOT_TARGET not in contents:
        raise RepositoryError(f"the repository has no {TRUSTED_ROOT_TARGET}")
    return Checked(
        trusted_root=contents[TRUSTED_ROOT_TARGET],
        signing_config=contents.get(signing_config_target),
        fetched=published.fetched,
        expires=min(role.expires for role in (root, timestamp, snapshot, targets)),
        root_version=root.version,
    )


def _newest_root(first_root: bytes, later: Sequence[bytes]) -> Root:
    """Walk from the first root; its own expiry and that of those between do not matter."""
    metadata = _metadata(Root, first_root)
    root = metadata.signed
    root.verify_delegate(Root.type, metadata.signed_bytes, metadata.signatures)
    for raw in later:
        metadata = _metadata(Root, raw)
        following = metadata.signed
        if following.version <= root.version:
            continue  # published before a newer version of this program brought a newer root
        _same_version("root", following.version, root.version + 1)
        # 5.3.4: signed by the keys of the root before it, and by its own.
        root.verify_delegate(Root.type, metadata.signed_bytes, metadata.signatures)
        following.verify_delegate(Root.type, metadata.signed_bytes, metadata.signatures)
        root = following
    return root


def _role(kind: type[_Role], raw: bytes, root: Root) -> _Role:
    metadata = _metadata(kind, raw)
    root.verify_delegate(kind.type, metadata.signed_bytes, metadata.signatures)
    return metadata.signed


def _metadata(kind: type[_Role], raw: bytes) -> Metadata[_Role]:
    metadata: Metadata[_Role] = Metadata.from_bytes(raw)
    if metadata.signed.type != kind.type:
        raise RepositoryError(f"expected {kind.type} metadata, got {metadata.signed.type}")
    return metadata


def _same_version(role: str, found: int, wanted: int) -> None:
    if found != wanted:
        raise RepositoryError(f"{role} has version {found}; {wanted} is expected")
