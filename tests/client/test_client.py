"""The blocking client against a daemon of a few lines, over a real Unix socket."""

import os
import socket
import threading
from hashlib import sha256, sha512
from pathlib import Path

import pytest

import keyless
from fakedaemon import (
    DROP,
    FakeDaemon,
    answer,
    fake_daemon,
    signed,
    unless_known,
    verified,
    with_events,
)
from keyless import (
    Client,
    Digest,
    KeylessError,
    SignResult,
    VerificationError,
    Where,
    _calls,
    _connect,
    _exchange,
)
from keyless.wire import SERVER, Connection, Failure, Reply, Welcome, WireError

DIGEST = Digest("sha256", bytes(32))


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "sign.sock")


def client_of(path, **options):
    return Client(socket_path=path, autostart=False, environ={}, **options)


def test_sign_a_file(path, tmp_path):
    (tmp_path / "f").write_bytes(b"content")
    with fake_daemon(path) as daemon, client_of(path) as client:
        result = client.sign(
            tmp_path / "f", identity_token="tok", reuse="never", idempotency_key="k", name="n"
        )
    value = sha256(b"content").digest()
    assert result.bundle == b'{"of":"' + value.hex().encode() + b'"}'
    assert (result.identity, result.entries[0].log_index, result.times[0].source) == (
        "dev@example.com",
        7,
        "tsa",
    )
    assert (result.certificate.reused, result.entries[0].integrated_time, result.subjects) == (
        True,
        None,
        None,
    )
    assert daemon.requests[0].body == {
        "digest": {"alg": "sha256", "value": value},
        "name": "n",
        "reuse": "never",
        "idempotency_key": "k",
    }
    assert daemon.requests[0].attachments == {"identity_token": b"tok"}


def test_the_result_as_json_has_it(path):
    with fake_daemon(path), client_of(path) as client:
        told = client.sign(DIGEST).as_dict()
    assert told["entries"] == [
        {"log": "log", "log_index": 7, "kind": "hashedrekord", "version": "0.0.2"}
    ]
    assert "subjects" not in told


def test_events_are_told_on_the_way(path):
    told = []
    with fake_daemon(path, with_events) as daemon, client_of(path) as client:
        client.sign(DIGEST, on_event=lambda step, facts: told.append((step, facts)))
    assert told == [("certificate", {"reused": 1}), ("log", {"log": "rekor"})]
    assert daemon.requests[0].body["progress"] is True


@pytest.mark.parametrize("in_flight", [1, 3, 64])
@pytest.mark.parametrize("window", [1, 5, 32])
def test_sign_many(path, tmp_path, in_flight, window):
    files = [tmp_path / str(i) for i in range(40)]
    for i, file in enumerate(files):
        file.write_bytes(b"%d" % i)
    broken = KeylessError("file_error", "mine")
    items = [*files[:20], broken, tmp_path / "absent", *files[20:]]
    with (
        fake_daemon(path, max_in_flight=in_flight) as daemon,
        client_of(path, window=window) as client,
    ):
        results = dict(client.sign_many(items))
    assert daemon.connections == 1
    assert sorted(results) == list(range(42))
    assert results[20] is broken
    assert results[21].code == "file_error"
    for position, file in [*enumerate(files[:20]), *enumerate(files[20:], 22)]:
        assert sha256(file.read_bytes()).hexdigest().encode() in results[position].bundle


def test_errors_of_one_do_not_stop_the_others(path):
    def odd(request):
        if request.id % 2:
            return Failure(
                request.id, WireError("rate_limited", "slow down", retryable=True, retry_after_ms=7)
            )
        return answer(request)

    with fake_daemon(path, odd), client_of(path) as client:
        results = dict(client.sign_many([DIGEST] * 10))
    failed = [result for result in results.values() if isinstance(result, KeylessError)]
    assert len(failed) == 5
    assert (failed[0].code, failed[0].retryable, failed[0].retry_after_ms) == (
        "rate_limited",
        True,
        7,
    )


