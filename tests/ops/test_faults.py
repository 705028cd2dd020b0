"""Services that fail, stall, lie or lose their answers: nothing is lost, nothing is doubled."""

from __future__ import annotations

import errno
import json
import os
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import pytest
import trio

from keylessd.core.digests import HashAlgorithm, digest_of
from keylessd.core.signing_config import Selector, Service
from keylessd.errors import (
    DaemonError,
    NoServiceError,
    RateLimitedError,
    ServiceRefusedError,
    ServiceReplyError,
    ServiceUnavailableError,
    ShuttingDownError,
    TokenError,
)
from keylessd.flow.singleflight import CallAbandonedError
from keylessd.ops.record import Report
from keylessd.sandbox.faults import Cut, Delay, Endless, Garbage, LostReply, Status
from keylessd.sandbox.rekor_v1 import INDEX_OFFSET
from ops_rig import material_of, open_rig

# All together; each test by itself is quick.
pytestmark = pytest.mark.slow


class Log(NamedTuple):
    """A kind of log: what the sandbox calls it, its service, and where entries are posted."""

    rekor: str
    service: str
    path: str


LOGS = [
    Log("v1", "rekor-v1", "/api/v1/log/entries"),
    Log("v2", "rekor-v2", "/api/v2/log/entries"),
]
BOTH_LOGS = pytest.mark.parametrize("log", LOGS, ids=[log.rekor for log in LOGS])
SHA256 = HashAlgorithm.SHA256
FROZEN = Status(405, b"This log has been frozen, please switch to the latest log.", "text/plain")


def ledger_outcomes(rig):
    return [record for record in rig.ledger() if record["event"] == "outcome"]


# --- logs ----------------------------------------------------------------------------------


@BOTH_LOGS
@pytest.mark.parametrize("fault", [LostReply(), Cut(40), Status(503), Status(429)], ids=repr)
async def test_a_log_that_fails_once_is_asked_again(autojump_clock, tmp_path, log, fault):
    async with open_rig(tmp_path, log.rekor) as rig:
        rig.faults[log.service].fail_next(1, fault, path=log.path, method="POST")
        result = await rig.sign()
        await rig.verify(result.bundle, digest_of(SHA256, b"artifact"))
        assert len(ledger_outcomes(rig)) == 1


async def test_a_lost_answer_of_v1_is_recovered_and_not_doubled(autojump_clock, tmp_path):
    async with open_rig(tmp_path, "v1") as rig:
        rig.faults["rekor-v1"].fail_next(1, LostReply(), method="POST")
        result = await rig.sign()
        assert rig.sigstore.counters()["rekor_v1_entries"] == 1
        assert result.entries[0].log_index == INDEX_OFFSET
        assert rig.faults["rekor-v1"].seen(method="GET") == 1


async def test_a_lost_answer_of_v2_is_recovered_from_the_tiles(autojump_clock, tmp_path):
    async with open_rig(tmp_path, "v2") as rig:
        await rig.sign(b"before")
        rig.faults["rekor-v2"].fail_next(1, LostReply(), method="POST")
        result = await rig.sign()
        await rig.verify(result.bundle, digest_of(SHA256, b"artifact"))
        assert rig.faults["rekor-v2"].seen(method="POST") == 3  # before; lost, 409
        assert rig.sigstore.counters()["rekor_v2_entries"] == 2
        assert rig.sigstore.counters()["timestamps"] == 2
        assert result.entries[0].log_index == 1
        assert "signing_again" not in [name for name, _ in rig.events]


@pytest.mark.parametrize("part", ["checkpoint", "tile/entries/000.p/2", "tile/0/000.p/2"])
@pytest.mark.parametrize("fault", [Status(501), Status(404), Status(200, b"other")], ids=repr)
async def test_a_lost_answer_of_v2_that_cannot_be_read_leads_to_a_fresh_signature(
    autojump_clock, tmp_path, part, fault
):
    async with open_rig(tmp_path, "v2") as rig:
        await rig.sign(b"before")
        rig.faults["rekor-v2"].fail_next(1, LostReply(), method="POST")
        rig.faults["rekor-v2"].fail(fault, path=f"/api/v2/{part}", method="GET")
        result = await rig.sign()
        await rig.verify(result.bundle, digest_of(SHA256, b"artifact"))
        assert rig.sigstore.counters()["timestamps"] == 3
        assert result.entries[0].log_index == 2
        assert "signing_again" in [name for name, _ in rig.events]


