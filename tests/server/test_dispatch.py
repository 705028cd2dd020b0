"""From request to answer: policy, errors as codes, counts."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest

from keyless.errors import CODES
from keyless.wire import Failure, Reply, Request
from keylessd import errors, log
from keylessd.core.artifact import MissingDigestError
from keylessd.core.digests import HashAlgorithm
from keylessd.errors import (
    DaemonError,
    InvalidInputError,
    RateLimitedError,
    UnknownFileError,
    VerificationError,
)
from keylessd.policy.peers import Peer
from keylessd.server.dispatch import Call, Dispatcher, Outcome, wire_error

OWN = Peer(uid=1000, gid=1000, pid=7)


@pytest.fixture
def logged() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    before, level = list(root.handlers), root.level
    stream = io.StringIO()
    log.configure("debug", stream=stream, human=False)
    yield stream
    root.handlers[:] = before
    root.setLevel(level)


def dispatcher(handler: object) -> Dispatcher:
    return Dispatcher({"status": handler, "sign": handler}, own_uid=1000)  # type: ignore[dict-item]


def ignore(step: str, facts: object) -> None:
    pass


async def fine(call: Call) -> Outcome:
    return Outcome({"op": call.op}, {"bundle": b"x"})


def failing(exc: BaseException) -> object:
    async def handler(call: Call) -> Outcome:
        raise exc

    return handler


async def test_reply_carries_body_and_attachments(autojump_clock: object) -> None:
    it = dispatcher(fine)
    answer = await it.answer(OWN, Request(3, "status", {}), ignore)

    assert answer == Reply(3, {"op": "status"}, {"bundle": b"x"})
    assert (it.counts["status"].ok, it.counts["status"].failed) == (1, 0)


async def test_another_user_is_not_allowed(autojump_clock: object) -> None:
    it = dispatcher(fine)
    answer = await it.answer(Peer(uid=0, gid=0, pid=1), Request(3, "sign", {}), ignore)

    assert isinstance(answer, Failure)
    assert answer.error.code == "not_allowed"
    assert it.counts["sign"].failed == 1


async def test_unknown_operation(autojump_clock: object) -> None:
    answer = await dispatcher(fine).answer(OWN, Request(3, "login", {}), ignore)

    assert answer.error.code == "unknown_operation"


async def test_expected_error_is_told_whole(autojump_clock: object) -> None:
    exc = RateLimitedError("too much", hint="wait", retry_after_seconds=1.2345, details={"a": 1})
    answer = await dispatcher(failing(exc)).answer(OWN, Request(3, "sign", {}), ignore)

    error = answer.error
    assert (error.code, error.message, error.hint) == ("rate_limited", "too much", "wait")
    assert (error.retryable, error.retry_after_ms, error.details) == (True, 1235, {"a": 1})


async def test_unexpected_error_is_logged_and_not_told(
    autojump_clock: object, logged: io.StringIO
) -> None:
    it = dispatcher(failing(KeyError("a private matter")))
    with log.bind(request=42):
        answer = await it.answer(OWN, Request(3, "sign", {}), ignore)
    fault = next(
        line
        for line in map(json.loads, logged.getvalue().splitlines())
        if line["event"] == "request.fault"
    )

    assert answer.error.code == "internal"
    assert "private" not in answer.error.message + (answer.error.hint or "")
    assert (fault["request"], fault["error"], fault["level"]) == (42, "KeyError", "error")
    assert it.counts["sign"].failed == 1


async def test_asking_for_a_file_is_no_failed_request(autojump_clock: object) -> None:
    it = dispatcher(failing(UnknownFileError("unknown", details={"name": "trusted_root"})))
    answer = await it.answer(OWN, Request(3, "sign", {}), ignore)

    assert answer.error.code == "unknown_file"
    assert (it.counts["sign"].ok, it.counts["sign"].failed) == (0, 0)


async def test_base_exceptions_pass(autojump_clock: object) -> None:
    with pytest.raises(KeyboardInterrupt):
        await dispatcher(failing(KeyboardInterrupt())).answer(OWN, Request(3, "sign", {}), ignore)


def test_needed_digest_is_named() -> None:
    error = wire_error(MissingDigestError("digest", HashAlgorithm.SHA512))

    assert (error.code, error.details["alg"]) == ("need_digest", "sha512")


def test_failed_check_is_named() -> None:
    error = wire_error(VerificationError("identity", "no", found="a", wanted="b"))

    assert error.code == "verification_failed"
    assert error.details == {"check": "identity", "found": "a", "wanted": "b"}


def test_group_speaks_through_its_first_expected_error(logged: io.StringIO) -> None:
    group = ExceptionGroup("g", [ExceptionGroup("h", [InvalidInputError("x")])])

    assert wire_error(group).code == "invalid_input"
    assert logged.getvalue() == ""


def test_fault_within_a_group_is_a_fault(logged: io.StringIO) -> None:
    group = ExceptionGroup("g", [InvalidInputError("x"), KeyError("y")])

    assert wire_error(group).code == "internal"
    assert "KeyError" in logged.getvalue()


def test_hostile_text_in_an_error_is_escaped() -> None:
    error = wire_error(InvalidInputError("a\x1b[2Jb\n", details={"f": "\u202ex"}))

    assert error.message.isprintable()
    assert str(error.details["f"]).isprintable()


def test_every_error_class_has_a_code_of_the_protocol() -> None:
    def below(cls: type[DaemonError]) -> Iterator[type[DaemonError]]:
        for sub in cls.__subclasses__():
            yield sub
            yield from below(sub)

    assert errors.DaemonError.code in CODES
    assert [cls.code for cls in below(DaemonError) if cls.code not in CODES] == []
