"""Where bundles go is looked at before anything is signed: what is signed is public for good."""

from __future__ import annotations

import os
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest

from fakedaemon import FakeDaemon

Run = Callable[..., object]
PREDICATE = ["--predicate", "p.json", "--type", "custom"]


@pytest.fixture(autouse=True)
def files(folder: Path) -> None:
    for name in ("a", "b", "one/x", "two/x"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(name.encode())
    (folder / "p.json").write_bytes(b"{}")
    (folder / "directory").mkdir()


def of(content: bytes) -> bytes:
    return b'{"of":"' + sha256(content).hexdigest().encode() + b'"}'


COMMANDS = [["sign", "a"], ["sign", "--batch", "a", "b"], ["attest", *PREDICATE, "a"]]


@pytest.mark.parametrize("words", COMMANDS, ids=lambda words: " ".join(words[:2]))
@pytest.mark.parametrize(
    ("out", "says"),
    [
        ("no/such/out", "cannot write no/such/out: No such file or directory"),
        ("a/out", "cannot write a/out: Not a directory"),
        ("directory", "cannot write directory: Is a directory"),
        ("loop/out", "cannot write loop/out: Too many levels of symbolic links"),
        ("/proc/self/out", "cannot write /proc/self/out: "),
        ("n" * 300, "File name too long"),
    ],
)
def test_a_place_that_cannot_be(
    keyless: Run, daemon: FakeDaemon, folder: Path, words: list[str], out: str, says: str
) -> None:
    (folder / "loop").symlink_to("loop")
    done = keyless(*words, "--bundle", out)
    assert done.code == 6
    assert says in done.err
    assert "\n  bundles go elsewhere with --bundle" in done.err
    assert daemon.requests == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
@pytest.mark.parametrize("words", COMMANDS, ids=lambda words: " ".join(words[:2]))
def test_a_directory_that_is_closed_to_us(
    keyless: Run, daemon: FakeDaemon, folder: Path, words: list[str]
) -> None:
    (folder / "directory").chmod(0o500)
    done = keyless(*words, "--bundle", "directory/out")
    assert done.code == 6
    assert "cannot write directory/out: Permission denied" in done.err
    assert daemon.requests == []


def test_one_place_that_cannot_be_leaves_the_others_signed(
    keyless: Run, daemon: FakeDaemon, folder: Path
) -> None:
    (folder / "a.sigstore.json").mkdir()
    done = keyless("sign", "a", "b")
    assert done.code == 6
    assert "keyless: a: cannot write a.sigstore.json: Is a directory" in done.err
    assert [request.body["name"] for request in daemon.requests] == ["b"]
    assert (folder / "b.sigstore.json").read_bytes() == of(b"b")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (
            ["sign", "--output-directory", "directory", "one/x", "two/x"],
            "one/x and two/x would both have the bundle directory/x.sigstore.json",
        ),
        (["sign", "--bundle", "a", "a"], "the bundle would take the place of a"),
        (["sign", "--bundle", "./a", "a"], "the bundle would take the place of a"),
        (["sign", "--bundle", "b", "--batch", "a", "b"], "the bundle would take the place of b"),
        (["attest", *PREDICATE, "--bundle", "b", "a", "b"], "would take the place of b"),
        (["attest", *PREDICATE, "--bundle", "p.json", "a"], "would take the place of p.json"),
        (["attest", "--statement", "p.json", "--bundle", "p.json"], "take the place of p.json"),
    ],
)
def test_nothing_is_overwritten_that_is_needed(
    keyless: Run, daemon: FakeDaemon, folder: Path, words: list[str], says: str
) -> None:
    done = keyless(*words)
    assert done.code == 2
    assert says in done.err
    assert daemon.requests == []
    assert (folder / "a").read_bytes() == b"a"
    assert (folder / "b").read_bytes() == b"b"


@pytest.mark.usefixtures("daemon")
def test_a_link_to_the_file_gives_way_to_its_bundle(keyless: Run, folder: Path) -> None:
    (folder / "link").symlink_to("a")
    assert keyless("sign", "--bundle", "link", "a").code == 0
    assert (folder / "link").read_bytes() == of(b"a")
    assert (folder / "a").read_bytes() == b"a"


@pytest.mark.usefixtures("daemon")
def test_a_file_named_twice_is_signed_once(keyless: Run, daemon: FakeDaemon, folder: Path) -> None:
    done = keyless("sign", "a", "b", "a")
    assert done.code == 0
    assert sorted(request.body["name"] for request in daemon.requests) == ["a", "b"]
    assert (folder / "a.sigstore.json").read_bytes() == of(b"a")


def test_what_becomes_a_bundle_is_not_signed_itself(
    keyless: Run, daemon: FakeDaemon, folder: Path
) -> None:
    (folder / "a.sigstore.json").write_bytes(b"of the last release")
    done = keyless("sign", "a", "a.sigstore.json", "b")
    assert done.code == 0
    assert sorted(request.body["name"] for request in daemon.requests) == ["a", "b"]
    assert "keyless: a.sigstore.json is the bundle of a, and is not signed" in done.err
    assert not (folder / "a.sigstore.json.sigstore.json").exists()


def test_a_full_disk_ends_it(keyless: Run, daemon: FakeDaemon, monkeypatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    names = [f"f{number}" for number in range(200)]
    for name in names:
        Path(name).write_bytes(name.encode())
    done = keyless("sign", *names)
    assert done.code == 6
    begun = len(daemon.requests)
    assert done.err.count("No space left on device") == begun < len(names)
    assert f"keyless: {len(names) - begun} more were not signed" in done.err


def test_a_working_directory_that_was_removed(
    keyless: Run, daemon: FakeDaemon, folder: Path
) -> None:
    os.chdir(folder / "directory")
    (folder / "directory").rmdir()
    done = keyless("sign", "gone", str(folder / "a"))
    assert done.code == 6
    assert "keyless: gone: cannot write gone.sigstore.json: No such file or directory" in done.err
    assert (folder / "a.sigstore.json").read_bytes() == of(b"a")
    assert len(daemon.requests) == 1