def test_a_batch(path, tmp_path):
    (tmp_path / "b").write_bytes(b"b")
    with fake_daemon(path), client_of(path) as client:
        result = client.sign_batch([("a", DIGEST), ("dir/b", tmp_path / "b")])
        with pytest.raises(KeylessError) as caught:
            client.sign_batch([("a\nb", DIGEST)])
        with pytest.raises(KeylessError, match="it has no name"):
            client.sign_batch([("", DIGEST)])
    assert caught.value.code == "invalid_input"
    assert result.subjects == 2
    assert result.bundle.decode().splitlines() == [
        f"{bytes(32).hex()}  a",
        f"{sha256(b'b').hexdigest()}  dir/b",
    ]


def test_attest(path):
    with fake_daemon(path) as daemon, client_of(path) as client:
        assert client.attest(statement=b"{}").bundle == b"{}"
        made = client.attest(predicate=b"[]", predicate_type="https://p", subjects=[("a", DIGEST)])
        with pytest.raises(KeylessError) as caught:
            client.attest(predicate=b"[]")
    assert made.predicate_type == "https://p"
    assert caught.value.code == "bad_request"
    assert daemon.requests[1].body["subjects"] == [
        {"name": "a", "alg": "sha256", "value": bytes(32)}
    ]


def test_verify(path):
    signer = keyless.AcceptedSigner(identity="a", issuer_regexp="b", extensions={"c": "d"})
    thresholds = keyless.Thresholds(tlogs=2, scts=1)
    with fake_daemon(path) as daemon, client_of(path) as client:
        result = client.verify(
            DIGEST, b"bundle", accepted=[signer], predicate_type="p", thresholds=thresholds,
            where=Where(instance="x", rekor_url="https://r"),
        )  # fmt: skip
        client.verify(DIGEST, b"bundle", key=b"PEM")
    assert (result.identity, result.issuer, result.statement) == ("dev@example.com", None, None)
    assert daemon.requests[0].body == {
        "digests": {"sha256": bytes(32)},
        "accepted": [{"identity": "a", "issuer_regexp": "b", "extensions": {"c": "d"}}],
        "predicate_type": "p",
        "options": {"tlog_threshold": 2, "sct_threshold": 1},
        "where": {"instance": "x", "rekor_url": "https://r"},
    }
    assert daemon.requests[1].attachments == {"bundle": b"bundle", "key": b"PEM"}


def test_verification_that_fails(path):
    def no(request):
        details = {"check": "identity", "found": "a", "wanted": "b"}
        return Failure(request.id, WireError("verification_failed", "not them", details=details))

    with (
        fake_daemon(path, no),
        client_of(path) as client,
        pytest.raises(VerificationError) as caught,
    ):
        client.verify(DIGEST, b"", key=b"")
    assert caught.value.details == {"check": "identity", "found": "a", "wanted": "b"}


def wants_sha512(request):
    if "sha512" not in request.body["digests"]:
        return Failure(request.id, WireError("need_digest", "another", details={"alg": "sha512"}))
    digest = {"alg": "sha512", "value": request.body["digests"]["sha512"]}
    return Reply(request.id, verified(digest=digest), {"statement": b"{}"})


def test_another_digest_is_made_when_it_is_needed(path, tmp_path):
    (tmp_path / "f").write_bytes(b"x")
    with fake_daemon(path, wants_sha512) as daemon, client_of(path) as client:
        result = client.verify(tmp_path / "f", b"{}", key=b"PEM")
        many = dict(client.verify_many([(tmp_path / "f", b"{}")] * 5, key=b"PEM"))
    assert result.digest == Digest("sha512", sha512(b"x").digest())
    assert result.statement == b"{}"
    assert set(daemon.requests[1].body["digests"]) == {"sha256", "sha512"}
    assert [many[i].digest for i in range(5)] == [result.digest] * 5


