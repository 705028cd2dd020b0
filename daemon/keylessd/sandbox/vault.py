"""Keeps the small durable things of a sandbox: keys and documents. Logs keep themselves."""

from __future__ import annotations

import fcntl
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

PrivateKey = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey


class SandboxError(Exception):
    """The sandbox cannot do what was asked; the message is one sentence for people."""


class Vault(Protocol):
    """Named documents that outlive the process, or the test."""

    def load(self, name: str) -> bytes | None:
        """Return the document, or None if there is none of that name."""
        ...

    def save(self, name: str, content: bytes) -> None:
        """Store the document, all of it or nothing."""
        ...


class MemoryVault:
    """A vault for tests; it ends with the object."""

    def __init__(self) -> None:
        self._documents: dict[str, bytes] = {}

    def load(self, name: str) -> bytes | None:
        """Return the document, or None if there is none of that name."""
        return self._documents.get(name)

    def save(self, name: str, content: bytes) -> None:
        """Store the document."""
        self._documents[name] = content


def write_atomically(path: Path, content: bytes) -> None:
    """Write *content* so that a reader, or a kill -9, sees the old file or the new one.

    The file has mode 0600. Nothing is synced to the disk: a sandbox survives its process, not a
    power cut.
    """
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


class DirectoryVault:
    """Documents as files of mode 0600 below one directory of mode 0700."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        directory.chmod(0o700)

    def load(self, name: str) -> bytes | None:
        """Return the document, or None if there is none of that name."""
        try:
            return (self._directory / name).read_bytes()
        except FileNotFoundError:
            return None

    def save(self, name: str, content: bytes) -> None:
        """Store the document by rename; a name may hold one or more folders."""
        path = self._directory / name
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_atomically(path, content)


class DirectoryLock:
    """An advisory lock on a sandbox's directory. The kernel drops it when the process ends.

    Args:
        directory: It is made if it is not there.
        patience_seconds: How long to try: whoever asks held() has it for a moment.

    Raises:
        SandboxError: Another process has it.
    """

    def __init__(self, directory: Path, *, patience_seconds: float = 0.2) -> None:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._descriptor = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        end = time.monotonic() + patience_seconds
        while True:
            try:
                fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as exc:
                if time.monotonic() < end:
                    time.sleep(0.01)
                    continue
                os.close(self._descriptor)
                raise SandboxError(f"another sandbox already runs in {directory}") from exc
            return

    def close(self) -> None:
        """Release the lock."""
        os.close(self._descriptor)


def held(directory: Path) -> bool:
    """Say whether some process holds the lock of *directory*."""
    try:
        DirectoryLock(directory, patience_seconds=0).close()
    except SandboxError:
        return True
    return False


def _pem(key: PrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def _stored(vault: Vault, name: str, generate: Callable[[], PrivateKey]) -> object:
    raw = vault.load(f"{name}.key")
    if raw is not None:
        return serialization.load_pem_private_key(raw, password=None)
    key = generate()
    vault.save(f"{name}.key", _pem(key))
    return key


def ecdsa_key(vault: Vault, name: str) -> ec.EllipticCurvePrivateKey:
    """Return the P-256 key of that name; the first call makes and stores it."""
    key = _stored(vault, name, lambda: ec.generate_private_key(ec.SECP256R1()))
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise SandboxError(f"the stored key {name} is not an ECDSA key")
    return key


def ed25519_key(vault: Vault, name: str) -> ed25519.Ed25519PrivateKey:
    """Return the Ed25519 key of that name; the first call makes and stores it."""
    key = _stored(vault, name, ed25519.Ed25519PrivateKey.generate)
    if not isinstance(key, ed25519.Ed25519PrivateKey):
        raise SandboxError(f"the stored key {name} is not an Ed25519 key")
    return key
