"""Finds the identity that the client's own environment has for it: a token, or leave to get one.

Looks at variables, reads a file, or runs a CI system's own command; asks nobody on the network,
which is the daemon's part. The first environment that is there is the one that is used: if it
fails that is an error, since the next one might name somebody else.
"""

import os

from keyless.errors import KeylessError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from keyless._identities import Ambient

    # Runs a program with these arguments and returns what it printed.
    Run = Callable[[list[str], Mapping[str, str]], str]

AUTO = "auto"
NONE = "none"
DEFAULT_AUDIENCE = "sigstore"
MAX_TOKEN = 65_536  # bytes; the daemon's own bound on a token
MAX_AUDIENCE = 256  # characters
MAX_URL = 2048  # characters
MAX_JOB = 1024
# Bits of a file's mode (inode(7)); the module `stat` has them, and is not loaded for that.
KIND_OF_FILE = 0o170000
REGULAR_FILE = 0o100000

# Where other Sigstore clients look for a token that somebody puts there.
WELL_KNOWN_FILE = "/var/run/sigstore/cosign/oidc-token"
FILE_VARIABLE = "KEYLESS_IDENTITY_TOKEN_FILE"
TOKEN_VARIABLES = ("SIGSTORE_ID_TOKEN", "SIGSTORE_IDENTITY_TOKEN")

# What other Sigstore commands call them.
ALIASES = {
    "envvar": "env",
    "filesystem": "file",
    "github-actions": "github",
    "buildkite-agent": "buildkite",
    "daemon": NONE,
}
# Those are the daemon's to have: they attest the machine and not whoever asks.
HELD = ("google-workload-identity", "google-impersonate", "spiffe")


class Found:
    """What the environment gave. Either a token or a grant.

    Attributes:
        source: Which environment; one of SOURCES.
        token: The identity token, or None.
        ambient: What the daemon gets one with, or None.
    """

    __slots__ = ("ambient", "source", "token")

    def __init__(
        self, source: str, *, token: "str | None" = None, ambient: "Ambient | None" = None
    ) -> None:
        self.source = source
        self.token = token
        self.ambient = ambient

    def __repr__(self) -> str:
        return f"Found({self.source!r})"

    def arguments(self) -> "dict[str, Any]":
        """Return it as the methods of a client take it: ``client.sign(path, **arguments)``."""
        if self.ambient is not None:
            return {"ambient": self.ambient}
        return {"identity_token": self.token}


def gather(
    environ: "Mapping[str, str]",
    source: str = AUTO,
    *,
    run: "Run | None" = None,
    well_known_file: str = WELL_KNOWN_FILE,
) -> "Found | None":
    """Return what the environment has, or None if there is nothing and the daemon is to choose.

    Args:
        environ: The environment.
        source: ``"auto"``: the first that is there; ``"none"``: do not look; else the name of
            one, which must be there.
        run: Runs a program; the real thing by default.
        well_known_file: Where a token may lie without being named.

    Raises:
        KeylessError: ``identity_unavailable``: it is there and gives no token;
            ``usage``: there is no source of that name.
    """
    name = ALIASES.get(source, source)
    if name == NONE:
        return None
    world = _World(environ, run, well_known_file)
    if name == AUTO:
        for detects, gives in SOURCES.values():
            if detects(world):
                return gives(world)
        return None
    if name not in SOURCES:
        raise _unknown(source)
    detects, gives = SOURCES[name]
    if not detects(world):
        raise _unavailable(f"--identity-source {source}: nothing of it is in this environment")
    return gives(world)


