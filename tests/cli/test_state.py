"""`status`, `whoami`, `ledger`, `trust` and `instance`: what is shown of what the daemon says."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from fakedaemon import FakeDaemon
from keyless.cli import _status
from keyless.cli._text import moment, span
from keyless.wire import Reply, Request

Run = Callable[..., object]

STATUS = {
    "version": "0.1.0",
    "pid": 42,
    "started": 1_800_000_000,
    "uptime_seconds": 7200,
    "socket": "/run/s",
    "requests": {"verify": {"ok": 3, "failed": 1}, "sign": {"ok": 2, "failed": 0}},
    "connections": 1,
    "default_instance": "public",
    "reuse": "window",
    "instances": [{"name": "public", "state": "fresh"}],
    "slots": [
        {
            "identity": "me\x1b[2J",
            "issuer": "https://i",
            "instance": "public",
            "not_after": 0,
            "signatures": 5,
        }
    ],
}
INSTANCES = [
    {
        "name": "public",
        "source": "tuf",
        "url": "https://tuf",
        "state": "fresh",
        "version": "14",
        "fetched": 0,
        "expires": 1_800_000_000,
    },
    {"name": "own", "source": "files", "state": "broken", "error": "no\x9bfile"},
]
ATTEMPT = {
    "time": "2026-01-31T23:59:59.123456+00:00",
    "event": "attempt",
    "source": "held:farm\x1b",
    "id": "s-1",
    "op": "sign",
    "instance": "sandbox",
    "artifact": {"alg": "sha256", "digest": "ab" * 32, "name": "a\nb"},
}
OUTCOME = {
    "time": "2026-02-01T00:00:00.123456+00:00",
    "event": "outcome",
    "id": "s-1",
    "result": "ok",
    "share": 0.5,
    "certificate": {"identity": "me\x1b[2J"},
    "entries": [{"log_id": "aa", "log_index": 7}, {"log_id": "bb", "log_index": 8}],
}
RECORDS = [ATTEMPT, OUTCOME]
SIGNED = "2026-01-31 23:59:59Z sign sha256:abababababababab (a\\nb) at sandbox"


@pytest.fixture
def daemon(serve: Run) -> FakeDaemon:
    def answers(request: Request) -> Reply:
        if request.op == "status":
            return Reply(request.id, STATUS)
        if request.op == "whoami":
            one = {"identity": "me\u202e", "issuer": "https://i", "source": "token", "expires": 0}
            known = [] if "identity_token" not in request.attachments else [one]
            return Reply(request.id, {"identities": known})
        if request.op == "ledger":
            lines = "".join(json.dumps(record) + "\n" for record in RECORDS).encode()
            return Reply(request.id, {"records": len(RECORDS)}, {"records": lines})
        wanted = request.body.get("instance")
        chosen = [row for row in INSTANCES if wanted in (None, row["name"])]
        return Reply(request.id, {"instances": chosen})

    return serve(answers)


@pytest.mark.usefixtures("daemon")
def test_the_status_of_the_daemon(keyless: Run) -> None:
    done = keyless("status")
    assert done.code == 0
    assert done.out.splitlines() == [
        "keylessd 0.1.0, process 42, up 2 h",
        "  socket       /run/s",
        "  instance     public (default); certificates: window",
        "  trust        public: fresh",
        "  key          me\\x1b[2J (https://i) at public: 5 signatures, 0 s left",
        "  requests     sign 2 ok, 0 failed; verify 3 ok, 1 failed",
    ]


@pytest.mark.usefixtures("daemon")
def test_the_status_as_json_is_all_that_was_said(keyless: Run) -> None:
    assert keyless("status", "--json").object == STATUS


def test_whoami(keyless: Run, daemon: FakeDaemon) -> None:
    done = keyless("whoami", "--identity-token", "eyJ.e30.x", "--instance", "own")
    assert (done.code, done.err) == (0, "")
    assert done.out == "me\\u202e (https://i), from token, until 1970-01-01 00:00:00Z\n"
    (request,) = daemon.requests
    assert request.attachments == {"identity_token": b"eyJ.e30.x"}
    assert request.body == {"where": {"instance": "own"}}
    assert keyless("whoami", "--json", "--identity-token", "eyJ.e30.x").object == {
        "identity": "me\u202e",
        "issuer": "https://i",
        "source": "token",
        "expires": 0,
    }


@pytest.mark.usefixtures("daemon")
def test_whoami_of_nobody(keyless: Run) -> None:
    done = keyless("whoami")
    assert (done.code, done.out) == (4, "")
    assert "keyless login" in done.err


@pytest.mark.usefixtures("folder")
def test_the_status_of_sessions_and_a_lock(
    keyless: Run, serve: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_status.time, "time", lambda: 86_400.0)
    session = {
        "identity": "me@example.org",
        "issuer": "https://i",
        "source": "session",
        "instance": "public",
        "state": "active",
        "renewable": False,
        "prompt_due": 87_000,
    }
    worse = {**session, "state": "degraded", "reason": "the issuer\x1b[2J is down"}
    status = {**STATUS, "locked": True, "sessions": [session, worse]}
    serve(lambda request: Reply(request.id, status))
    out = keyless("status").out
    assert "LOCKED" in out
    assert "me@example.org (https://i), from session for public, active, a login is due at" in out
    assert "1970-01-02 00:10:00Z, in 10 min: the issuer lets nobody renew it" in out
    assert "degraded, the issuer\\x1b[2J is down" in out


@pytest.mark.usefixtures("folder")
def test_the_status_of_nobody(keyless: Run, serve: Run) -> None:
    serve(lambda request: Reply(request.id, {**STATUS, "locked": False, "sessions": []}))
    assert "nobody is logged in" in keyless("status").out


def test_the_ledger(keyless: Run, daemon: FakeDaemon) -> None:
    done = keyless("ledger")
    assert done.code == 0
    assert done.out == f"{SIGNED}: ok as me\\x1b[2J (held:farm\\x1b), #7, #8\n"
    assert keyless("ledger", "-n", "7", "--json").objects == RECORDS
    assert [request.body for request in daemon.requests] == [{"limit": 40}, {"limit": 7}]


def test_a_torn_record_hinders_nobody(keyless: Run, serve: Run) -> None:
    text = b'"prev":"00\x1b[2J\n' + json.dumps(OUTCOME).encode() + b"\n"
    serve(lambda request: Reply(request.id, {"records": 2}, {"records": text}))
    done = keyless("ledger")
    assert done.code == 0
    assert done.out.splitlines()[0] == 'a record that a crash has torn: "prev":"00\\u001b[2J'
    assert len(done.out.splitlines()) == 2


@pytest.mark.parametrize(
    ("records", "lines"),
    [
        ([], []),
        (
            [ATTEMPT],
            [f"{SIGNED}: no outcome yet"],
        ),
        ([OUTCOME], ["2026-02-01 00:00:00Z attempt s-1: ok as me\\x1b[2J, #7, #8"]),
        (
            [
                {"event": "attempt", "id": "s-2", "op": "attest", "instance": "i"},
                {"event": "outcome", "id": "s-3", "result": "cancelled"},
                {"event": "outcome", "id": "s-2", "result": "failed", "code": "busy"},
            ],
            ["Z attest at i: failed (busy)", "Z attempt s-3: cancelled"],
        ),
    ],
    ids=["empty", "unfinished", "cut-off", "interleaved"],
)
def test_attempts_and_outcomes_are_brought_together(
    keyless: Run, serve: Run, records: list[object], lines: list[str]
) -> None:
    text = "".join(json.dumps(record) + "\n" for record in records).encode()
    serve(lambda request: Reply(request.id, {"records": len(records)}, {"records": text}))
    assert keyless("ledger").out.splitlines() == lines


@pytest.mark.parametrize("limit", ["0", "-1", "ten", "10001", "1e3", ""])
def test_a_limit_is_a_number(keyless: Run, daemon: FakeDaemon, limit: str) -> None:
    done = keyless("ledger", f"--limit={limit}")
    assert done.code == 2
    assert "--limit takes a number from 1 to 1000" in done.err
    assert daemon.requests == []


@pytest.mark.parametrize("words", [["trust"], ["trust", "status"], ["instance"]])
def test_the_trust_roots_in_force(keyless: Run, daemon: FakeDaemon, words: list[str]) -> None:
    done = keyless(*words)
    assert done.code == 0
    first, second = done.out.splitlines()
    assert first.startswith("public: fresh, version 14, fetched ")
    assert first.endswith(" ago, good until 2027-01-15 08:00:00Z")
    assert second == "own: broken, last error: no\\x9bfile"
    assert [request.op for request in daemon.requests] == ["trust_status"]


@pytest.mark.usefixtures("daemon")
def test_the_trust_roots_as_json(keyless: Run) -> None:
    assert keyless("trust", "--json").objects == INSTANCES


def test_a_refresh_of_one(keyless: Run, daemon: FakeDaemon) -> None:
    assert keyless("trust", "refresh", "public").code == 0
    assert daemon.requests[0].op == "trust_refresh"
    assert daemon.requests[0].body == {"instance": "public"}


def test_a_refresh_of_the_instance_that_the_environment_names(
    keyless: Run, daemon: FakeDaemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KEYLESS_INSTANCE", "public")
    assert keyless("trust", "refresh").code == 0
    assert keyless("trust", "status").code == 0
    assert [request.body for request in daemon.requests] == [{"instance": "public"}, {}]


def test_the_status_says_what_the_ledger_lacks(keyless: Run, serve: Run) -> None:
    more: dict[str, object] = {"queued": 2, "ledger_failures": 0}
    serve(lambda request: Reply(request.id, {**STATUS, **more}))
    assert "LEDGER" not in keyless("status").out
    assert keyless("status", "--json").object == {**STATUS, **more}
    more["ledger_failures"] = 3
    line = "  LEDGER       records that could not be written: 3"
    assert line in keyless("status").out.splitlines()


def test_the_status_counts_as_people_do(keyless: Run, serve: Run) -> None:
    slots = [{**STATUS["slots"][0], "signatures": count} for count in (0, 1, 2)]
    serve(lambda request: Reply(request.id, {**STATUS, "slots": slots}))
    done = keyless("status")
    for counted in (": 0 signatures, ", ": 1 signature, ", ": 2 signatures, "):
        assert counted in done.out


@pytest.mark.usefixtures("daemon")
def test_a_refresh_that_failed_for_one_may_be_tried_again(keyless: Run) -> None:
    assert keyless("trust", "refresh").code == 5
    assert keyless("trust", "status").code == 0


@pytest.mark.usefixtures("daemon")
def test_one_instance_in_detail(keyless: Run) -> None:
    done = keyless("instance", "show", "own")
    assert sorted(done.out.splitlines()) == [
        "error:    no\\x9bfile",
        "name:     own",
        "source:   files",
        "state:    broken",
    ]


@pytest.mark.usefixtures("daemon")
def test_times_are_shown_as_times(keyless: Run) -> None:
    lines = keyless("instance", "show", "public").out.splitlines()
    assert "fetched:  1970-01-01 00:00:00Z" in lines
    assert "expires:  2027-01-15 08:00:00Z" in lines


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["trust", "refersh"], "there is no `trust refersh`; there is status and refresh"),
        (["trust", "status", "a", "b"], "unexpected argument b"),
        (["instance", "list", "a"], "unexpected argument a"),
        (["instance", "show"], "name the instance to show"),
        (["whoami", "me"], "unexpected argument me"),
        (["ledger", "all"], "unexpected argument all"),
    ],
)
def test_mistakes_are_named(keyless: Run, daemon: FakeDaemon, words: list[str], says: str) -> None:
    done = keyless(*words)
    assert (done.code, done.out) == (2, "")
    assert says in done.err
    assert daemon.requests == []


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (119, "119 s"),
        (120, "2 min"),
        (7199, "119 min"),
        (7200, "2 h"),
        (172_800, "2 d"),
    ],
)
def test_spans(seconds: int, text: str) -> None:
    assert span(seconds) == text


def test_moments() -> None:
    assert moment(1_769_903_999) == "2026-01-31 23:59:59Z"
