"""Where the sandbox keeps its keys and documents."""

from __future__ import annotations

import os
import stat
import subprocess
import sys

import pytest
from cryptography.hazmat.primitives import serialization

from keylessd.sandbox.vault import (
    DirectoryLock,
    DirectoryVault,
    MemoryVault,
    SandboxError,
    ecdsa_key,
    ed25519_key,
    held,
    write_atomically,
)


@pytest.fixture(params=["memory", "directory"])
def vault(request, tmp_path):
    return MemoryVault() if request.param == "memory" else DirectoryVault(tmp_path / "vault")


def raw(key) -> bytes:
    return key.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def test_document_comes_back(vault):
    assert vault.load("folder/name") is None
    vault.save("folder/name", b"one")
    vault.save("folder/name", b"two")
    assert vault.load("folder/name") == b"two"


def test_key_is_made_once(vault):
    assert raw(ecdsa_key(vault, "a")) == raw(ecdsa_key(vault, "a"))
    assert raw(ed25519_key(vault, "b")) == raw(ed25519_key(vault, "b"))
    assert raw(ecdsa_key(vault, "a")) != raw(ecdsa_key(vault, "c"))


def test_key_of_the_other_kind_is_refused(vault):
    ecdsa_key(vault, "a")
    ed25519_key(vault, "b")
    with pytest.raises(SandboxError, match="not an Ed25519 key"):
        ed25519_key(vault, "a")
    with pytest.raises(SandboxError, match="not an ECDSA key"):
        ecdsa_key(vault, "b")


def test_files_are_private_whatever_the_umask(tmp_path):
    before = os.umask(0)
    try:
        vault = DirectoryVault(tmp_path / "vault")
        vault.save("folder/name", b"content")
    finally:
        os.umask(before)
    for path in [tmp_path / "vault", *(tmp_path / "vault").rglob("*")]:
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600)


def test_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "name"
    write_atomically(path, b"old")

    def full(*args):
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="disk full"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_lock_is_exclusive_until_closed(tmp_path):
    lock = DirectoryLock(tmp_path / "d", patience_seconds=0)
    assert held(tmp_path / "d")
    with pytest.raises(SandboxError, match="already runs"):
        DirectoryLock(tmp_path / "d", patience_seconds=0)
    lock.close()
    assert not held(tmp_path / "d")
    DirectoryLock(tmp_path / "d", patience_seconds=0).close()


@pytest.mark.system
def test_kernel_drops_the_lock_of_a_killed_process(tmp_path):
    code = (
        "import sys, time, pathlib\n"
        "from keylessd.sandbox.vault import DirectoryLock\n"
        "lock = DirectoryLock(pathlib.Path(sys.argv[1]))\n"
        "print('held', flush=True)\n"
        "sys.stdin.read()\n"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        assert held(tmp_path)
        holder.kill()
        holder.wait()
    assert not held(tmp_path)
