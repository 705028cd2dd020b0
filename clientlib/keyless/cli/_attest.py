"""`keyless attest`: signs an in-toto statement, given whole or as a predicate about files."""

import os

from keyless._hash import ALGORITHMS, hash_file
from keyless._surroundings import read_file
from keyless.cli._inputs import (
    IDENTITY,
    WHERE,
    check_place,
    digest_argument,
    reuse_of,
    where_of,
    whose_of,
    write_file,
)
from keyless.cli._options import Option, Options, UsageError
from keyless.cli._output import OK, json_line, out, shown
from keyless.cli._session import client_of, read_options
from keyless.errors import KeylessError
from keyless.values import Digest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

ABOUT = """
Sign an in-toto statement: one that is given whole (--statement), whose bytes are signed as they
are, or one made of a predicate and the files it is about (--predicate and --type). Files beside a
statement must be among its subjects.
"""

OPTIONS = (
    Option("--statement", "FILE", "the statement, JSON; its exact bytes are signed"),
    Option("--predicate", "FILE", "the predicate, JSON"),
    Option("--type --predicate-type", "TYPE", "predicate type: a URI or one of the short names"),
    Option("--bundle -b", "OUT", "where the bundle goes (default: FILE.sigstore.json)"),
    Option("--reuse", "window|never", "one certificate for many signatures, or one for each"),
    Option("--idempotency-key", "KEY", "the same key and input give the same bundle again"),
    Option("--yes -y", "", hidden=True),
    Option("--new-bundle-format", "", hidden=True),
)

# The short names that other Sigstore tools have for predicate types.
PREDICATE_TYPES = {
    "slsaprovenance": "https://slsa.dev/provenance/v0.2",
    "slsaprovenance02": "https://slsa.dev/provenance/v0.2",
    "slsaprovenance1": "https://slsa.dev/provenance/v1",
    "link": "https://in-toto.io/Link/v1",
    "spdx": "https://spdx.dev/Document",
    "spdxjson": "https://spdx.dev/Document",
    "cyclonedx": "https://cyclonedx.org/bom",
    "vuln": "https://cosign.sigstore.dev/attestation/vuln/v1",
    "openvex": "https://openvex.dev/ns",
    "custom": "https://cosign.sigstore.dev/attestation/v1",
}


def predicate_type_of(text: str) -> str:
    """Return the URI that *text* is, or is the short name of.

    Raises:
        UsageError: it is neither.
    """
    if ":" in text:
        return text
    if text not in PREDICATE_TYPES:
        raise UsageError(f"{text} is no predicate type: a URI, or {', '.join(PREDICATE_TYPES)}")
    return PREDICATE_TYPES[text]


def run(command: str, argv: "list[str]") -> int:
    """Sign the statement that the command line describes; return the exit code."""
    options = read_options(
        command,
        argv,
        "[FILE ...]",
        ABOUT,
        (("attesting", OPTIONS), ("identity", IDENTITY), ("where", WHERE)),
    )
    if options is None:
        return OK
    content = _content(options)
    output = _output(options)
    named = [options.text("statement"), options.text("predicate"), *options.words]
    check_place(output, beside=[name for name in named if name is not None])
    with client_of(options) as client:
        result = client.attest(
            **content,
            where=where_of(options, os.environ),
            **whose_of(options, os.environ).arguments(),
            reuse=reuse_of(options),
            idempotency_key=options.text("idempotency_key"),
        )
    write_file(output, result.bundle)
    if options.flag("json"):
        facts = result.as_dict()
        del facts["bundle"]
        json_line({"ok": True, "bundle": output, **facts})
    elif not options.flag("quiet") and output != "-":
        logged = ", ".join(f"{shown(entry.log)} #{entry.log_index}" for entry in result.entries)
        out(f"attested as {shown(result.identity)} ({shown(result.issuer)}), {logged}")
        out(f"  -> {shown(output)}")
    return OK


def _content(options: Options) -> "dict[str, Any]":
    """Return what is attested, as Client.attest takes it."""
    statement, predicate = options.text("statement"), options.text("predicate")
    kind = options.text("type")
    if statement is not None and predicate is None:
        if kind is not None:
            raise UsageError("--type goes with --predicate; a statement names its own")
        content = read_file(statement, what="--statement")
        if options.words:
            _check_subjects(content, options.words)
        return {"statement": content}
    if predicate is None or statement is not None:
        raise UsageError("give either --statement, or --predicate with --type")
    if kind is None:
        raise UsageError("--predicate needs its --type")
    if not options.words:
        raise UsageError("name the files that the predicate is about")
    return {
        "predicate": read_file(predicate, what="--predicate"),
        "predicate_type": predicate_type_of(kind),
        "subjects": [_subject(word) for word in options.words],
    }


def _check_subjects(statement: bytes, words: "list[str]") -> None:
    """Check that a statement is about the artifacts beside it, one of which gets its bundle.

    Raises:
        KeylessError: ``usage`` if it is not, ``file_error`` if a file cannot be read.
    """
    import json

    try:
        digests = [{**subject["digest"]} for subject in json.loads(statement)["subject"]]
        named = {name for digest in digests for name in digest if name in ALGORITHMS}
    except (ValueError, KeyError, TypeError, RecursionError):
        return  # the daemon says what is wrong with it
    for word in words:
        artifact = _subject(word)[1]
        if isinstance(artifact, Digest):
            found = {artifact.algorithm: artifact.value}
        else:
            found = hash_file(artifact, sorted(named) or ("sha256",))
        if not any(digest.get(name) == found[name].hex() for digest in digests for name in found):
            raise KeylessError("usage", f"the statement is not about {word}")


def _output(options: Options) -> str:
    """Return where the bundle goes."""
    output = options.text("bundle")
    if output is not None:
        return output
    beside = options.words[0] if options.words else options.text("statement")
    if beside is None or beside == "-" or not os.path.exists(beside):
        raise UsageError("say where the bundle goes: --bundle OUT")
    return f"{beside}.sigstore.json"


def _subject(word: str) -> "tuple[str, str | Digest]":
    given = None if word == "-" or os.path.exists(word) else digest_argument(word)
    if given is None:
        return os.path.basename(word), word
    return word, Digest(*given)
