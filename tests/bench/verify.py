"""Verifications per second, in process and through the daemon, against their raw signature checks.

Raw is the sum of the signature checks that the bundle needs, with keys and data at hand: that of
the artifact, each step of the paths of the signer and of the timestamp authority, the SCT, the
checkpoint, the promise of Rekor v1, the timestamp. All but the steps of the paths are recorded from
a verification. A verifier that has seen other bundles of the same trust root can do without the
steps from one certificate of the root to another; the second row is without those, and nobody can
be quicker.

All of it once with authorities whose keys are on P-384, as those of the public instance, and once
with P-256.

Bundles never seen have each a key, a certificate, a timestamp and a log entry of their own, and are
verified once by whoever is measured. Bundles seen are the same once more.
"""

from __future__ import annotations

import hashlib
import logging
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, AsyncExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise, product
from pathlib import Path

import trio
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from house import House, house
from measuring import cpu_seconds, held_to_one_core
from tables import Goal, Table, finish, options

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

from keyless.trio_client import TrioClient, open_client
from keyless.values import AcceptedSigner, Where
from keyless.values import Digest as KeylessDigest
from keylessd.core import artifact, log_signature, timestamp
from keylessd.core.bundle import parse_bundle, serialize_bundle
from keylessd.core.digests import Digest, HashAlgorithm
from keylessd.core.trusted_root import TrustedRoot, parse_trusted_root, serialize_trusted_root
from keylessd.core.verify import verify_bundle
from keylessd.policy.expect import AnySigner, ExpectedSigner
from sigsim.pki import Leaf, ec_key, mint_ca, utf8
from sigsim.stamps import mint_tsa
from sigsim.worlds import ARTIFACT, World, v1_log

IDENTITY, ISSUER = "signer@example.com", "https://issuer.example"
IN_FLIGHT = 64
MANY_NEVER_SEEN = f"daemon, {IN_FLIGHT} in flight, never seen"
HELD = f"{MANY_NEVER_SEEN}, on one core with its clients"
THEIRS = "sigstore-python"
RAW = "raw signature checks"
RAW_REMEMBERED = "raw, but for the trust root's own"
CORE_OF_RAW = Goal(0.8, at_least=True)
DAEMON_OF_CORE = Goal(1.6, at_least=True)
TWO_CORES_OF_ONE = Goal(1.6, at_least=True)
OF_SIGSTORE_PYTHON = Goal(0.5, at_least=True)
Check = Callable[[], object]
# Where the verifier checks a signature: the name by which it calls what does so.
CHECKS = (
    (artifact, "verify_digest"),
    (artifact, "verify_message"),
    (log_signature, "verify_digest"),
    (log_signature, "verify_message"),
    (timestamp, "_check_signature"),
)


@dataclass(frozen=True, slots=True)
class Signed:
    """A digest and the bundle over it."""

    digest: bytes
    bundle: bytes


@dataclass(frozen=True, slots=True)
class Verifier:
    """The verifier in process, with a trust root and an expected signer."""

    root: TrustedRoot
    expected: AnySigner

    def verify(self, signed: Signed) -> x509.Certificate:
        """Verify as the daemon does, from the bytes of the bundle on; return the path's leaf."""
        digests = {HashAlgorithm.SHA256: Digest(HashAlgorithm.SHA256, signed.digest)}
        found = verify_bundle(
            parse_bundle(signed.bundle), digests, self.root, expected=self.expected
        )
        assert found.certificate is not None
        return found.certificate

    def raw(self, signed: Signed) -> list[Check]:
        """Return the signature checks of one bundle, ready to be made again."""
        with recorded() as checks:
            leaf = self.verify(signed)
        (issuing,) = self.root.certificate_authorities
        return [*checks, step_of(leaf, issuing.chain[0])]

    def raw_of_root(self) -> list[Check]:
        """Return the signature checks that are the same for all bundles."""
        authorities = (*self.root.certificate_authorities, *self.root.timestamp_authorities)
        return [step_of(*pair) for authority in authorities for pair in pairwise(authority.chain)]


def step_of(issued: x509.Certificate, issuer: x509.Certificate) -> Check:
    """Return the check of one certificate's signature."""
    key = issuer.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    algorithm = issued.signature_algorithm_parameters
    assert isinstance(algorithm, ec.ECDSA)
    return partial(key.verify, issued.signature, issued.tbs_certificate_bytes, algorithm)


@contextmanager
def recorded() -> Iterator[list[Check]]:
    """Note every signature check that the block makes."""
    checks: list[Check] = []

    def noting(check: Callable[..., object]) -> Callable[..., object]:
        def noted(*args: object) -> object:
            checks.append(partial(check, *args))
            return check(*args)

        return noted

    log_signature.forget()
    before = [getattr(module, name) for module, name in CHECKS]
    for (module, name), check in zip(CHECKS, before, strict=True):
        setattr(module, name, noting(check))
    try:
        yield checks
    finally:
        for (module, name), check in zip(CHECKS, before, strict=True):
            setattr(module, name, check)


