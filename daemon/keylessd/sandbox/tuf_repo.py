"""A TUF repository with the sandbox's trust material: makes, renews and rotates it. No HTTP.

Consistent snapshots, one online Ed25519 key for targets, snapshot and timestamp, one for the
root. The timestamp is short-lived; it is signed anew when somebody asks for an old one, so that
a sandbox needs no background task for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, TypeVar

from securesystemslib.signer import CryptoSigner  # type: ignore[attr-defined]  # no __all__
from tuf.api.metadata import (  # type: ignore[attr-defined]  # no __all__
    Metadata,
    MetaFile,
    Root,
    Signed,
    Snapshot,
    TargetFile,
    Targets,
    Timestamp,
)
from tuf.api.serialization.json import JSONSerializer

from keylessd.sandbox.vault import SandboxError, Vault, ed25519_key

if TYPE_CHECKING:
    from keylessd.clock import Clock

LIFETIMES = {
    Root.type: timedelta(days=365),
    Targets.type: timedelta(days=365),
    Snapshot.type: timedelta(days=365),
    Timestamp.type: timedelta(days=7),
}
ONLINE_ROLES = (Targets.type, Snapshot.type, Timestamp.type)
FOLDER = "tuf"

RoleT = TypeVar("RoleT", Root, Targets, Snapshot, Timestamp)

_SERIALIZER = JSONSerializer(compact=False)


class TufRepository:
    """The metadata and targets, all of them in the vault below ``tuf/``.

    Args:
        vault: Keeps keys, metadata and targets.
        clock: Gives expiry dates.
        lifetimes: Role -> how long its metadata are valid.

    Attributes:
        renewing: Sign the timestamp (and root, targets, snapshot) anew when half of its life
            is over. Tests set it to False, to get a repository that is frozen.
    """

    def __init__(
        self,
        vault: Vault,
        *,
        clock: Clock,
        lifetimes: Mapping[str, timedelta] = LIFETIMES,
    ) -> None:
        self.renewing = True
        self._vault = vault
        self._clock = clock
        self._lifetimes = lifetimes
        self._online = CryptoSigner(ed25519_key(vault, "tuf-online"))
        root = self.root()
        if root is None:
            self._sign_root(Root(consistent_snapshot=True), number=1)
        self._number = self._newest_root_number()

    def root(self, version: int = 1) -> bytes | None:
        """Return the root metadata of that version, or None if there is none."""
        return self._vault.load(f"{FOLDER}/{version}.root.json")

    @property
    def root_version(self) -> int:
        """The newest root's version."""
        return self._number

    def read(self, path: str) -> bytes | None:
        """Return the file at *path* below the repository's URL, or None.

        What is past half of its life is renewed first: a client asks for roots, and then for
        the timestamp, before it asks for anything else.
        """
        if self.renewing and (path == "timestamp.json" or path.endswith(".root.json")):
            self.renew()
        if not _is_plain(path):
            return None
        return self._vault.load(f"{FOLDER}/{path}")

    def publish(self, targets: Mapping[str, bytes]) -> None:
        """Make *targets* (name -> content) the repository's content, if they are not yet."""
        files = {name: TargetFile.from_data(name, raw, ["sha256"]) for name, raw in targets.items()}
        old = self._newest(Targets)
        if old is not None and old.targets == files:
            return
        for name, raw in targets.items():
            digest = files[name].hashes["sha256"]
            folder, _, base = f"targets/{name}".rpartition("/")
            self._vault.save(f"{FOLDER}/{folder}/{digest}.{base}", raw)
        version = 1 if old is None else old.version + 1
        self._sign(Targets(version=version, expires=self._end(Targets.type), targets=files))
        self._publish_snapshot(version)

    def renew(self) -> None:
        """Sign anew whatever has less than half of its life before it."""
        if self._is_old(self._newest(Root)):
            self.rotate_root(new_key=False)
        targets = self._newest(Targets)
        if targets is not None and (self._is_old(targets) or self._is_old(self._newest(Snapshot))):
            targets.version += 1
            targets.expires = self._end(Targets.type)
            self._sign(targets)
            self._publish_snapshot(targets.version)
        elif self._is_old(self._newest(Timestamp)):
            self._publish_timestamp()

    def rotate_root(self, *, new_key: bool = True) -> None:
        """Publish the next root, by default with a new root key, signed by the old one too."""
        raw = self.root(self._number)
        assert raw is not None  # noqa: S101  # the constructor made one
        root = Metadata[Root].from_bytes(raw).signed
        number = self._key_number(root) + new_key
        root.version += 1
        self._sign_root(root, number=number)
        self._number = root.version

    # --- making metadata ----------------------------------------------------------------------

    def _key_number(self, root: Root) -> int:
        """Return the number of the key that *root* names for itself.

        A later key may lie in the vault already, made by a rotation that was cut short.
        """
        number = 1
        while self._vault.load(f"tuf-root-{number}.key") is not None:
            signer = CryptoSigner(ed25519_key(self._vault, f"tuf-root-{number}"))
            if signer.public_key.keyid in root.roles[Root.type].keyids:
                return number
            number += 1
        raise SandboxError("the key of the newest TUF root is missing")

    def _newest_root_number(self) -> int:
        version = 1
        while self.root(version + 1) is not None:
            version += 1
        return version

    def _sign_root(self, root: Root, *, number: int) -> None:
        signer = CryptoSigner(ed25519_key(self._vault, f"tuf-root-{number}"))
        before = list(root.roles[Root.type].keyids)
        for keyid in before:
            if keyid != signer.public_key.keyid:
                root.revoke_key(keyid, Root.type)
        root.add_key(signer.public_key, Root.type)
        for role in ONLINE_ROLES:
            root.add_key(self._online.public_key, role)
        root.expires = self._end(Root.type)
        metadata = Metadata(root)
        metadata.sign(signer)
        if before and before != [signer.public_key.keyid]:
            old = CryptoSigner(ed25519_key(self._vault, f"tuf-root-{number - 1}"))
            metadata.sign(old, append=True)
        self._vault.save(f"{FOLDER}/{root.version}.root.json", metadata.to_bytes(_SERIALIZER))

    def _publish_snapshot(self, targets_version: int) -> None:
        old = self._newest(Snapshot)
        snapshot = Snapshot(
            version=1 if old is None else old.version + 1,
            expires=self._end(Snapshot.type),
            meta={"targets.json": MetaFile(targets_version)},
        )
        self._sign(snapshot)
        self._publish_timestamp(snapshot.version)

    def _publish_timestamp(self, snapshot_version: int | None = None) -> None:
        old = self._newest(Timestamp)
        if snapshot_version is None:
            assert old is not None  # noqa: S101  # there is no renewing before publishing
            snapshot_version = old.snapshot_meta.version
        timestamp = Timestamp(
            version=1 if old is None else old.version + 1,
            expires=self._end(Timestamp.type),
            snapshot_meta=MetaFile(snapshot_version),
        )
        self._sign(timestamp)

    def _sign(self, signed: RoleT) -> None:
        metadata = Metadata(signed)
        metadata.sign(self._online)
        prefix = "" if signed.type == Timestamp.type else f"{signed.version}."
        raw = metadata.to_bytes(_SERIALIZER)
        self._vault.save(f"{FOLDER}/{prefix}{signed.type}.json", raw)

    def _newest(self, role: type[RoleT]) -> RoleT | None:
        """Return what clients see: all but the root is found from the timestamp on.

        What a publication that was cut short left behind is therefore not seen by us either,
        and the next one writes over it.
        """
        if role is Root:
            name = f"{self._number}.root.json"
        elif role is Timestamp:
            name = "timestamp.json"
        elif role is Snapshot:
            timestamp = self._newest(Timestamp)
            if timestamp is None:
                return None
            name = f"{timestamp.snapshot_meta.version}.snapshot.json"
        else:
            snapshot = self._newest(Snapshot)
            if snapshot is None:
                return None
            name = f"{snapshot.meta['targets.json'].version}.targets.json"
        raw = self._vault.load(f"{FOLDER}/{name}")
        return None if raw is None else Metadata[RoleT].from_bytes(raw).signed

    def _is_old(self, signed: Signed | None) -> bool:
        if signed is None:
            return False
        return signed.expires - self._clock.now() < self._lifetimes[signed.type] / 2

    def _end(self, role: str) -> datetime:
        return (self._clock.now() + self._lifetimes[role]).replace(microsecond=0)


def _is_plain(path: str) -> bool:
    return all(part and not part.startswith(".") for part in path.split("/"))