async def test_a_lost_answer_of_v2_leads_to_a_fresh_signature_and_stamp(autojump_clock, tmp_path):
    async with open_rig(tmp_path, "v2") as rig:
        rig.faults["rekor-v2"].fail(Status(501), method="GET")
        rig.faults["rekor-v2"].fail_next(1, LostReply(), method="POST")
        result = await rig.sign()
        assert rig.faults["rekor-v2"].seen(method="POST") == 3  # lost, 409, the new signature
        assert rig.sigstore.counters()["timestamps"] == 2
        assert result.entries[0].log_index == 1
        assert rig.certificates == 1
        assert "signing_again" in [name for name, _ in rig.events]


async def test_a_log_that_says_of_everything_that_it_has_it(autojump_clock, tmp_path):
    async with open_rig(tmp_path, "v2") as rig:
        rig.faults["rekor-v2"].fail(Status(409, b'{"code":6,"message":"exists with index 7"}'))
        with pytest.raises(ServiceReplyError):
            await rig.sign()
        assert rig.faults["rekor-v2"].seen(method="POST") == 3


@BOTH_LOGS
async def test_retry_after_is_honoured(autojump_clock, tmp_path, log):
    async with open_rig(tmp_path, log.rekor) as rig:
        rig.faults[log.service].fail_next(1, Status(429, retry_after="20"), path=log.path)
        began = trio.current_time()
        await rig.sign()
        assert trio.current_time() - began >= 20


async def test_a_limit_that_lasts_is_reported_and_holds_the_next_back(autojump_clock, tmp_path):
    async with open_rig(tmp_path, "v2") as rig:
        log = rig.faults["rekor-v2"]
        log.fail_next(1, Status(429, retry_after="55"))
        with pytest.raises(RateLimitedError) as caught:
            await rig.sign(b"1")
        assert caught.value.retry_after_seconds == 55
        assert log.total == 1
        refused_at = trio.current_time()

        await rig.sign(b"2")
        assert trio.current_time() - refused_at >= 54
        assert log.total == 2


@BOTH_LOGS
async def test_a_log_that_takes_25_seconds(autojump_clock, tmp_path, log):
    async with open_rig(tmp_path, log.rekor) as rig:
        rig.faults[log.service].fail(Delay(25), path=log.path)
        result = await rig.sign()
        await rig.verify(result.bundle, digest_of(SHA256, b"artifact"))


@BOTH_LOGS
async def test_a_reused_certificate_outlives_a_slow_log(autojump_clock, tmp_path, log):
    # Over the whole life of certificates, at every 20th second, with a log that takes its time.
    async with open_rig(tmp_path, log.rekor, token_lifetime=timedelta(hours=2)) as rig:
        token = rig.token()
        rig.faults[log.service].fail(Delay(25), path=log.path)
        for number in range(16):
            await rig.sign(b"%d" % number, token=token)
            await trio.sleep(20)
        assert 1 < rig.certificates <= 3


@BOTH_LOGS
async def test_a_log_that_never_answers(autojump_clock, tmp_path, log):
    async with open_rig(tmp_path, log.rekor) as rig:
        rig.faults[log.service].fail(Delay(10_000))
        began = trio.current_time()
        with pytest.raises(ServiceUnavailableError):
            await rig.sign()
        assert trio.current_time() - began <= 100
        assert ledger_outcomes(rig)[0]["code"] == "service_unavailable"


@BOTH_LOGS
@pytest.mark.parametrize(
    "fault",
    [Garbage(), Garbage(b"{}"), Garbage(b"[]"), Garbage(b'{"a":{}}'), Endless()],
    ids=["noise", "empty", "list", "foreign", "endless"],
)
async def test_a_log_that_answers_nonsense(autojump_clock, tmp_path, log, fault):
    async with open_rig(tmp_path, log.rekor) as rig:
        rig.faults[log.service].fail(fault, method="POST")
        with pytest.raises(ServiceReplyError):
            await rig.sign()
        assert ledger_outcomes(rig)[0]["code"] == "service_invalid_reply"