@dataclass(frozen=True, slots=True)
class Instance:
    """A Sigstore of keys alone, and those who verify what it signs.

    Attributes:
        world: Signs, logs and stamps.
        root: Its trust root, JSON.
        verifier: Ours, in process.
    """

    world: World
    root: bytes
    verifier: Verifier

    @classmethod
    def of(cls, rekor: str, curve: ec.EllipticCurve) -> Instance:
        """Make one with a log of that version, and authorities with keys on that curve."""
        # The other verifier reads the deprecated extension alone.
        issuers = ((1, ISSUER.encode()), (8, utf8(ISSUER)))
        leaf = Leaf(names=(x509.RFC822Name(IDENTITY),), extensions=issuers)
        root, tsa_root = (mint_ca(name, key=ec_key(curve)) for name in ("root", "tsa root"))
        world = World(
            leaf=leaf,
            ca_root=root,
            ca=mint_ca("intermediate", parent=root, key=ec_key(curve)),
            tsa=mint_tsa(parents=[tsa_root], key=ec_key(curve)),
            **({"rekor": v1_log()} if rekor == "v1" else {}),
        )
        trusted = serialize_trusted_root(world.root())
        expected = AnySigner((ExpectedSigner(identity=IDENTITY, issuer=ISSUER),))
        return cls(world, trusted, Verifier(parse_trusted_root(trusted), expected))

    def sign(self, count: int) -> list[Signed]:
        """Return bundles that nobody has seen."""
        digest = hashlib.sha256(ARTIFACT).digest()
        found = []
        for _ in range(count):
            self.world.key = ec_key()
            self.world.rekor.leaves[3:] = []  # a log that grows would take longer each time
            found.append(Signed(digest, serialize_bundle(self.world.message())))
        return found


@dataclass(slots=True)
class Spent:
    """What verifying a list of bundles took, in the quickest round of each kind.

    Attributes:
        wall: Seconds, by who verified.
        cpu: Of the processor, of whoever verifies and not of the clients.
    """

    wall: dict[str, float] = field(default_factory=lambda: defaultdict(lambda: float("inf")))
    cpu: dict[str, float] = field(default_factory=lambda: defaultdict(lambda: float("inf")))

    @contextmanager
    def noting(self, name: str, pid: int | None = None) -> Iterator[None]:
        """Time the block.

        Args:
            name: Who verifies.
            pid: The process whose processor time it is; None for this one.
        """
        clock = time.process_time if pid is None else partial(cpu_seconds, pid)
        wall, cpu = time.perf_counter(), clock()
        yield
        self.cpu[name] = min(self.cpu[name], clock() - cpu)
        self.wall[name] = min(self.wall[name], time.perf_counter() - wall)


async def through_daemon(
    standing: House,
    root: bytes,
    bundles: Sequence[Signed],
    clients: int,
    timed: AbstractContextManager[None],
) -> None:
    """Verify each bundle once, shared among clients that ask for one at a time.

    Args:
        standing: Where the daemon is.
        root: The trust root.
        bundles: Each is verified once.
        clients: How many, each with a connection that is there before.
        timed: Entered once all are connected.
    """
    accepted = (AcceptedSigner(identity=IDENTITY, issuer=ISSUER),)
    where = Where(trusted_root=root)
    waiting = list(bundles)

    async def one(client: TrioClient) -> None:
        while waiting:
            signed = waiting.pop()
            digest = KeylessDigest("sha256", signed.digest)
            await client.verify(digest, signed.bundle, accepted=accepted, where=where)

    async with AsyncExitStack() as stack:
        opened = [
            await stack.enter_async_context(
                open_client(socket_path=str(standing.socket), autostart=False)
            )
            for _ in range(clients)
        ]
        with timed:
            async with trio.open_nursery() as nursery:
                for client in opened:
                    nursery.start_soon(one, client)


def theirs(root: bytes) -> Callable[[Signed], None] | None:
    """Return sigstore-python as a verifier, None if it is not installed."""
    try:
        from sigstore.models import Bundle as TheirBundle
        from sigstore.models import TrustedRoot as TheirRoot
        from sigstore.verify import Verifier as TheirVerifier
        from sigstore.verify.policy import Identity
    except ImportError:
        return None
    logging.getLogger("sigstore").setLevel(logging.CRITICAL)
    with tempfile.NamedTemporaryFile() as file:
        Path(file.name).write_bytes(root)
        verifier = TheirVerifier(trusted_root=TheirRoot.from_file(file.name))
    policy = Identity(identity=IDENTITY, issuer=ISSUER)

    def verify(signed: Signed) -> None:
        verifier.verify_artifact(ARTIFACT, TheirBundle.from_json(signed.bundle), policy)

    return verify


