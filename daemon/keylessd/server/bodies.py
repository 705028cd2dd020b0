"""Message bodies to requests of the operations, and results back to bodies. Pure; runs nothing.

The bodies have passed the protocol's own table of shapes before they come here, so a missing
field is a fault of ours; what remains to be checked is what the shapes cannot say.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from keyless.wire import printable
from keylessd.core.digests import Digest, HashAlgorithm
from keylessd.core.legacy import Detached
from keylessd.core.statement import Subject
from keylessd.core.verify import Verified, VerifiedEntry, VerifiedTime, VerifyOptions
from keylessd.errors import InvalidInputError, TokenError
from keylessd.policy.expect import ExpectedSigner
from keylessd.secret import Secret
from keylessd.trust.where import Urls, Where

if TYPE_CHECKING:
    from keylessd.errors import StepReport
    from keylessd.ops.sign import SignResult
    from keylessd.server.files import FileCache

# A checked body: its shape is in keyless.wire.OPERATIONS, which no static type expresses.
Body = Mapping[str, Any]
Attachments = Mapping[str, bytes]

MAX_TOKEN: Final = 64 << 10  # bytes; real ones have 1 to 4 KiB
MAX_BATCH: Final = 1024  # subjects
MAX_SUBJECT_NAME: Final = 1024  # characters
MAX_REPORT: Final = 24 << 10  # bytes of what the steps of a verification found; a head has 64 KiB
MAX_FACTS: Final = 100  # of one step
MAX_FACT: Final = 500  # characters
TEXT_OVERHEAD: Final = 5  # bytes that a text has in a head besides its own

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


def options_of(body: Body, *, managed: bool) -> VerifyOptions:
    """Return what a ``verify`` body demands, over the defaults.

    Args:
        body: The request's.
        managed: Whether the signer is expected to be a managed key, which needs no time unless
            the body asks for one.

    Raises:
        InvalidInputError: certificate transparency is asked of a managed key.
    """
    asked = dict(body.get("options", {}))
    if managed and asked.pop("sct_threshold", 0):
        raise InvalidInputError(
            "a managed key has no certificate that a log could have seen",
            hint="leave out --sct-threshold, or expect an identity in place of --key",
        )
    if managed and "time_threshold" in asked:
        asked["managed_time_threshold"] = asked.pop("time_threshold")
    return VerifyOptions(**asked, explain=body.get("explain", False))


def detached_of(attachments: Attachments) -> Detached:
    """Return the parts of a signature that came in files of their own."""
    return Detached(
        signature=attachments.get("signature"),
        certificate=attachments.get("certificate"),
        chain=attachments.get("certificate_chain"),
        timestamp=attachments.get("timestamp"),
    )


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
        "form": verified.form,
        "omitted": list(verified.omitted),
        "trusted_root": verified.trusted_root,
    }
    if verified.report:
        body["report"] = report_body(verified.report)
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


def report_body(report: Iterable[StepReport]) -> list[dict[str, object]]:
    """Return what the steps found, as much of it as surely fits into a head."""
    left = MAX_REPORT
    rows: list[dict[str, object]] = []
    for step in report:
        facts: list[str] = []
        for fact in step.facts:
            shown = fact if len(fact) <= MAX_FACT else fact[: MAX_FACT - 3] + "..."
            left -= len(shown.encode("utf-8", "surrogatepass")) + TEXT_OVERHEAD
            if left < 0 or len(facts) == MAX_FACTS:
                break
            facts.append(shown)
        rows.append({"step": step.name, "facts": facts})
    return rows


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
