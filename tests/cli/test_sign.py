"""`keyless sign`: what is asked of the daemon, where bundles go, what is printed, what fails."""

from __future__ import annotations

import os
from collections.abc import Callable
from hashlib import sha256, sha512
from pathlib import Path

import pytest

from fakedaemon import FakeDaemon, answer, signed
from keyless.wire import Failure, Reply, Request, WireError

Run = Callable[..., object]
HEX = "ab" * 32


def bundle_of(content: bytes) -> bytes:
    """Return the bundle that the fake daemon gives for a file."""
    return b'{"of":"' + sha256(content).hexdigest().encode() + b'"}'


@pytest.fixture
def files(folder: Path) -> list[str]:
    for name in ("a", "b", "c"):
        (folder / name).write_bytes(name.encode())
    return ["a", "b", "c"]


@pytest.mark.usefixtures("files")
def test_a_file_gets_a_bundle_beside_it(keyless: Run, daemon: FakeDaemon, folder: Path) -> None:
    done = keyless("sign", "a")
    assert done.code == 0
    assert (folder / "a.sigstore.json").read_bytes() == bundle_of(b"a")
    assert done.out == (
        "a: signed as dev@example.com (https://issuer.example), log #7\n  -> a.sigstore.json\n"
    )
    (request,) = daemon.requests
    assert request.body["digest"] == {"alg": "sha256", "value": sha256(b"a").digest()}
    assert request.body["name"] == "a"


def test_many_files_get_a_bundle_each(
    keyless: Run, daemon: FakeDaemon, files: list[str], folder: Path
) -> None:
    assert keyless("sign", *files).code == 0
    assert daemon.connections == 1
    for name in files:
        assert (folder / f"{name}.sigstore.json").read_bytes() == bundle_of(name.encode())


def test_one_missing_file_leaves_the_others_signed(
    keyless: Run, daemon: FakeDaemon, files: list[str], folder: Path
) -> None:
    del daemon
    done = keyless("sign", files[0], "missing", files[2], "--json")
    assert done.code == 6
    by_name = {row["artifact"]: row for row in done.objects}
    assert [by_name[name]["ok"] for name in ("a", "missing", "c")] == [True, False, True]
    assert by_name["missing"]["error"]["code"] == "file_error"
    assert (folder / "a.sigstore.json").exists()
    assert (folder / "c.sigstore.json").exists()
    assert not (folder / "missing.sigstore.json").exists()
    assert "keyless: missing: cannot read 'missing': No such file or directory" in done.err


@pytest.mark.usefixtures("daemon", "files")
def test_the_json_of_a_signature(keyless: Run) -> None:
    assert keyless("sign", "--json", "a").object == {
        "ok": True,
        "artifact": "a",
        "bundle": "a.sigstore.json",
        "identity": "dev@example.com",
        "identity_kind": "email",
        "issuer": "https://issuer.example",
        "instance": "sandbox",
        "certificate": {"serial": "0a", "not_before": 1, "not_after": 2, "reused": True},
        "entries": [{"log": "log", "log_index": 7, "kind": "hashedrekord", "version": "0.0.2"}],
        "times": [{"time": 1_800_000_000, "source": "tsa", "authority": "tsa"}],
    }


@pytest.mark.usefixtures("daemon", "files")
def test_quiet_prints_nothing(keyless: Run) -> None:
    done = keyless("sign", "-q", "a")
    assert (done.code, done.out, done.err) == (0, "", "")


def test_a_digest_needs_no_file(keyless: Run, daemon: FakeDaemon, folder: Path) -> None:
    done = keyless("sign", f"sha256:{HEX}", "--bundle", "out.json")
    assert done.code == 0
    assert (folder / "out.json").exists()
    assert daemon.requests[0].body["digest"]["value"] == bytes.fromhex(HEX)


