"""`keyless verify`: checks artifacts against their bundles and says what they prove."""

import os

from keyless._surroundings import read_file
from keyless.cli._detached import PARTS, WHAT, detached_of
from keyless.cli._inputs import WHERE, digest_argument, where_of
from keyless.cli._options import Option, Options, UsageError
from keyless.cli._output import (
    FAILED,
    OK,
    WRONG_FOR_ALL,
    Progress,
    complain,
    err,
    error_value,
    exit_code,
    json_line,
    out,
    shown,
)
from keyless.cli._session import client_of, read_options
from keyless.errors import KeylessError
from keyless.values import AcceptedSigner, Digest, Thresholds

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from keyless.values import Detached, VerifyResult

ABOUT = """
Verify that somebody you name signed exactly these files. The bundle is looked for beside FILE
(FILE.sigstore.json, then FILE.sigstore) unless --bundle names it. Nothing is asked of the network.
Older forms are verified too: the JSON that cosign wrote with --bundle, and --signature with
--certificate or --key.

Say whom you expect: --certificate-identity with --certificate-oidc-issuer, or --key. Either may be
given several times; each identity is then accepted from each issuer. Expressions must match the
whole text.
"""

OPTIONS = (
    Option("--bundle -b", "BUNDLE", "the bundle (one artifact), also cosign's JSON of old"),
    Option("--signature", "FILE", "the signature alone, if there is no bundle"),
    Option("--certificate --cert", "FILE", "the signer's certificate, beside --signature"),
    Option("--certificate-chain", "FILE", "its chain; the trust root says who is trusted"),
    Option("--rfc3161-timestamp", "FILE", "a timestamp of the signature, beside --signature"),
    Option("--certificate-identity --cert-identity", "I", "who signed, exactly", many=True),
    Option("--certificate-identity-regexp", "R", "who signed, as an RE2 expression", many=True),
    Option("--certificate-oidc-issuer --cert-oidc-issuer", "URL", "who says so", many=True),
    Option("--certificate-oidc-issuer-regexp", "R", "who says so, as an expression", many=True),
    Option("--key", "FILE", "public key (PEM, DER, JSON) that signed, instead of an identity"),
    Option("--certificate-github-workflow-trigger", "EVENT", "event that ran the workflow"),
    Option("--certificate-github-workflow-sha", "SHA", "commit of the workflow"),
    Option("--certificate-github-workflow-name", "NAME", "name of the workflow"),
    Option("--certificate-github-workflow-repository", "REPO", "repository of the workflow"),
    Option("--certificate-github-workflow-ref", "REF", "ref the workflow ran on"),
    Option("--certificate-extension", "NAME=VALUE", "any certificate extension", many=True),
    Option("--type --predicate-type", "TYPE", "what an attestation must be about"),
    Option("--tlog-threshold", "N", "how many transparency logs must have it (1)"),
    Option("--timestamp-threshold", "N", "how many times must be proven (1)"),
    Option("--sct-threshold", "N", "how many certificate logs must have the certificate (1)"),
    Option("--promise-only", "", "accept old (v0.1) bundles with a log's promise and no proof"),
    Option("--require-inclusion-proof", "", "refuse whatever has a log's promise only"),
    Option(
        "--insecure-ignore-tlog --private-infrastructure",
        "",
        "accept a signature that is in no transparency log",
        key="ignore_tlog",
    ),
    Option(
        "--insecure-ignore-sct",
        "",
        "accept a certificate that no log has seen",
        key="ignore_sct",
    ),
    Option("--verbose -v", "", "show every check and what it found"),
    # Always so here.
    Option("--offline", "", hidden=True),
    Option("--new-bundle-format", "", hidden=True),
    Option("--use-signed-timestamps", "", hidden=True),
)

# What is said of a signature that was accepted without the usual evidence.
_WITHOUT = {
    "log-entries": "in NO transparency log",
    "inclusion-proof": "promised to a transparency log, inclusion NOT proven",
    "certificate-transparency": "certificate in NO transparency log",
}
_MAX_THRESHOLD = 32  # as the protocol has it
_MAX_ACCEPTED = 64  # likewise
_WORKFLOW = ("trigger", "sha", "name", "repository", "ref")


