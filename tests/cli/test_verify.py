"""`keyless verify`: which bundle, whom it accepts, what is printed, what fails."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256, sha384
from pathlib import Path

import pytest

from fakedaemon import FakeDaemon, answer, verified
from keyless.wire import Failure, Reply, Request, WireError

Run = Callable[..., object]
HEX = "ab" * 32
ME = ["--certificate-identity", "me@example.com", "--certificate-oidc-issuer", "https://issuer"]
SIGNER = {"identity": "me@example.com", "issuer": "https://issuer"}


@pytest.fixture(autouse=True)
def files(folder: Path) -> None:
    for name in ("a", "b", "c"):
        (folder / name).write_bytes(name.encode())
        (folder / f"{name}.sigstore.json").write_bytes(b"{}")
    (folder / "key.pub").write_bytes(b"PEM")


def refuse(request: Request) -> Failure:
    details = {"check": "identity", "wanted": "me\u202e", "found": "you"}
    error = WireError("verification_failed", "signed by somebody else", details=details)
    return Failure(request.id, error)


def test_the_bundle_lies_beside_the_file(keyless: Run, daemon: FakeDaemon) -> None:
    done = keyless("verify", *ME, "a")
    assert (done.code, done.err) == (0, "")
    assert done.out == "a: OK, signed by dev@example.com ()\n"
    (request,) = daemon.requests
    assert request.attachments == {"bundle": b"{}"}
    assert request.body == {"digests": {"sha256": sha256(b"a").digest()}, "accepted": [SIGNER]}


def test_the_other_ending_is_looked_for_next(
    keyless: Run, daemon: FakeDaemon, folder: Path
) -> None:
    (folder / "a.sigstore.json").rename(folder / "a.sigstore")
    assert keyless("verify", *ME, "a").code == 0
    (folder / "a.sigstore.json").write_bytes(b'{"first": 1}')
    assert keyless("verify", *ME, "a").code == 0
    assert [r.attachments["bundle"] for r in daemon.requests] == [b"{}", b'{"first": 1}']


def test_a_bundle_may_be_named(keyless: Run, daemon: FakeDaemon, folder: Path) -> None:
    (folder / "other").write_bytes(b"[]")
    assert keyless("verify", "--bundle", "other", *ME, "a").code == 0
    assert daemon.requests[0].attachments["bundle"] == b"[]"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["a"], "say who must have signed"),
        (["--certificate-identity", "me", "a"], "--certificate-oidc-issuer is missing"),
        (["--certificate-identity-regexp", ".*", "a"], "--certificate-oidc-issuer is missing"),
        (["--certificate-oidc-issuer", "https://i", "a"], "--certificate-identity is missing"),
        (["--certificate-github-workflow-ref", "main", "a"], "--certificate-identity is missing"),
        (["--key", "key.pub", *ME, "a"], "--key and an identity exclude each other"),
        (ME, "name at least one file or digest to verify"),
        (["--bundle", "x", *ME, "a", "b"], "--bundle names the bundle of one artifact"),
        (["--type", "nothing", *ME, "a"], "nothing is no predicate type"),
        (["--tlog-threshold", "-1", *ME, "a"], "--tlog-threshold takes a number from 1 to 32"),
        (["--tlog-threshold", "0", *ME, "a"], "--tlog-threshold takes a number from 1 to 32"),
        (["--tlog-threshold", "33", *ME, "a"], "--tlog-threshold takes a number from 1 to 32"),
        (["--tlog-threshold", "1e1", *ME, "a"], "--tlog-threshold takes a number from 1 to 32"),
        (["--sct-threshold", "100", *ME, "a"], "--sct-threshold takes a number from 1 to 32"),
        (["--timestamp-threshold", "\u0661", *ME, "a"], "--timestamp-threshold takes a number"),
        (["--certificate-extension", "x", *ME, "a"], "takes NAME=VALUE, not x"),
        (
            ["--certificate-extension", "x-y=1", "--certificate-extension", "x_y=2", *ME, "a"],
            "x_y is expected twice",
        ),
        (
            [
                "--certificate-github-workflow-ref",
                "1",
                "--certificate-extension",
                "github-workflow-ref=2",
                *ME,
                "a",
            ],
            "is expected twice",
        ),
    ],
)
def test_command_lines_that_say_too_little_or_too_much(
    keyless: Run, daemon: FakeDaemon, words: list[str], says: str
) -> None:
    done = keyless("verify", *words)
    assert (done.code, done.out) == (2, "")
    assert says in done.err
    assert daemon.requests == []


def test_every_identity_goes_with_every_issuer(keyless: Run, daemon: FakeDaemon) -> None:
    code = keyless(
        "verify", "a",
        "--cert-identity", "one", "--certificate-identity-regexp", "t.o",
        "--cert-oidc-issuer", "https://x", "--certificate-oidc-issuer-regexp", "https://.*",
    ).code  # fmt: skip
    assert code == 0
    assert daemon.requests[0].body["accepted"] == [
        {"identity": "one", "issuer": "https://x"},
        {"identity": "one", "issuer_regexp": "https://.*"},
        {"identity_regexp": "t.o", "issuer": "https://x"},
        {"identity_regexp": "t.o", "issuer_regexp": "https://.*"},
    ]


def test_what_the_build_must_have_been(keyless: Run, daemon: FakeDaemon) -> None:
    code = keyless(
        "verify", "a", *ME,
        "--certificate-github-workflow-trigger", "push",
        "--certificate-github-workflow-sha", "0a1b",
        "--certificate-github-workflow-name", "release",
        "--certificate-github-workflow-repository", "o/r",
        "--certificate-github-workflow-ref", "refs/heads/main",
        "--certificate-extension", "runner-environment=github-hosted=1",
    ).code  # fmt: skip
    assert code == 0
    assert daemon.requests[0].body["accepted"][0]["extensions"] == {
        "github_workflow_trigger": "push",
        "github_workflow_sha": "0a1b",
        "github_workflow_name": "release",
        "github_workflow_repository": "o/r",
        "github_workflow_ref": "refs/heads/main",
        "runner_environment": "github-hosted=1",
    }


def test_thresholds(keyless: Run, daemon: FakeDaemon) -> None:
    words = ["--tlog-threshold", "2", "--timestamp-threshold=1", "--sct-threshold", "3"]
    assert keyless("verify", *ME, *words, "a").code == 0
    asked = {"tlog_threshold": 2, "time_threshold": 1, "sct_threshold": 3}
    assert daemon.requests[0].body["options"] == asked


def test_old_bundles_by_option(keyless: Run, daemon: FakeDaemon) -> None:
    assert keyless("verify", *ME, "--promise-only", "a").code == 0
    assert keyless("verify", *ME, "--require-inclusion-proof", "a").code == 0
    assert daemon.requests[0].body["options"] == {"promise_only": True}
    assert daemon.requests[1].body["options"] == {"promise_only": False}


@pytest.mark.parametrize("kind", ["", "EC ", "ENCRYPTED ", "ENCRYPTED SIGSTORE "])
def test_a_private_key_stays_here(
    keyless: Run, daemon: FakeDaemon, folder: Path, kind: str
) -> None:
    (folder / "key.pub").write_text(f"-----BEGIN {kind}PRIVATE KEY-----\nc2VjcmV0\n")
    done = keyless("verify", "--key", "key.pub", "a")
    assert done.code == 2
    assert "--key: key.pub is a private key; to verify takes the public one" in done.err
    assert daemon.requests == []


def test_a_managed_key(keyless: Run, serve: Run) -> None:
    daemon = serve(lambda request: Reply(request.id, verified(key_sha256="beef")))
    done = keyless("verify", "--key", "key.pub", "a")
    assert done.out == "a: OK, signed by the key sha256:beef\n"
    assert daemon.requests[0].attachments == {"bundle": b"{}", "key": b"PEM"}
    assert "accepted" not in daemon.requests[0].body


@pytest.mark.parametrize(
    ("word", "uri"),
    [
        ("slsaprovenance", "https://slsa.dev/provenance/v0.2"),
        ("slsaprovenance1", "https://slsa.dev/provenance/v1"),
        ("spdxjson", "https://spdx.dev/Document"),
        ("cyclonedx", "https://cyclonedx.org/bom"),
        ("custom", "https://cosign.sigstore.dev/attestation/v1"),
        ("https://example.com/p", "https://example.com/p"),
        ("urn:mine", "urn:mine"),
    ],
)
def test_predicate_types(keyless: Run, daemon: FakeDaemon, word: str, uri: str) -> None:
    assert keyless("verify", *ME, "--type", word, "a").code == 0
    assert daemon.requests[0].body["predicate_type"] == uri


def test_a_digest_with_a_bundle(keyless: Run, daemon: FakeDaemon) -> None:
    word = f"sha256:{HEX.upper()}"
    assert keyless("verify", *ME, "--bundle", "a.sigstore.json", word).code == 0
    assert daemon.requests[0].body["digests"] == {"sha256": bytes.fromhex(HEX)}


def test_a_digest_has_no_bundle_beside_it(keyless: Run, daemon: FakeDaemon) -> None:
    done = keyless("verify", *ME, f"sha256:{HEX}")
    assert done.code == 2
    assert "no file beside which a bundle could lie" in done.err
    assert daemon.requests == []


def test_a_file_named_like_a_digest_wins(keyless: Run, daemon: FakeDaemon, folder: Path) -> None:
    name = f"sha256:{HEX}"
    (folder / name).write_bytes(b"I am a file")
    (folder / f"{name}.sigstore.json").write_bytes(b"{}")
    assert keyless("verify", *ME, name).code == 0
    assert daemon.requests[0].body["digests"] == {"sha256": sha256(b"I am a file").digest()}


def test_a_digest_of_another_algorithm_is_made_when_it_is_asked_for(
    keyless: Run, serve: Run
) -> None:
    def answers(request: Request) -> object:
        if "sha384" not in request.body["digests"]:
            error = WireError("need_digest", "sha384", details={"alg": "sha384"})
            return Failure(request.id, error)
        return answer(request)

    daemon = serve(answers)
    assert keyless("verify", *ME, "a").code == 0
    assert daemon.requests[-1].body["digests"]["sha384"] == sha384(b"a").digest()


def test_a_refusal_says_what_was_wanted_and_found(keyless: Run, serve: Run) -> None:
    serve(refuse)
    done = keyless("verify", *ME, "a")
    assert (done.code, done.out) == (1, "")
    assert done.err == (
        "keyless: a: signed by somebody else\n"
        "  check: identity\n"
        "  wanted: me\\u202e\n"
        "  found:  you\n"
    )


def refuse_explained(request: Request) -> Failure:
    assert request.body["explain"] is True
    details = {"check": "identity", "step": "identity", "identity": "you", "issuer": "https://i"}
    report = [{"step": "bundle", "facts": ["fact\u202e"]}, {"step": "time", "facts": []}]
    error = WireError("verification_failed", "somebody else", details=details, report=report)
    return Failure(request.id, error)


def test_a_refusal_explained(keyless: Run, serve: Run) -> None:
    serve(refuse_explained)
    done = keyless("verify", "-v", *ME, "a")
    assert (done.code, done.out) == (1, "")
    assert done.err == (
        "  1. bundle\n"
        "       fact\\u202e\n"
        "  2. time\n"
        "  3. identity: FAILED\n"
        "keyless: a: somebody else\n"
        "  check: identity\n"
        "  signed by: you (https://i)\n"
    )
    error = keyless("verify", "--json", *ME, "a").object["error"]
    assert error["details"]["identity"] == "you"
    assert error["report"][0] == {"step": "bundle", "facts": ["fact\\u202e"]}


def test_what_was_left_out_is_said(keyless: Run, serve: Run) -> None:
    omitted = ["log-entries", "inclusion-proof", "certificate-transparency", "new\x1b"]
    serve(lambda request: Reply(request.id, verified(identity="me", omitted=omitted)))
    done = keyless("verify", *ME, "a")
    assert done.out == (
        "a: OK, signed by me (), in NO transparency log, promised to a transparency log, inclusion"
        " NOT proven, certificate in NO transparency log, without new\\x1b\n"
    )
    assert keyless("verify", "--json", *ME, "a").object["omitted"] == omitted


def test_evidence_that_is_not_asked_for(keyless: Run, daemon: FakeDaemon) -> None:
    words = ["--insecure-ignore-tlog", "--insecure-ignore-sct"]
    assert keyless("verify", *words, *ME, "a").code == 0
    assert daemon.requests[0].body["options"] == {"tlog_threshold": 0, "sct_threshold": 0}
    for pair in (
        ["--insecure-ignore-tlog", "--tlog-threshold", "1"],
        ["--insecure-ignore-sct", "--sct-threshold", "1"],
        ["--promise-only", "--require-inclusion-proof"],
    ):
        assert keyless("verify", *pair, *ME, "a").code == 2


# --- signatures in files of their own ------------------------------------------------------


@pytest.fixture
def parts(folder: Path) -> None:
    for name in ("sig", "crt", "chain", "stamp", "old"):
        (folder / name).write_bytes(name.encode())


@pytest.mark.usefixtures("parts")
def test_a_detached_signature(keyless: Run, daemon: FakeDaemon) -> None:
    words = ["--signature", "sig", "--certificate", "crt", "--certificate-chain", "chain"]
    assert keyless("verify", *words, "--rfc3161-timestamp", "stamp", *ME, "a").code == 0
    assert daemon.requests[0].attachments == {
        "signature": b"sig",
        "certificate": b"crt",
        "certificate_chain": b"chain",
        "timestamp": b"stamp",
    }
    assert keyless("verify", "--signature", "sig", "--key", "key.pub", "a").code == 0
    assert daemon.requests[1].attachments == {"signature": b"sig", "key": b"PEM"}


@pytest.mark.usefixtures("parts")
def test_an_old_bundle_and_what_it_lacks(keyless: Run, daemon: FakeDaemon) -> None:
    assert keyless("verify", "--bundle", "old", "--cert", "crt", *ME, "a").code == 0
    assert daemon.requests[0].attachments == {"bundle": b"old", "certificate": b"crt"}


def test_the_signature_itself_may_stand_on_the_line(keyless: Run, daemon: FakeDaemon) -> None:
    text = "MEUC" * 24
    assert keyless("verify", "--signature", text, "--key", "key.pub", "a").code == 0
    assert daemon.requests[0].attachments["signature"] == text.encode()
    assert keyless("verify", "--signature", "MEUC", "--key", "key.pub", "a").code == 6


@pytest.mark.usefixtures("parts", "daemon")
@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--certificate", "crt"], "--certificate needs --signature"),
        (["--rfc3161-timestamp", "stamp"], "--rfc3161-timestamp needs --signature"),
        (["--signature", "sig", "b"], "--signature names the signature of one artifact"),
    ],
)
def test_parts_that_are_too_few_or_too_many(keyless: Run, words: list[str], says: str) -> None:
    done = keyless("verify", *ME, *words, "a")
    assert done.code == 2
    assert says in done.err


@pytest.mark.usefixtures("daemon")
def test_an_old_signature_beside_the_file_is_pointed_out(keyless: Run, folder: Path) -> None:
    (folder / "a.sigstore.json").unlink()
    (folder / "a.sig").write_bytes(b"x")
    done = keyless("verify", *ME, "a")
    assert done.code == 6
    assert "a.sig; an old signature is named with --signature" in done.err


def test_a_refusal_as_json(keyless: Run, serve: Run) -> None:
    serve(refuse)
    done = keyless("verify", "--json", *ME, "a")
    assert done.code == 1
    assert done.object == {
        "ok": False,
        "artifact": "a",
        "error": {
            "code": "verification_failed",
            "message": "signed by somebody else",
            "retryable": False,
            "details": {"check": "identity", "wanted": "me\\u202e", "found": "you"},
        },
    }


def test_one_of_many_that_is_refused_fails_it(keyless: Run, serve: Run) -> None:
    def answers(request: Request) -> object:
        wrong = request.body["digests"]["sha256"] == sha256(b"b").digest()
        return refuse(request) if wrong else answer(request)

    serve(answers)
    done = keyless("verify", "--json", *ME, "a", "b", "c")
    assert done.code == 1
    assert {row["artifact"]: row["ok"] for row in done.objects} == {
        "a": True,
        "b": False,
        "c": True,
    }


@pytest.mark.parametrize("gone", ["b", "b.sigstore.json"])
def test_one_of_many_that_is_missing_fails_it(
    keyless: Run, daemon: FakeDaemon, folder: Path, gone: str
) -> None:
    (folder / gone).unlink()
    done = keyless("verify", *ME, "a", "b", "c")
    assert done.code == 6
    assert "a: OK" in done.out
    assert "c: OK" in done.out
    assert "b: OK" not in done.out
    assert "keyless: b: " in done.err
    assert len(daemon.requests) == 2


def test_a_refusal_outranks_a_missing_file(keyless: Run, serve: Run, folder: Path) -> None:
    (folder / "a").unlink()
    serve(refuse)
    assert keyless("verify", *ME, "a", "b").code == 1


@pytest.mark.usefixtures("daemon")
def test_no_bundle_says_what_to_do(keyless: Run, folder: Path) -> None:
    (folder / "a.sigstore.json").unlink()
    done = keyless("verify", *ME, "a")
    assert done.code == 6
    assert "there is no bundle a.sigstore.json" in done.err
    assert "  name it with --bundle, or sign the file first: keyless sign\n" in done.err


def test_everything_that_was_proven_is_shown_when_asked(keyless: Run, serve: Run) -> None:
    facts = verified(
        identity="me",
        identity_kind="email",
        issuer="https://i",
        times=[{"time": 0, "source": "tsa", "authority": "https://tsa"}],
        entries=[{"log": "https://log", "log_index": 9, "kind": "dsse", "version": "0.0.1"}],
        predicate_type="https://p",
        extensions={"source_repository_uri": "https://r\x1b["},
        report=[
            {"step": "bundle", "facts": ["version 0.3\x1b["]},
            {"step": "time", "facts": ["one", "two"]},
        ],
    )
    serve(lambda request: Reply(request.id, facts, {"statement": b'{"_type": "\xc3\xa9"}'}))
    done = keyless("verify", "-v", *ME, "a")
    assert done.out.splitlines() == [
        "a: OK, signed by me (https://i)",
        "  1. bundle",
        "       version 0.3\\x1b[",
        "  2. time",
        "       one",
        "       two",
    ]
    told = keyless("verify", "--json", *ME, "a").object
    assert told["statement"] == '{"_type": "\u00e9"}'
    assert told["identity"] == "me"
    assert told["entries"][0]["log_index"] == 9


@pytest.mark.usefixtures("daemon")
def test_quiet_says_it_by_the_exit_code(keyless: Run) -> None:
    done = keyless("verify", "-q", *ME, "a")
    assert (done.code, done.out, done.err) == (0, "", "")


def test_what_is_always_so_may_be_said(keyless: Run, daemon: FakeDaemon) -> None:
    words = ["--offline", "--new-bundle-format", "--use-signed-timestamps=false"]
    assert keyless("verify", *words, *ME, "a").code == 0
    assert len(daemon.requests) == 1


@pytest.mark.usefixtures("daemon")
def test_more_signers_than_may_be_accepted(keyless: Run) -> None:
    words = [word for n in range(13) for word in ("--cert-identity", f"i{n}")]
    words += [word for n in range(5) for word in ("--cert-oidc-issuer", f"https://{n}")]
    assert keyless("verify", *words[2:], "a").code == 0
    done = keyless("verify", *words, "a")
    assert done.code == 2
    assert "are 65 signers; at most 64" in done.err


@pytest.mark.parametrize("code", ["trust_unavailable", "trust_expired", "unknown_instance"])
@pytest.mark.parametrize("words", [(), ("--json",)])
def test_what_is_wrong_for_all_is_said_once(
    keyless: Run, serve: Run, code: str, words: tuple[str, ...]
) -> None:
    serve(lambda request: Failure(request.id, WireError(code, "no trust root")))
    done = keyless("verify", *ME, *words, "a", "b", "c")
    assert done.code not in {0, 1}
    assert done.err.count("no trust root") == 1
    assert len(done.out.splitlines()) == len(words)
    assert done.err.endswith("keyless: 2 more were not verified\n")


def test_a_refusal_stops_no_other(keyless: Run, serve: Run) -> None:
    serve(refuse)
    done = keyless("verify", *ME, "a", "b", "c")
    assert (done.code, done.err.count("signed by somebody else")) == (1, 3)
    assert "more were" not in done.err