def test_a_file_named_like_a_digest_wins(keyless: Run, daemon: FakeDaemon, folder: Path) -> None:
    name = f"sha256:{HEX}"
    (folder / name).write_bytes(b"I am a file")
    assert keyless("sign", name).code == 0
    assert daemon.requests[0].body["digest"]["value"] == sha256(b"I am a file").digest()
    assert (folder / f"{name}.sigstore.json").exists()


@pytest.mark.parametrize(
    "word",
    [
        "sha256:",
        "sha256:abc",
        "sha256:" + "g" * 64,
        "sha256:" + "a" * 63 + " ",
        "sha384:" + HEX,
        "SHA512:" + HEX,
        "sha256: " + "a" * 63,
    ],
)
def test_a_broken_digest_is_named(keyless: Run, daemon: FakeDaemon, word: str) -> None:
    done = keyless("sign", "--bundle", "out", word)
    assert done.code == 2
    assert "is no digest: " in done.err
    assert daemon.requests == []


@pytest.mark.usefixtures("daemon")
def test_a_digest_has_no_place_for_its_bundle(keyless: Run) -> None:
    done = keyless("sign", f"sha256:{HEX}")
    assert done.code == 2
    assert "use --bundle OUT" in done.err


@pytest.mark.usefixtures("daemon", "files")
def test_one_bundle_cannot_be_that_of_two_files(keyless: Run, folder: Path) -> None:
    done = keyless("sign", "--bundle", "out", "a", "b")
    assert done.code == 2
    assert "--bundle names one file" in done.err
    assert not (folder / "out").exists()


@pytest.mark.usefixtures("daemon", "files")
def test_bundles_may_go_to_a_directory(keyless: Run, folder: Path) -> None:
    (folder / "out").mkdir()
    code = keyless("sign", "--output-directory", "out", "../work/a", f"sha256:{HEX}").code
    assert code == 0
    assert {path.name for path in (folder / "out").iterdir()} == {
        "a.sigstore.json",
        f"{HEX}.sigstore.json",
    }


@pytest.mark.usefixtures("daemon", "files")
def test_a_bundle_may_go_to_standard_output_alone(keyless: Run) -> None:
    done = keyless("sign", "--bundle", "-", "a")
    assert (done.code, done.out.encode(), done.err) == (0, bundle_of(b"a"), "")


@pytest.mark.usefixtures("files")
def test_another_algorithm(keyless: Run, daemon: FakeDaemon) -> None:
    assert keyless("sign", "--algorithm", "sha512", "a").code == 0
    assert daemon.requests[0].body["digest"] == {"alg": "sha512", "value": sha512(b"a").digest()}


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--algorithm", "md5", "a"], "--algorithm takes sha256, sha384 or sha512, not md5"),
        (["--reuse", "always", "a"], "--reuse takes window or never, not always"),
        (["--idempotency-key", "k", "a", "b"], "--idempotency-key goes with one artifact"),
        (["--batch", "a", "b"], "--batch writes one bundle"),
    ],
)
def test_options_that_make_no_sense(
    keyless: Run, daemon: FakeDaemon, words: list[str], says: str
) -> None:
    done = keyless("sign", *words)
    assert done.code == 2
    assert says in done.err
    assert daemon.requests == []


@pytest.mark.usefixtures("files")
def test_what_is_asked_is_passed_on(keyless: Run, daemon: FakeDaemon) -> None:
    assert keyless("sign", "a", "--reuse", "never", "--idempotency-key", "build-7").code == 0
    body = daemon.requests[0].body
    assert (body["reuse"], body["idempotency_key"]) == ("never", "build-7")


@pytest.mark.usefixtures("files")
def test_what_other_tools_need_is_taken(keyless: Run, daemon: FakeDaemon) -> None:
    assert keyless("sign", "--yes", "-y", "--overwrite", "--new-bundle-format=true", "a").code == 0
    assert len(daemon.requests) == 1


def test_a_batch_is_one_request(
    keyless: Run, daemon: FakeDaemon, files: list[str], folder: Path
) -> None:
    done = keyless("sign", "--batch", "--bundle", "all.json", *files)
    assert done.code == 0
    assert done.out.startswith("3 artifacts: signed as dev@example.com")
    (request,) = daemon.requests
    assert request.op == "sign_batch"
    lines = [f"{sha256(name.encode()).hexdigest()}  {name}\n" for name in files]
    assert (folder / "all.json").read_bytes() == "".join(lines).encode()


