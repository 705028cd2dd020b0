"""`keyless attest`: a statement given whole, or made of a predicate and files."""

from __future__ import annotations

import json
from collections.abc import Callable
from hashlib import sha256, sha512
from pathlib import Path

import pytest

from fakedaemon import FakeDaemon
from keyless.cli._attest import PREDICATE_TYPES

Run = Callable[..., object]
HEX = "ab" * 64
PREDICATE = ["--predicate", "p.json", "--type", "slsaprovenance1"]


@pytest.fixture(autouse=True)
def files(folder: Path) -> None:
    (folder / "app").write_bytes(b"app")
    (folder / "p.json").write_bytes(b'{"built": true}')
    (folder / "s.json").write_bytes(b'{"_type":  "exactly these bytes"}')


def test_a_predicate_about_files(keyless: Run, daemon: FakeDaemon, folder: Path) -> None:
    done = keyless("attest", *PREDICATE, "../work/app", f"sha512:{HEX}")
    assert done.code == 0
    (request,) = daemon.requests
    assert request.body == {
        "predicate_type": "https://slsa.dev/provenance/v1",
        "subjects": [
            {"name": "app", "alg": "sha256", "value": sha256(b"app").digest()},
            {"name": f"sha512:{HEX}", "alg": "sha512", "value": bytes.fromhex(HEX)},
        ],
    }
    assert request.attachments == {"predicate": b'{"built": true}'}
    assert (folder / "app.sigstore.json").read_bytes() == b'{"built": true}'
    assert done.out.splitlines() == [
        "attested as dev@example.com (https://issuer.example), log #7",
        "  -> ../work/app.sigstore.json",
    ]


def test_a_whole_statement_is_sent_as_it_is(keyless: Run, daemon: FakeDaemon, folder: Path) -> None:
    assert keyless("attest", "--statement", "s.json").code == 0
    (request,) = daemon.requests
    assert request.body == {}
    assert request.attachments == {"statement": b'{"_type":  "exactly these bytes"}'}
    assert (folder / "s.json.sigstore.json").exists()


@pytest.mark.usefixtures("daemon")
def test_the_bundle_may_go_elsewhere(keyless: Run, folder: Path) -> None:
    assert keyless("attest", *PREDICATE, "--bundle", "out", f"sha512:{HEX}").code == 0
    assert (folder / "out").exists()


@pytest.mark.usefixtures("daemon")
def test_the_json_of_an_attestation(keyless: Run) -> None:
    told = keyless("attest", "--json", *PREDICATE, "app").object
    assert told["ok"] is True
    assert told["bundle"] == "app.sigstore.json"
    assert told["predicate_type"] == "https://slsa.dev/provenance/v1"


def test_options_are_passed_on(keyless: Run, daemon: FakeDaemon) -> None:
    words = ["--reuse", "never", "--idempotency-key", "k", "--instance", "sandbox", "--yes"]
    assert keyless("attest", *PREDICATE, *words, "app").code == 0
    body = daemon.requests[0].body
    assert (body["reuse"], body["idempotency_key"]) == ("never", "k")
    assert body["where"] == {"instance": "sandbox"}


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["app"], 2, "give either --statement, or --predicate with --type"),
        (
            ["--statement", "s.json", *PREDICATE, "app"],
            2,
            "give either --statement, or --predicate",
        ),
        (["--predicate", "p.json", "app"], 2, "--predicate needs its --type"),
        (["--statement", "s.json", "--type", "spdx"], 2, "--type goes with --predicate"),
        (PREDICATE, 2, "name the files that the predicate is about"),
        (["--predicate", "p.json", "--type", "spx", "app"], 2, "spx is no predicate type"),
        (["--statement", "gone"], 6, "--statement: cannot read gone: No such file"),
        (["--predicate", "gone", "--type", "spdx", "app"], 6, "--predicate: cannot read gone"),
        ([*PREDICATE, "gone", "--bundle", "out"], 6, "cannot read 'gone': No such file"),
        ([*PREDICATE, f"sha512:{HEX}"], 2, "say where the bundle goes: --bundle OUT"),
        ([*PREDICATE, "sha512:abc", "--bundle", "out"], 2, "sha512:abc is no digest"),
        ([*PREDICATE, "--reuse", "no", "app"], 2, "--reuse takes window or never, not no"),
    ],
)
def test_mistakes_are_named(
    keyless: Run, daemon: FakeDaemon, folder: Path, words: list[str], code: int, says: str
) -> None:
    done = keyless("attest", *words)
    assert (done.code, done.out) == (code, "")
    assert says in done.err
    assert daemon.requests == []
    assert not (folder / "out").exists()


@pytest.mark.parametrize("name", ["a\nb", "\udcff", "a\x1b[2J"])
def test_a_name_that_cannot_stand_in_a_statement(
    keyless: Run, daemon: FakeDaemon, folder: Path, name: str
) -> None:
    (folder / name).write_bytes(b"x")
    done = keyless("attest", *PREDICATE, name)
    assert done.code == 2
    assert "name" in done.err
    assert "\x1b" not in done.err
    assert daemon.requests == []


@pytest.mark.parametrize("name", PREDICATE_TYPES)
def test_short_names_stand_for_uris(keyless: Run, daemon: FakeDaemon, name: str) -> None:
    assert keyless("attest", "--predicate", "p.json", "--type", name, "app").code == 0
    assert daemon.requests[0].body["predicate_type"] == PREDICATE_TYPES[name]
    assert PREDICATE_TYPES[name].startswith("https://")


def about(*digests: dict[str, str]) -> bytes:
    return json.dumps({"subject": [{"name": "n", "digest": digest} for digest in digests]}).encode()


SHA256, SHA512 = {"sha256": sha256(b"app").hexdigest()}, {"sha512": sha512(b"app").hexdigest()}
OTHER = {"sha256": "00" * 32, "gitCommit": sha256(b"app").hexdigest()}


@pytest.mark.parametrize(
    ("statement", "word", "good"),
    [
        (about(SHA256), "app", True),
        (about(OTHER, SHA512), "app", True),
        (about(OTHER | SHA512), "app", True),
        (about(SHA256), f"sha256:{SHA256['sha256']}", True),
        (about(OTHER), "app", False),
        (about(SHA512), f"sha256:{SHA256['sha256']}", False),
        (about(), "app", False),
        (about({"gitCommit": "ab"}), "app", False),
        # What is wrong with these is the daemon's to say.
        (b"[" * 100_000, "app", True),
        (b"[]", "app", True),
        (b"{}", "app", True),
        (b'{"subject": [{"digest": null}]}', "app", True),
        (b'{"subject": [{"digest": "sha256"}]}', "app", True),
        (b"\xff", "app", True),
    ],
)
def test_statement_beside_files_is_about_them(
    keyless: Run, daemon: FakeDaemon, folder: Path, statement: bytes, word: str, good: bool
) -> None:
    (folder / "s.json").write_bytes(statement)
    done = keyless("attest", "--statement", "s.json", word, "--bundle", "out")
    assert done.code == (0 if good else 2), done.err
    assert (folder / "out").exists() == good
    assert [request.attachments for request in daemon.requests] == [
        {"statement": statement} for _ in range(good)
    ]
    if not good:
        assert f"the statement is not about {word}" in done.err