@BOTH_LOGS
async def test_a_log_that_answers_with_another_entry(autojump_clock, tmp_path, log):
    async with open_rig(tmp_path, log.rekor) as rig:
        captured: list[bytes] = []
        app = rig.sigstore.apps[log.service]

        async def recording(scope, receive, send):
            async def keep(message):
                if message["type"] == "http.response.body":
                    captured.append(message.get("body", b""))
                await send(message)

            await app(scope, receive, keep)

        rig.sigstore.apps[log.service] = recording
        await rig.sign(b"first")
        rig.faults[log.service].fail(Garbage(b"".join(captured)), method="POST")
        with pytest.raises(ServiceReplyError) as caught:
            await rig.sign(b"second")
        assert caught.value.details["check"]


async def test_a_refusal_is_not_repeated(autojump_clock, tmp_path):
    async with open_rig(tmp_path, "v2") as rig:
        rig.faults["rekor-v2"].fail(Status(400, b'{"code":3,"message":"bad"}'))
        with pytest.raises(ServiceRefusedError):
            await rig.sign()
        assert rig.faults["rekor-v2"].total == 1


# --- a frozen log --------------------------------------------------------------------------


async def test_a_frozen_log_is_left_for_the_one_that_follows_it(autojump_clock, tmp_path):
    async with open_rig(tmp_path, "v2") as rig:
        rig.faults["rekor-v2"].fail(FROZEN)
        rig.trust.newer = material_of(rig.sigstore, rig.sigstore.signing_config("v1"), "w")
        result = await rig.sign()
        assert rig.trust.refreshed == 1
        assert result.entries[0].version == "0.0.1"
        assert rig.faults["rekor-v2"].total == 1
        await rig.verify(result.bundle, digest_of(SHA256, b"artifact"))


async def test_a_frozen_log_without_a_follower_is_an_error(autojump_clock, tmp_path):
    async with open_rig(tmp_path, "v2") as rig:
        rig.faults["rekor-v2"].fail(FROZEN)
        with pytest.raises(ServiceRefusedError) as caught:
            await rig.sign()
        assert caught.value.details["status"] == 405
        assert rig.trust.refreshed == 1
        assert rig.faults["rekor-v2"].total == 1


# --- several services ----------------------------------------------------------------------


def with_spare(rig, kind: str, *, first_is_dead: bool = True, selector: Selector, count: int = 0):
    """Put a service that does not exist before (or after) the real one."""
    config = rig.trust.current.signing_config
    real = getattr(config, f"{kind}_urls")[0]
    dead = Service("http://dead.sandbox.test/", real.api_version, real.valid_for, "dead")
    order = (dead, real) if first_is_dead else (real, dead)
    config = replace(
        config,
        **{f"{kind}_urls": order, f"{kind}_selector": selector, f"{kind}_count": count},
    )
    rig.trust.current = replace(rig.trust.current, signing_config=config)


@pytest.mark.parametrize("kind", ["rekor", "tsa"])
async def test_any_takes_the_spare(autojump_clock, tmp_path, kind):
    async with open_rig(tmp_path, "v2") as rig:
        with_spare(rig, kind, selector=Selector.ANY)
        result = await rig.sign()
        await rig.verify(result.bundle, digest_of(SHA256, b"artifact"))


@pytest.mark.parametrize("kind", ["rekor", "tsa"])
@pytest.mark.parametrize("first_is_dead", [True, False])
@pytest.mark.parametrize("selector", [Selector.ALL, Selector.EXACT])
async def test_all_and_exact_need_every_one(
    autojump_clock, tmp_path, kind, first_is_dead, selector
):
    async with open_rig(tmp_path, "v2") as rig:
        with_spare(rig, kind, first_is_dead=first_is_dead, selector=selector, count=2)
        with pytest.raises(DaemonError) as caught:
            await rig.sign()
        assert caught.value.code in ("service_unavailable", "invalid_input")


