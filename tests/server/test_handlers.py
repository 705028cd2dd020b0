"""Every operation from the client's bytes to the house and back, the house being a fake."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
import trio
from trio.testing import memory_stream_pair

from keyless.wire import Event, Failure, Reply
from keylessd.core.certificate import Signer
from keylessd.core.digests import Digest, HashAlgorithm
from keylessd.core.inspection import Inspection
from keylessd.core.legacy import Detached
from keylessd.core.sct import VerifiedSct
from keylessd.core.statement import build_statement, parse_statement
from keylessd.core.verify import Verified, VerifiedEntry, VerifiedTime
from keylessd.errors import StepReport
from keylessd.identity.keep import SessionKey
from keylessd.identity.session_facts import Ended
from keylessd.identity.source import AmbientGrant
from keylessd.keys.ring import SlotStatus
from keylessd.ops.login import LoginOrder
from keylessd.ops.owner import Owner
from keylessd.ops.request import AttestRequest, Progress, SignRequest, SignResult
from keylessd.ops.status import WhoAmI
from keylessd.policy.peers import Peer
from keylessd.secret import Secret
from keylessd.server.dispatch import Count, Dispatcher
from keylessd.server.files import FileCache
from keylessd.server.handlers import BATCH_PREDICATE_TYPE, MAX_LEDGER_BYTES, Handlers
from keylessd.server.limits import ByteBudget, Holder
from keylessd.server.session import Session
from keylessd.settings import Settings, SettingsError, Timeouts
from keylessd.trust.status import InstanceStatus
from keylessd.trust.where import Where
from wirepeer import WirePeer

if TYPE_CHECKING:
    from keylessd.ops.verify import VerifyRequest
    from keylessd.server.identity_handlers import Asked

UID = 1000
AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
EPOCH = int(AT.timestamp())
ENTRY = VerifiedEntry("log", 7, "hashedrekord", "0.0.2", None)
OLD_ENTRY = VerifiedEntry("old log", 8, "hashedrekord", "0.0.1", AT)
TIME = VerifiedTime(AT, "tsa", "https://tsa")
SIGNER = Signer("me@example.com", "email", "https://issuer", {"issuer": "https://issuer"})
SIGN = {"digest": {"alg": "sha256", "value": b"\x01" * 32}}
VERIFY = {
    "digests": {"sha256": b"\x01" * 32},
    "accepted": [{"identity": "me@example.com", "issuer_regexp": "https://.*"}],
}
SESSION = WhoAmI(
    identity="me@example.com",
    issuer="https://issuer",
    source="session",
    instance="public",
    expires=AT,
    state="degraded",
    reason="the issuer is down",
    ends=AT,
    prompt_due=AT,
    last_used=AT,
    is_renewable=True,
    is_default=True,
)
SESSION_ROW = {
    "identity": "me@example.com",
    "issuer": "https://issuer",
    "source": "session",
    "instance": "public",
    "expires": EPOCH,
    "state": "degraded",
    "reason": "the issuer is down",
    "ends": EPOCH,
    "prompt_due": EPOCH,
    "last_used": EPOCH,
    "renewable": True,
    "default": True,
}
ROOT = b"{}"
SHA = hashlib.sha256(ROOT).digest()


class FakeHouse:
    """Records what it was asked, and answers with fixed facts."""

    def __init__(self) -> None:
        self.asked: list[object] = []
        self.records: tuple[bytes, ...] = (b'{"n":1}\n', b'{"n":2}\n')
        self.key_only = False
        self.sign = self.verify = self.status = self.ledger = self

    # SignOps is asked by attribute `sign` of the house, which is this object again.
    async def __call__(self, request: SignRequest, progress: Progress) -> SignResult:
        return await self.attest(request, progress)

    async def attest(self, request: SignRequest | AttestRequest, progress: Progress) -> SignResult:
        self.asked.append(request)
        progress("certificate", {"instance": "public"})
        statement = getattr(request, "statement", None)
        return SignResult(
            bundle=b"{bundle}",
            identity="me@example.com",
            identity_kind="email",
            issuer="https://issuer",
            entries=(ENTRY, OLD_ENTRY),
            times=(TIME,),
            certificate_serial="0a",
            not_before=AT,
            not_after=AT,
            certificate_reused=True,
            statement=statement,
            predicate_type=None if statement is None else parse_statement(statement).predicate_type,
            instance="public",
        )

    async def statement(self, subjects, predicate_type: str, predicate: bytes) -> bytes:
        return build_statement(subjects, predicate_type, predicate)

    async def check(self, request: VerifyRequest) -> Verified:
        self.asked.append(request)
        return Verified(
            signer=None if self.key_only else SIGNER,
            key_sha256="ab" if self.key_only else None,
            times=(TIME,),
            entries=(ENTRY,),
            scts=(VerifiedSct("https://ct", AT, "", bytes(32)),),
            digest=Digest(HashAlgorithm.SHA256, b"\x01" * 32),
            statement=b"{}" if self.key_only else None,
            predicate_type="https://t" if self.key_only else None,
            certificate=None,
            steps=("bundle", "signature"),
            form="0.3",
            omitted=(),
            report=(StepReport("bundle", ("one", "two")),) if request.options.explain else (),
        )

    async def inspect(self, bundle: bytes | None, detached: Detached) -> Inspection:
        self.asked.append((bundle, detached))
        return Inspection(None if bundle == b"bad" else "0.3", b'{"verified":false}')

    def slots(self, owner: Owner) -> list[SlotStatus]:
        self.asked.append(owner)
        return [SlotStatus(UID, "me@example.com", "https://issuer", "public", AT, 3)]

    def queued(self) -> int:
        return 0

    def ledger_failures(self) -> int:
        return 0

    async def whoami(self, asking: Asked) -> list[WhoAmI]:
        self.asked.append(asking)
        return [WhoAmI("me@example.com", "https://issuer", "request", "public", AT)]

    async def sessions(self, owner: Owner) -> list[WhoAmI]:
        self.asked.append(owner)
        return [SESSION]

    def held(self, owner: Owner) -> list[WhoAmI]:
        assert owner.groups == {UID}
        return []

    def session(self, status: object) -> WhoAmI:
        self.asked.append(status)
        return SESSION

    def is_locked(self, owner: Owner) -> bool:
        self.asked.append(owner)
        return True

    async def login(self, order: LoginOrder, tell: Progress) -> object:
        self.asked.append(order)
        tell("open_url", {"url": "https://issuer/auth"})
        return "status"

    def login_code(self, owner: Owner, login: str, code: Secret) -> None:
        self.asked.append((owner, login, code))

    async def logout(self, owner: Owner, **choice: object) -> list[Ended]:
        self.asked.append((owner, choice))
        key = SessionKey(UID, "public", "https://issuer", "sigstore", "me@example.com")
        return [Ended(key, revoked=False, reason="no way to revoke")]

    async def lock(self, owner: Owner, passphrase: bytes) -> None:
        self.asked.append((owner, passphrase))

    async def unlock(self, owner: Owner, passphrase: bytes, *, connection: int) -> None:
        self.asked.append((owner, passphrase, connection))

    def read(self, limit: int) -> tuple[bytes, ...]:
        self.asked.append(limit)
        return self.records


def fake_login(fake: FakeHouse) -> SimpleNamespace:
    names = ("login", "login_code", "logout", "lock", "unlock", "is_locked")
    return SimpleNamespace(**{name: getattr(fake, name) for name in names})


class FakeTrust:
    default = "public"

    def __init__(self) -> None:
        self.refreshed: list[str] = []

    async def refresh(self, instance: str) -> None:
        self.refreshed.append(instance)

    def status(self) -> list[InstanceStatus]:
        return [
            InstanceStatus("public", "tuf", "https://tuf", "fresh", "v1", AT, AT),
            InstanceStatus("corp", "files", "/f", "unavailable", error="no file"),
        ]


class FakeDaemon:
    version, pid, started, uptime_seconds, socket, connections = "1", 7, EPOCH, 5, "/s", 2

    def __init__(self) -> None:
        self.settings = Settings(reuse="never")
        self.counts = {"sign": Count(ok=2, failed=1), "verify": Count()}
        self.reloads = 0
        self.problem: Exception | None = None

    async def reload(self) -> None:
        self.reloads += 1
        if self.problem is not None:
            raise self.problem


class Lab(SimpleNamespace):
    house: FakeHouse
    trust: FakeTrust
    daemon: FakeDaemon
    peer: WirePeer


@asynccontextmanager
async def lab() -> AsyncIterator[Lab]:
    fake, trust, daemon = FakeHouse(), FakeTrust(), FakeDaemon()
    house = SimpleNamespace(
        sign=SimpleNamespace(sign=fake, attest=fake.attest, statement=fake.statement),
        verify=SimpleNamespace(verify=fake.check, inspect=fake.inspect),
        status=fake,
        login=fake_login(fake),
        ledger=fake,
    )
    handlers = Handlers(house, trust=trust, files=FileCache(1000), daemon=daemon)  # type: ignore[arg-type]
    dispatcher = Dispatcher(handlers.table(), own_uid=UID)
    ours, theirs = memory_stream_pair()

    async def answer(request: object, progress: Progress) -> Reply | Failure:
        peer = Peer(uid=UID, gid=UID, pid=9, connection=3)
        return await dispatcher.answer(peer, request, progress)  # type: ignore[arg-type]

    session = Session(
        ours,
        answer,
        timeouts=Timeouts(),
        agent="t",
        holder=Holder(UID, 9),
        budget=ByteBudget(64),
        max_in_flight=8,
    )
    async with trio.open_nursery() as nursery:
        nursery.start_soon(session.run)
        it = Lab(house=fake, trust=trust, daemon=daemon, peer=WirePeer(theirs))
        await it.peer.hello()
        yield it
        nursery.cancel_scope.cancel()


async def test_status(autojump_clock: object) -> None:
    async with lab() as it:
        body = (await it.peer.ask("status")).body

        assert (body["version"], body["pid"], body["reuse"]) == ("1", 7, "never")
        assert body["requests"] == {"sign": {"ok": 2, "failed": 1}}
        assert body["slots"][0]["not_after"] == EPOCH
        assert [one["state"] for one in body["instances"]] == ["fresh", "unavailable"]
        assert body["sessions"] == [SESSION_ROW]
        assert body["locked"] is True
        assert it.house.asked == [Owner(UID)] * 3


async def test_what_the_daemon_holds_stands_beside_the_sessions(autojump_clock: object) -> None:
    async with lab() as it:
        one = WhoAmI(
            "", "", "google-metadata", "", state="degraded", reason="no answer", name="machine"
        )
        it.house.held = lambda owner: [one]  # type: ignore[method-assign]
        status = (await it.peer.ask("status")).body
        assert status["sessions"] == [
            SESSION_ROW,
            {
                "identity": "",
                "issuer": "",
                "source": "google-metadata",
                "state": "degraded",
                "reason": "no answer",
                "name": "machine",
            },
        ]


async def test_the_largest_status_fits(autojump_clock: object) -> None:
    async with lab() as it:
        key = "\U0001f511"
        slots = [SlotStatus(UID, key * 5000, key * 9, f"i{n}", AT, n) for n in range(256)]
        it.house.slots = lambda owner: slots  # type: ignore[method-assign]
        session = replace(SESSION, identity=key * 5000, issuer=key * 9, reason=key * 5000)

        async def sessions(owner: Owner) -> list[WhoAmI]:
            return [session] * 100

        it.house.sessions = sessions  # type: ignore[method-assign]
        instance = InstanceStatus("n" * 64, "tuf", "u" * 9000, "stale", "v", AT, AT, key * 9000)
        it.trust.status = lambda: [instance] * 100  # type: ignore[method-assign]
        for op in ("status", "trust_status"):
            reply = await it.peer.ask(op)
            assert isinstance(reply, Reply)
            assert len(reply.body["instances"]) >= 1
        status = (await it.peer.ask("status")).body
        assert [slot["signatures"] for slot in status["slots"]][-1] == 255


@pytest.mark.parametrize("count", [64, 65, 100])
async def test_a_status_of_many_small_instances(autojump_clock: object, count: int) -> None:
    async with lab() as it:
        one = InstanceStatus("n", "tuf", "u", "unused")
        it.trust.status = lambda: [one] * count  # type: ignore[method-assign]

        assert len((await it.peer.ask("status")).body["instances"]) == 64


async def test_sign(autojump_clock: object) -> None:
    async with lab() as it:
        where = {"trusted_root": SHA, "fulcio_url": "https://f"}
        reply = await it.peer.ask(
            "sign",
            {**SIGN, "where": where, "idempotency_key": "k", "name": "n"},
            {"identity_token": b"tok\n", "trusted_root": ROOT},
        )
        (request,) = it.house.asked

        assert reply.attachments == {"bundle": b"{bundle}"}
        assert reply.body["certificate"] == {
            "serial": "0a",
            "not_before": EPOCH,
            "not_after": EPOCH,
            "reused": True,
        }
        assert reply.body["times"] == [{"time": EPOCH, "source": "tsa", "authority": "https://tsa"}]
        assert [entry.get("integrated_time") for entry in reply.body["entries"]] == [None, EPOCH]
        assert request.owner == Owner(UID)
        assert request.token.reveal() == "tok"
        assert request.where.trusted_root == ROOT
        assert request.where.urls.fulcio == "https://f"
        assert (request.idempotency_key, request.name) == ("k", "n")
        assert request.digest == Digest(HashAlgorithm.SHA256, b"\x01" * 32)


@pytest.mark.parametrize(("asked", "used"), [(None, "never"), ("window", "window")])
async def test_reuse_is_the_requests_or_that_of_the_settings_in_force(
    autojump_clock: object, asked: str | None, used: str
) -> None:
    async with lab() as it:
        await it.peer.ask("sign", SIGN if asked is None else {**SIGN, "reuse": asked})

        assert it.house.asked[0].reuse == used


async def test_progress_is_an_event(autojump_clock: object) -> None:
    async with lab() as it:
        await it.peer.send("sign", {**SIGN, "progress": True})
        event, reply = await it.peer.receive(), await it.peer.receive()

        assert isinstance(event, Event)
        assert event.body == {"step": "certificate", "instance": "public"}
        assert isinstance(reply, Reply)


async def test_batch_becomes_one_statement(autojump_clock: object) -> None:
    async with lab() as it:
        lines = f"{'ab' * 32}  a\n{'cd' * 32}  b\n".encode()
        reply = await it.peer.ask("sign_batch", {}, {"subjects": lines})
        statement = parse_statement(it.house.asked[0].statement)

        assert reply.body["subjects"] == 2
        assert statement.predicate_type == BATCH_PREDICATE_TYPE
        assert [subject.name for subject in statement.subjects] == ["a", "b"]


async def test_statement_is_signed_byte_for_byte(autojump_clock: object) -> None:
    statement = (
        b'{ "_type":"https://in-toto.io/Statement/v1","subject":[{"name":"a","digest":'
        b'{"sha256":"' + b"ab" * 32 + b'"}}],"predicateType":"https://t","predicate":{}}'
    )
    async with lab() as it:
        reply = await it.peer.ask("attest", {}, {"statement": statement})

        assert it.house.asked[0].statement == statement
        assert reply.body["predicate_type"] == "https://t"


async def test_predicate_becomes_a_statement(autojump_clock: object) -> None:
    async with lab() as it:
        subjects = [{"name": "a", "alg": "sha256", "value": bytes(32)}]
        reply = await it.peer.ask(
            "attest",
            {"predicate_type": "https://p", "subjects": subjects},
            {"predicate": b'{"x": 1.50}'},
        )

        assert b'"predicate":{"x": 1.50}' in it.house.asked[0].statement
        assert reply.body["predicate_type"] == "https://p"


async def test_predicate_that_is_no_json(autojump_clock: object) -> None:
    async with lab() as it:
        subjects = [{"name": "a", "alg": "sha256", "value": bytes(32)}]
        body = {"predicate_type": "https://p", "subjects": subjects}
        failure = await it.peer.ask("attest", body, {"predicate": b"{"})

        assert failure.error.code == "invalid_input"


async def test_verify_by_identity(autojump_clock: object) -> None:
    async with lab() as it:
        body = {**VERIFY, "options": {"tlog_threshold": 2}, "predicate_type": "https://t"}
        reply = await it.peer.ask("verify", body, {"bundle": b"{}"})
        (request,) = it.house.asked

        assert reply.body["identity"] == "me@example.com"
        assert reply.body["digest"] == {"alg": "sha256", "value": b"\x01" * 32}
        assert reply.body["scts"] == [{"log": "https://ct", "time": EPOCH}]
        assert reply.attachments == {}
        assert request.accepted[0].issuer_regexp == "https://.*"
        assert (request.options.tlog_threshold, request.predicate_type) == (2, "https://t")
        assert request.key is None


async def test_verify_by_key(autojump_clock: object) -> None:
    async with lab() as it:
        it.house.key_only = True
        body = {"digests": {"sha256": bytes(32)}}
        reply = await it.peer.ask("verify", body, {"bundle": b"{}", "key": b"PEM"})

        assert it.house.asked[0].key == b"PEM"
        assert (reply.body["key_sha256"], reply.body["predicate_type"]) == ("ab", "https://t")
        assert "identity" not in reply.body
        assert reply.attachments == {"statement": b"{}"}


async def test_verify_a_detached_signature(autojump_clock: object) -> None:
    async with lab() as it:
        parts = {"signature": b"s", "certificate": b"c", "certificate_chain": b"h"}
        await it.peer.ask("verify", VERIFY, {**parts, "timestamp": b"t"})
        (request,) = it.house.asked

        assert request.bundle is None
        assert request.detached == Detached(b"s", b"c", b"h", b"t")


async def test_verify_tells_what_each_step_found_if_asked(autojump_clock: object) -> None:
    async with lab() as it:
        silent = await it.peer.ask("verify", VERIFY, {"bundle": b"{}"})
        told = await it.peer.ask("verify", {**VERIFY, "explain": True}, {"bundle": b"{}"})

        assert "report" not in silent.body
        assert told.body["report"] == [{"step": "bundle", "facts": ["one", "two"]}]
        assert (told.body["form"], told.body["omitted"]) == ("0.3", [])


async def test_thresholds_of_a_managed_key(autojump_clock: object) -> None:
    async with lab() as it:
        body = {"digests": {"sha256": bytes(32)}, "options": {"time_threshold": 2}}
        await it.peer.ask("verify", body, {"bundle": b"{}", "key": b"PEM"})
        assert it.house.asked[0].options.managed_time_threshold == 2
        body["options"] = {"sct_threshold": 1}
        failure = await it.peer.ask("verify", body, {"bundle": b"{}", "key": b"PEM"})
        assert failure.error.code == "invalid_input"
        body["options"] = {"sct_threshold": 0, "tlog_threshold": 0}
        await it.peer.ask("verify", body, {"bundle": b"{}", "key": b"PEM"})
        assert it.house.asked[1].options.tlog_threshold == 0


async def test_inspect(autojump_clock: object) -> None:
    async with lab() as it:
        reply = await it.peer.ask("inspect", {}, {"bundle": b"{}"})
        bad = await it.peer.ask("inspect", {}, {"bundle": b"bad", "certificate": b"c"})

        assert reply.body == {"form": "0.3"}
        assert reply.attachments == {"inspection": b'{"verified":false}'}
        assert bad.body == {}
        assert it.house.asked[1] == (b"bad", Detached(certificate=b"c"))


async def test_unknown_file_and_the_second_try(autojump_clock: object) -> None:
    async with lab() as it:
        body = {**VERIFY, "where": {"trusted_root": SHA}}
        failure = await it.peer.ask("verify", body, {"bundle": b"{}"})
        second = await it.peer.ask("verify", body, {"bundle": b"{}", "trusted_root": ROOT})
        third = await it.peer.ask("verify", body, {"bundle": b"{}"})

        assert (failure.error.code, failure.error.details) == (
            "unknown_file",
            {"name": "trusted_root"},
        )
        assert isinstance(second, Reply)
        assert isinstance(third, Reply)


async def test_whoami(autojump_clock: object) -> None:
    grant = {"kind": "github", "url": "https://x", "job": "7", "audience": "corp"}
    async with lab() as it:
        reply = await it.peer.ask(
            "whoami",
            {"identity": "me", "ambient": grant},
            {"identity_token": b"t", "ambient_token": b" s\n"},
        )

        assert reply.body["identities"][0]["expires"] == EPOCH
        (asked,) = it.house.asked
        assert asked.token.reveal() == "t"
        assert asked.identity == "me"
        assert asked.ambient == AmbientGrant(
            "github", Secret("s"), url="https://x", job="7", audience="corp"
        )


@pytest.mark.parametrize("secret", [b"", b" ", b"a b\x00", b"\xff\xfe", b"x" * 70_000, b"a\nb"])
async def test_secrets_that_are_none(autojump_clock: object, secret: bytes) -> None:
    async with lab() as it:
        ambient = {"ambient": {"kind": "github", "url": "https://x"}}
        grant = await it.peer.ask("sign", {**SIGN, **ambient}, {"ambient_token": secret})
        code = await it.peer.ask("login_code", {"login": "x"}, {"code": secret})

        assert (grant.error.code, code.error.code) == ("token_malformed", "token_malformed")
        assert it.house.asked == []


async def test_whose_identity_is_passed_on(autojump_clock: object) -> None:
    async with lab() as it:
        whose = {"identity": "me", "ambient": {"kind": "buildkite", "job": "7"}}
        secrets = {"ambient_token": b"s"}
        await it.peer.ask("sign", {**SIGN, **whose}, secrets)
        await it.peer.ask(
            "sign_batch", whose, {**secrets, "subjects": f"{'ab' * 32}  n\n".encode()}
        )
        for asked in it.house.asked:
            assert asked.identity == "me"
            assert asked.ambient == AmbientGrant("buildkite", Secret("s"), job="7")


async def test_login_and_its_event(autojump_clock: object) -> None:
    async with lab() as it:
        body = {
            "flow": "device",
            "connector": "https://c",
            "identity": "me",
            "client_id": "farm",
            "default": True,
            "where": {"instance": "public"},
        }
        number = await it.peer.send("login", body)
        event, reply = await it.peer.receive(), await it.peer.receive()

        assert event == Event(number, "open_url", {"url": "https://issuer/auth"})
        assert reply == Reply(number, SESSION_ROW)
        order, status = it.house.asked
        assert status == "status"
        assert order == LoginOrder(
            owner=Owner(UID),
            where=Where(instance="public"),
            flow="device",
            connector="https://c",
            identity="me",
            client_id="farm",
            as_default=True,
        )


async def test_the_rest_of_a_login(autojump_clock: object) -> None:
    async with lab() as it:
        await it.peer.ask("login_code", {"login": "x"}, {"code": b" c \n"})
        ended = await it.peer.ask("logout", {"identity": "me", "instance": "public", "all": True})
        await it.peer.ask("lock", {}, {"passphrase": b"pass"})
        await it.peer.ask("unlock", {}, {"passphrase": b"pass"})

        assert ended.body["ended"] == [
            {
                "identity": "me@example.com",
                "issuer": "https://issuer",
                "instance": "public",
                "revoked": False,
                "reason": "no way to revoke",
            }
        ]
        assert it.house.asked == [
            (Owner(UID), "x", Secret("c")),
            (Owner(UID), {"identity": "me", "instance": "public", "everyone": True}),
            (Owner(UID), b"pass"),
            (Owner(UID), b"pass", 3),
        ]


async def test_trust_status_and_refresh(autojump_clock: object) -> None:
    async with lab() as it:
        everything = await it.peer.ask("trust_status")
        one = await it.peer.ask("trust_status", {"instance": "corp"})
        unknown = await it.peer.ask("trust_status", {"instance": "x"})
        await it.peer.ask("trust_refresh")
        await it.peer.ask("trust_refresh", {"instance": "corp"})

        assert [found["name"] for found in everything.body["instances"]] == ["public", "corp"]
        assert one.body["instances"] == [
            {
                "name": "corp",
                "source": "files",
                "url": "/f",
                "state": "unavailable",
                "error": "no file",
            }
        ]
        assert unknown.error.code == "unknown_instance"
        assert it.trust.refreshed == ["public", "corp"]


async def test_ledger(autojump_clock: object) -> None:
    async with lab() as it:
        reply = await it.peer.ask("ledger", {"limit": 5})

        assert it.house.asked == [5]
        assert reply.body["records"] == 2
        assert reply.attachments == {"records": b'{"n":1}\n{"n":2}\n'}


async def test_ledger_keeps_the_newest_of_too_many(autojump_clock: object) -> None:
    async with lab() as it:
        big = b"x" * (MAX_LEDGER_BYTES // 3) + b"\n"
        it.house.records = (b"oldest\n", big, big, b"newest\n", big)
        reply = await it.peer.ask("ledger")

        assert reply.body["records"] == 3
        assert b"oldest" not in reply.attachments["records"]
        assert b"newest" in reply.attachments["records"]


async def test_reload(autojump_clock: object) -> None:
    async with lab() as it:
        good = await it.peer.ask("reload")
        it.daemon.problem = SettingsError("f", 3, "reuse", "is wrong")
        bad = await it.peer.ask("reload")

        assert isinstance(good, Reply)
        assert (bad.error.code, bad.error.message) == ("invalid_input", "f:3: reuse: is wrong")
        assert it.daemon.reloads == 2


def test_the_protocol_promises_as_many_records_as_the_ledger_gives() -> None:
    from keyless.wire._limits import MAX_LEDGER
    from keylessd.ops.ledger import READ_LIMIT

    assert MAX_LEDGER == READ_LIMIT