@pytest.mark.usefixtures("files")
def test_a_missing_file_ends_a_batch(keyless: Run, daemon: FakeDaemon, folder: Path) -> None:
    done = keyless("sign", "--batch", "--bundle", "all.json", "a", "missing")
    assert done.code == 6
    assert daemon.requests == []
    assert not (folder / "all.json").exists()


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("new\nline", "'new\\nline' cannot stand in a batch: its name has a control character"),
        ("tab\there", "'tab\\there' cannot stand in a batch: its name has a control character"),
        ("bad\udcff", "'bad\\udcff' cannot stand in a batch: its name is not UTF-8"),
    ],
)
@pytest.mark.usefixtures("files")
def test_a_name_that_cannot_stand_in_a_batch(
    keyless: Run, daemon: FakeDaemon, folder: Path, name: str, says: str
) -> None:
    (folder / name).write_bytes(b"x")
    done = keyless("sign", "--batch", "--bundle", "all.json", "a", name)
    assert done.code == 2
    assert says in done.err
    assert "without --batch" in done.err
    assert daemon.requests == []
    assert not (folder / "all.json").exists()


def test_a_batch_of_too_many(keyless: Run, daemon: FakeDaemon, folder: Path) -> None:
    words = [f"sha256:{number:064x}" for number in range(1025)]
    done = keyless("sign", "--batch", "--bundle", "all.json", *words)
    assert done.code == 2
    assert "--batch takes 1024 artifacts at most, not 1025" in done.err
    assert daemon.requests == []
    assert keyless("sign", "--batch", "--bundle", "all.json", *words[1:]).code == 0


def test_a_directory_is_not_signed(keyless: Run, daemon: FakeDaemon, folder: Path) -> None:
    (folder / "d").mkdir()
    done = keyless("sign", "d")
    assert done.code == 6
    assert "cannot read 'd': Is a directory\n  name the files in it" in done.err
    assert daemon.requests == []


@pytest.mark.parametrize(
    ("code", "ends"),
    [("login_required", 4), ("ledger_unavailable", 5), ("trust_unavailable", 5)],
)
def test_what_is_wrong_for_all_is_said_once(
    keyless: Run, serve: Run, files: list[str], code: str, ends: int
) -> None:
    error = WireError(code, "nobody", retryable=ends == 5, hint="log in")
    serve(lambda request: Failure(request.id, error))
    done = keyless("sign", *files)
    assert done.code == ends
    assert done.err.count("nobody") == 1
    assert done.err.endswith(": nobody\n  log in\nkeyless: 2 more were not signed\n")
    done = keyless("sign", "a")
    assert done.err == "keyless: a: nobody\n  log in\n"


def test_what_is_wrong_for_one_ends_one(
    keyless: Run, serve: Run, files: list[str], folder: Path
) -> None:
    def answers(request: Request) -> object:
        if request.body["name"] == "b":
            return Failure(request.id, WireError("service_unavailable", "no", retryable=True))
        return answer(request)

    serve(answers)
    assert keyless("sign", *files).code == 5
    assert {p.name for p in folder.glob("*.json")} == {"a.sigstore.json", "c.sigstore.json"}


def test_hostile_text_cannot_move_the_cursor(keyless: Run, serve: Run, folder: Path) -> None:
    name = "evil\n\x1b[2Jname"
    (folder / name).write_bytes(b"x")
    identity = "\x1b[31mroot\u202e\u2028\x9b"

    def answers(request: Request) -> Reply:
        return Reply(request.id, signed(identity=identity), {"bundle": b"{}"})

    serve(answers)
    done = keyless("sign", name)
    assert done.code == 0
    assert len(done.out.splitlines()) == 2
    for character in "\x1b\u202e\u2028\x9b\r":
        assert character not in done.out + done.err
    assert "evil\\n\\x1b[2Jname: signed as \\x1b[31mroot\\u202e\\u2028\\x9b" in done.out
    assert (folder / f"{name}.sigstore.json").exists()
    assert keyless("sign", "--json", name).object["identity"] == identity


