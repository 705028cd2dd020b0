"""`keyless inspect`: shows everything, says that nothing was verified, moves no cursor."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from fakedaemon import FakeDaemon
from keyless.wire import Failure, Reply, Request, WireError

Run = Callable[..., object]
FACTS = {
    "verified": False,
    "note": "nothing of this was verified",
    "form": "0.3",
    "certificates": [{"subject": "", "signer": {"identity": "a\x1b[31m\u202eb"}, "scts": []}],
    "entries": [{"log_index": 7, "promise": True}],
    "more": {"deep": [[1, None, 1.5]]},
}


@pytest.fixture(autouse=True)
def files(folder: Path) -> None:
    (folder / "b").write_bytes(b"{}")
    (folder / "sig").write_bytes(b"s")
    (folder / "crt").write_bytes(b"c")


def shows(request: Request) -> Reply:
    return Reply(request.id, {"form": "0.3"}, {"inspection": json.dumps(FACTS).encode()})


def test_everything_is_shown_as_unverified(keyless: Run, serve: Run) -> None:
    daemon: FakeDaemon = serve(shows)
    done = keyless("inspect", "b")
    lines = done.out.splitlines()
    assert done.code == 0
    assert "UNVERIFIED" in lines[0]
    assert "UNVERIFIED" in lines[-1]
    assert lines[1:-1] == [
        "  form: 0.3",
        "  certificates:",
        "    1:",
        "      subject: ",
        "      signer:",
        "        identity: a\\x1b[31m\\u202eb",
        "      scts: none",
        "  entries:",
        "    1:",
        "      log index: 7",
        "      promise: yes",
        "  more:",
        "    deep:",
        "      1:",
        "        1: 1",
        "        2: none",
        "        3: 1.5",
    ]
    (request,) = daemon.requests
    assert (request.op, request.body, request.attachments) == ("inspect", {}, {"bundle": b"{}"})


def test_the_same_as_json(keyless: Run, serve: Run) -> None:
    serve(shows)
    done = keyless("inspect", "--json", "b")
    assert done.object == {"bundle": "b", **FACTS}
    assert done.out.isascii()


def test_parts_in_files_of_their_own(keyless: Run, serve: Run) -> None:
    daemon: FakeDaemon = serve(shows)
    assert keyless("inspect", "--signature", "sig", "--certificate", "crt").code == 0
    assert daemon.requests[0].attachments == {"signature": b"s", "certificate": b"c"}


@pytest.mark.parametrize(
    ("words", "code"),
    [([], 2), (["b", "--signature", "sig"], 2), (["nothing"], 6), (["--trusted-root", "b"], 2)],
)
def test_command_lines_that_cannot_be(
    keyless: Run, daemon: FakeDaemon, words: list[str], code: int
) -> None:
    assert keyless("inspect", *words).code == code
    assert daemon.requests == []


def test_an_answer_that_is_none(keyless: Run, serve: Run) -> None:
    serve(lambda request: Reply(request.id, {}, {"inspection": b"[]"}))
    assert keyless("inspect", "b").code == 3


def test_bundle_beside_the_artifact_is_pointed_out(keyless: Run, serve: Run, folder: Path) -> None:
    (folder / "a").write_bytes(b"artifact")
    (folder / "a.sigstore.json").write_bytes(b"{}")
    facts = b'{"verified": false, "problem": {"check": "bundle-json"}}'
    serve(lambda request: Reply(request.id, {}, {"inspection": facts}))
    done = keyless("inspect", "a")
    assert done.code == 6
    assert done.err == "keyless: there is a bundle beside it: a.sigstore.json\n"
    assert keyless("inspect", "b").err == ""


@pytest.mark.parametrize("words", [("x", "b"), ("b", "x"), ("--json", "x", "b")])
def test_what_is_no_bundle_is_shown_and_is_no_success(
    keyless: Run, serve: Run, folder: Path, words: tuple[str, ...]
) -> None:
    (folder / "x").write_bytes(b"x")

    def answer(request: Request) -> Reply:
        if request.attachments["bundle"] == b"{}":
            return shows(request)
        facts = b'{"verified": false, "problem": {"check": "bundle-json"}}'
        return Reply(request.id, {}, {"inspection": facts})

    serve(answer)
    done = keyless("inspect", *words)
    assert done.code == 6
    assert "bundle-json" in done.out
    assert "a\\x1b" in done.out or "\\u001b" in done.out  # the other one is shown as well


def test_an_error_is_an_error(keyless: Run, serve: Run) -> None:
    serve(lambda request: Failure(request.id, WireError("unknown_operation", "no such thing")))
    assert keyless("inspect", "b").code == 2
