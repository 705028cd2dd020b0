"""What the commands are given: files, digests, instances, tokens. Reads files, prints nothing."""

import errno
import os
import stat
import sys

from keyless._surroundings import identity_named, read_file, where_named
from keyless.cli._options import Option, Options, UsageError
from keyless.errors import KeylessError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

    from keyless._identities import Ambient
    from keyless.values import Where

MAX_TOKEN = 65_536  # bytes; the daemon's own bound on a token
MAX_PATH = 256  # characters; what is longer and no file is no path either

WHERE = (
    Option("--instance", "NAME", "Sigstore instance: public (default), staging, sandbox, ..."),
    Option("--staging", "", hidden=True),
    Option("--trusted-root", "FILE", "TrustedRoot JSON to use instead of an instance's"),
    Option("--signing-config", "FILE", "SigningConfig JSON; goes with --trusted-root"),
    Option("--trust-config", "FILE", "both in one file (ClientTrustConfig JSON)"),
    Option("--fulcio-url", "URL", "certificate authority to use in place of the instance's"),
    Option("--rekor-url", "URL", "transparency log to use in place of the instance's"),
    Option("--oidc-issuer", "URL", "issuer to log in with in place of the instance's"),
    Option("--timestamp-server-url", "URL", "timestamp authority in place of the instance's"),
)

IDENTITY = (
    Option("--identity-token", "TOKEN", "OIDC token to sign as: the token, a file, or -"),
    Option("--identity", "WHO", "whom to sign as, of those that the daemon has: `keyless whoami`"),
    Option(
        "--identity-source --oidc-provider",
        "NAME",
        "where else a token comes from: auto (default), none, github, ...",
    ),
)


def where_of(options: Options, environ: "Mapping[str, str]") -> "Where":
    """Return which instance the command line and the environment select.

    An instance may also be named by ``KEYLESS_INSTANCE``, and the file of both trust documents
    by ``KEYLESS_TRUST_CONFIG``; what the command line says goes first, and what the repository's
    configuration says last.

    Raises:
        KeylessError: ``usage`` for options that exclude each other, ``file_error``.
    """
    from keyless.values import Where

    instance = options.text("instance")
    if options.flag("staging"):
        if instance not in (None, "staging"):
            raise KeylessError("usage", f"--staging and --instance {instance} exclude each other")
        instance = "staging"
    trusted_root = options.text("trusted_root")
    signing_config = options.text("signing_config")
    trust_config = options.text("trust_config")
    if trust_config is not None and (trusted_root is not None or signing_config is not None):
        raise KeylessError(
            "usage", "--trust-config holds both files; leave out --trusted-root, --signing-config"
        )
    if instance is not None and (trusted_root is not None or trust_config is not None):
        raise KeylessError("usage", "--instance and a trust root file exclude each other")
    documents = _document(trust_config, "--trust-config")
    if instance is None and trusted_root is None and trust_config is None:
        named = where_named(environ)
        if named is None:
            instance = _of_repository("instance", environ)
        else:
            instance, documents = named.instance, named.trust_config
    if signing_config is not None and trusted_root is None and instance is None:
        raise KeylessError("usage", "--signing-config needs --trusted-root or --instance beside it")
    return Where(
        instance=instance,
        trusted_root=_document(trusted_root, "--trusted-root"),
        signing_config=_document(signing_config, "--signing-config"),
        trust_config=documents,
        fulcio_url=options.text("fulcio_url"),
        rekor_url=options.text("rekor_url"),
        oidc_issuer=options.text("oidc_issuer"),
        timestamp_server_url=options.text("timestamp_server_url"),
    )


def _of_repository(name: str, environ: "Mapping[str, str]") -> "str | None":
    from keyless.cli._repository import repository_choice

    return repository_choice(name, environ)


def _document(path: "str | None", what: str) -> "bytes | None":
    return None if path is None else read_file(path, what=what)


