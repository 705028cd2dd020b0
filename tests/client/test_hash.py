"""Digests of files, by both implementations, and what cannot be hashed."""

import hashlib
import os
import threading

import pytest

from keyless import _hash
from keyless.errors import KeylessError
from keyless.values import Digest

ALGORITHMS = ("sha256", "sha384", "sha512")


@pytest.mark.parametrize("budget", [0, _hash.SMALL], ids=["openssl", "own"])
@pytest.mark.parametrize(
    "size", [0, 1, 100_000, _hash.PIECE, _hash.PIECE + 1, _hash.SMALL, _hash.SMALL + 1]
)
def test_files(tmp_path, monkeypatch, size, budget):
    monkeypatch.setattr(_hash, "_small_left", [budget])
    content = os.urandom(size)
    (tmp_path / "f").write_bytes(content)
    found = _hash.hash_file(tmp_path / "f", ALGORITHMS)
    assert found == {name: hashlib.new(name, content).digest() for name in ALGORITHMS}


def test_own_implementation_is_used_for_little_and_openssl_for_much(tmp_path, monkeypatch):
    made = []
    real = _hash._light_hasher
    monkeypatch.setattr(_hash, "_light_hasher", lambda name: made.append(name) or real(name))
    monkeypatch.setattr(_hash, "_small_left", [1000])
    (tmp_path / "f").write_bytes(bytes(600))
    assert _hash.hash_file(tmp_path / "f") == _hash.hash_file(tmp_path / "f")
    assert made == ["sha256"]


def test_an_interpreter_without_its_own_sha2(tmp_path, monkeypatch):
    def missing(_):
        raise ImportError

    monkeypatch.setattr(_hash, "_light_hasher", missing)
    monkeypatch.setattr(_hash, "_small_left", [1000])
    assert _hash.hash_bytes(b"x") == hashlib.sha256(b"x").digest()


def test_a_pipe(tmp_path):
    os.mkfifo(tmp_path / "p")
    writer = threading.Thread(target=lambda: (tmp_path / "p").write_bytes(b"through"))
    writer.start()
    assert _hash.hash_file(tmp_path / "p")["sha256"] == hashlib.sha256(b"through").digest()
    writer.join()


def test_standard_input(tmp_path, monkeypatch):
    (tmp_path / "f").write_bytes(b"in")
    with open(tmp_path / "f", "rb") as file:
        monkeypatch.setattr(
            os, "dup", lambda fd, dup=os.dup: dup(file.fileno()) if fd == 0 else dup(fd)
        )
        assert _hash.digest_of("-") == Digest("sha256", hashlib.sha256(b"in").digest())


@pytest.mark.parametrize("name", ["absent", "."])
def test_what_cannot_be_read(tmp_path, name):
    with pytest.raises(KeylessError) as caught:
        _hash.hash_file(tmp_path / name)
    assert caught.value.code == "file_error"


def test_a_file_that_changes_meanwhile_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "f"
    path.write_bytes(b"before")

    def readv(fd, buffers, real=os.readv):
        count = real(fd, buffers)
        if count:
            path.write_bytes(b"after it")
            os.truncate(path, 6)
            os.utime(path, ns=(1, 1))
        return count

    monkeypatch.setattr(os, "readv", readv)
    with pytest.raises(KeylessError, match="changed") as caught:
        _hash.hash_file(path)
    assert caught.value.retryable


@pytest.mark.parametrize("name", ["a\0b", "\ud800"])
def test_a_name_that_no_file_can_have(name):
    with pytest.raises(KeylessError, match="no file can be called") as caught:
        _hash.hash_file(name)
    assert caught.value.code == "file_error"
