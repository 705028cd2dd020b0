"""Whatever several users ask for, in whatever order: nobody uses what belongs to another.

Random histories of the ring and of idempotency together, as ``ops.sign`` composes them: users,
tokens that claim the same name, trust roots, both ways to reuse a key, requests that are given up
half-way, dropped keys, jumps of time. Each key remembers whose it is.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable
from dataclasses import dataclass, replace
from datetime import timedelta

import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from keylessd.core.certificate import Signer
from keylessd.core.digests import HashAlgorithm, digest_of
from keylessd.errors import IdempotencyConflictError, ServiceUnavailableError
from keylessd.identity.token import IdentityToken
from keylessd.keys.issue import IssueRequest
from keylessd.keys.ring import KeyRing, SlotRequest
from keylessd.keys.slot import KeyDestroyedError, KeySlot
from keylessd.ops.idempotency import Idempotency
from keylessd.secret import Secret
from ops_rig import EPOCH, TrioClock

MARGIN = timedelta(seconds=60)
LIFE = timedelta(minutes=10)
DIGEST = digest_of(HashAlgorithm.SHA256, b"")


class Key:
    """Stands for a private key: signs until it is destroyed."""

    def __init__(self) -> None:
        self.is_destroyed = False

    def sign_digest(self, digest: object) -> bytes:
        if self.is_destroyed:
            raise KeyDestroyedError
        return b"signature"

    def destroy(self) -> None:
        self.is_destroyed = True


def slot_of(request: IssueRequest, now) -> KeySlot:
    slot = KeySlot.__new__(KeySlot)  # no certificate: a thousand keys would take minutes
    slot._key = Key()  # type: ignore[assignment]
    slot.signer = Signer(request.token.subject, "uri", request.token.issuer, {})
    slot.not_before, slot.not_after = now, now + LIFE
    slot.signatures = slot.leases = 0
    slot.is_retired = False
    return slot


class Issuer:
    """Takes a second, and fails when it is told to."""

    def __init__(self, clock: TrioClock) -> None:
        self.clock = clock
        self.made: list[tuple[KeySlot, IssueRequest]] = []
        self.fails = False

    async def issue(self, request: IssueRequest) -> KeySlot:
        await trio.sleep(1)
        if self.fails:
            raise ServiceUnavailableError("fulcio", "fails")
        slot = slot_of(request, self.clock.now())
        self.made.append((slot, request))
        return slot


def token(number: int) -> IdentityToken:
    # Tokens 0 and 1 claim the same; one of them may be forged.
    return IdentityToken(
        raw=Secret(f"t{number}"),
        sha256=bytes([number]) * 32,
        issuer="https://issuer.example",
        subject="ada" if number < 2 else f"s{number}",
        email=None,
        email_verified=False,
        audience=("sigstore",),
        expires=EPOCH + timedelta(days=1),
        issued=None,
        federated_issuer=None,
        claims={},
    )


@dataclass(frozen=True)
class Sign:
    """One request."""

    owner: int
    token: int
    trust: str
    reuse: str
    key: str | None
    subject: int
    patience: float  # seconds until the client leaves
    work: float  # seconds between the lease and its end

    @property
    def slot_request(self) -> SlotRequest:
        issue = IssueRequest("https://ca", None, token(self.token), HashAlgorithm.SHA256)  # type: ignore[arg-type]
        return SlotRequest(self.owner, "i", self.trust, issue)


SIGN = st.builds(
    Sign,
    owner=st.sampled_from([1000, 1001]),
    token=st.integers(0, 2),
    trust=st.sampled_from(["v", "w"]),
    reuse=st.sampled_from(["window", "window", "never"]),
    key=st.sampled_from([None, "k", "l"]),
    subject=st.integers(0, 1),
    patience=st.sampled_from([0.5, 2.0, 60.0, 1000.0]),
    work=st.sampled_from([0.0, 0.5, 5.0]),
)
STEP = st.one_of(
    SIGN,
    SIGN,
    SIGN,
    st.sampled_from(["drop", "fail", "mend", "sweep"]),
    st.sampled_from([0.3, 1.0, 30.0, 200.0, 700.0]),
)


class World:
    """The composition under test, and whose each key is."""

    def __init__(self, nursery: trio.Nursery, capacity: int) -> None:
        self.clock = TrioClock()
        self.issuer = Issuer(self.clock)
        self.ring = KeyRing(self.issuer, clock=self.clock, nursery=nursery, capacity=capacity)  # type: ignore[arg-type]
        self.known: Idempotency[tuple[int, bytes]] = Idempotency(nursery, size_of=lambda _: 1)
        self.users: dict[int, set[Hashable]] = defaultdict(set)

    async def sign(self, it: Sign) -> None:
        with trio.move_on_after(it.patience):
            if it.key is None:
                await self.work(it)
                return
            # As ops.sign does: what is signed, where, and as whom, but not with which token.
            fingerprint = f"{it.subject} {it.trust} {it.reuse} {token(it.token).subject}".encode()
            try:
                owner, found = await self.known.run(
                    (it.owner, it.key), fingerprint, lambda: self.work(it, fingerprint)
                )
            except (IdempotencyConflictError, ServiceUnavailableError):
                return
            assert (owner, found) == (it.owner, fingerprint)

    async def work(self, it: Sign, fingerprint: bytes = b"") -> tuple[int, bytes]:
        try:
            slot, _ = await self.ring.acquire(it.slot_request, reuse=it.reuse, margin=MARGIN)  # type: ignore[arg-type]
        except ServiceUnavailableError:
            if it.key is None:
                return it.owner, b""
            raise
        try:
            self.check(slot, it)
            with trio.CancelScope(shield=True):
                await trio.sleep(it.work)
            if not slot.is_destroyed:
                slot.sign_digest(DIGEST)
        finally:
            self.ring.release(slot)
        return it.owner, fingerprint

    def check(self, slot: KeySlot, it: Sign) -> None:
        [request] = [request for made, request in self.issuer.made if made is slot]
        assert request.token.sha256 == token(it.token).sha256
        alone = object() if it.reuse == "never" else None
        self.users[id(slot)].add((it.owner, it.token, it.trust, alone))
        # One key, one user, one token, one trust root; with "never" even one request.
        assert len(self.users[id(slot)]) == 1
        if not slot.is_destroyed:
            assert self.clock.now() <= slot.not_after - MARGIN

    def drop(self) -> None:
        before = [slot for slot, _ in self.issuer.made if not slot.is_destroyed]
        assert self.ring.drop_all() == len(before)
        assert all(slot.is_destroyed for slot in before)
        assert self.ring.slots() == []


@settings(max_examples=150, deadline=None)
@given(steps=st.lists(STEP, max_size=30), capacity=st.sampled_from([1, 2, 256]))
def test_nobody_uses_what_belongs_to_another(steps: list[object], capacity: int) -> None:
    async def run() -> None:
        async with trio.open_nursery() as background:
            world = World(background, capacity)
            async with trio.open_nursery() as clients:
                for step in steps:
                    if isinstance(step, Sign):
                        clients.start_soon(world.sign, step)
                    elif isinstance(step, float):
                        await trio.sleep(step)
                    elif step == "drop":
                        world.drop()
                    elif step == "sweep":
                        world.ring.sweep()
                    else:
                        world.issuer.fails = step == "fail"
            await trio.sleep(10)  # what nobody waits for any more
            check_the_end(world, capacity)
            background.cancel_scope.cancel()

    trio.run(run, clock=MockClock(autojump_threshold=0))


def check_the_end(world: World, capacity: int) -> None:
    """No lease is left, and no key lives but those that status shows."""
    alive = [slot for slot, _ in world.issuer.made if not slot.is_destroyed]
    assert all(slot.leases == 0 for slot, _ in world.issuer.made)
    assert len(world.ring.slots()) == len(alive) <= capacity
    world.drop()


def test_the_check_would_notice() -> None:
    """A ring that gave one user's key to another would not pass."""

    async def run() -> None:
        async with trio.open_nursery() as background:
            world = World(background, 256)
            one = Sign(1000, 0, "v", "window", None, 0, 60.0, 0.0)
            await world.work(one)
            [(slot, _)] = world.issuer.made
            for other in (replace(one, owner=1001), replace(one, token=1)):
                try:
                    world.check(slot, other)
                except AssertionError:
                    continue
                raise RuntimeError("it was not noticed")
            background.cancel_scope.cancel()

    trio.run(run, clock=MockClock(autojump_threshold=0))
