"""`keyless sign`: one bundle per file, or one for all of them."""

import errno
import os

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
from keyless.cli._output import (
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
from keyless.values import Digest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from keyless._client import Client
    from keyless.cli._inputs import Whose
    from keyless.values import SignResult, Where

ABOUT = """
Sign files, or artifacts named by their digest. The files stay here: the daemon is sent their
digests. FILE's bundle is written to FILE.sigstore.json.

The identity is that of --identity-token, else what the environment has: SIGSTORE_ID_TOKEN, GitHub
Actions, GitLab, Buildkite, CircleCI, a token file; else one that the daemon has: whom --identity,
KEYLESS_IDENTITY or the git repository's keyless.identity names, or the default one.
"""

OPTIONS = (
    Option("--bundle -b", "OUT", "where the bundle goes (one artifact, or --batch)"),
    Option("--output-directory", "DIR", "where the bundles go instead of beside the files"),
    Option("--reuse", "window|never", "one certificate for many signatures, or one for each"),
    Option("--batch", "", "one signature and one bundle for all files (an in-toto statement)"),
    Option("--algorithm", "NAME", "digest to sign: sha256 (default), sha384 or sha512"),
    Option("--idempotency-key", "KEY", "the same key and file give the same bundle again"),
    # What other Sigstore commands need and this one does not.
    Option("--yes -y", "", hidden=True),
    Option("--overwrite", "", hidden=True),
    Option("--new-bundle-format", "", hidden=True),
)


def run(command: str, argv: "list[str]") -> int:
    """Sign what the command line names; return the exit code."""
    options = read_options(
        command,
        argv,
        "FILE|sha256:HEX ...",
        ABOUT,
        (("signing", OPTIONS), ("identity", IDENTITY), ("where", WHERE)),
    )
    if options is None:
        return OK
    if not options.words:
        raise UsageError("name at least one file or digest to sign")
    jobs = _jobs(options)
    where = where_of(options, os.environ)
    whose = whose_of(options, os.environ)
    with client_of(options) as client:
        if options.flag("batch"):
            return _sign_batch(client, jobs, options, where, whose)
        return _sign_each(client, jobs, options, where, whose)


class _Job:
    """One thing to sign: its name, what the client takes for it, where its bundle goes."""

    __slots__ = ("artifact", "name", "output")

    def __init__(self, name: str, artifact: "str | Digest", output: "str | None") -> None:
        self.name = name
        self.artifact = artifact
        self.output = output


def _jobs(options: Options) -> "list[_Job]":
    """Return what is to be signed, each with a place of its own for its bundle.

    A file that is named twice is signed once. One in whose place another one's bundle comes (as
    in a second ``keyless sign dist/*``) is not signed: its signature would be of what is gone.

    Raises:
        KeylessError: ``usage`` if two bundles would be written to one place.
    """
    jobs = [_job(word, options) for word in dict.fromkeys(options.words)]
    if options.flag("batch"):
        return jobs
    places: dict[str, _Job] = {}
    for job in jobs:
        if job.output in (None, "-"):
            continue
        other = places.setdefault(_place(job.output or ""), job)
        if other is not job:
            raise UsageError(f"{other.name} and {job.name} would both have the bundle {job.output}")
    kept = []
    for job in jobs:
        owner = places.get(_place(job.name)) if isinstance(job.artifact, str) else None
        if owner is None or owner is job:
            kept.append(job)
        elif not options.flag("quiet"):
            becomes = f"{shown(job.name)} is the bundle of {shown(owner.name)}"
            err(f"keyless: {becomes}, and is not signed")
    return kept


def _place(path: str) -> str:
    try:
        return os.path.abspath(path)
    except OSError:  # the working directory was removed
        return path


def _job(word: str, options: Options) -> _Job:
    output = options.text("bundle")
    if output is not None and len(options.words) > 1 and not options.flag("batch"):
        raise UsageError("--bundle names one file; use --output-directory, or --batch for one")
    given = None if word == "-" or os.path.exists(word) else digest_argument(word)
    directory = options.text("output_directory")
    if output is None and directory is not None:
        stem = os.path.basename(word) if given is None else given[1].hex()
        output = f"{directory}/{stem}.sigstore.json"
    if given is None and word != "-":
        return _Job(word, word, output or f"{word}.sigstore.json")
    if output is None and not options.flag("batch"):
        raise UsageError(f"{word} has no file beside which its bundle could lie: use --bundle OUT")
    return _Job(word, word if given is None else Digest(*given), output)


class _Feed:
    """Hands out what is to be signed, one after another, until there is no room for bundles."""

    __slots__ = ("_jobs", "is_full")

    def __init__(self, jobs: "list[_Job]") -> None:
        self._jobs = jobs
        self.is_full = False

    def __iter__(self) -> "Iterator[str | Digest | KeylessError]":
        for job in self._jobs:
            if self.is_full:
                return
            yield _artifact(job)

    def write(self, position: int, content: bytes) -> "KeylessError | None":
        """Write a bundle to its place; return why that failed."""
        try:
            write_file(self._jobs[position].output or "-", content)
        except KeylessError as error:
            # What is signed already is still reported; no more is begun.
            self.is_full = self.is_full or error.details.get("errno") in _FULL
            return error
        return None


# What one bundle could not be written for, and no other could either.
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


def _artifact(job: _Job) -> "str | Digest | KeylessError":
    """Return what is signed, or why that had better not be begun."""
    try:
        check_place(job.output or "-", beside=[job.name] if isinstance(job.artifact, str) else ())
    except KeylessError as error:
        return error
    return job.artifact


def _sign_each(
    client: "Client", jobs: "list[_Job]", options: Options, where: "Where", whose: "Whose"
) -> int:
    progress = Progress("signed", len(jobs), quiet=options.flag("quiet") or options.flag("json"))
    worst = OK
    feed = _Feed(jobs)
    told = 0
    try:
        for position, result in _results(client, feed, options, where, whose):
            job = jobs[position]
            told += 1
            if isinstance(result, KeylessError):
                error: KeylessError | None = result
            else:
                error = feed.write(position, result.bundle)
            progress.step()
            progress.close()
            if error is not None:
                _report_error(job.name, error, options)
                worst = worst or exit_code(error)
                if error.code in _HOPELESS:
                    break
            elif not isinstance(result, KeylessError):
                _report(job.name, job.output or "-", result, options)
    finally:
        progress.close()
    if told < len(jobs):
        room = ": there is no room for bundles" if feed.is_full else ""
        err(f"keyless: {len(jobs) - told} more were not signed{room}")
    return worst


_HOPELESS = (
    "login_required",
    "identity_unavailable",
    "locked",
    "token_malformed",
    "token_expired",
    "token_audience",
    "token_unverified_email",
    "token_rejected",
    "no_service",
    "ledger_unavailable",
    *WRONG_FOR_ALL,
)


def _results(
    client: "Client",
    artifacts: _Feed,
    options: Options,
    where: "Where",
    whose: "Whose",
) -> "Iterable[tuple[int, SignResult | KeylessError]]":
    reuse = reuse_of(options)
    algorithm = options.text("algorithm") or "sha256"
    if algorithm not in ("sha256", "sha384", "sha512"):
        raise UsageError(f"--algorithm takes sha256, sha384 or sha512, not {algorithm}")
    key = options.text("idempotency_key")
    if key is None:
        return client.sign_many(
            artifacts,
            where=where,
            **whose.arguments(),
            reuse=reuse,
            algorithm=algorithm,
        )
    first, *others = artifacts
    if others:
        raise UsageError("--idempotency-key goes with one artifact")
    if isinstance(first, KeylessError):
        raise first
    result = client.sign(
        first,
        where=where,
        **whose.arguments(),
        reuse=reuse,
        algorithm=algorithm,
        idempotency_key=key,
    )
    return [(0, result)]


def _sign_batch(
    client: "Client", jobs: "list[_Job]", options: Options, where: "Where", whose: "Whose"
) -> int:
    from keyless.wire._limits import MAX_BATCH

    if len(jobs) > MAX_BATCH:
        raise UsageError(f"--batch takes {MAX_BATCH} artifacts at most, not {len(jobs)}")
    output = options.text("bundle")
    if output is None:
        raise UsageError("--batch writes one bundle: say where with --bundle OUT")
    check_place(output, beside=[job.name for job in jobs if isinstance(job.artifact, str)])
    result = client.sign_batch(
        [(job.name, job.artifact) for job in jobs],
        where=where,
        **whose.arguments(),
        reuse=reuse_of(options),
        idempotency_key=options.text("idempotency_key"),
    )
    write_file(output, result.bundle)
    _report(f"{len(jobs)} artifacts", output, result, options)
    return OK


def _report(name: str, output: str, result: "SignResult", options: Options) -> None:
    if options.flag("json"):
        facts = result.as_dict()
        del facts["bundle"]
        json_line({"ok": True, "artifact": name, "bundle": output, **facts})
    elif not options.flag("quiet") and output != "-":
        logged = ", ".join(f"{shown(entry.log)} #{entry.log_index}" for entry in result.entries)
        out(f"{shown(name)}: signed as {shown(result.identity)} ({shown(result.issuer)}), {logged}")
        out(f"  -> {shown(output)}")


def _report_error(name: str, error: KeylessError, options: Options) -> None:
    if options.flag("json"):
        json_line({"ok": False, "artifact": name, "error": error_value(error)})
    complain(error, about=name)