@pytest.mark.parametrize("kind", ["pipe", "standard input", "file as standard input"])
def test_what_can_be_read_once_is_hashed_in_every_algorithm(path, tmp_path, kind):
    (tmp_path / "f").write_bytes(b"x")
    source, writable = os.pipe()
    os.write(writable, b"x")
    os.close(writable)
    name = f"/dev/fd/{source}" if kind == "pipe" else "-"
    if kind == "file as standard input":
        os.close(source)
        source = os.open(tmp_path / "f", os.O_RDONLY)
    kept = os.dup(0)
    os.dup2(source, 0)
    try:
        with fake_daemon(path, wants_sha512) as daemon, client_of(path) as client:
            result = client.verify(name, b"{}", key=b"PEM")
    finally:
        os.dup2(kept, 0)
        os.close(kept)
        os.close(source)
    assert result.digest == Digest("sha512", sha512(b"x").digest())
    (request,) = daemon.requests
    assert sorted(request.body["digests"]) == ["sha256", "sha384", "sha512"]


def test_another_digest_cannot_be_made_of_a_digest(path):
    with (
        fake_daemon(path, wants_sha512),
        client_of(path) as client,
        pytest.raises(KeylessError) as caught,
    ):
        client.verify(DIGEST, b"{}", key=b"PEM")
    assert (caught.value.code, caught.value.details) == ("need_digest", {"alg": "sha512"})


def test_another_digest_of_a_file_that_has_gone(path, tmp_path):
    def removes(request):
        (tmp_path / "f").unlink(missing_ok=True)
        return wants_sha512(request)

    (tmp_path / "f").write_bytes(b"x")
    with (
        fake_daemon(path, removes),
        client_of(path) as client,
        pytest.raises(KeylessError) as caught,
    ):
        client.verify(tmp_path / "f", b"{}", key=b"PEM")
    assert caught.value.code == "file_error"


def test_a_daemon_that_never_has_enough_digests(path, tmp_path):
    (tmp_path / "f").write_bytes(b"x")

    def insatiable(request):
        return Failure(request.id, WireError("need_digest", "more", details={"alg": "sha512"}))

    with (
        fake_daemon(path, insatiable) as daemon,
        client_of(path) as client,
        pytest.raises(KeylessError) as caught,
    ):
        client.verify(tmp_path / "f", b"{}", key=b"PEM")
    assert caught.value.code == "need_digest"
    assert len(daemon.requests) == 2


def test_files_are_sent_once_and_named_by_hash_afterwards(path):
    where = Where(trusted_root=b"root", signing_config=b"config")
    with fake_daemon(path, unless_known(set())) as daemon, client_of(path) as client:
        client.sign(DIGEST, where=where)
        client.sign(DIGEST, where=where)
    sent = [sorted(request.attachments) for request in daemon.requests]
    assert sent == [[], ["signing_config", "trusted_root"], []]
    assert daemon.requests[0].body["where"]["trusted_root"] == sha256(b"root").digest()


def test_a_daemon_that_never_knows_a_file(path):
    def forgetful(request):
        return Failure(request.id, WireError("unknown_file", "?", details={"name": "trusted_root"}))

    with (
        fake_daemon(path, forgetful) as daemon,
        client_of(path) as client,
        pytest.raises(KeylessError) as caught,
    ):
        client.sign(DIGEST, where=Where(trusted_root=b"root"))
    assert caught.value.code == "unknown_file"
    assert len(daemon.requests) == 2


STATUS = {
    "version": "1", "pid": 2, "started": 3, "uptime_seconds": 4, "socket": "s",
    "requests": {"sign": {"ok": 1, "failed": 0}}, "connections": 1, "default_instance": "public",
    "reuse": "window", "instances": [{"name": "public", "state": "ok"}],
    "slots": [{"identity": "a", "issuer": "b", "instance": "c", "not_after": 5, "signatures": 6}],
    "of the future": 1,
}  # fmt: skip
INSTANCE = {"name": "public", "source": "tuf", "state": "ok", "version": "13"}