class Whose:
    """Whose identity a command is about, as the command line and the environment say.

    Attributes:
        identity_token: A token, or None.
        identity: Who is meant of those that the daemon has, or None.
        ambient: What the environment grants, or None.
        source: Where token or grant came from, or None if there is neither.
    """

    __slots__ = ("ambient", "identity", "identity_token", "source")

    def __init__(
        self,
        *,
        identity_token: "str | None" = None,
        identity: "str | None" = None,
        ambient: "Ambient | None" = None,
        source: "str | None" = None,
    ) -> None:
        self.identity_token = identity_token
        self.identity = identity
        self.ambient = ambient
        self.source = source

    def arguments(self) -> "dict[str, Any]":
        """Return it as the methods of a client take it."""
        return {
            "identity_token": self.identity_token,
            "identity": self.identity,
            "ambient": self.ambient,
        }


def whose_of(options: Options, environ: "Mapping[str, str]") -> Whose:
    """Return whose identity a command is about.

    ``--identity-token`` (the token itself, a file's path, or ``-``) goes first. Else it is what
    the environment has: what ``--identity-source`` or ``KEYLESS_IDENTITY_SOURCE`` says of that,
    or the first that is there. ``--identity`` says whom a token that was brought must be for,
    else who is meant of those that the daemon has; with it a CI system is not looked for unless
    that was asked for too. Where nothing was brought and nobody named, ``KEYLESS_IDENTITY`` and
    the git repository's configuration choose among those that the daemon has.

    Raises:
        KeylessError: ``usage``, ``file_error``, ``token_malformed``, ``identity_unavailable``.
    """
    given, identity = options.text("identity_token"), options.text("identity")
    source = options.text("identity_source")
    if given is not None:
        if source is not None:
            raise KeylessError("usage", "--identity-token and --identity-source exclude each other")
        _leave_no_core()
        return Whose(
            identity_token=_given_token(given), identity=identity, source="--identity-token"
        )
    from keyless._gather import NONE, TOKEN_VARIABLES, gather

    if source is None and identity is not None:
        source = "env" if any(environ.get(name, "").strip() for name in TOKEN_VARIABLES) else NONE
    elif source is None:
        source = environ.get("KEYLESS_IDENTITY_SOURCE", "").strip() or "auto"
    found = gather(environ, source)
    if found is None:
        if identity is None:
            identity = identity_named(environ) or _of_repository("identity", environ)
        return Whose(identity=identity)
    _leave_no_core()
    return Whose(
        identity_token=found.token,
        identity=identity,
        ambient=found.ambient,
        source=found.source,
    )


def _leave_no_core() -> None:
    # Who brings no secret loads nothing for it.
    from keyless.cli._cores import leave_no_core

    leave_no_core()


def _given_token(given: str) -> str:
    token = given.strip() if _looks_like_token(given) else _token_file(given)
    if not token or not token.isascii():
        problem = "holds no token" if token else "is empty"
        raise KeylessError("token_malformed", f"--identity-token {problem}")
    return token


def _token_file(path: str) -> str:
    if ("eyJ" in path or len(path) > MAX_PATH) and not os.path.exists(path):
        # A token that was cut or pasted badly, most likely: it must not be shown.
        raise KeylessError(
            "token_malformed", "--identity-token is neither a token nor the path of a file"
        )
    raw = read_file(path, what="--identity-token", limit=MAX_TOKEN)
    return raw.decode("utf-8", "replace").strip()


def reuse_of(options: Options) -> "str | None":
    """Return what ``--reuse`` asks for, or None to leave it to the daemon's settings.

    Raises:
        UsageError: it is none of the two.
    """
    reuse = options.text("reuse")
    if reuse not in (None, "window", "never"):
        raise UsageError(f"--reuse takes window or never, not {reuse}")
    return reuse


def _looks_like_token(text: str) -> bool:
    """Return whether *text* has the form of a JWT: three base64url parts; no path looks so."""
    parts = text.strip().split(".")
    return (
        len(parts) == 3  # noqa: PLR2004  # header, payload, signature
        and parts[0].startswith("ey")
        and all(c.isalnum() or c in "-_=" for part in parts for c in part)
    )


_HEX_LENGTH = {"sha256": 64, "sha384": 96, "sha512": 128}