@pytest.mark.usefixtures("daemon")
def test_a_name_that_is_not_utf8(keyless: Run, folder: Path) -> None:
    name = os.fsdecode(b"\xff\xfe")
    (folder / name).write_bytes(b"x")
    done = keyless("sign", name)
    assert done.code == 0
    assert "\\udcff\\udcfe: signed" in done.out
    assert (folder / f"{name}.sigstore.json").exists()


# --- where the bundle goes ---------------------------------------------------------------------


@pytest.mark.usefixtures("daemon", "files")
def test_a_bundle_has_the_mode_of_any_new_file(keyless: Run, folder: Path) -> None:
    before = os.umask(0o027)
    try:
        assert keyless("sign", "a").code == 0
    finally:
        os.umask(before)
    assert (folder / "a.sigstore.json").stat().st_mode & 0o777 == 0o640


@pytest.mark.usefixtures("daemon", "files")
def test_a_bundle_replaces_the_former_one_whole(keyless: Run, folder: Path) -> None:
    former = folder / "a.sigstore.json"
    former.write_bytes(b"former" * 1000)
    held = os.open(former, os.O_RDONLY)  # a reader that has just opened it
    try:
        assert keyless("sign", "a").code == 0
        assert os.read(held, 6) == b"former"
    finally:
        os.close(held)
    assert former.read_bytes() == bundle_of(b"a")
    assert {path.name for path in folder.iterdir()} == {"a", "b", "c", "a.sigstore.json"}


@pytest.mark.usefixtures("daemon", "files")
def test_a_directory_that_is_not_there(keyless: Run) -> None:
    done = keyless("sign", "--bundle", "no/such/out", "a")
    assert done.code == 6
    assert "cannot write no/such/out: No such file or directory" in done.err


@pytest.mark.usefixtures("daemon", "files")
def test_a_directory_in_the_place_of_the_bundle(keyless: Run, folder: Path) -> None:
    (folder / "out").mkdir()
    done = keyless("sign", "--bundle", "out", "a", "--json")
    assert done.code == 6
    assert done.object["error"]["code"] == "file_error"
    assert list((folder / "out").iterdir()) == []
    assert not list(folder.glob("*.tmp"))


@pytest.mark.usefixtures("daemon", "files")
@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full here")
def test_a_full_device(keyless: Run) -> None:
    done = keyless("sign", "--bundle", "/dev/full", "a")
    assert done.code == 6
    assert "cannot write /dev/full: No space left on device" in done.err


@pytest.mark.usefixtures("daemon", "files")
def test_a_device_is_written_to_and_not_replaced(keyless: Run) -> None:
    assert keyless("sign", "--bundle", "/dev/null", "a").code == 0
    assert not os.path.isfile("/dev/null")


@pytest.mark.usefixtures("daemon", "files")
def test_a_pipe_is_written_to_where_no_file_can_be_made(keyless: Run) -> None:
    reader, writer = os.pipe()  # what a shell makes of --bundle >(command)
    with open(reader, "rb") as pipe:
        with open(writer, "wb"):
            done = keyless("sign", "--bundle", f"/dev/fd/{writer}", "a")
        assert (done.code, done.err) == (0, "")
        assert pipe.read() == bundle_of(b"a")


@pytest.mark.usefixtures("daemon", "files")
def test_a_write_that_fails_leaves_the_former_bundle(
    keyless: Run, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "a.sigstore.json").write_bytes(b"former")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    done = keyless("sign", "a")
    assert done.code == 6
    assert "No space left on device" in done.err
    assert (folder / "a.sigstore.json").read_bytes() == b"former"
    assert {path.name for path in folder.iterdir()} == {"a", "b", "c", "a.sigstore.json"}