def test_questions_to_the_daemon(path):
    replies = {
        "status": (STATUS, {}),
        "whoami": ({"identities": [{"identity": "a", "issuer": "b", "source": "token"}]}, {}),
        "trust_status": ({"instances": [INSTANCE]}, {}),
        "trust_refresh": ({"instances": [INSTANCE]}, {}),
        "ledger": ({"records": 3}, {"records": b'{"n":1}\n"prev":"\x1b\xff\n{"n":2}\n'}),
        "reload": ({}, {}),
    }
    with (
        fake_daemon(path, lambda r: Reply(r.id, *replies[r.op])) as daemon,
        client_of(path) as client,
    ):
        status = client.status()
        assert (status.pid, status.slots[0].signatures, status.instances[0].url) == (2, 6, None)
        assert client.whoami(identity_token="t")[0].source == "token"
        assert client.trust_status("x")[0].version == "13"
        assert client.trust_refresh()[0].source == "tuf"
        torn = {"event": "torn", "text": '"prev":"\\u001b\ufffd'}
        assert client.ledger(3) == [{"n": 1}, torn, {"n": 2}]
        assert client.reload() is None
    assert [request.body for request in daemon.requests] == [
        {},
        {},
        {"instance": "x"},
        {},
        {"limit": 3},
        {},
    ]


# --- when things break -----------------------------------------------------------------------


def test_a_daemon_that_hangs_up(path):
    with (
        fake_daemon(path, lambda _: DROP),
        client_of(path) as client,
        pytest.raises(KeylessError) as caught,
    ):
        client.sign(DIGEST)
    assert (caught.value.code, caught.value.retryable) == ("daemon_failed", True)


class Shy(FakeDaemon):
    """Hangs up on its first clients before a word."""

    silent = 1

    def _serve(self, connection: socket.socket) -> None:
        if self.connections <= self.silent:
            connection.close()
        else:
            super()._serve(connection)


def test_the_successor_is_asked_if_a_daemon_ends_before_its_first_word(path):
    daemon = Shy(path)
    with client_of(path) as client:
        results = dict(client.sign_many([DIGEST] * 3))
    daemon.close()
    assert [type(results[number]) for number in range(3)] == [SignResult] * 3
    assert (daemon.connections, len(daemon.requests)) == (2, 3)


def test_a_daemon_that_never_says_a_word_is_asked_twice(path):
    daemon = Shy(path)
    daemon.silent = 10
    with client_of(path) as client, pytest.raises(KeylessError) as caught:
        client.sign(DIGEST)
    daemon.close()
    assert (caught.value.code, caught.value.retryable) == ("daemon_failed", True)
    assert daemon.connections == 2


def test_nothing_is_asked_again_after_the_first_word(path):
    with fake_daemon(path, lambda _: DROP) as daemon, client_of(path) as client:
        with pytest.raises(KeylessError):
            client.sign(DIGEST)
        assert daemon.connections == 1


def test_a_daemon_that_hangs_up_in_the_middle_of_many(path):
    with fake_daemon(path, lambda r: DROP if r.id == 5 else answer(r)), client_of(path) as client:
        results = dict(client.sign_many([DIGEST] * 12))
    # Ids begin anew on the next connection, which is cut likewise.
    assert len(results) == 12
    lost = [r for r in results.values() if isinstance(r, KeylessError)]
    assert lost
    assert {error.code for error in lost} == {"daemon_failed"}
    assert len(lost) < 12


def test_a_lost_connection_is_made_again_by_the_next_call(path):
    with fake_daemon(path) as daemon, client_of(path) as client:
        client.sign(DIGEST)
        daemon.hang_up()
        client.sign(DIGEST)
        assert daemon.connections == 2