async def test_exact_one_of_two_takes_the_spare(autojump_clock, tmp_path):
    async with open_rig(tmp_path, "v2") as rig:
        with_spare(rig, "rekor", selector=Selector.EXACT, count=1)
        await rig.sign()


# --- timestamp authority -------------------------------------------------------------------


@pytest.mark.parametrize("rekor", ["v1", "v2"])
@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (Status(500), "service_unavailable"),
        (Status(400, b'{"code":3}', "application/timestamp-reply"), "service_refused"),
        (Status(200, b"0\x03\x02\x01\x02", "application/timestamp-reply"), "service_invalid_reply"),
        (Garbage(), "service_invalid_reply"),
        (Garbage(b""), "service_invalid_reply"),
        (Cut(20), "service_unavailable"),
    ],
    ids=["down", "refused", "rejected", "noise", "empty", "cut"],
)
async def test_no_stamp_no_bundle(autojump_clock, tmp_path, rekor, fault, code):
    async with open_rig(tmp_path, rekor) as rig:
        rig.faults["tsa"].fail(fault)
        with pytest.raises(DaemonError) as caught:
            await rig.sign()
        assert caught.value.code == code
        # Nothing was made public for a bundle that nobody gets; also not of the next attempt.
        [outcome] = ledger_outcomes(rig)
        assert outcome["result"] == "failed"
        assert "entries" not in outcome
        with pytest.raises(DaemonError):
            await rig.sign()
        assert rig.faults["rekor-v1"].total == rig.faults["rekor-v2"].total == 0
        rig.faults["tsa"].clear()
        result = await rig.sign()
        assert result.entries[0].log_index in (0, INDEX_OFFSET)


async def test_an_authority_that_is_slow_does_not_hold_the_log_up(autojump_clock, tmp_path):
    async with open_rig(tmp_path, "v2") as rig:
        rig.faults["tsa"].fail(Delay(3))
        rig.faults["rekor-v2"].fail(Delay(3))
        began = trio.current_time()
        await rig.sign()
        assert trio.current_time() - began < 4


async def test_an_authority_that_hangs_costs_one_entry_and_not_more(autojump_clock, tmp_path):
    async with open_rig(tmp_path, "v2") as rig:
        rig.faults["tsa"].fail(Delay(600))
        for _ in range(3):
            with pytest.raises(DaemonError):
                await rig.sign()
        assert rig.faults["rekor-v2"].total == 1
        rig.faults["tsa"].clear()
        await rig.sign()
        assert rig.sigstore.counters()["rekor_v2_entries"] == 2


async def test_an_authority_that_fails_once_is_asked_again_before_the_log(autojump_clock, tmp_path):
    async with open_rig(tmp_path, "v2") as rig:
        rig.faults["tsa"].fail_next(1, Status(503))
        await rig.sign()
        assert rig.faults["tsa"].total == 2
        assert rig.sigstore.counters()["rekor_v2_entries"] == 1


async def test_v2_without_an_authority_fails_before_anybody_is_asked(autojump_clock, tmp_path):
    async with open_rig(tmp_path, "v2") as rig:
        config = replace(rig.trust.current.signing_config, tsa_urls=())
        rig.trust.current = replace(rig.trust.current, signing_config=config)
        with pytest.raises(NoServiceError):
            await rig.sign()
        assert rig.faults["fulcio"].total == 0
        assert rig.ledger() == []


async def test_v1_needs_no_authority(autojump_clock, tmp_path):
    async with open_rig(tmp_path, "v1") as rig:
        config = replace(rig.trust.current.signing_config, tsa_urls=())
        rig.trust.current = replace(rig.trust.current, signing_config=config)
        result = await rig.sign()
        assert [time.source for time in result.times] == ["rekor"]


