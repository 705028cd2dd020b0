"""What each step of a verification found, in words for people. Asks nothing, proves nothing.

One function for each step of core.verify, called after it passed. The texts may change; programs
read the facts of `keylessd.core.verified.Verified`.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.asymmetric import ec, rsa

from keylessd.core.bundle import BundleVersion, MessageSignature
from keylessd.core.keys import spki

if TYPE_CHECKING:
    from datetime import datetime

    from keylessd.core.case import Case
    from keylessd.core.inclusion import LoggedEntry
    from keylessd.core.keys import PublicKey

_SHOWN_NAMES = 5
_FORMS = {
    BundleVersion.COSIGN: "a JSON file of the kind that cosign wrote before version 3",
    BundleVersion.DETACHED: "a signature in a file of its own",
}


def form(case: Case) -> list[str]:
    """Say what the bundle consists of."""
    bundle = case.bundle
    kind = _FORMS.get(bundle.version, f"a Sigstore bundle of version {bundle.version.value}")
    what = (
        "a signature over an artifact"
        if isinstance(bundle.content, MessageSignature)
        else f"a signed payload of type {bundle.content.payload_type}"
    )
    entries = _count(bundle.entries, "log entry", "log entries")
    return [kind, what, f"{entries}, {_count(bundle.timestamps, 'timestamp', 'timestamps')}"]


def certificate(case: Case) -> list[str]:
    """Say which certificate it is; whether it can be trusted is said later."""
    leaf = case.certificate
    start, end = _time(leaf.not_valid_before_utc), _time(leaf.not_valid_after_utc)
    number = f"serial number {leaf.serial_number:x}, valid from {start} to {end}"
    return [number, key_name(case.key)]


def key(case: Case) -> list[str]:
    """Say which key was given."""
    fingerprint = hashlib.sha256(spki(case.key)).hexdigest()
    return [f"{key_name(case.key)}, SHA-256 {fingerprint}"]


def log_entries(case: Case) -> list[str]:
    """Say where it is logged, and how that is known."""
    facts = [fact for logged in case.logged for fact in _logged(logged)]
    passed_over = len(case.bundle.entries) - len(case.logged)
    if passed_over:
        facts.append(f"{passed_over} of logs that the trust root does not name, passed over")
    return facts


def _logged(logged: LoggedEntry) -> list[str]:
    entry, log, checkpoint = logged.entry, logged.log, logged.checkpoint
    facts = [f"entry {entry.log_index} of {log.base_url} ({entry.kind} {entry.version})"]
    if checkpoint is None:
        facts.append("no proof of inclusion: the log's promise is taken for it")
    elif entry.proof is not None:
        facts.append(
            f"leaf {entry.proof.log_index} of {checkpoint.size}, by {len(entry.proof.hashes)} "
            f"hashes up to the root {checkpoint.root_hash.hex()}, which the log signed"
        )
        own = checkpoint.origin.partition(" - ")[0]
        if own != log.name:
            facts.append(f"the log calls itself {own}")
        others = [line.name for line in checkpoint.signatures if line.name != own]
        if others:
            more = "" if len(others) <= _SHOWN_NAMES else f" and {len(others) - _SHOWN_NAMES} more"
            facts.append(
                f"also signed in the name of {', '.join(others[:_SHOWN_NAMES])}{more}; a trust "
                "root names no witnesses, so these are not verified"
            )
    if logged.integrated_time is not None:
        facts.append(f"the log signed that it took it at {_time(logged.integrated_time)}")
    return facts


def timestamps(case: Case) -> list[str]:
    """Say which timestamps count."""
    facts = [f"{stamp.authority or 'an authority'} saw the signature at {_time(stamp.time)}"
             for stamp in case.timestamps]  # fmt: skip
    passed_over = len(case.bundle.timestamps) - len(case.timestamps)
    if passed_over:
        facts.append(f"{passed_over} that this trust root cannot judge, passed over")
    return facts or ["none"]


def times(case: Case) -> list[str]:
    """Say when it was signed, according to whom."""
    facts = [f"{_time(moment.time)} according to {moment.authority}" for moment in case.times()]
    return facts or ["none is known, and none is needed"]


def clock(case: Case) -> list[str]:
    """Say that nothing is ahead of the clock."""
    del case
    return ["no time is ahead of the clock"]


def key_validity(case: Case) -> list[str]:
    """Say that the key was in use."""
    del case
    return ["the key was in use at each of the times"]


def chain(case: Case) -> list[str]:
    """Say who issued the certificate."""
    above = [part.subject.rfc4514_string() for part in case.path[1:]]
    moments = ", ".join(_time(moment.time) for moment in case.times())
    return [f"issued by {' below '.join(above)}", f"all of them valid at {moments}"]


def profile(case: Case) -> list[str]:
    """Say what the certificate is for."""
    del case
    return ["it is for digital signatures and code signing, and no authority's"]


def scts(case: Case) -> list[str]:
    """Say who saw the certificate."""
    return [f"{sct.log} promised to publish it at {_time(sct.time)}" for sct in case.scts]


def signer(case: Case) -> list[str]:
    """Say whom the certificate names."""
    if case.signer is None:
        return []
    facts = [f"{case.signer.identity} ({case.signer.kind})", f"vouched for by {case.signer.issuer}"]
    facts += [
        f"{name}: {value}" for name, value in case.signer.extensions.items() if name != "issuer"
    ]
    return facts


def signature(case: Case) -> list[str]:
    """Say what was signed."""
    if case.signed is None:
        return [f"{key_name(case.key)} over the envelope's encoding"]
    over = "artifact" if isinstance(case.bundle.content, MessageSignature) else "envelope"
    return [f"{key_name(case.key)} over the {over}'s digest {case.signed}"]


def entry_bodies(case: Case) -> list[str]:
    """Say that the log has this and not something else."""
    return [
        f"entry {logged.entry.log_index} holds this signature, this signer and what was signed"
        for logged in case.logged
    ]


def statement(case: Case) -> list[str]:
    """Say what is stated about the artifact."""
    if case.statement is None:
        return ["none: the artifact itself was signed"]
    facts = [f"of type {case.statement.predicate_type}"]
    if case.statement.digest is not None:
        facts.append(f"about the artifact {case.statement.digest}")
    return facts


def identity(case: Case) -> list[str]:
    """Say who was accepted."""
    return [] if case.signer is None else [f"{case.signer.identity} is accepted"]


# --- words ---------------------------------------------------------------------------------


def key_name(key: PublicKey) -> str:
    """Return the kind of a key as people call it."""
    if isinstance(key, ec.EllipticCurvePublicKey):
        return f"ECDSA on P-{key.curve.key_size}"
    if isinstance(key, rsa.RSAPublicKey):
        return f"RSA of {key.key_size} bits"
    return "Ed25519"


def _count(items: tuple[object, ...], one: str, many: str) -> str:
    return f"{len(items)} {one if len(items) == 1 else many}"


def _time(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S}Z"