def digest_argument(word: str) -> "tuple[str, bytes] | None":
    """Return (algorithm, digest bytes) if *word* is a digest such as ``sha256:HEX``, else None.

    An existing file of that name wins, so the caller looks for the file first.

    Raises:
        KeylessError: ``usage`` if it begins like a digest and is none.
    """
    algorithm, colon, text = word.partition(":")
    length = _HEX_LENGTH.get(algorithm.lower())
    if not colon or length is None:
        return None
    try:
        value = bytes.fromhex(text) if len(text) == length else b""
    except ValueError:
        value = b""
    if not value:
        raise KeylessError("usage", f"{word} is no digest: {algorithm} takes {length} hex digits")
    return algorithm.lower(), value


def check_place(path: str, *, beside: "Iterable[str]" = ()) -> None:
    """Check that a bundle can be written to *path*, as far as that can be known before.

    To be asked before anything is signed: what is signed stays in a public log for good, also if
    its bundle is lost.

    Args:
        path: Where the bundle is to go; ``-`` is standard output.
        beside: Files that are read meanwhile and must stay as they are.

    Raises:
        KeylessError: ``file_error`` if it cannot be written, ``usage`` if it would take the place
            of one of *beside*.
    """
    if path == "-":
        if sys.__stdout__ is None:  # closed since the start; what takes its place loses all
            raise _unwritable(path, OSError(errno.EBADF, os.strerror(errno.EBADF)))
        return
    try:
        # What is written replaces the name, not what it may be a link to.
        for name in beside:
            if _entry(name) == _entry(path):
                raise KeylessError("usage", f"the bundle would take the place of {name}")
        _check_writable(path)
    except OSError as exc:
        hint = "bundles go elsewhere with --bundle, those of many with --output-directory"
        raise _unwritable(path, exc, hint=hint) from exc


def _entry(path: str) -> "tuple[str, str]":
    directory, name = os.path.split(path)
    return os.path.realpath(directory or "."), name


def _check_writable(path: str) -> None:
    try:
        found = os.stat(path).st_mode
    except FileNotFoundError:
        found = stat.S_IFREG
    if stat.S_ISDIR(found):
        raise OSError(errno.EISDIR, os.strerror(errno.EISDIR))
    if not stat.S_ISREG(found):
        return  # a device or a pipe; to open that may wait for somebody
    directory = os.path.dirname(path) or "."
    mode = os.stat(directory).st_mode
    if not stat.S_ISDIR(mode):
        raise OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
    if not os.access(
        directory, os.W_OK | os.X_OK, effective_ids=os.access in os.supports_effective_ids
    ):
        raise OSError(errno.EACCES, os.strerror(errno.EACCES))


def write_file(path: str, content: bytes) -> None:
    """Write *content* to *path* so that a reader sees all of it or the former file.

    Raises:
        KeylessError: ``file_error``; ``details`` has the system's ``errno``.
    """
    if path == "-":
        _write_out(content)
        return
    try:
        if os.path.exists(path) and not os.path.isfile(path):
            # A device or a pipe is written to, never replaced, and nothing can stand beside it.
            with open(path, "wb") as file:
                file.write(content)
        else:
            _replace(path, content)
    except OSError as exc:
        raise _unwritable(path, exc) from exc


def _replace(path: str, content: bytes) -> None:
    # Random, not the process id: in containers that repeats, and a command may have been killed.
    partial = f"{path}.{os.urandom(6).hex()}.tmp"
    handle = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        os.replace(partial, path)
    except BaseException:
        if os.path.exists(partial):
            os.unlink(partial)
        raise


def _unwritable(path: str, error: OSError, *, hint: "str | None" = None) -> KeylessError:
    return KeylessError(
        "file_error",
        f"cannot write {path}: {error.strerror or 'not writable'}",
        hint=hint,
        details={"errno": error.errno or 0},
    )


def _write_out(content: bytes) -> None:
    """Write *content* to standard output, all of it and after what was printed before."""
    try:
        sys.stdout.flush()
        sys.stdout.buffer.write(content)
        sys.stdout.flush()
    except BrokenPipeError:
        raise  # no failure of ours; main() knows it
    except OSError as exc:
        raise KeylessError(
            "file_error", f"cannot write the bundle: {exc.strerror or 'not writable'}"
        ) from exc
