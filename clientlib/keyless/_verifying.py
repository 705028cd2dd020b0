"""The calls on signatures that exist, verifying and showing them; see `_calls`. Pure likewise.

A module of its own, since whoever signs does not need it.
"""

from keyless._calls import Call, Place, evidence
from keyless.errors import KeylessError
from keyless.values import Digest, Inspection, VerifyResult

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from keyless._hash import Artifact
    from keyless.values import AcceptedSigner, Detached, Thresholds
    from keyless.wire import Reply


def verify(
    digests: "Sequence[Digest]",
    bundle: "bytes | Detached",
    *,
    place: Place,
    accepted: "Sequence[AcceptedSigner]" = (),
    key: "bytes | None" = None,
    predicate_type: "str | None" = None,
    thresholds: "Thresholds | None" = None,
    artifact: "Artifact | None" = None,
    explain: bool = False,
) -> Call:
    """Verify one bundle. The value is a VerifyResult.

    Args:
        digests: Of the artifact, each by another algorithm.
        bundle: JSON bytes, or a signature in files of its own.
        place: Whose trust root.
        accepted: Signers of whom one must have signed; empty with *key*.
        key: A managed public key, PEM, instead.
        predicate_type: What an attestation must be about, or None.
        thresholds: How many logs, times and SCTs, or None.
        artifact: What they were made of, to make another if the bundle asks for it.
        explain: Ask for what each step found.
    """
    body: dict[str, Any] = {"digests": {digest.algorithm: digest.value for digest in digests}}
    if place.body:
        body["where"] = place.body
    if accepted:
        body["accepted"] = [_signer(signer) for signer in accepted]
    if predicate_type is not None:
        body["predicate_type"] = predicate_type
    if thresholds is not None:
        asked = {
            "tlog_threshold": thresholds.tlogs,
            "time_threshold": thresholds.times,
            "sct_threshold": thresholds.scts,
            "promise_only": thresholds.promise_only,
        }
        body["options"] = {name: value for name, value in asked.items() if value is not None}
    if explain:
        body["explain"] = True
    attachments = _existing(bundle)
    if key is not None:
        attachments["key"] = key
    call = Call("verify", body, read=_read_verified, attachments=attachments, files=place.files)
    # From a digest alone no other can be made; standard input cannot be read twice.
    if not isinstance(artifact, Digest) and artifact != "-":
        call.artifact = artifact
    return call


def inspect(bundle: "bytes | Detached") -> Call:
    """Show what is in a bundle. The value is an Inspection."""
    return Call("inspect", {}, read=_read_inspection, attachments=_existing(bundle))


def _existing(bundle: "bytes | Detached") -> "dict[str, bytes]":
    """Return the attachments that a signature which exists goes in."""
    if isinstance(bundle, bytes):
        return {"bundle": bundle}
    parts = {name: getattr(bundle, name) for name in bundle.__slots__}
    return {name: part for name, part in parts.items() if part is not None}


def _signer(signer: "AcceptedSigner") -> "dict[str, Any]":
    return {name: getattr(signer, name) for name in signer.__slots__ if getattr(signer, name)}


# --- replies ---------------------------------------------------------------------------------


def _read_verified(reply: "Reply") -> VerifyResult:
    facts = {**reply.body, **evidence(reply)}
    if (digest := reply.body.get("digest")) is not None:
        facts["digest"] = Digest(digest["alg"], digest["value"])
    return VerifyResult(**facts, statement=reply.attachments.get("statement"))


def _read_inspection(reply: "Reply") -> Inspection:
    import json  # noqa: PLC0415  # only whoever inspects needs it

    try:
        facts = json.loads(reply.attachments["inspection"])
    except ValueError:
        facts = None
    if not isinstance(facts, dict):
        raise KeylessError("daemon_failed", "the daemon's answer cannot be read")
    return Inspection(form=reply.body.get("form"), facts=facts)
