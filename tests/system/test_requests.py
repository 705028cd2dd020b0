"""Requests over the daemon's real socket: progress, cancelling, leaving, and limits."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, Self

import pytest

from keyless.wire import (
    CLIENT,
    NEED_DATA,
    Cancel,
    Connection,
    ConnectionClosed,
    Event,
    Failure,
    Hello,
    Reply,
    Request,
)
from standing import LOOK, PATIENCE, Standing, standing

pytestmark = pytest.mark.system

CONFIG = """
[limits]
requests_per_connection = 8
connections_per_process = 4
"""
LOGS = {"rekor_v1": "/api/v1/log/entries", "rekor_v2": "/api/v2/log/entries"}
SIGNING = "/api/v2/signingCert"


@pytest.fixture(scope="module")
def running(tmp_path_factory) -> Iterator[Standing]:
    directory = tmp_path_factory.mktemp("requests")
    (directory / "config" / "keyless").mkdir(parents=True)
    (directory / "config" / "keyless" / "config.toml").write_text(CONFIG)
    yield from standing(directory)


@pytest.fixture
def house(running: Standing) -> Iterator[Standing]:
    assert running.keyless("sign", *running.files(1)).returncode == 0  # a daemon that knows all
    yield running
    running.heal()


class Wire:
    """A client that says exactly what a test wants."""

    def __init__(self, house: Standing) -> None:
        self.house = house
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(PATIENCE)
        self.socket.connect(str(house.socket))
        self.wire = Connection(CLIENT)
        with suppress(BrokenPipeError):  # it may have said no and hung up before we said a word
            self.say(Hello(agent="test"))
        self.last = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def say(self, message: Any) -> None:
        self.socket.sendall(self.wire.send(message))

    def hear(self) -> Any:
        """Return the next message."""
        while (event := self.wire.next_event()) is NEED_DATA:
            self.wire.receive_data(self.socket.recv(65536))
        return event

    def answer(self, number: int) -> Any:
        """Return the answer to one request, passing over all else."""
        while True:
            message = self.hear()
            if isinstance(message, Reply | Failure) and message.id == number:
                return message
            assert not isinstance(message, ConnectionClosed)

    def step(self, wanted: str) -> None:
        """Wait for a step of the request in hand; nothing but steps may come before it."""
        while True:
            message = self.hear()
            if isinstance(message, Event) and message.body["step"] == wanted:
                return
            assert not isinstance(message, Reply | Failure | ConnectionClosed), message

    def sign(self, digit: int, **body: Any) -> int:
        self.last += 1
        digest = {"alg": "sha256", "value": bytes([digit]) * 32}
        token = self.house.environ["SIGSTORE_ID_TOKEN"].encode()
        body = {"digest": digest, "where": {"instance": "sandbox"}, "progress": True, **body}
        self.say(Request(self.last, "sign", body, {"identity_token": token}))
        return self.last


def slow_logs(house: Standing, seconds: float) -> None:
    for service, path in LOGS.items():
        house.fault(service, path=path, method="POST", fault="delay", seconds=seconds)


def logs_asked(house: Standing) -> int:
    return sum(house.asked(service) for service in LOGS)


def wait_for(what: Callable[[], Any]) -> Any:
    end = time.monotonic() + PATIENCE
    while not (found := what()):
        assert time.monotonic() < end
        time.sleep(LOOK)
    return found


def outcome(house: Standing, digit: int) -> dict[str, Any] | None:
    """Return how the last attempt over this digest ended, or None while it runs."""
    records: list[dict[str, Any]] = house.records()
    digest = (bytes([digit]) * 32).hex()
    name = [
        record["id"]
        for record in records
        if record["event"] == "attempt" and record["artifact"]["digest"] == digest
    ][-1]
    return next((r for r in records if r["event"] == "outcome" and r["id"] == name), None)


def test_steps_are_told_while_the_log_still_works(house: Standing) -> None:
    slow_logs(house, 2.0)
    with Wire(house) as client:
        number = client.sign(1)
        # An answer before this step would fail the test: the log has it in two seconds.
        client.step("signed")
        assert outcome(house, 1) is None
        reply = client.answer(number)

        assert isinstance(reply, Reply)
        assert reply.body["entries"]


def test_who_leaves_after_the_log_was_asked_leaves_a_finished_record(house: Standing) -> None:
    before = house.counts()
    slow_logs(house, 1.0)
    asked = logs_asked(house)
    with Wire(house) as client:
        client.sign(2)
        client.step("signed")
        wait_for(lambda: logs_asked(house) > asked)
    record = wait_for(lambda: outcome(house, 2))

    assert record["result"] == "ok"
    assert len(record["entries"]) == 1
    assert house.counts().since(before).entries == 1


def test_who_cancels_after_the_log_was_asked_gets_what_was_signed(house: Standing) -> None:
    slow_logs(house, 1.0)
    with Wire(house) as client:
        number = client.sign(3)
        client.step("signed")
        client.say(Cancel(number))

        # It is public; to call it cancelled would hide it.
        assert isinstance(client.answer(number), Reply)
    assert wait_for(lambda: outcome(house, 3))["result"] == "ok"


@pytest.mark.parametrize("how", ["cancel", "leave"])
def test_who_gives_up_before_the_signature_leaves_nothing_public(house: Standing, how: str) -> None:
    digit = {"cancel": 4, "leave": 5}[how]
    before = house.counts()
    house.fault("fulcio", path=SIGNING, method="POST", fault="delay", seconds=30.0)
    asked = house.asked("fulcio")
    with Wire(house) as client:
        number = client.sign(digit, reuse="never")
        wait_for(lambda: house.asked("fulcio") > asked)
        if how == "cancel":
            client.say(Cancel(number))
            failure = client.answer(number)
            assert failure.error.code == "cancelled"
    record = wait_for(lambda: outcome(house, digit))

    assert record["result"] == "cancelled"
    assert house.counts().since(before).entries == 0


def test_one_connection_has_so_many_requests_and_no_more(house: Standing) -> None:
    house.fault("fulcio", path=SIGNING, method="POST", fault="delay", seconds=30.0)
    with Wire(house) as client:
        numbers = [client.sign(10 + number, reuse="never") for number in range(9)]
        refused = client.answer(numbers[-1])
        assert (refused.error.code, refused.error.retryable) == ("busy", True)
        for number in numbers[:-1]:
            client.say(Cancel(number))
        assert {client.answer(number).error.code for number in numbers[:-1]} == {"cancelled"}
        house.heal()

        assert isinstance(client.answer(client.sign(20)), Reply)


def test_one_process_has_so_many_connections_and_others_are_served(house: Standing) -> None:
    clients = [Wire(house) for _ in range(4)]
    try:
        for client in clients:
            client.hear()  # welcome
        with Wire(house) as fifth:
            goodbye = fifth.hear()
        assert isinstance(goodbye, Failure)
        assert (goodbye.id, goodbye.error.code, goodbye.error.retryable) == (None, "busy", True)
        assert house.keyless("status").returncode == 0
        clients.pop().socket.close()
        wait_for(lambda: isinstance(_greeting(house), ConnectionClosed) is False)
    finally:
        for client in clients:
            client.socket.close()


def _greeting(house: Standing) -> Any:
    with Wire(house) as client:
        first = client.hear()
    return first if not isinstance(first, Failure) else ConnectionClosed()
