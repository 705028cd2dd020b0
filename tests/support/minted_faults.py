"""Bundles that are signed, logged and stamped anew with one part wrong, or unusual, by a seed.

What a mutation of JSON cannot reach, since a signature would no longer fit, is made here.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from keylessd.core.bundle import Bundle, DsseEnvelope, MessageSignature, TlogEntry
from keylessd.core.digests import HashAlgorithm, digest_of
from keylessd.core.trusted_root import TimeRange, TrustedRoot
from sigsim.pki import (
    CODE_SIGNING,
    LIFETIME,
    SERVER_AUTH,
    START,
    TIME_STAMPING,
    YEAR,
    CtLog,
    Leaf,
    authority,
    ec_key,
    mint_ca,
    mint_leaf,
    utf8,
)
from sigsim.stamps import mint_tsa, stamp
from sigsim.worlds import (
    SIGNED,
    RekorLog,
    World,
    digests,
    sign,
    statement,
    tampered,
    v1_log,
)

IDENTITY, ISSUER = SIGNER = ("signer@example.com", "https://issuer.example")
# The other verifier reads the deprecated extension alone.
ISSUERS = ((1, ISSUER.encode()), (8, utf8(ISSUER)))
LEAF = Leaf(names=(x509.RFC822Name(IDENTITY),), extensions=ISSUERS)
ABOUT = {"sha256": next(iter(digests().values())).hex}
SECOND = timedelta(seconds=1)
MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True)
class Minted:
    """A bundle and the trust root to judge it by."""

    bundle: Bundle
    root: TrustedRoot


Mint = Callable[[random.Random], Minted]


def leaf(**changes: Any) -> Mint:
    """A certificate that says something else."""

    def mint(rng: random.Random) -> Minted:
        world = _world(rng, leaf=replace(LEAF, **changes))
        return Minted(_bundle(rng, world), world.root())

    return mint


def scts(count: int, *, known: int, **changes: Any) -> Mint:
    """A certificate with several promises, some of them of logs that the root has."""

    def mint(rng: random.Random) -> Minted:
        world = _world(rng)
        logs = [CtLog(ec_key()) for _ in range(count)]
        certificate = mint_leaf(world.key, world.ca, logs, LEAF, **changes)
        root = world.root(ctlogs=tuple(log.trusted() for log in logs[:known]))
        return Minted(world.message(certificate=certificate), root)

    return mint


def wrong_sct_issuer(rng: random.Random) -> Minted:
    """The promise names the root's key in place of the issuer's."""
    world = _world(rng)
    issuer = world.ca_root.certificate
    certificate = mint_leaf(world.key, world.ca, [world.ct], LEAF, sct_issuer=issuer)
    return Minted(world.message(certificate=certificate), world.root())


def authorities(
    *, root: dict[str, Any] | None = None, below: dict[str, Any] | None = None, anchor: bool = True
) -> Mint:
    """Authorities that are something else."""

    def mint(rng: random.Random) -> Minted:
        top = mint_ca("root", **(root or {}))
        ca = mint_ca("intermediate", parent=top, **(below or {}))
        world = _world(rng, ca_root=top, ca=ca)
        chain = (ca, top) if anchor else (ca,)
        changed = world.root(certificate_authorities=(authority(*chain),))
        return Minted(_bundle(rng, world), changed)

    return mint


def period(what: str, start: timedelta | None, end: timedelta | None) -> Mint:
    """A part of the trust root whose period is given from the time of signing on."""

    def mint(rng: random.Random) -> Minted:
        world = _world(rng, generation=1 if what == "tlogs" else None)
        # Rekor v1's time is the one its key's period is compared with.
        bundle = _bundle(rng, world)
        ends = TimeRange(
            None if start is None else SIGNED + start, None if end is None else SIGNED + end
        )
        root = world.root()
        changed = tuple(replace(one, valid_for=ends) for one in getattr(root, what))
        return Minted(bundle, replace(root, **{what: changed}))

    return mint


def stamped(**changes: Any) -> Mint:
    """A timestamp that says something else, beside no other time."""

    def mint(rng: random.Random) -> Minted:
        world = _world(rng, generation=2)
        bundle = _bundle(rng, world)
        made = {"at": SIGNED} | {
            name: value(world) if callable(value) else value for name, value in changes.items()
        }
        signature = made.pop("of", bundle.content.signature)
        other = stamp(made.pop("tsa", world.tsa), signature, **made)
        return Minted(replace(bundle, timestamps=(other,)), world.root())

    return mint


def tsa(**changes: Any) -> Mint:
    """A timestamp authority that is something else."""

    def mint(rng: random.Random) -> Minted:
        world = _world(rng, generation=2, tsa=mint_tsa(**changes))
        return Minted(_bundle(rng, world), world.root())

    return mint


def two_stamps(offset: timedelta) -> Mint:
    """A good timestamp, and one that is of another time."""

    def mint(rng: random.Random) -> Minted:
        world = _world(rng, generation=2)
        return Minted(world.message(stamps=(SIGNED, SIGNED + offset)), world.root())

    return mint


def beside_good(other: Callable[[bytes], bytes]) -> Mint:
    """A good timestamp, and one that proves nothing either way."""

    def mint(rng: random.Random) -> Minted:
        world = _world(rng, generation=2)
        bundle = _bundle(rng, world)
        more = other(bundle.content.signature)
        return Minted(replace(bundle, timestamps=(*bundle.timestamps, more)), world.root())

    return mint


def promised(offset: timedelta) -> Mint:
    """A promise of another time, with no timestamp beside it."""

    def mint(rng: random.Random) -> Minted:
        world = _world(rng, generation=1)
        return Minted(world.message(stamps=(), logged_at=SIGNED + offset), world.root())

    return mint


def logged(generation: int, change: Callable[[Any], None]) -> Mint:
    """An entry whose body says something else, logged as it is."""

    def mint(rng: random.Random) -> Minted:
        world = _world(rng, generation=generation)
        bundle = world.message()
        body = json.loads(bundle.entries[0].body)
        change(body)
        raw = json.dumps(body, separators=(",", ":"), sort_keys=True).encode()
        return Minted(replace(bundle, entries=(world.rekor.add(raw),)), world.root())

    return mint


def noted(generation: int, change: Callable[[World, str], str]) -> Mint:
    """A checkpoint that is something else."""

    def mint(rng: random.Random) -> Minted:
        world = _world(rng, generation=generation)
        bundle = world.message()
        entry = bundle.entries[0]
        assert entry.proof is not None
        assert entry.proof.checkpoint is not None
        proof = replace(entry.proof, checkpoint=change(world, entry.proof.checkpoint))
        return Minted(replace(bundle, entries=(replace(entry, proof=proof),)), world.root())

    return mint


def entry(generation: int, change: Callable[[World, TlogEntry], TlogEntry]) -> Mint:
    """An entry that is something else beside its body."""

    def mint(rng: random.Random) -> Minted:
        world = _world(rng, generation=generation)
        bundle = world.message()
        return Minted(replace(bundle, entries=(change(world, bundle.entries[0]),)), world.root())

    return mint


def signed(key: Callable[[], Any], algorithm: HashAlgorithm | None = None) -> Mint:
    """A signature by another kind of key, or over another hash."""

    def mint(rng: random.Random) -> Minted:
        world = _world(rng, key=key())
        if rng.randrange(2) and isinstance(world.key, ec.EllipticCurvePrivateKey):
            return Minted(world.message(algorithm=algorithm), world.root())
        return Minted(world.envelope(statement(ABOUT), algorithm=algorithm), world.root())

    return mint


def of_another(rng: random.Random) -> Minted:
    """A signature over something else, logged and stamped."""
    world = _world(rng)
    digest = digest_of(HashAlgorithm.SHA256, b"another")
    content = MessageSignature(sign(world.key, b"another"), rng.choice([digest, None]))
    made = world.message()
    body = world.body(content, digest, made.certificates[0], managed=False)
    stamps = (stamp(world.tsa, content.signature, at=SIGNED),)
    bundle = replace(made, content=content, entries=(world.rekor.add(body),), timestamps=stamps)
    return Minted(bundle, world.root())


def enveloped(payload: bytes, **changes: Any) -> Mint:
    """An envelope with another payload or type."""

    def mint(rng: random.Random) -> Minted:
        world = _world(rng)
        return Minted(world.envelope(payload, **changes), world.root())

    return mint


def resigned_payload(rng: random.Random) -> Minted:
    """The payload exchanged after signing."""
    world = _world(rng)
    made = world.envelope(statement(ABOUT))
    assert isinstance(made.content, DsseEnvelope)
    other = statement(ABOUT, predicate_type="https://example.com/other")
    return Minted(replace(made, content=replace(made.content, payload=other)), world.root())


def stranger(part: str) -> Mint:
    """All of it right, by somebody whom the trust root does not name."""

    def mint(rng: random.Random) -> Minted:
        world, other = _world(rng, generation=2), World()
        named = {part: getattr(other.root(), part)}
        return Minted(_bundle(rng, world), world.root(**named))

    return mint


def _world(rng: random.Random, *, generation: int | None = None, **changes: Any) -> World:
    chosen = generation or rng.choice([1, 2])
    rekor = v1_log() if chosen == 1 else RekorLog(2, ed25519.Ed25519PrivateKey.generate())
    return World(**{"leaf": LEAF, "rekor": rekor} | changes)


def _bundle(rng: random.Random, world: World) -> Bundle:
    if rng.randrange(3) == 0:
        return world.envelope(statement(ABOUT))
    return world.message()


def _set(*path: Any) -> Callable[[Any], None]:
    *way, name, value = path

    def change(body: Any) -> None:
        for key in way:
            body = body[key]
        body[name] = value

    return change


def _more_lines(place: int, line: str) -> Callable[[World, str], str]:
    def change(world: World, note: str) -> str:
        body, _, lines = note.partition("\n\n")
        listed = lines.splitlines(keepends=True)
        listed.insert(place, line.replace("NAME", world.rekor.name) + "\n")
        return f"{body}\n\n{''.join(listed)}"

    return change


_JUNK = "3q2+7wAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
_RECORD = ("spec", "hashedRekordV002")

FAULTS: dict[str, Mint] = {
    # certificate
    "nothing": leaf(),
    "two names": leaf(names=(*LEAF.names, x509.RFC822Name("other@example.com"))),
    "another name": leaf(names=(x509.RFC822Name("other@example.com"),)),
    "longer name": leaf(names=(x509.RFC822Name(f"{IDENTITY}.evil"),)),
    "name in capitals": leaf(names=(x509.RFC822Name(IDENTITY.upper()),)),
    "name as URI": leaf(names=(x509.UniformResourceIdentifier(IDENTITY),)),
    "name as DNS": leaf(names=(x509.DNSName("signer.example.com"),)),
    "another issuer": leaf(extensions=((1, b"https://evil"), (8, utf8("https://evil")))),
    "two issuers": leaf(extensions=((1, ISSUER.encode()), (8, utf8("https://evil")))),
    "issuer .8 alone": leaf(extensions=ISSUERS[1:]),
    "issuer .1 alone": leaf(extensions=ISSUERS[:1]),
    "no issuer": leaf(extensions=()),
    "no key usage": leaf(key_usages=None),
    "other key usage": leaf(key_usages=("key_agreement",)),
    "no extended usage": leaf(usages=None),
    "server authentication": leaf(usages=(SERVER_AUTH,)),
    "several usages": leaf(usages=(SERVER_AUTH, CODE_SIGNING)),
    "leaf is an authority": leaf(ca=True),
    "leaf says it is none": leaf(ca=False),
    "leaf starts at the time": leaf(start=SIGNED),
    "leaf ends at the time": leaf(end=SIGNED),
    "leaf starts later": leaf(start=SIGNED + SECOND),
    "leaf ended": leaf(end=SIGNED - SECOND),
    "unknown critical extension": leaf(
        others=((x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\5\0"), True),)
    ),
    # SCTs
    "two SCTs": scts(2, known=2),
    "a known and an unknown SCT": scts(2, known=1),
    "no SCT": scts(0, known=0),
    "unknown SCT": scts(1, known=0),
    "SCT of another issuer": wrong_sct_issuer,
    "SCT before its log's time": leaf(sct_time=START - 11 * YEAR),
    "SCT with extensions": leaf(sct_extensions=b"\0\0\5\0\0\0\0\1"),
    # authorities
    "root ended": authorities(root={"end": SIGNED - SECOND}),
    "root ends at the time": authorities(root={"end": SIGNED}),
    "root starts later": authorities(root={"start": SIGNED + SECOND}),
    "intermediate ended": authorities(below={"end": SIGNED - SECOND}),
    "intermediate is no authority": authorities(below={"is_ca": False}),
    "intermediate may not sign": authorities(below={"cert_sign": False}),
    "intermediate for servers": authorities(below={"usages": (SERVER_AUTH,)}),
    "intermediate for code": authorities(below={"usages": (CODE_SIGNING,)}),
    "root allows no intermediate": authorities(root={"path_length": 0}),
    "root allows one": authorities(root={"path_length": 1}),
    "the intermediate is the anchor": authorities(anchor=False),
    "unknown authority": stranger("certificate_authorities"),
    "unknown CT log": stranger("ctlogs"),
    "unknown log": stranger("tlogs"),
    "unknown timestamp authority": stranger("timestamp_authorities"),
    # periods: a second and a microsecond around both ends
    **{
        f"{what} period {start} to {end}": period(what, start, end)
        for what in ("certificate_authorities", "ctlogs", "tlogs", "timestamp_authorities")
        for start, end in (
            (None, None), (None, YEAR), (timedelta(0), None), (SECOND, None), (-YEAR, timedelta(0)),
            (-YEAR, -SECOND), (MICROSECOND, None), (-YEAR, -MICROSECOND),
        )
    },
    # timestamps
    "stamped before the leaf": stamped(at=START - SECOND),
    "stamped at its start": stamped(at=START),
    "stamped at its end": stamped(at=START + LIFETIME),
    "stamped within its last second": stamped(at=START + LIFETIME + MICROSECOND),
    "stamped after it": stamped(at=START + LIFETIME + SECOND),
    "stamp of another signature": stamped(of=b"another"),
    "stamp by SHA-384": stamped(algorithm=HashAlgorithm.SHA384),
    "stamp by SHA-512": stamped(algorithm=HashAlgorithm.SHA512),
    "stamp with a nonce": stamped(nonce=7),
    "stamp with its certificates": stamped(embedded=lambda world: world.tsa.chain),
    "stamp with another certificate": stamped(embedded=lambda _: mint_tsa().chain),
    "stamp by another key": stamped(signer_key=lambda _: ec_key()),
    "stamp for another certificate": stamped(signing_certificate=lambda _: mint_tsa().chain[0]),
    "stamp that says it was not granted": stamped(status=2),
    "stamp with modifications": stamped(status=1),
    "stamp by key identifier": stamped(by_key_identifier=True),
    "stamp with two signers": stamped(signers=2),
    "stamp of another version": stamped(version=2),
    "stamp of another content": stamped(content_type=x509.ObjectIdentifier("1.2.3")),
    "stamp without attributes": stamped(edit_attributes=lambda _: lambda attributes: []),
    "no content type": stamped(edit_attributes=lambda _: lambda attributes: attributes[1:]),
    "no digest": stamped(edit_attributes=lambda _: lambda items: [items[0], items[2]]),
    "no signing certificate": stamped(edit_attributes=lambda _: lambda items: items[:2]),
    "stamper for all": tsa(usages=(TIME_STAMPING, CODE_SIGNING)),
    "stamper not critical": tsa(critical=False),
    "stamper without usage": tsa(usages=None),
    "stamper is an authority": tsa(is_ca=True),
    "stamper ended": tsa(end=SIGNED - SECOND),
    "stamper starts later": tsa(start=SIGNED + SECOND),
    "stamper ends at the time": tsa(end=SIGNED),
    "stamped twice": two_stamps(SECOND),
    "stamped twice, once after the leaf": two_stamps(2 * LIFETIME),
    "stamped twice, once before it": two_stamps(-2 * LIFETIME),
    "unreadable stamp beside a good one": beside_good(
        lambda signature: stamp(mint_tsa(), signature, at=SIGNED)[:-9]
    ),
    "stranger's stamp beside a good one": beside_good(
        lambda signature: stamp(mint_tsa(), signature, at=SIGNED)
    ),
    # promises
    "promised at its start": promised(START - SIGNED),
    "promised at its end": promised(START + LIFETIME - SIGNED),
    "promised before the leaf": promised(START - SIGNED - SECOND),
    "promised after it": promised(START + LIFETIME - SIGNED + SECOND),
    "wrong promise": entry(1, lambda _, it: replace(it, promise=tampered(it.promise or b""))),
    "promise of another time": entry(
        1, lambda _, it: replace(it, integrated_time=(it.integrated_time or 0) + 1)
    ),
    "promise for another index": entry(1, lambda _, it: replace(it, log_index=it.log_index + 1)),
    "promise of Rekor v2": entry(2, lambda world, it: world.rekor.promised(it, at=SIGNED)),
    # entries
    "another digest logged": logged(
        1, _set("spec", "data", "hash", "value", hashes.SHA256.name * 10 + "beef")
    ),
    "another signature logged": logged(1, _set("spec", "signature", "content", "AAAA")),
    "another verifier logged": logged(
        1, _set("spec", "signature", "publicKey", "content", "AAAA")
    ),
    "another version logged": logged(1, _set("apiVersion", "0.0.9")),
    "another kind logged": logged(1, _set("kind", "rekord")),
    "more logged": logged(1, _set("spec", "more", "x")),
    "another digest in v2": logged(2, _set(*_RECORD, "data", "digest", "AAAA")),
    "another algorithm in v2": logged(2, _set(*_RECORD, "data", "algorithm", "SHA2_384")),
    "another signature in v2": logged(2, _set(*_RECORD, "signature", "content", "AAAA")),
    "another key kind in v2": logged(
        2, _set(*_RECORD, "signature", "verifier", "keyDetails", "PKIX_ECDSA_P384_SHA_384")
    ),
    "more in v2": logged(2, _set(*_RECORD, "more", "x")),
    "more beside v2": logged(2, _set("spec", "more", {})),
    "index of another in v2": entry(2, lambda _, it: replace(it, log_index=it.log_index + 1)),
    # checkpoints
    "witness after the log": noted(2, _more_lines(1, f"\N{EM DASH} witness.example {_JUNK}")),
    "witness before the log": noted(2, _more_lines(0, f"\N{EM DASH} witness.example {_JUNK}")),
    "same name, other key, after": noted(2, _more_lines(1, f"\N{EM DASH} NAME {_JUNK}")),
    "same name, other key, before": noted(2, _more_lines(0, f"\N{EM DASH} NAME {_JUNK}")),
    "no signature line": noted(2, lambda _, note: note.partition("\n\n")[0] + "\n\n"),
    "no last newline": noted(2, lambda _, note: note[:-1]),
    "another origin": noted(2, lambda world, _: world.rekor.checkpoint(origin="evil.example")),
    "another origin in v1": noted(
        1, lambda world, _: world.rekor.checkpoint(origin="evil.example - 42")
    ),
    "bare origin in v1": noted(1, lambda world, _: world.rekor.checkpoint(origin="rekor.example")),
    "origin with a tree in v2": noted(
        2, lambda world, _: world.rekor.checkpoint(origin="rekor.example - 42")
    ),
    "checkpoint of a larger tree": noted(
        2, lambda world, _: (world.rekor.leaves.append(b"x"), world.rekor.checkpoint())[1]
    ),
    # signatures
    "P-384": signed(lambda: ec_key(ec.SECP384R1())),
    "P-521": signed(lambda: ec_key(ec.SECP521R1())),
    "P-384 over SHA-256": signed(lambda: ec_key(ec.SECP384R1()), HashAlgorithm.SHA256),
    "P-256 over SHA-512": signed(ec_key, HashAlgorithm.SHA512),
    "Ed25519": signed(ed25519.Ed25519PrivateKey.generate),
    "of another artifact": of_another,
    "payload exchanged": resigned_payload,
    "about another artifact": enveloped(statement({"sha256": "00" * 32})),
    "about two artifacts": enveloped(statement({"sha256": "00" * 32}, ABOUT)),
    "about nothing": enveloped(statement()),
    "of another type": enveloped(statement(ABOUT), payload_type="text/plain"),
    "no statement": enveloped(b"{}"),
    "no JSON": enveloped(b"junk"),
}  # fmt: skip