def test_a_daemon_that_breaks_the_protocol(path):
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen()

    def babble():
        connection, _ = listener.accept()
        connection.sendall(b"\x00\x00\x00\x01\xc1")
        connection.recv(65_536)
        connection.close()

    thread = threading.Thread(target=babble)
    thread.start()
    with (
        listener,
        client_of(path) as client,
        pytest.raises(KeylessError, match="protocol") as caught,
    ):
        client.sign(DIGEST)
    thread.join()
    assert caught.value.code == "daemon_failed"


def test_a_goodbye_is_what_everybody_is_told(path):
    goodbye = Failure(None, WireError("shutting_down", "stopping", retryable=True))
    with (
        fake_daemon(path, lambda _: goodbye),
        client_of(path) as client,
        pytest.raises(KeylessError) as caught,
    ):
        client.sign(DIGEST)
    assert caught.value.code == "shutting_down"


@pytest.mark.parametrize("window", [1, 8])
def test_interrupt_cancels_and_passes_through(path, window):
    def interrupt(*_):
        raise KeyboardInterrupt

    def answers(request):
        return with_events(request)[:1]  # an event, and then nothing

    with fake_daemon(path, answers) as daemon, client_of(path, window=window) as client:
        with pytest.raises(KeyboardInterrupt):
            client.sign(DIGEST, on_event=interrupt)
        daemon.wait_until(lambda: daemon.cancelled == [1])
        daemon.answers = answer
        assert client.sign(DIGEST).identity
        assert daemon.connections == 2


def test_who_stops_asking_cancels_what_is_left(path):
    def answers(request):
        return answer(request) if request.id == 1 else None

    with fake_daemon(path, answers) as daemon, client_of(path, window=4) as client:
        results = client.sign_many([DIGEST] * 10)
        next(results)
        results.close()
        begun = len(daemon.requests)
        daemon.wait_until(lambda: len(daemon.cancelled) >= begun - 1)
        daemon.answers = answer
        assert client.sign(DIGEST).identity
        assert daemon.connections == 1


def test_large_attachments_both_ways_do_not_block_each_other(path):
    statement = bytes(5_000_000)

    def echo(request):
        return Reply(
            request.id, signed(predicate_type="x"), {"bundle": request.attachments["statement"]}
        )

    with fake_daemon(path, echo), client_of(path) as client:
        assert client.attest(statement=statement).bundle == statement


def test_too_large_is_refused_before_it_is_sent(path):
    with (
        fake_daemon(path) as daemon,
        client_of(path) as client,
        pytest.raises(KeylessError) as caught,
    ):
        client.attest(statement=bytes((16 << 20) + 1))
    assert caught.value.code == "too_large"
    assert daemon.requests == []


# --- connecting ------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["absent", "stale", "file"])
def test_nobody_listens(path, kind):
    if kind == "stale":
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind(path)
    elif kind == "file":
        Path(path).touch()
    with pytest.raises(keyless.DaemonUnreachableError) as caught:
        client_of(path).status()
    assert (caught.value.code, caught.value.retryable) == ("daemon_unreachable", True)
    assert "keylessd" in caught.value.hint


def test_a_path_longer_than_an_address(tmp_path):
    directory = tmp_path / ("d" * 60) / ("e" * 60)
    directory.mkdir(parents=True)
    long = str(directory / "sign.sock")
    assert len(long) > 107
    here = os.open(directory, os.O_PATH)
    before = set(os.listdir("/proc/self/fd"))
    with fake_daemon(f"/proc/self/fd/{here}/sign.sock"), client_of(long) as client:
        assert client.sign(DIGEST).identity
    os.close(here)
    assert len(os.listdir("/proc/self/fd")) <= len(before)