def made(checks: Sequence[Check]) -> None:
    """Make signature checks."""
    for check in checks:
        check()


def measure(standing: House, pid: int, instance: Instance, *, rounds: int, count: int) -> Spent:
    """Let everybody verify bundles, each round others."""
    spent = Spent()
    verifier = instance.verifier
    other = theirs(instance.root)

    def daemon(name: str, bundles: Sequence[Signed], clients: int) -> None:
        timed = spent.noting(name, pid)
        trio.run(through_daemon, standing, instance.root, bundles, clients, timed)

    # What depends on the trust root alone is known to all from here on.
    for signed in instance.sign(2):
        verifier.verify(signed)
        trio.run(through_daemon, standing, instance.root, [signed], 1, nullcontext())
    for _ in range(rounds):
        bundles = instance.sign(count)
        with spent.noting("core, never seen"):
            for signed in bundles:
                verifier.verify(signed)
        with spent.noting("core, seen"):
            for signed in bundles:
                verifier.verify(signed)
        checks = [check for signed in bundles for check in verifier.raw(signed)]
        with spent.noting(RAW_REMEMBERED):
            made(checks)
        with spent.noting(RAW):
            made(checks + verifier.raw_of_root() * count)
        if other is not None:
            with spent.noting(THEIRS):
                for signed in bundles:
                    other(signed)
        daemon("daemon, 1 in flight, never seen", bundles, 1)
        daemon("daemon, 1 in flight, seen", bundles, 1)
        daemon(f"daemon, {IN_FLIGHT} in flight, seen", bundles, IN_FLIGHT)
        daemon(MANY_NEVER_SEEN, instance.sign(count), IN_FLIGHT)
        more = instance.sign(count)
        with held_to_one_core(pid):
            daemon(HELD, more, IN_FLIGHT)
    return spent


def rows(table: Table, title: str, spent: Spent, count: int) -> None:
    """Add what was measured to the table, with the goals."""
    raw, core = RAW, "core, never seen"
    names = [raw, RAW_REMEMBERED, core, "core, seen", THEIRS]
    names += [name for name in spent.wall if name.startswith("daemon")]
    goals: Mapping[str, tuple[Goal, int]] = {
        core: (CORE_OF_RAW, 0),
        MANY_NEVER_SEEN: (DAEMON_OF_CORE, 1),
        f"daemon, {IN_FLIGHT} in flight, seen": (DAEMON_OF_CORE, 1),
    }
    for name in names:
        if name not in spent.wall:
            continue
        values = (
            spent.cpu[raw] / spent.cpu[name],
            spent.wall[core] / spent.wall[name],
            spent.cpu[THEIRS] / spent.cpu[name] if THEIRS in spent.cpu else None,
            count / spent.wall[name],
        )
        goal, judged = goals.get(name, (None, 0))
        # Nothing of ours may be slower than half as quick as the other verifier.
        if goal is None and name.startswith(("core", "daemon")) and THEIRS in spent.cpu:
            goal, judged = OF_SIGSTORE_PYTHON, 2
        table.add(f"Rekor {title}: {name}", values, goal=goal, judged=judged)
    gained = spent.wall[HELD] / spent.wall[MANY_NEVER_SEEN]
    name = f"Rekor {title}: {MANY_NEVER_SEEN}, both cores against one"
    table.add(name, (None, gained, None, None), goal=TWO_CORES_OF_ONE, judged=1)


def main() -> int:
    """Measure and print."""
    parser = options(__doc__ or "")
    parser.add_argument("--rounds", type=int, default=7, help="of each (%(default)s)")
    parser.add_argument("--bundles", type=int, default=200, help="in a round (%(default)s)")
    arguments = parser.parse_args()
    table = Table(
        "verify: against raw signature checks and sigstore-python (processor time), and our core"
        " on one core (rate)",
        ("processor/raw", "rate/core", "processor/sigstore-python", "per second"),
        [f"the quickest of {arguments.rounds} rounds of {arguments.bundles} bundles in turns"],
    )
    with house() as standing:
        pid, _ = standing.start_daemon()
        for rekor, curve in product(("v2", "v1"), (ec.SECP384R1(), ec.SECP256R1())):
            instance = Instance.of(rekor, curve)
            spent = measure(
                standing, pid, instance, rounds=arguments.rounds, count=arguments.bundles
            )
            rows(table, f"{rekor}, {curve.key_size}", spent, arguments.bundles)
    return finish(table, check=arguments.check)


if __name__ == "__main__":
    sys.exit(main())
