"""Message bodies to requests of the operations, and results back to bodies. Pure; runs nothing.

The bodies have passed the protocol's own table of shapes before they come here, so a missing
field is a fault of ours; what remains to be checked is what the shapes cannot say.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

from keyless.wire import printable
from keylessd.core.digests import Digest, HashAlgorithm
from keylessd.core.statement import Subject
from keylessd.core.verify import Verified, VerifiedEntry, VerifiedTime, VerifyOptions
from keylessd.errors import InvalidInputError, TokenError
from keylessd.policy.expect import ExpectedSigner
from keylessd.secret import Secret
from keylessd.trust.where import Urls, Where

if TYPE_CHECKING:
    from datetime import datetime

    from keylessd.ops.sign import SignResult
    from keylessd.server.files import FileCache

# A checked body: its shape is in keyless.wire.OPERATIONS, which no static type expresses.
Body = Mapping[str, Any]
Attachments = Mapping[str, bytes]

MAX_TOKEN: Final = 64 << 10  # bytes; real ones have 1 to 4 KiB
MAX_BATCH: Final = 1024  # subjects
MAX_SUBJECT_NAME: Final = 1024  # characters

_SUBJECT_LINE: Final = re.compile(r"([0-9a-f]{64})  (.+)")


def where_of(body: Body, attachments: Attachments, files: FileCache) -> Where:
    """Return which Sigstore the request means, its files' contents included.

    Raises:
        UnknownFileError: a file is named by a hash that nobody sent yet.
        InvalidInputError: an attachment does not have the hash that is stated for it.
    """
    where = body.get("where", {})

    def content(name: str) -> bytes | None:
        sha256 = where.get(name)
        return None if sha256 is None else files.content(name, sha256, attachments)

    return Where(
        instance=where.get("instance"),
        trusted_root=content("trusted_root"),
        signing_config=content("signing_config"),
        trust_config=content("trust_config"),
        urls=Urls(
            fulcio=where.get("fulcio_url"),
            rekor=where.get("rekor_url"),
            oidc_issuer=where.get("oidc_issuer"),
            tsa=where.get("timestamp_server_url"),
        ),
    )


def token_of(attachments: Attachments) -> Secret | None:
    """Return the identity token that came with the request, if one did.

    Raises:
        TokenError: ``token_malformed`` if it cannot be a token at all.
    """
    raw = attachments.get("identity_token")
    if raw is None:
        return None
    text = raw.strip()
    if not text or len(text) > MAX_TOKEN or not text.isascii():
        raise TokenError("token_malformed", f"an identity token of {len(text)} bytes is no token")
    return Secret(text.decode("ascii"))


def digest_of_body(value: Body) -> Digest:
    """Return the digest of a ``{"alg", "value"}`` map."""
    return Digest(HashAlgorithm(value["alg"]), value["value"])


def digests_of(value: Mapping[str, bytes]) -> dict[HashAlgorithm, Digest]:
    """Return the digests of a map from algorithm to value."""
    return {
        HashAlgorithm(name): Digest(HashAlgorithm(name), digest) for name, digest in value.items()
    }


def batch_subjects(raw: bytes) -> list[Subject]:
    """Read the lines ``HEX␣␣NAME``, as sha256sum writes them.

    Raises:
        InvalidInputError: not UTF-8, a line of another form, no line or too many, or a name
            that stands there twice with different digests.
    """
    # Counted before they are made: a list of so many blank lines would be 128 MB.
    if raw.count(b"\n") > 2 * MAX_BATCH:
        raise InvalidInputError(f"more lines of subjects than {MAX_BATCH} subjects can have")
    try:
        # Not splitlines(), which also parts lines at characters that a file name may have.
        lines = [line.removesuffix("\r") for line in raw.decode().split("\n")]
    except UnicodeDecodeError:
        raise InvalidInputError("the list of subjects is not UTF-8 text") from None
    lines = [line for line in lines if line]
    if not 0 < len(lines) <= MAX_BATCH:
        raise InvalidInputError(f"{len(lines)} subjects; from 1 to {MAX_BATCH} are possible")
    named: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        match = _SUBJECT_LINE.fullmatch(line)
        if match is None or printable(match[2], MAX_SUBJECT_NAME) != match[2]:
            raise InvalidInputError(f"line {number} of the subjects is not a digest and a name")
        if named.setdefault(match[2], match[1]) != match[1]:
            raise InvalidInputError(f"line {number} of the subjects names {match[2]!r} again")
    return [Subject(name, {"sha256": value}) for name, value in named.items()]


def subjects_of(values: Iterable[Body]) -> list[Subject]:
    """Return the subjects of an ``attest`` body."""
    return [Subject(value["name"], {value["alg"]: value["value"].hex()}) for value in values]


def accepted_of(body: Body) -> tuple[ExpectedSigner, ...]:
    """Return whom the request accepts as the signer.

    Raises:
        InvalidInputError: an expression does not compile, or a part is missing.
    """
    return tuple(
        ExpectedSigner(
            identity=signer.get("identity"),
            identity_regexp=signer.get("identity_regexp"),
            issuer=signer.get("issuer"),
            issuer_regexp=signer.get("issuer_regexp"),
            extensions=signer.get("extensions", {}),
        )
        for signer in body.get("accepted", ())
    )


def options_of(body: Body) -> VerifyOptions:
    """Return the thresholds of a ``verify`` body over their defaults."""
    return VerifyOptions(**body.get("options", {}))


def epoch(time: datetime) -> int:
    """Return whole seconds since 1970, as every time on the wire is given."""
    return int(time.timestamp())


def signed_body(result: SignResult) -> dict[str, object]:
    """Return what the replies of all signing operations share."""
    return {
        "identity": result.identity,
        "identity_kind": result.identity_kind,
        "issuer": result.issuer,
        "entries": [entry_body(entry) for entry in result.entries],
        "times": [time_body(time) for time in result.times],
        "certificate": {
            "serial": result.certificate_serial,
            "not_before": epoch(result.not_before),
            "not_after": epoch(result.not_after),
            "reused": result.certificate_reused,
        },
        "instance": result.instance,
    }


def verified_body(verified: Verified) -> dict[str, object]:
    """Return the facts of a verification; those that do not apply are left out."""
    body: dict[str, object] = {
        "entries": [entry_body(entry) for entry in verified.entries],
        "times": [time_body(time) for time in verified.times],
        "scts": [{"log": sct.log, "time": epoch(sct.time)} for sct in verified.scts],
        "steps": list(verified.steps),
    }
    if verified.signer is not None:
        body["identity"] = verified.signer.identity
        body["identity_kind"] = verified.signer.kind
        body["issuer"] = verified.signer.issuer
        body["extensions"] = dict(verified.signer.extensions)
    if verified.key_sha256 is not None:
        body["key_sha256"] = verified.key_sha256
    if verified.digest is not None:
        body["digest"] = {
            "alg": verified.digest.algorithm.value,
            "value": verified.digest.value,
        }
    if verified.predicate_type is not None:
        body["predicate_type"] = verified.predicate_type
    return body


def entry_body(entry: VerifiedEntry) -> dict[str, object]:
    """Return one log entry."""
    body: dict[str, object] = {
        "log": entry.log,
        "log_index": entry.log_index,
        "kind": entry.kind,
        "version": entry.version,
    }
    if entry.integrated_time is not None:
        body["integrated_time"] = epoch(entry.integrated_time)
    return body


def time_body(time: VerifiedTime) -> dict[str, object]:
    """Return one proven time."""
    return {"time": epoch(time.time), "source": time.source, "authority": time.authority}