def run(command: str, argv: "list[str]") -> int:
    """Verify what the command line names; return the exit code."""
    options = read_options(
        command, argv, "FILE|sha256:HEX ...", ABOUT, (("verifying", OPTIONS), ("where", WHERE))
    )
    if options is None:
        return OK
    if not options.words:
        raise UsageError("name at least one file or digest to verify")
    for name in ("bundle", *PARTS):
        if options.text(name) is not None and len(options.words) > 1:
            option = f"--{name.replace('_', '-')}"
            raise UsageError(f"{option} names the {WHAT[name]} of one artifact")
    accepted = _accepted(options)
    key_path = options.text("key")
    if key_path is None and not accepted:
        raise UsageError(
            "say who must have signed: --certificate-identity and --certificate-oidc-issuer,"
            " or --key"
        )
    if key_path is not None and accepted:
        raise UsageError("--key and an identity exclude each other")
    kind = options.text("type")
    if kind is not None:
        from keyless.cli._attest import predicate_type_of

        kind = predicate_type_of(kind)
    return _verify_each(
        options, accepted, key=None if key_path is None else _key(key_path), kind=kind
    )


def _verify_each(
    options: Options, accepted: "list[AcceptedSigner]", *, key: "bytes | None", kind: "str | None"
) -> int:
    where = where_of(options, os.environ)
    thresholds = _thresholds(options)
    worst = OK
    told = 0
    progress = Progress(
        "verified", len(options.words), quiet=options.flag("quiet") or options.flag("json")
    )
    with client_of(options) as client:
        items = (_item(word, options) for word in options.words)
        try:
            for position, result in client.verify_many(
                items,
                accepted=accepted,
                key=key,
                where=where,
                predicate_type=kind,
                thresholds=thresholds,
                explain=options.flag("json") or options.flag("verbose"),
            ):
                name = options.words[position]
                told += 1
                progress.step()
                progress.close()
                if isinstance(result, KeylessError):
                    code = exit_code(result)
                    # That one was refused outranks whatever became of the others.
                    worst = code if code == FAILED else worst or code
                    _report_error(name, result, options)
                    if result.code in WRONG_FOR_ALL:
                        break
                else:
                    _report(name, result, options)
        finally:
            progress.close()
    if told < len(options.words):
        err(f"keyless: {len(options.words) - told} more were not verified")
    return worst


def _key(path: str) -> bytes:
    key = read_file(path, what="--key")
    if b"PRIVATE KEY-----" in key:
        raise UsageError(f"--key: {path} is a private key; to verify takes the public one")
    return key


def _item(word: str, options: Options) -> "tuple[str | Digest, bytes | Detached] | KeylessError":
    """Return what is verified and its bundle, or why there is none; that ends this item only."""
    try:
        # A file of that name wins over its reading as a digest.
        given = None if word == "-" or os.path.exists(word) else digest_argument(word)
        bundle: bytes | Detached | None = detached_of(options)
        if bundle is None:
            path = options.text("bundle") or _find_bundle(word, is_file=given is None)
            bundle = read_file(path, what="--bundle")
    except KeylessError as error:
        return error
    return (word if given is None else Digest(*given)), bundle


def _find_bundle(word: str, *, is_file: bool) -> str:
    if not is_file or word == "-":
        raise KeylessError("usage", f"{word} has no file beside which a bundle could lie: --bundle")
    for ending in (".sigstore.json", ".sigstore"):
        if os.path.exists(word + ending):
            return word + ending
    hint = "name it with --bundle, or sign the file first: keyless sign"
    if os.path.exists(f"{word}.sig"):
        hint = f"there is {word}.sig; an old signature is named with --signature and --certificate"
    raise KeylessError("file_error", f"there is no bundle {word}.sigstore.json", hint=hint)


def _accepted(options: Options) -> "list[AcceptedSigner]":
    """Return the accepted signers: every identity with every issuer that was named."""
    identities = [("identity", text) for text in options.texts("certificate_identity")]
    identities += [
        ("identity_regexp", text) for text in options.texts("certificate_identity_regexp")
    ]
    issuers = [("issuer", text) for text in options.texts("certificate_oidc_issuer")]
    issuers += [("issuer_regexp", text) for text in options.texts("certificate_oidc_issuer_regexp")]
    extensions = _extensions(options)
    if not identities and not issuers and not extensions:
        return []
    if not identities or not issuers:
        missing = "--certificate-identity" if not identities else "--certificate-oidc-issuer"
        raise UsageError(f"{missing} is missing: an identity means nothing without its issuer")
    if len(identities) * len(issuers) > _MAX_ACCEPTED:
        raise UsageError(
            f"{len(identities)} identities from {len(issuers)} issuers are"
            f" {len(identities) * len(issuers)} signers; at most {_MAX_ACCEPTED} may be accepted"
        )
    return [
        AcceptedSigner(**dict((identity, issuer)), extensions=extensions)
        for identity in identities
        for issuer in issuers
    ]


