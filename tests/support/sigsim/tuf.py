"""A TUF repository in memory, to attack its clients with. Serves through a handler for httpx.

Each ``publish_*`` signs new metadata with the keys of now; ``files`` is what the mirror serves,
and an attack is an edit of it. It keeps every request's path, so that a test can say what was
*not* asked for.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import datetime, timedelta
from typing import Any

import httpx
from securesystemslib.signer import (  # type: ignore[attr-defined]  # the same
    CryptoSigner,
    Signer,
)
from tuf.api.metadata import (  # type: ignore[attr-defined]  # documented there, not declared
    Metadata,
    MetaFile,
    Root,
    Snapshot,
    TargetFile,
    Targets,
    Timestamp,
)
from tuf.api.serialization.json import JSONSerializer

URL = "https://tuf.example/repository"
ROLES = ("root", "timestamp", "snapshot", "targets")

Fault = Callable[[httpx.Request], Awaitable[httpx.Response | None]]
AnySigned = Root | Timestamp | Snapshot | Targets


class TufSim:
    """The repository, its keys and its mirror.

    Attributes:
        files: What the mirror serves, by path below the base.
        requests: Paths in the order they were asked for.
        fault: If set, asked first for every request; None from it means: serve as usual.
        root: The root role, for edits before ``publish_root()``.
        targets: The targets role, the same.
    """

    def __init__(
        self, now: datetime, targets: dict[str, bytes], *, scheme: str = "ed25519"
    ) -> None:
        """Make keys and a complete first version of everything.

        Args:
            now: Roles expire relative to this.
            targets: Contents by name.
            scheme: ``ed25519`` or ``ecdsa``.
        """
        self.now = now
        self.scheme = scheme
        self.files: dict[str, bytes] = {}
        self.requests: list[str] = []
        self.fault: Fault | None = None
        self.signers: dict[str, list[Signer]] = {role: [self.new_key()] for role in ROLES}
        self.root = Root(expires=now + timedelta(days=365))
        for name in ROLES:
            self.root.add_key(self.signers[name][0].public_key, name)
        self.targets = Targets(expires=now + timedelta(days=365))
        self.snapshot = Snapshot(expires=now + timedelta(days=365))
        self.timestamp = Timestamp(expires=now + timedelta(days=7))
        for role in (self.root, self.targets, self.snapshot, self.timestamp):
            role.version = 0  # publishing counts up first
        self.publish_root()
        self.set_targets(targets)
        self.publish()

    def new_key(self) -> Signer:
        """Return a fresh key of the repository's scheme."""
        if self.scheme == "ecdsa":
            return CryptoSigner.generate_ecdsa()
        return CryptoSigner.generate_ed25519()

    @property
    def first_root(self) -> bytes:
        """What a client is given out of band."""
        return self.files["1.root.json"]

    def publish_root(self, *more_signers: Signer) -> None:
        """Sign and serve the next version of the root."""
        self.root.version += 1
        self.files[f"{self.root.version}.root.json"] = sign(
            self.root, [*self.signers["root"], *more_signers]
        )

    def rotate(self, role: str) -> None:
        """Give *role* a new key, in a new root that the old and the new root key sign."""
        old, new = self.signers[role], self.new_key()
        for signer in old:
            self.root.revoke_key(signer.public_key.keyid, role)
        self.root.add_key(new.public_key, role)
        self.signers[role] = [new]
        self.publish_root(*(old if role == "root" else ()))

    def set_targets(self, targets: dict[str, bytes]) -> None:
        """Serve these targets and no others, from the next publish() on."""
        self.targets.targets = {}
        for name, content in targets.items():
            target = TargetFile.from_data(name, content, ["sha256"])
            self.targets.targets[name] = target
            self.files[f"targets/{hashlib.sha256(content).hexdigest()}.{name}"] = content

    def publish(self) -> None:
        """Sign and serve new targets, snapshot and timestamp."""
        self.targets.version += 1
        self.publish_snapshot(self._signed("targets", self.targets))

    def publish_snapshot(self, targets: bytes) -> None:
        """Serve *targets* and sign a snapshot of it, and a timestamp."""
        self.files[f"{self.targets.version}.targets.json"] = targets
        self.snapshot.meta["targets.json"] = MetaFile.from_data(
            self.targets.version, targets, ["sha256"]
        )
        self.snapshot.version += 1
        snapshot = self._signed("snapshot", self.snapshot)
        self.files[f"{self.snapshot.version}.snapshot.json"] = snapshot
        self.timestamp.snapshot_meta = MetaFile.from_data(
            self.snapshot.version, snapshot, ["sha256"]
        )
        self.publish_timestamp()

    def publish_timestamp(self) -> None:
        """Sign and serve the next timestamp."""
        self.timestamp.version += 1
        self.files["timestamp.json"] = self._signed("timestamp", self.timestamp)

    def _signed(self, role: str, signed: AnySigned) -> bytes:
        return sign(signed, self.signers[role])

    async def handle(self, request: httpx.Request) -> httpx.Response:
        """Answer as the mirror does; for ``httpx.MockTransport``."""
        path = request.url.path.removeprefix("/repository/")
        self.requests.append(path)
        if self.fault is not None:
            answer = await self.fault(request)
            if answer is not None:
                return answer
        if path not in self.files:
            return httpx.Response(404, text="no such thing")
        return httpx.Response(200, content=self.files[path])


class Chunks(httpx.AsyncByteStream):
    """A body that comes in pieces, from any asynchronous iterator."""

    def __init__(self, pieces: AsyncIterator[bytes]) -> None:
        self._pieces = pieces
        self.is_closed = False

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._pieces

    async def aclose(self) -> None:
        """Take note that the client is done with it."""
        self.is_closed = True


def sign(signed: AnySigned, signers: list[Signer]) -> bytes:
    """Return *signed* as metadata, signed by all of *signers*."""
    metadata: Metadata[Any] = Metadata(signed)  # any role
    for signer in signers:
        metadata.sign(signer, append=True)
    return metadata.to_bytes(JSONSerializer())