def test_a_name_longer_than_an_address(tmp_path):
    path = str(tmp_path / ("s" * 120))
    with pytest.raises(keyless.DaemonUnreachableError) as caught:
        client_of(path).status()
    assert caught.value.message == f"no daemon listens on {path!r}: File name too long"
    assert not caught.value.retryable


def test_a_stranger_at_the_other_end_hears_nothing(path, monkeypatch):
    monkeypatch.setattr(_connect.os, "geteuid", lambda: 12345)
    heard = []
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen()
    monkeypatch.setattr(_connect, "_ROOT", 54321)
    with pytest.raises(keyless.DaemonUnreachableError, match="uid"):
        client_of(path).sign(DIGEST, identity_token="secret")
    connection, _ = listener.accept()
    heard.append(connection.recv(100))
    connection.close()
    listener.close()
    assert heard == [b""]


def test_a_full_backlog_is_waited_for(path):
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen(0)
    first = _connect.connect(path)  # fills the backlog: a further connect waits
    second = []
    thread = threading.Thread(target=lambda: second.append(_connect.connect(path)))
    thread.start()
    accepted = [listener.accept()[0], listener.accept()[0]]
    thread.join(20)
    assert second
    for each in (first, *second, *accepted, listener):
        each.close()


def test_a_backlog_that_stays_full_is_given_up(path, monkeypatch):
    monkeypatch.setattr(_connect, "CONNECT_SECONDS", 0.01)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen(0)
    first = _connect.connect(path)
    with pytest.raises(keyless.DaemonUnreachableError) as caught:
        _connect.connect(path)
    assert caught.value.retryable
    first.close()
    listener.close()


def test_a_silent_daemon_is_given_up(path, monkeypatch):
    for name in ("REQUEST_SECONDS", "LOGIN_SECONDS"):
        monkeypatch.setattr(_exchange, name, 0.01 if name[0] == "R" else 0.02)
    monkeypatch.setattr(_exchange, "MARGIN_SECONDS", 0)
    with fake_daemon(path, lambda _: None), client_of(path) as client:
        with pytest.raises(KeylessError, match=r"said nothing for 0.01 seconds") as caught:
            client.sign(DIGEST)
        assert caught.value.code == "daemon_failed"
    # A person takes longer than a service.
    with (
        fake_daemon(f"{path}2", lambda _: None),
        client_of(f"{path}2") as client,
        pytest.raises(KeylessError, match=r"said nothing for 0.02 seconds"),
    ):
        client.login(on_event=lambda *_: None)


@pytest.mark.parametrize(
    ("limits", "logs_in", "seconds"),
    [
        (None, False, 150),
        (None, True, 330),
        ({}, False, 150),
        ({"request_seconds": 600, "login_seconds": 300}, False, 630),
        ({"request_seconds": 600, "login_seconds": 300}, True, 630),
        ({"request_seconds": 5, "login_seconds": 1000}, True, 1030),
        ({"request_seconds": 5, "login_seconds": 1000}, False, 35),
        ({"request_seconds": 1 << 62}, False, 86_400),
    ],
)
def test_a_daemon_is_waited_for_as_long_as_it_says(limits, logs_in, seconds):
    exchange = _exchange.Exchange()
    daemon = Connection(SERVER)
    daemon.receive_data(exchange.outgoing())
    daemon.next_event()
    if limits is not None:
        exchange.receive(daemon.send(Welcome(agent="d", limits=limits)))
    exchange.submit(_calls.Call("login" if logs_in else "status", {}, read=lambda _: None))
    assert exchange.patience == seconds


def test_nothing_is_shown_of_a_token(path):
    with (
        fake_daemon(path, lambda r: Failure(r.id, WireError("token_rejected", "no"))),
        client_of(path) as client,
        pytest.raises(KeylessError) as caught,
    ):
        client.sign(DIGEST, identity_token="eyJsecret")
    seen = caught.value
    assert "eyJsecret" not in repr(seen) + str(vars(seen))