def _extensions(options: Options) -> "dict[str, str]":
    wanted: dict[str, str] = {}
    for part in _WORKFLOW:
        value = options.text(f"certificate_github_workflow_{part}")
        if value is not None:
            wanted[f"github_workflow_{part}"] = value
    for text in options.texts("certificate_extension"):
        name, equals, value = text.partition("=")
        if not equals:
            raise UsageError(f"--certificate-extension takes NAME=VALUE, not {text}")
        name = name.replace("-", "_")
        if name in wanted:
            raise UsageError(f"the certificate extension {name} is expected twice")
        wanted[name] = value
    return wanted


def _thresholds(options: Options) -> "Thresholds | None":
    tlogs = _count(options, "tlog_threshold")
    times = _count(options, "timestamp_threshold")
    scts = _count(options, "sct_threshold")
    if options.flag("ignore_tlog"):
        if tlogs is not None:
            raise UsageError("--insecure-ignore-tlog and --tlog-threshold exclude each other")
        tlogs = 0
    if options.flag("ignore_sct"):
        if scts is not None:
            raise UsageError("--insecure-ignore-sct and --sct-threshold exclude each other")
        scts = 0
    promise_only: bool | None = options.flag("promise_only") or None
    if options.flag("require_inclusion_proof"):
        if promise_only:
            raise UsageError("--promise-only and --require-inclusion-proof exclude each other")
        promise_only = False
    if tlogs is times is scts is promise_only is None:
        return None
    return Thresholds(tlogs=tlogs, times=times, scts=scts, promise_only=promise_only)


def _count(options: Options, key: str) -> "int | None":
    text = options.text(key)
    if text is None:
        return None
    if text.isascii() and text.isdigit() and len(text) <= len(str(_MAX_THRESHOLD)):
        count = int(text)
        if 1 <= count <= _MAX_THRESHOLD:
            return count
    raise UsageError(
        f"--{key.replace('_', '-')} takes a number from 1 to {_MAX_THRESHOLD}, not {text}"
    )


def _report(name: str, result: "VerifyResult", options: Options) -> None:
    if options.flag("json"):
        facts = result.as_dict()
        if result.statement is not None:
            facts["statement"] = result.statement.decode("utf-8", "replace")
        json_line({"ok": True, "artifact": name, **facts})
        return
    if options.flag("quiet"):
        return
    if result.identity is not None:
        who = f"signed by {shown(result.identity)} ({shown(result.issuer or '')})"
    else:
        who = f"signed by the key sha256:{result.key_sha256}"
    without = [_WITHOUT.get(name, f"without {shown(name)}") for name in result.omitted or ()]
    out(f"{shown(name)}: OK, {', '.join([who, *without])}")
    if options.flag("verbose"):
        for line in _told(result.report or [], result.steps):
            out(line)


def _told(report: "list[dict[str, Any]]", steps: "Sequence[str]") -> "list[str]":
    """Return the steps that passed, numbered, each with what it found."""
    facts = {step["step"]: step["facts"] for step in report}
    lines = []
    for number, name in enumerate(facts if report else steps, 1):
        lines.append(f"  {number}. {shown(name)}")
        lines += [f"       {shown(fact)}" for fact in facts.get(name, ())]
    return lines


def _report_error(name: str, error: KeylessError, options: Options) -> None:
    if options.flag("json"):
        json_line({"ok": False, "artifact": name, "error": error_value(error)})
    elif options.flag("verbose") and not options.flag("quiet"):
        for line in _told(error.report, ()):
            err(line)
        failed = error.details.get("step")
        if failed is not None:
            err(f"  {len(error.report) + 1}. {shown(str(failed))}: FAILED")
    complain(error, about=name)