@pytest.mark.parametrize("kind", ["tsa", "rekor"])
async def test_a_service_the_trust_root_does_not_name(autojump_clock, tmp_path, kind):
    async with open_rig(tmp_path, "v2") as rig:
        root = rig.trust.current.trusted_root
        root = (
            replace(root, timestamp_authorities=())
            if kind == "tsa"
            else replace(root, tlogs=tuple(log for log in root.tlogs if "v2" not in log.name))
        )
        rig.trust.current = replace(rig.trust.current, trusted_root=root)
        with pytest.raises(ServiceReplyError):
            await rig.sign()


async def test_no_signing_configuration(autojump_clock, tmp_path):
    async with open_rig(tmp_path) as rig:
        rig.trust.current = replace(rig.trust.current, signing_config=None)
        with pytest.raises(NoServiceError):
            await rig.sign()


# --- Fulcio --------------------------------------------------------------------------------


async def test_fulcio_that_fails_twice_is_asked_again(autojump_clock, tmp_path):
    async with open_rig(tmp_path) as rig:
        rig.faults["fulcio"].fail_next(2, Status(503), path="/api/v2/signingCert")
        await rig.sign()


async def test_fulcio_without_a_configuration_is_used_all_the_same(autojump_clock, tmp_path):
    async with open_rig(tmp_path) as rig:
        rig.faults["fulcio"].fail(Status(404), path="/api/v2/configuration")
        await rig.sign()
        await rig.sign(b"2")
        assert rig.faults["fulcio"].seen("/api/v2/configuration") == 1


@pytest.mark.parametrize("fault", [Garbage(), Garbage(b"{}"), Endless()], ids=repr)
async def test_fulcio_that_answers_nonsense(autojump_clock, tmp_path, fault):
    async with open_rig(tmp_path) as rig:
        rig.faults["fulcio"].fail(fault, path="/api/v2/signingCert")
        with pytest.raises(ServiceReplyError):
            await rig.sign()
        assert rig.entries == 0


async def test_a_detached_sct_is_refused(autojump_clock, tmp_path):
    body = {"signedCertificateDetachedSct": {"chain": {"certificates": ["x"]}}}
    async with open_rig(tmp_path) as rig:
        rig.faults["fulcio"].fail(Garbage(json.dumps(body).encode()), path="/api/v2/signingCert")
        with pytest.raises(ServiceReplyError, match="detached SCT"):
            await rig.sign()


async def test_wrong_audience_is_found_before_fulcio_sees_the_token(autojump_clock, tmp_path):
    async with open_rig(tmp_path) as rig:
        with pytest.raises(TokenError) as caught:
            await rig.sign(token=rig.token(audience="other"))
        assert caught.value.code == "token_audience"
        assert rig.faults["fulcio"].seen("/api/v2/signingCert") == 0


async def test_unverified_email_is_found_before_fulcio_sees_the_token(autojump_clock, tmp_path):
    async with open_rig(tmp_path) as rig:
        with pytest.raises(TokenError) as caught:
            await rig.sign(token=rig.token(email_verified=False))
        assert caught.value.code == "token_unverified_email"
        assert rig.faults["fulcio"].seen("/api/v2/signingCert") == 0


async def test_an_unknown_issuer_is_told_which_are_known(autojump_clock, tmp_path):
    async with (
        open_rig(tmp_path) as rig,
        open_rig(
            tmp_path / "other", urls={**rig.sigstore.urls, "oidc": "http://foreign.test"}
        ) as other,
    ):
        with pytest.raises(TokenError) as caught:
            await rig.sign(token=other.token())
        assert caught.value.code == "token_rejected"
        assert "http://foreign.test" in caught.value.message
        assert rig.sigstore.urls["oidc"] in caught.value.message


async def test_a_clock_that_is_slow_is_named(autojump_clock, tmp_path):
    async with open_rig(tmp_path) as rig:
        token = rig.token(lifetime=timedelta(seconds=60))
        await trio.sleep(100)
        rig.clock.offset = timedelta(seconds=-90)
        date = (datetime(2026, 3, 1, 12, tzinfo=UTC) + timedelta(seconds=100)).strftime(
            "%a, %d %b %Y %H:%M:%S GMT"
        )
        app = rig.sigstore.apps["fulcio"]

        async def dated(scope, receive, send):
            async def add(message):
                if message["type"] == "http.response.start":
                    headers = [*message["headers"], (b"date", date.encode())]
                    message = {**message, "headers": headers}
                await send(message)

            await app(scope, receive, add)

        rig.sigstore.apps["fulcio"] = dated
        rig.faults["fulcio"].fail(
            Status(400, b'{"code":3,"message":"There was an error processing the identity token"}'),
            path="/api/v2/signingCert",
        )
        with pytest.raises(TokenError) as caught:
            await rig.sign(token=token)
        assert caught.value.code == "token_rejected"
        assert "expired 40 s ago" in caught.value.message
        assert "90 s behind" in caught.value.message