class _World:
    """What sources may look at."""

    __slots__ = ("_run", "environ", "well_known_file")

    def __init__(
        self, environ: "Mapping[str, str]", run: "Run | None", well_known_file: str
    ) -> None:
        self.environ = environ
        self.well_known_file = well_known_file
        self._run = run

    def get(self, name: str) -> str:
        return self.environ.get(name, "").strip()

    def audience(self) -> str:
        """Return whom the token is to be for."""
        audience = self.get("KEYLESS_AUDIENCE") or DEFAULT_AUDIENCE
        if len(audience) > MAX_AUDIENCE or not all(
            c.isascii() and (c.isalnum() or c in "-._:/@+") for c in audience
        ):
            raise KeylessError("usage", "KEYLESS_AUDIENCE is not the name of an audience")
        return audience

    def which(self, name: str) -> "str | None":
        """Return the program that *name* is on the PATH, or None.

        Only in directories that are named whole: what lies in the working directory, which is
        anybody's, is not run.
        """
        for directory in self.environ.get("PATH", "").split(":"):
            path = f"{directory}/{name}"
            if directory.startswith("/") and os.path.isfile(path) and os.access(path, os.X_OK):
                return path
        return None

    def printed_token(self, argv: "list[str]") -> str:
        """Return the token that a program prints."""
        if self._run is None:
            from keyless._tool import run  # noqa: PLC0415  # few environments need it

            self._run = run
        token = self._run(argv, self.environ).strip()
        if not is_token(token):
            raise _unavailable(f"{argv[0]} printed something that is no identity token")
        return token


# --- the sources, in their order ---------------------------------------------------------------


def _is_env(world: _World) -> bool:
    return any(world.get(name) for name in TOKEN_VARIABLES)


def _env(world: _World) -> Found:
    name = next(name for name in TOKEN_VARIABLES if world.get(name))
    # GitLab hands its tokens over in this very way.
    source = "gitlab" if world.get("GITLAB_CI") else "env"
    return Found(source, token=_token_of(world.get(name), name))


def _is_github(world: _World) -> bool:
    return bool(world.get("GITHUB_ACTIONS"))


def _github(world: _World) -> Found:
    url, token = (
        world.get("ACTIONS_ID_TOKEN_REQUEST_URL"),
        world.get("ACTIONS_ID_TOKEN_REQUEST_TOKEN"),
    )
    if not url or not token:
        raise _unavailable(
            "this job of GitHub Actions may not ask for an identity token",
            hint="give the job `permissions: id-token: write`; a pull request from a fork gets"
            " none in any case",
        )
    return _grant("github", world, token, url=url)


def _is_gitlab(world: _World) -> bool:
    return bool(world.get("GITLAB_CI"))


def _gitlab(world: _World) -> Found:
    audience = world.audience()
    name = _gitlab_variable(audience)
    token = world.get(name)
    if not token:
        raise _unavailable(
            f"this GitLab job has no identity token for {audience} in {name}",
            hint=f"give the job `id_tokens: {{{name}: {{aud: {audience}}}}}`",
        )
    return Found("gitlab", token=_token_of(token, name))


def _gitlab_variable(audience: str) -> str:
    letters = "".join(c if c.isalnum() else "_" for c in audience.upper())
    return ("_" + letters[1:] if letters[0].isdigit() else letters) + "_ID_TOKEN"


def _is_buildkite(world: _World) -> bool:
    return bool(world.get("BUILDKITE"))


def _buildkite(world: _World) -> Found:
    agent = world.which("buildkite-agent")
    if agent is not None:
        argv = [agent, "oidc", "request-token", "--audience", world.audience()]
        return Found("buildkite", token=world.printed_token(argv))
    token, job = world.get("BUILDKITE_AGENT_ACCESS_TOKEN"), world.get("BUILDKITE_JOB_ID")
    if not token or not job:
        raise _unavailable(
            "this Buildkite job has neither buildkite-agent on its PATH nor"
            " BUILDKITE_AGENT_ACCESS_TOKEN and BUILDKITE_JOB_ID",
            hint="let the job's container have one of the two",
        )
    return _grant(
        "buildkite", world, token, url=world.get("BUILDKITE_AGENT_ENDPOINT") or None, job=job
    )


def _is_circleci(world: _World) -> bool:
    return bool(world.get("CIRCLECI"))


