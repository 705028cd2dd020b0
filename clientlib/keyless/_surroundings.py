"""Where to sign or verify, and as whom, if the program does not say: what the environment names.

The command and both clients read it here, so that a program and a shell beside it agree.
"""

from keyless.errors import KeylessError
from keyless.values import Where

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import TypeAlias

    from keyless._identities import Ambient

    # A token, whom of those that the daemon has, what the environment grants.
    Whose: TypeAlias = "tuple[str | None, str | None, Ambient | None]"

INSTANCE_VARIABLE = "KEYLESS_INSTANCE"
TRUST_CONFIG_VARIABLE = "KEYLESS_TRUST_CONFIG"
IDENTITY_VARIABLE = "KEYLESS_IDENTITY"

MAX_DOCUMENT = 16 << 20  # bytes; all attachments of a request together may not be longer


def instance_named(environ: "Mapping[str, str]") -> "str | None":
    """Return the name of an instance that the environment has, or None."""
    return environ.get(INSTANCE_VARIABLE) or None


def where_named(environ: "Mapping[str, str]") -> "Where | None":
    """Return the Sigstore instance that the environment names, or None if it names none.

    ``KEYLESS_INSTANCE`` is its name; else ``KEYLESS_TRUST_CONFIG`` is the path of a file with
    both trust documents.

    Raises:
        KeylessError: ``file_error`` if the file cannot be read, ``too_large``.
    """
    if instance := instance_named(environ):
        return Where(instance=instance)
    if path := environ.get(TRUST_CONFIG_VARIABLE):
        return Where(trust_config=read_file(path, what=TRUST_CONFIG_VARIABLE))
    return None


def names_file(environ: "Mapping[str, str]") -> bool:
    """Return whether where_named() would read a file, which may take a while."""
    return instance_named(environ) is None and bool(environ.get(TRUST_CONFIG_VARIABLE))


def identity_named(
    environ: "Mapping[str, str]", whose: "Whose" = (None, None, None)
) -> "str | None":
    """Return whom to sign as, of those that the daemon has; None for its default.

    ``KEYLESS_IDENTITY`` counts only where nobody was named and nothing was brought: what chooses
    among the daemon's identities says nothing about a token.

    Args:
        environ: The environment.
        whose: Token, identity and grant that the program gives.
    """
    if whose == (None, None, None):
        return environ.get(IDENTITY_VARIABLE) or None
    return whose[1]


def read_file(path: str, *, what: str, limit: int = MAX_DOCUMENT) -> bytes:
    """Return the content of the file at *path*, or of standard input for ``-``.

    Args:
        path: Its path.
        what: What names the file, in an error's words.
        limit: Bytes that it may have.

    Raises:
        KeylessError: ``file_error`` if it cannot be read, ``too_large`` beyond *limit* bytes.
    """
    try:
        standard = path == "-"
        with open(0 if standard else path, "rb", closefd=not standard) as file:
            content = file.read(limit + 1)
    except OSError as exc:
        raise KeylessError(
            "file_error", f"{what}: cannot read {path}: {exc.strerror or 'unreadable'}"
        ) from exc
    if len(content) > limit:
        raise KeylessError("too_large", f"{what}: {path} is larger than {limit} bytes")
    return content