# --- who leaves early ----------------------------------------------------------------------


async def test_a_client_that_leaves_before_the_signature_costs_nothing(autojump_clock, tmp_path):
    async with open_rig(tmp_path) as rig:
        rig.faults["fulcio"].fail(Delay(5), path="/api/v2/signingCert")
        with trio.move_on_after(2):
            await rig.sign()
        assert rig.entries == 0
        assert [record.get("result") for record in rig.ledger()] == [None, "cancelled"]


@BOTH_LOGS
async def test_a_client_that_leaves_after_the_post_leaves_a_finished_record(
    autojump_clock, tmp_path, log
):
    async with open_rig(tmp_path, log.rekor) as rig:
        rig.faults[log.service].fail(Delay(20), path=log.path)
        with trio.move_on_after(2) as leaving:
            await rig.sign()
        assert leaving.cancel_called
        assert rig.entries == 1
        [outcome] = ledger_outcomes(rig)
        assert outcome["result"] == "ok"
        assert outcome["entries"][0]["log_index"] in (0, INDEX_OFFSET)
        # Nothing of the key is held by the one who left.
        assert [slot.signatures for slot in rig.house.ring.slots()] == [1]


async def test_a_forced_stop_cuts_what_is_under_way(autojump_clock, tmp_path):
    async with open_rig(tmp_path, "v2") as rig:
        rig.faults["rekor-v2"].fail(Delay(45))

        async def cut() -> None:
            await trio.sleep(3)
            assert rig.house.sign.cut() == 1

        async with trio.open_nursery() as nursery:
            nursery.start_soon(cut)
            began = trio.current_time()
            with pytest.raises(ShuttingDownError):
                await rig.sign()
            assert trio.current_time() - began < 4
        [outcome] = ledger_outcomes(rig)
        assert (outcome["result"], outcome["code"]) == ("failed", "shutting_down")


@BOTH_LOGS
async def test_an_entry_that_a_log_gave_is_recorded_whatever_happens_then(
    autojump_clock, tmp_path, log
):
    async with open_rig(tmp_path, log.rekor) as rig:
        rig.faults["tsa"].fail(Delay(60))

        async def cut() -> None:
            await trio.sleep(10)
            rig.house.sign.cut()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(cut)
            with pytest.raises(DaemonError):
                await rig.sign()
        [outcome] = ledger_outcomes(rig)
        assert outcome["result"] == "failed"
        assert [entry["log_index"] for entry in outcome["entries"]] in ([0], [INDEX_OFFSET])


@pytest.mark.parametrize(
    ("inner", "facts"),
    [
        ([ShuttingDownError("x")], {"result": "failed", "code": "shutting_down"}),
        ([ShuttingDownError("x"), KeyError("x")], {"result": "failed", "code": "internal"}),
        ([CallAbandonedError("x")], {"result": "failed", "code": "shutting_down"}),
        (
            [ExceptionGroup("", [ServiceUnavailableError("rekor", "x")])],
            {"result": "failed", "code": "service_unavailable", "service": "rekor"},
        ),
    ],
    ids=["error", "fault", "abandoned", "nested"],
)
def test_a_group_of_errors_is_recorded_as_its_worst(inner, facts):
    assert Report().failure(ExceptionGroup("", inner)) == facts


async def test_a_group_of_cancellations_is_one(autojump_clock):
    report: dict[str, object] = {}

    async def work() -> None:
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(trio.sleep_forever)
                nursery.start_soon(trio.sleep_forever)
        except BaseException as exc:
            report.update(Report().failure(exc))
            raise

    with trio.move_on_after(1):
        await work()
    assert report == {"result": "cancelled"}


