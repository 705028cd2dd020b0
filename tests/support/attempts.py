"""Bundles made to deceive: signed anew, logged anew, stamped anew, and wrong in one respect.

Whoever makes one has a certificate, logs and authorities of their own, may log whatever they like
in the logs that are trusted, and may say anything in a bundle. The tests name what is tried.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ed25519

from keylessd.core.bundle import Bundle, MessageSignature, TlogEntry
from keylessd.core.bundle import serialize_bundle as serialize
from keylessd.core.digests import Digest, HashAlgorithm
from keylessd.core.legacy import Detached, read_bundle
from keylessd.core.note import NoteSignature, checkpoint_body, format_note, note_key_id
from keylessd.core.trusted_root import TrustedRoot
from keylessd.core.verify import ManagedKey, VerifyOptions, verify_bundle
from keylessd.errors import VerificationError
from keylessd.policy.expect import AnySigner, ExpectedSigner
from sigsim.pki import (
    der,
    utf8,
)
from sigsim.stamps import stamp
from sigsim.worlds import (
    SIGNED,
    RekorLog,
    World,
    digests,
    sign,
    v1_log,
)

ISSUER = (8, utf8("https://issuer.example"))
SIGNER = AnySigner(
    (ExpectedSigner(identity="signer@example.com", issuer="https://issuer.example"),)
)
SECOND = timedelta(seconds=1)
P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
SHA256 = next(iter(digests().values()))


@dataclass
class Attempt:
    """What is given to the verifier."""

    world: World
    bundle: Bundle
    root: TrustedRoot | None = None
    expected: AnySigner | ManagedKey = SIGNER
    artifact: dict[HashAlgorithm, Digest] = field(default_factory=digests)
    options: dict[str, Any] = field(default_factory=dict)

    def outcome(self) -> str | None:
        """Return the check that stops it, None if nothing does."""
        try:
            verify_bundle(
                self.bundle,
                self.artifact,
                self.root or self.world.root(),
                expected=self.expected,
                options=VerifyOptions(**self.options),
            )
        except VerificationError as exc:
            return exc.check
        return None


Maker = Callable[[], Attempt]


class Attempts:
    """What one module of tests tries, by name; each with the check that must stop it."""

    def __init__(self) -> None:
        self.named: dict[str, tuple[Maker, str | None]] = {}

    def __call__(self, check: str | None) -> Callable[[Maker], Maker]:
        """Add what the decorated function makes; None if nothing is wrong with it."""

        def keep(make: Maker) -> Maker:
            self.named[make.__name__.replace("_", " ")] = (make, check)
            return make

        return keep

    def check(self, name: str) -> None:
        """Try it as it is, and again as it is read from its JSON."""
        make, check = self.named[name]
        tried = make()
        assert tried.outcome() == check
        # No bundle's JSON has a promise of Rekor v2 and certificates beside the leaf.
        if any(entry.promise and entry.version == "0.0.2" for entry in tried.bundle.entries):
            return
        leaf = replace(tried.bundle, certificates=tried.bundle.certificates[:1])
        again = replace(tried, bundle=read_bundle(serialize(leaf), Detached()))
        assert again.outcome() == check


def one(**more: Any) -> World:
    return World(rekor=v1_log(), **more)


def v2_log(url: str = "https://v2.example") -> RekorLog:
    return RekorLog(2, ed25519.Ed25519PrivateKey.generate(), base_url=url)


def with_entry(bundle: Bundle, entry: TlogEntry) -> Bundle:
    return replace(bundle, entries=(entry,))


def with_signature(bundle: Bundle, signature: bytes) -> Bundle:
    return replace(bundle, content=replace(bundle.content, signature=signature))


def relogged(world: World, bundle: Bundle, edit: Callable[[Any], None] | None = None) -> Bundle:
    """The bundle with a new entry, whose body *edit* may change before it is logged."""
    value = json.loads(bundle.entries[0].body)
    if edit is not None:
        edit(value)
    body = json.dumps(value, separators=(",", ":"), sort_keys=True).encode()
    entry = world.rekor.add(body)
    old = bundle.entries[0]
    return with_entry(bundle, replace(entry, kind=old.kind, version=old.version))


def resigned(world: World, signature: bytes, **more: Any) -> Bundle:
    """A bundle whose wrong signature was logged and stamped as if it were right."""
    content = MessageSignature(signature, SHA256)
    leaf = more.get("leaf") or der(world.certificate())
    body = world.body(content, SHA256, leaf, managed=False)
    good = world.message()
    return replace(
        good,
        certificates=(leaf,),
        content=content,
        entries=(world.rekor.add(body),),
        timestamps=(stamp(world.tsa, signature, at=SIGNED),),
    )


def checkpoint_signed_by(
    log: RekorLog, key: Any, *, name: str | None = None, origin: str | None = None, more: str = ""
) -> str:
    entry = log.leaves
    assert entry
    lines = log.checkpoint().split("\n\n")[0].split("\n")
    body = (
        checkpoint_body(origin or lines[0], int(lines[1]), base64.b64decode(lines[2]))
        + more.encode()
    )
    called = name or log.name
    hint = note_key_id(called, key.public_key())[:4]
    return format_note(body, [NoteSignature(called, hint, sign(key, body, HashAlgorithm.SHA256))])


def with_checkpoint(bundle: Bundle, checkpoint: str) -> Bundle:
    (entry,) = bundle.entries
    assert entry.proof is not None
    return with_entry(bundle, replace(entry, proof=replace(entry.proof, checkpoint=checkpoint)))
