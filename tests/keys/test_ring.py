"""Who gets which slot: single flight, renewal, eviction, dropping. Slots are made by a fake."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from functools import partial

import pytest
import trio

from keylessd.core.certificate import Signer
from keylessd.core.digests import HashAlgorithm, digest_of
from keylessd.errors import ServiceUnavailableError
from keylessd.identity.token import IdentityToken
from keylessd.keys.issue import IssueRequest
from keylessd.keys.ring import KeyRing, SlotRequest
from keylessd.keys.slot import EphemeralKey, KeySlot
from keylessd.secret import Secret
from ops_rig import EPOCH, TrioClock

MARGIN = timedelta(seconds=60)
DIGEST = digest_of(HashAlgorithm.SHA256, b"")
TOKEN = IdentityToken(
    raw=Secret("t"),
    sha256=b"t" * 32,
    issuer="https://issuer.example",
    subject="ada",
    email=None,
    email_verified=False,
    audience=("sigstore",),
    expires=EPOCH + timedelta(days=1),
    issued=None,
    federated_issuer=None,
    claims={},
)
REQUEST = SlotRequest(
    owner_uid=1000,
    instance="sandbox",
    trust_version="v",
    issue=IssueRequest("https://ca.example", None, TOKEN, HashAlgorithm.SHA256),  # type: ignore[arg-type]
)


class Issuer:
    """Makes certificates of ten minutes in one second."""

    def __init__(self, clock: TrioClock, certificate) -> None:
        self.clock = clock
        self.certificate = certificate
        self.issued = 0
        self.error: Exception | None = None

    async def issue(self, request: IssueRequest) -> KeySlot:
        await trio.sleep(1)
        if self.error is not None:
            raise self.error
        self.issued += 1
        now = self.clock.now()
        slot = KeySlot(
            EphemeralKey(request.algorithm),
            self.certificate,
            Signer(request.token.subject, "uri", request.token.issuer, {}),
        )
        slot.not_before, slot.not_after = now, now + timedelta(minutes=10)
        return slot


@pytest.fixture(scope="module")
def certificate():
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(x509.Name([]))
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(EPOCH)
        .not_valid_after(EPOCH + timedelta(minutes=10))
        .sign(key, hashes.SHA256())
    )


class Bench:
    def __init__(self, certificate, nursery, **options) -> None:
        clock = TrioClock()
        self.issuer = Issuer(clock, certificate)
        self.ring = KeyRing(self.issuer, clock=clock, nursery=nursery, **options)  # type: ignore[arg-type]

    async def use(self, request: SlotRequest = REQUEST, reuse="window") -> KeySlot:
        slot, _ = await self.ring.acquire(request, reuse=reuse, margin=MARGIN)
        slot.sign_digest(DIGEST)
        self.ring.release(slot)
        return slot


async def test_many_at_once_share_one_flight(autojump_clock, certificate):
    async with trio.open_nursery() as nursery:
        bench = Bench(certificate, nursery)
        async with trio.open_nursery() as users:
            for _ in range(100):
                users.start_soon(bench.use)
        assert bench.issuer.issued == 1


async def test_whoever_asked_first_may_leave(autojump_clock, certificate):
    async with trio.open_nursery() as nursery:
        bench = Bench(certificate, nursery)

        async def impatient() -> None:
            with trio.move_on_after(0.5):
                await bench.use()

        async with trio.open_nursery() as users:
            users.start_soon(impatient)
            users.start_soon(bench.use)
        assert bench.issuer.issued == 1


CHANGES = {
    "owner": replace(REQUEST, owner_uid=1001),
    "trust": replace(REQUEST, trust_version="w"),
    "ca": replace(REQUEST, issue=replace(REQUEST.issue, ca_url="https://other.example")),
    "token": replace(REQUEST, issue=replace(REQUEST.issue, token=replace(TOKEN, sha256=b"u" * 32))),
    "issuer": replace(REQUEST, issue=replace(REQUEST.issue, token=replace(TOKEN, issuer="x"))),
    "subject": replace(REQUEST, issue=replace(REQUEST.issue, token=replace(TOKEN, subject="x"))),
    "hash": replace(REQUEST, issue=replace(REQUEST.issue, algorithm=HashAlgorithm.SHA384)),
}


@pytest.mark.parametrize("other", CHANGES.values(), ids=CHANGES.keys())
async def test_whoever_differs_in_anything_has_another_slot(autojump_clock, certificate, other):
    async with trio.open_nursery() as nursery:
        bench = Bench(certificate, nursery)
        first, _ = await bench.ring.acquire(REQUEST, reuse="window", margin=MARGIN)
        second, reused = await bench.ring.acquire(other, reuse="window", margin=MARGIN)
        assert first is not second
        assert not reused


async def test_margin_to_the_second(autojump_clock, certificate):
    for margin, same in ((timedelta(seconds=539), True), (timedelta(seconds=540), False)):
        async with trio.open_nursery() as nursery:
            bench = Bench(certificate, nursery)
            first, _ = await bench.ring.acquire(REQUEST, reuse="window", margin=margin)
            await trio.sleep(60)
            second, _ = await bench.ring.acquire(REQUEST, reuse="window", margin=margin)
            assert (first is second) is same


async def test_one_renews_and_the_others_go_on_with_the_old(autojump_clock, certificate):
    async with trio.open_nursery() as nursery:
        bench = Bench(certificate, nursery)
        old = await bench.use()
        await trio.sleep(8.5 * 60)
        used: list[KeySlot] = []

        async def one() -> None:
            used.append(await bench.use())

        async with trio.open_nursery() as users:
            for _ in range(10):
                users.start_soon(one)
        assert bench.issuer.issued == 2
        assert used.count(old) == 9
        assert old.is_destroyed  # nobody holds it any more
        assert await bench.use() is not old


async def test_an_old_slot_in_use_keeps_its_key_until_it_is_given_back(autojump_clock, certificate):
    async with trio.open_nursery() as nursery:
        bench = Bench(certificate, nursery)
        old, _ = await bench.ring.acquire(REQUEST, reuse="window", margin=MARGIN)
        await trio.sleep(8.5 * 60)
        await bench.use()
        old.sign_digest(DIGEST)
        bench.ring.release(old)
        assert old.is_destroyed


async def test_a_failed_renewal_is_not_tried_again_at_once(autojump_clock, certificate):
    async with trio.open_nursery() as nursery:
        bench = Bench(certificate, nursery)
        old = await bench.use()
        await trio.sleep(8.2 * 60)
        bench.issuer.error = ServiceUnavailableError("fulcio", "down")
        began = trio.current_time()
        assert await bench.use() is old
        assert await bench.use() is old
        assert trio.current_time() - began == pytest.approx(1)


async def test_a_failure_is_everybodys_and_is_not_kept(autojump_clock, certificate):
    async with trio.open_nursery() as nursery:
        bench = Bench(certificate, nursery)
        bench.issuer.error = ServiceUnavailableError("fulcio", "down")
        with pytest.raises(ServiceUnavailableError):
            await bench.use()
        bench.issuer.error = None
        await bench.use()


async def test_never_is_alone_and_leaves_nothing(autojump_clock, certificate):
    async with trio.open_nursery() as nursery:
        bench = Bench(certificate, nursery)
        slot = await bench.use(reuse="never")
        assert slot.is_destroyed
        assert bench.ring.slots() == []
        assert await bench.use(reuse="never") is not slot


async def test_the_slot_not_used_for_longest_is_evicted(autojump_clock, certificate):
    async with trio.open_nursery() as nursery:
        bench = Bench(certificate, nursery, capacity=2)
        first, second, third = (replace(REQUEST, owner_uid=uid) for uid in (1, 2, 3))
        one = await bench.use(first)
        two = await bench.use(second)
        await bench.use(first)
        await bench.use(third)
        assert two.is_destroyed
        assert not one.is_destroyed
        assert len(bench.ring.slots()) == 2


async def test_drop_all_also_reaches_keys_in_use_and_on_their_way(autojump_clock, certificate):
    async with trio.open_nursery() as nursery:
        bench = Bench(certificate, nursery)
        held, _ = await bench.ring.acquire(REQUEST, reuse="window", margin=MARGIN)
        other = replace(REQUEST, owner_uid=1)
        on_its_way: list[KeySlot] = []

        async def ask() -> None:
            on_its_way.append((await bench.ring.acquire(other, reuse="window", margin=MARGIN))[0])

        nursery.start_soon(ask)
        await trio.sleep(0.5)
        assert bench.ring.drop_all() == 1
        assert held.is_destroyed
        await trio.sleep(5)
        assert [slot.is_destroyed for slot in on_its_way] == [True]
        assert bench.ring.slots() == []


async def test_drop_all_reaches_keys_that_are_given_out_no_more(autojump_clock, certificate):
    async with trio.open_nursery() as nursery:
        bench = Bench(certificate, nursery)
        alone, _ = await bench.ring.acquire(REQUEST, reuse="never", margin=MARGIN)
        old, _ = await bench.ring.acquire(REQUEST, reuse="window", margin=MARGIN)
        await trio.sleep(9 * 60)
        new, _ = await bench.ring.acquire(REQUEST, reuse="window", margin=MARGIN)
        assert old is not new
        assert bench.ring.drop_all() == 3
        assert [slot.is_destroyed for slot in (alone, old, new)] == [True] * 3
        assert bench.ring.drop_all() == 0  # they are still in use, and no keys any more
        for slot in (alone, old, new):
            bench.ring.release(slot)
        assert bench.ring.drop_all() == 0


@pytest.mark.parametrize("reuse", ["window", "never"])
async def test_a_key_on_its_way_while_all_are_dropped_is_dropped(
    autojump_clock, certificate, reuse
):
    async with trio.open_nursery() as nursery:
        bench = Bench(certificate, nursery)
        nursery.start_soon(partial(_drop_after, 0.5, bench))
        slot, _ = await bench.ring.acquire(REQUEST, reuse=reuse, margin=MARGIN)
        assert slot.is_destroyed
        bench.ring.release(slot)
        assert not (await bench.ring.acquire(REQUEST, reuse=reuse, margin=MARGIN))[0].is_destroyed


async def _drop_after(seconds: float, bench: Bench) -> None:
    await trio.sleep(seconds)
    bench.ring.drop_all()


async def test_a_clock_set_back_makes_the_slot_unusable(autojump_clock, certificate):
    async with trio.open_nursery() as nursery:
        bench = Bench(certificate, nursery)
        old = await bench.use()
        bench.issuer.clock.offset = timedelta(hours=-1)
        assert await bench.use() is not old


async def test_sweep_takes_what_has_ended(autojump_clock, certificate):
    async with trio.open_nursery() as nursery:
        bench = Bench(certificate, nursery)
        slot = await bench.use()
        nursery.start_soon(bench.ring.run)
        await trio.sleep(9 * 60)
        assert len(bench.ring.slots()) == 1
        await trio.sleep(2 * 60)
        assert bench.ring.slots() == []
        assert slot.is_destroyed
        nursery.cancel_scope.cancel()


async def test_the_keys_of_one_identity_are_forgotten(autojump_clock, certificate):
    async with trio.open_nursery() as nursery:
        bench = Bench(certificate, nursery)
        mine = await bench.use()
        others = [
            replace(REQUEST, owner_uid=1001),
            replace(REQUEST, issue=replace(REQUEST.issue, token=replace(TOKEN, subject="bob"))),
            replace(
                REQUEST, issue=replace(REQUEST.issue, token=replace(TOKEN, issuer="https://x"))
            ),
        ]
        kept = [await bench.use(request) for request in others]
        assert bench.ring.forget(1000, issuer=TOKEN.issuer, identity="ada") == 1
        assert mine.is_destroyed
        assert not any(slot.is_destroyed for slot in kept)
        assert bench.ring.forget(1000, issuer=TOKEN.issuer, identity="ada") == 0
        assert await bench.use() is not mine


async def test_a_forgotten_key_in_use_is_used_to_its_end(autojump_clock, certificate):
    async with trio.open_nursery() as nursery:
        bench = Bench(certificate, nursery)
        slot, _ = await bench.ring.acquire(REQUEST, reuse="window", margin=MARGIN)
        bench.ring.forget(1000, issuer=TOKEN.issuer, identity="ada")
        slot.sign_digest(DIGEST)
        bench.ring.release(slot)
        assert slot.is_destroyed