def _circleci(world: _World) -> Found:
    command = world.which("circleci")
    if command is None:
        raise _unavailable(
            "this CircleCI job has no command circleci on its PATH, and the tokens in its"
            " variables are for another audience",
            hint="run this in the job's primary container",
        )
    # The audience is made of letters that need no escaping.
    claims = f'{{"aud":"{world.audience()}"}}'
    argv = [command, "run", "oidc", "get", "--claims", claims, "--root-issuer"]
    return Found("circleci", token=world.printed_token(argv))


def _is_file(world: _World) -> bool:
    return bool(world.get(FILE_VARIABLE)) or os.path.exists(world.well_known_file)


def _file(world: _World) -> Found:
    path = world.get(FILE_VARIABLE) or world.well_known_file
    return Found("file", token=_token_of(_read(path), path))


SOURCES: "dict[str, tuple[Callable[[_World], bool], Callable[[_World], Found]]]" = {
    "env": (_is_env, _env),
    "github": (_is_github, _github),
    "gitlab": (_is_gitlab, _gitlab),
    "buildkite": (_is_buildkite, _buildkite),
    "circleci": (_is_circleci, _circleci),
    "file": (_is_file, _file),
}


# --- parts -------------------------------------------------------------------------------------


def is_token(text: str) -> bool:
    """Return whether *text* has the form of a JWT: three base64url parts, the first an object."""
    parts = text.split(".")
    return (
        len(text) <= MAX_TOKEN
        and text.isascii()
        and len(parts) == 3  # noqa: PLR2004  # header, payload, signature
        and parts[0].startswith("ey")
        and all(part and all(c.isalnum() or c in "-_=" for c in part) for part in parts)
    )


def _token_of(text: str, where: str) -> str:
    if not is_token(text):
        # Not repeated: it may be a secret of another kind.
        raise KeylessError("token_malformed", f"{where} holds something that is no identity token")
    return text


def _grant(
    kind: str,
    world: _World,
    token: str,
    *,
    url: "str | None" = None,
    job: "str | None" = None,
) -> Found:
    from keyless._identities import Ambient  # noqa: PLC0415  # few environments need it

    for text, limit in ((url, MAX_URL), (job, MAX_JOB)):
        if text is not None and (len(text) > limit or not text.isprintable()):
            raise _unavailable(f"the variables of this {kind} job are not as they must be")
    if len(token) > MAX_TOKEN or not token.isascii() or not token.isprintable() or " " in token:
        raise _unavailable(f"the request token of this {kind} job is not one")
    audience = world.audience()
    return Found(
        kind,
        ambient=Ambient(
            kind,
            token,
            url=url,
            job=job,
            audience=None if audience == DEFAULT_AUDIENCE else audience,
        ),
    )


def _read(path: str) -> str:
    try:
        # Without O_NONBLOCK the opening of a pipe that nobody writes would never return.
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            if os.fstat(handle).st_mode & KIND_OF_FILE != REGULAR_FILE:
                raise _unavailable(f"the token file {path} is not a regular file")
            with os.fdopen(handle, "rb", closefd=False) as file:
                raw = file.read(MAX_TOKEN + 1)
        finally:
            os.close(handle)
    except OSError as exc:
        raise _unavailable(
            f"the token file {path} cannot be read: {exc.strerror or 'unreadable'}",
            hint=f"{FILE_VARIABLE} names it; --identity-source none does without",
        ) from exc
    if len(raw) > MAX_TOKEN:
        raise _unavailable(f"the token file {path} is larger than {MAX_TOKEN} bytes")
    return raw.decode("utf-8", "replace").strip()


def _unavailable(message: str, *, hint: "str | None" = None) -> KeylessError:
    return KeylessError("identity_unavailable", message, hint=hint)


def _unknown(source: str) -> KeylessError:
    if source in HELD:
        return KeylessError(
            "usage",
            f"--identity-source {source}: such an identity is the machine's, and the daemon's to"
            " give out",
            hint="configure a table [identity.NAME], and choose it with --identity NAME",
        )
    known = ", ".join([AUTO, NONE, *SOURCES])
    return KeylessError("usage", f"--identity-source takes one of {known}, not {source}")