# --- idempotency ---------------------------------------------------------------------------


async def test_the_same_key_gets_the_same_bundle(autojump_clock, tmp_path):
    async with open_rig(tmp_path) as rig:
        first = await rig.sign(idempotency_key="k")
        again = await rig.sign(idempotency_key="k")
        assert again.bundle == first.bundle
        assert rig.entries == 1


async def test_the_same_key_in_flight_is_one_request(autojump_clock, tmp_path):
    async with open_rig(tmp_path) as rig:
        bundles: set[bytes] = set()

        async def one() -> None:
            bundles.add((await rig.sign(idempotency_key="k")).bundle)

        async with trio.open_nursery() as nursery:
            for _ in range(10):
                nursery.start_soon(one)
        assert len(bundles) == rig.entries == 1


async def test_who_comes_back_after_a_lost_connection_meets_its_own_entry(autojump_clock, tmp_path):
    async with open_rig(tmp_path, "v2") as rig:
        rig.faults["rekor-v2"].fail(Delay(20))
        with trio.move_on_after(2):
            await rig.sign(idempotency_key="k")
        await rig.sign(idempotency_key="k")
        assert rig.entries == 1


@pytest.mark.parametrize(
    "change", [{"data": b"other"}, {"reuse": "never"}], ids=["digest", "parameter"]
)
async def test_the_same_key_for_something_else_is_a_conflict(autojump_clock, tmp_path, change):
    async with open_rig(tmp_path) as rig:
        await rig.sign(idempotency_key="k")
        with pytest.raises(DaemonError) as caught:
            await rig.sign(idempotency_key="k", **change)
        assert caught.value.code == "idempotency_conflict"


async def test_keys_of_another_owner_and_another_identity_are_others(autojump_clock, tmp_path):
    from ops_rig import Owner

    async with open_rig(tmp_path) as rig:
        first = await rig.sign(idempotency_key="k")
        other = await rig.sign(idempotency_key="k", owner=Owner(1001))
        assert other.bundle != first.bundle
        with pytest.raises(DaemonError) as caught:
            await rig.sign(idempotency_key="k", token=rig.token(email="eve@example.org"))
        assert caught.value.code == "idempotency_conflict"


async def test_a_failure_is_not_remembered(autojump_clock, tmp_path):
    async with open_rig(tmp_path) as rig:
        rig.faults["rekor-v2"].fail_next(1, Status(400))
        with pytest.raises(ServiceRefusedError):
            await rig.sign(idempotency_key="k")
        await rig.sign(idempotency_key="k")


# --- secrets -------------------------------------------------------------------------------


async def test_no_token_in_ledger_progress_or_errors(autojump_clock, tmp_path, caplog):
    async with open_rig(tmp_path) as rig:
        token = rig.token()
        shown: list[str] = []
        await rig.sign(token=token)
        rig.faults["fulcio"].fail(Status(400, b"identity token"), path="/api/v2/signingCert")
        with pytest.raises(DaemonError) as caught:
            await rig.sign(token=token, reuse="never")
        shown += [str(caught.value), repr(caught.value.details), repr(rig.events), caplog.text]
        shown += [path.read_text() for path in tmp_path.iterdir()]
        assert token.reveal()[:40] not in "".join(shown)


async def test_full_disk_asks_nobody_and_is_over_with_it(autojump_clock, tmp_path, monkeypatch):
    def full_disk(fd, data):
        raise OSError(errno.ENOSPC, "No space left on device")

    async with open_rig(tmp_path, "v2") as rig:
        with monkeypatch.context() as patch:
            patch.setattr(os, "write", full_disk)
            for _ in range(3):
                with pytest.raises(DaemonError, match="No space left on device") as caught:
                    await rig.sign()
                assert caught.value.code == "ledger_unavailable"
                assert caught.value.retryable
        assert (rig.certificates, rig.entries) == (0, 0)
        await rig.sign()
        assert (rig.certificates, rig.entries) == (1, 1)
