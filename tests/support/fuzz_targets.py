"""Everything of core that reads what strangers wrote, each with good samples to spoil."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from fuzzing import Spoiler
from keylessd.core.artifact import check_statement
from keylessd.core.bundle import DsseEnvelope, MessageSignature, parse_bundle, serialize_bundle
from keylessd.core.certificate import check_leaf_profile, parse_leaf, signer_of
from keylessd.core.chain import verify_chain
from keylessd.core.digests import Digest, HashAlgorithm, digest_of
from keylessd.core.dsse import pae
from keylessd.core.entry import check_entry
from keylessd.core.keys import load_public_key, signing_hash
from keylessd.core.note import parse_checkpoint, verify_checkpoint
from keylessd.core.sct import embedded_scts, encode_sct_list, parse_sct_list, verify_scts
from keylessd.core.signing_config import (
    parse_signing_config,
    parse_trust_config,
    select_ca,
    select_oidc,
    select_rekor,
    select_tsa,
)
from keylessd.core.timestamp import verify_timestamp
from keylessd.core.trusted_root import parse_trusted_root, serialize_trusted_root
from keylessd.core.verify import verify_bundle
from keylessd.errors import InvalidInputError, NoServiceError, VerificationError
from keylessd.policy.expect import AnySigner, ExpectedSigner
from sigsim.pki import LIFETIME, Leaf, der, ec_key, mint_ca, utf8
from sigsim.stamps import mint_tsa, stamp
from sigsim.worlds import ARTIFACT, IN_TOTO, SIGNED, World, digests, sign, statement, v1_log

ACCEPTED = "accepted"
ANYONE = AnySigner((ExpectedSigner(identity_regexp=".*", issuer_regexp=".*"),))
ABOUT = {"sha256": next(iter(digests().values())).hex}


@dataclass(frozen=True)
class Target:
    """A part of core that reads what strangers wrote.

    Attributes:
        samples: Good inputs.
        spoil: Which way of a Spoiler.
        read: Reads an input as the daemon does, and lets nothing but undeclared errors out;
            returns a word for what became of the input.
    """

    samples: tuple[bytes, ...]
    spoil: Callable[[Spoiler, bytes], bytes]
    read: Callable[[bytes], str]

    def spoilt(self, seed: int) -> bytes:
        """Return an input that depends on the seed and the samples alone."""
        return self.spoil(Spoiler(seed, self.samples), self.samples[seed % len(self.samples)])


def targets(vectors: Path | None = None) -> dict[str, Target]:
    """Return the targets by name.

    Args:
        vectors: Real bundles and trust roots, more samples; None for those minted here only.
    """
    return {
        "bundle": _bundles(),
        "trusted root": _trusted_roots(vectors),
        "signing config": _signing_configs(vectors),
        "checkpoint": _checkpoints(),
        "timestamp": _timestamps(),
        "certificate": _certificates(),
        "SCT list": _scts(),
        "statement": _statements(),
        "entry body": _bodies(),
        "key": _keys(),
    }


def _outcome(*steps: Callable[[], object]) -> str:
    """Do all steps; return the first check that failed. What is not declared comes out."""
    found = ACCEPTED
    for step in steps:
        try:
            step()
        except VerificationError as error:
            found = error.check if found == ACCEPTED else found
    return found


def _bundles() -> Target:
    worlds = [World(), World(rekor=v1_log())]
    holders = [
        (world, bundle)
        for world in worlds
        for bundle in (world.message(), world.envelope(statement(ABOUT)))
    ]
    # One trust root for all: each bundle's own parts are in it.
    first, second = (world.root() for world in worlds)
    root = replace(
        first,
        tlogs=first.tlogs + second.tlogs,
        ctlogs=first.ctlogs + second.ctlogs,
        certificate_authorities=first.certificate_authorities + second.certificate_authorities,
        timestamp_authorities=first.timestamp_authorities + second.timestamp_authorities,
    )

    def read(raw: bytes) -> str:
        return _outcome(lambda: verify_bundle(parse_bundle(raw), digests(), root, expected=ANYONE))

    samples = tuple(serialize_bundle(bundle) for _, bundle in holders)
    return Target(samples, Spoiler.json, read)


def _trusted_roots(vectors: Path | None) -> Target:
    world = World(rekor=v1_log(operator="somebody"))
    bundle = world.message()
    samples = [serialize_trusted_root(world.root()), serialize_trusted_root(World().root())]
    if vectors is not None:
        samples += [path.read_bytes() for path in sorted((vectors / "trust").glob("*root*.json"))]

    def read(raw: bytes) -> str:
        try:
            root = parse_trusted_root(raw)
            serialize_trusted_root(root)
        except InvalidInputError as error:
            return error.code
        return _outcome(lambda: verify_bundle(bundle, digests(), root, expected=ANYONE))

    return Target(tuple(samples), Spoiler.json, read)


def _signing_configs(vectors: Path | None) -> Target:
    service = {
        "url": "https://service.example",
        "majorApiVersion": 1,
        "validFor": {"start": "2025-01-01T00:00:00Z", "end": "2027-01-01T00:00:00.999Z"},
        "operator": "somebody",
    }
    config = {
        "mediaType": "application/vnd.dev.sigstore.signingconfig.v0.2+json",
        "caUrls": [service],
        "oidcUrls": [service],
        "rekorTlogUrls": [service, service | {"majorApiVersion": 2, "operator": "else"}],
        "rekorTlogConfig": {"selector": "EXACT", "count": 1},
        "tsaUrls": [service],
        "tsaConfig": {"selector": "ANY"},
    }
    both = {
        "mediaType": "application/vnd.dev.sigstore.clienttrustconfig.v0.1+json",
        "trustedRoot": json.loads(serialize_trusted_root(World().root())),
        "signingConfig": config,
    }
    samples = [json.dumps(config).encode(), json.dumps(both).encode()]
    if vectors is not None:
        samples += [path.read_bytes() for path in sorted(vectors.rglob("*signing_config*.json"))]

    def read(raw: bytes) -> str:
        found = ACCEPTED
        try:
            parse_trust_config(raw)
        except InvalidInputError:
            found = "no trust config"
        try:
            parsed = parse_signing_config(raw)
        except InvalidInputError as error:
            return f"{found}, {error.code}"
        for select in (select_ca, select_oidc, select_rekor, select_tsa):
            try:
                select(parsed, SIGNED)
            except NoServiceError as error:
                found = error.code
        return found

    return Target(tuple(samples), Spoiler.json, read)


def _checkpoints() -> Target:
    worlds = [World(), World(rekor=v1_log())]
    samples = []
    for world in worlds:
        note = world.rekor.checkpoint()
        body, _, lines = note.partition("\n\n")
        samples += [note, f"{body}\n\n{lines}{lines.replace('rekor', 'witness')}"]

    def read(raw: bytes) -> str:
        # Half of a surrogate pair can come out of JSON's escapes.
        text = raw.decode("utf-8", "surrogateescape")
        found = ""
        for world in worlds:
            log = world.rekor.trusted()
            found += _outcome(
                lambda log=log, world=world: verify_checkpoint(
                    parse_checkpoint(text),
                    log_name=log.name,
                    key=log.key,
                    key_hint=log.checkpoint_hint,
                    v2=world.rekor.generation == 2,
                )
            )
        return found

    return Target(tuple(note.encode() for note in samples), Spoiler.text, read)


def _timestamps() -> Target:
    world = World()
    signature = sign(world.key, ARTIFACT)
    samples = tuple(
        stamp(world.tsa, signature, at=SIGNED, **options)
        for options in (
            {},
            {"embedded": world.tsa.chain, "nonce": 5},
            {"by_key_identifier": True, "algorithm": HashAlgorithm.SHA512},
        )
    )
    # And an authority that stands in the trust root without its signer, and what is between.
    top = mint_ca("top")
    brought = mint_tsa(parents=[mint_ca("middle", parent=top), top])
    samples += tuple(
        stamp(brought, signature, at=SIGNED, embedded=embedded)
        for embedded in (brought.chain[:2], [*world.tsa.chain, *brought.chain])
    )
    authorities = (*world.root().timestamp_authorities, brought.trusted(above=2))

    def read(raw: bytes) -> str:
        return _outcome(lambda: verify_timestamp(raw, signature, authorities))

    return Target(samples, Spoiler.der, read)


def _certificates() -> Target:
    world = World()
    other_name = x509.OtherName(x509.ObjectIdentifier("1.3.6.1.4.1.57264.1.7"), utf8("me!you"))
    leaves = (
        Leaf(),
        Leaf(names=(other_name,), extensions=((1, b"https://i"), (8, utf8("https://i")))),
        Leaf(
            names=(x509.UniformResourceIdentifier("https://github.com/a/b"),),
            extensions=tuple(
                (number, b"text" if number <= 6 else utf8("t" * 130))
                for number in range(1, 25)
                if number not in {1, 7}
            ),
            ca=False,
        ),
    )
    root = world.root()

    def read(raw: bytes) -> str:
        found = ACCEPTED
        try:
            leaf = parse_leaf(raw)
        except VerificationError as error:
            return error.check
        # Each alone: what was signed over would hide what lies behind.
        path = (leaf, *root.certificate_authorities[0].chain)
        for moment in (SIGNED + 2 * LIFETIME, SIGNED):
            found = _outcome(
                lambda: check_leaf_profile(leaf),
                lambda: signer_of(leaf),
                lambda: ANYONE.check(signer_of(leaf)),
                lambda: embedded_scts(leaf),
                lambda: verify_scts(path, root.ctlogs),
                lambda at=moment: verify_chain(leaf, root.certificate_authorities, at),
            )
        return found

    return Target(tuple(der(world.certificate(leaf)) for leaf in leaves), Spoiler.der, read)


def _scts() -> Target:
    world = World()
    ca = world.ca.certificate
    promised = [
        log.promise(b"tbs", ca, at=SIGNED + timedelta(days=number), extensions=b"x" * number)
        for number, log in enumerate((world.ct, World().ct))
    ]
    samples = (encode_sct_list(promised[:1]), encode_sct_list(promised))

    def read(raw: bytes) -> str:
        try:
            parse_sct_list(raw)
        except ValueError as error:
            return str(error).split(";")[0][-20:]
        return ACCEPTED

    return Target(samples, Spoiler.octets, read)


def _statements() -> Target:
    samples = (
        statement(ABOUT),
        statement({"sha512": "00" * 64}, ABOUT | {"sha384": "11" * 48, "gitCommit": "ab"}),
        statement({"sha384": "00" * 48}),
    )

    def read(raw: bytes) -> str:
        envelope = DsseEnvelope(raw, IN_TOTO, b"s", "")
        return _outcome(
            lambda: check_statement(envelope, digests(ARTIFACT, *HashAlgorithm)),
            lambda: check_statement(
                envelope, {}, any_subject=True, predicate_type="https://example.com/p"
            ),
        )

    return Target(samples, Spoiler.json, read)


def _signed(content: MessageSignature | DsseEnvelope) -> Digest:
    message = ARTIFACT
    if isinstance(content, DsseEnvelope):
        message = pae(content.payload_type, content.payload)
    return digest_of(HashAlgorithm.SHA256, message)


def _bodies() -> Target:
    worlds = [World(), World(rekor=v1_log())]
    held = [
        (world, bundle, bundle.entries[0])
        for world in worlds
        for bundle in (world.message(), world.envelope(statement(ABOUT)))
    ]
    by_body = {entry.body: (world, bundle, entry) for world, bundle, entry in held}
    kinds = [("hashedrekord", "0.0.1"), ("hashedrekord", "0.0.2"), ("dsse", "0.0.1")]
    kinds.append(("intoto", "0.0.2"))

    def read(raw: bytes) -> str:
        found = []
        for _, bundle, entry in by_body.values():
            for kind, version in kinds:
                content = bundle.content
                spoilt = replace(entry, body=raw, kind=kind, version=version)
                found.append(
                    _outcome(
                        lambda entry=spoilt, content=content, bundle=bundle: check_entry(
                            entry,
                            content=content,
                            verifier=bundle.certificates[0],
                            is_certificate=True,
                            digest=_signed(content),
                        )
                    )
                )
        return " ".join(sorted(set(found)))

    return Target(tuple(by_body), Spoiler.json, read)


def _keys() -> Target:
    keys = [
        ec_key().public_key(),
        ec_key(ec.SECP521R1()).public_key(),
        ed25519.Ed25519PrivateKey.generate().public_key(),
        rsa.generate_private_key(65537, 2048).public_key(),
    ]
    spki = serialization.PublicFormat.SubjectPublicKeyInfo
    samples = [key.public_bytes(serialization.Encoding.DER, spki) for key in keys]
    samples += [key.public_bytes(serialization.Encoding.PEM, spki) for key in keys]

    def read(raw: bytes) -> str:
        try:
            key = load_public_key(raw)
        except InvalidInputError as error:
            return str(error)[:30]
        return f"{ACCEPTED} {signing_hash(key)}"

    return Target(tuple(samples), Spoiler.der, read)
