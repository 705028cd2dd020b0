"""Verifications per second, in process and through the daemon, against their raw signature checks.

Raw is the sum of the signature checks that one verification needs, with keys and data at hand:
no verifier of such a bundle can be quicker. They are recorded from a verification, and the steps
of the certificate's path are added; what a verifier remembers from earlier bundles, such as
the path of the timestamp authority, is not counted.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import trio
from cryptography import x509
from house import IDENTITY, House, house
from measuring import Samples, in_turns
from tables import Table, finish, options

from keyless.trio_client import TrioClient, open_client
from keyless.values import AcceptedSigner
from keyless.values import Digest as KeylessDigest
from keylessd.core import artifact, log_signature, timestamp
from keylessd.core.bundle import parse_bundle
from keylessd.core.digests import Digest, HashAlgorithm
from keylessd.core.trusted_root import TrustedRoot, parse_trusted_root
from keylessd.core.verify import verify_bundle
from keylessd.policy.expect import AnySigner, ExpectedSigner

CLIENTS = 16
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
        for authority in self.root.certificate_authorities:
            if authority.chain[0].subject == leaf.issuer:
                path = (leaf, *authority.chain)
                for issued, issuer in pairwise(path):
                    checks.append(partial(issued.verify_directly_issued_by, issuer))
        return checks


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


async def sign(standing: House, count: int, *, reuse: str) -> list[Signed]:
    """Return bundles over new digests."""
    found: list[Signed] = []
    async with open_client(socket_path=str(standing.socket), autostart=False) as client:

        async def one() -> None:
            digest = os.urandom(32)
            result = await client.sign(
                KeylessDigest("sha256", digest), identity_token=standing.token, reuse=reuse
            )
            found.append(Signed(digest, result.bundle))

        async with trio.open_nursery() as nursery:
            for _ in range(count):
                nursery.start_soon(one)
    return found


async def through_daemon(standing: House, bundles: Sequence[Signed], clients: int) -> float:
    """Verify each bundle once, shared among clients; return the seconds it took."""
    accepted = (AcceptedSigner(identity=IDENTITY, issuer=standing.urls()["oidc_issuer"]),)
    waiting = list(bundles)

    async def one(client: TrioClient) -> None:
        while waiting:
            signed = waiting.pop()
            digest = KeylessDigest("sha256", signed.digest)
            await client.verify(digest, signed.bundle, accepted=accepted)

    async with AsyncExitStack() as stack:
        opened = [
            await stack.enter_async_context(
                open_client(socket_path=str(standing.socket), autostart=False)
            )
            for _ in range(clients)
        ]
        began = time.perf_counter()
        async with trio.open_nursery() as nursery:
            for client in opened:
                nursery.start_soon(one, client)
        return time.perf_counter() - began


def timed(work: Callable[[], object]) -> float:
    """Return the seconds that *work* took."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def compare(
    standing: House, verifier: Verifier, bundles: Sequence[Signed], *, rounds: int
) -> tuple[dict[str, Samples], int]:
    """Measure all ways to verify *bundles*, and their raw checks; return the checks of one too."""
    checks = [verifier.raw(signed) for signed in bundles]

    def raw() -> None:
        for list_of_one in checks:
            for check in list_of_one:
                check()

    def in_process() -> None:
        for signed in bundles:
            verifier.verify(signed)

    samples = in_turns(
        {
            "raw signature checks": lambda: timed(raw),
            "in process": lambda: timed(in_process),
            "daemon, 1 client": lambda: trio.run(through_daemon, standing, bundles, 1),
            f"daemon, {CLIENTS} clients": lambda: trio.run(
                through_daemon, standing, bundles, CLIENTS
            ),
        },
        rounds=rounds,
        warm_up=1,
    )
    return samples, len(checks[0])


def main() -> int:
    """Measure and print; there is no goal yet."""
    parser = options(__doc__ or "")
    parser.add_argument("--rounds", type=int, default=7, help="of each (%(default)s)")
    parser.add_argument("--bundles", type=int, default=200, help="in a round (%(default)s)")
    arguments = parser.parse_args()
    table = Table(
        "verify: verifications per second against the sum of their raw signature checks",
        ("rate/raw", "median", "per second"),
        [f"{arguments.rounds} rounds of {arguments.bundles} bundles in turns"],
    )
    for rekor in ("v2", "v1"):
        with house() as standing:
            standing.start_sandbox("--rekor", rekor)
            standing.start_daemon()
            root = parse_trusted_root((standing.sandbox / "trusted_root.json").read_bytes())
            signer = ExpectedSigner(identity=IDENTITY, issuer=standing.urls()["oidc_issuer"])
            verifier = Verifier(root, AnySigner((signer,)))
            for reuse, what in (("never", "a certificate each"), ("window", "one certificate")):
                bundles = trio.run(partial(sign, standing, arguments.bundles, reuse=reuse))
                samples, checks = compare(standing, verifier, bundles, rounds=arguments.rounds)
                raw = samples["raw signature checks"]
                for name, found in samples.items():
                    label = f"Rekor {rekor}, {what}: {name}"
                    label += f" ({checks})" if found is raw else ""
                    rate = arguments.bundles / found.least
                    table.add(label, (raw.least / found.least, raw.median / found.median, rate))
    return finish(table, check=arguments.check)


if __name__ == "__main__":
    sys.exit(main())
