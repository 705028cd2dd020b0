"""The sandbox's command line. Parsing and printing; the work is done elsewhere."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from keylessd.clock import SystemClock
from keylessd.sandbox.identities import LOGIN, Identities
from keylessd.sandbox.instance import NAME, Instance, default_directory, running_pid, vault_of
from keylessd.sandbox.names import SERVICES
from keylessd.sandbox.store import StoreError
from keylessd.sandbox.vault import SandboxError, held

if TYPE_CHECKING:
    from keylessd.sandbox.oidc import JsonValue

FAILED = 1
# For the processes that are started or ended: how long they may take, and how often we look.
PATIENCE_SECONDS = 30.0
LOOK_SECONDS = 0.02
LOG = "log"
MAX_PORT = 65_535
MAX_SECONDS = 10 * 366 * 86_400


def _number(least: int, most: int) -> Callable[[str], int]:
    """Return what reads a whole number of the command line."""

    def read(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            number = least - 1
        if not least <= number <= most:
            raise argparse.ArgumentTypeError(f"{text!r} is no number from {least} to {most}")
        return number

    return read


def _parser(directory: Path | None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="keyless sandbox",
        description="A whole Sigstore on this machine, for trying and testing.",
    )
    parser.add_argument("--dir", type=Path, default=directory, help="its directory (%(default)s)")
    commands = parser.add_subparsers(dest="command", required=True)
    up = commands.add_parser("up", help="serve it")
    up.add_argument("--rekor", choices=["v1", "v2", "both"], help="logs to sign with (v1)")
    port, span = _number(1, MAX_PORT - len(SERVICES) + 1), _number(1, MAX_SECONDS)
    up.add_argument("--port-base", type=port, help="port of the first service (any that is free)")
    up.add_argument("--checkpoint-interval-ms", type=_number(1, 60_000), default=50, metavar="MS")
    up.add_argument("--certificate-lifetime", type=span, default=600, metavar="SECONDS")
    up.add_argument("--token-lifetime", type=span, default=3600, metavar="SECONDS")
    up.add_argument("--auto-login", metavar="EMAIL", help="log everybody in as this person")
    up.add_argument("--accept-issuers", type=Path, metavar="FILE", help="further issuers (JSON)")
    up.add_argument("--faults", action="store_true", help="let tests inject faults (/_faults)")
    up.add_argument("--ready-fd", type=int, metavar="N", help="write 'ready' there when it is up")
    up.add_argument("--background", action="store_true", help="return when it is up")
    env = commands.add_parser("env", help="print what a shell needs to use it")
    env.add_argument("--json", action="store_true")
    env.add_argument("--email", help="whom the token names")
    token = commands.add_parser("token", help="print an ID token")
    token.add_argument("--issuer", default=LOGIN, help="login, github, uri, username, ...")
    token.add_argument("--email")
    token.add_argument("--subject")
    token.add_argument("--unverified", action="store_true", help="the issuer vouches for nothing")
    token.add_argument("--audience", default="sigstore")
    # One that has ended is wanted by tests.
    token.add_argument(
        "--lifetime", type=_number(-MAX_SECONDS, MAX_SECONDS), default=3600, metavar="SECONDS"
    )
    token.add_argument(
        "--claim", action="append", default=[], metavar="NAME=JSON", help="may be repeated"
    )
    status = commands.add_parser("status", help="say whether it runs, and where")
    status.add_argument("--json", action="store_true")
    commands.add_parser("down", help="end it; its keys and logs stay")
    # The directory may stand before or after the command.
    for command in commands.choices.values():
        command.add_argument("--dir", type=Path, default=argparse.SUPPRESS, help="its directory")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status: 0, or 1 with the reason on stderr."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    options = _parser(default_directory(os.environ)).parse_args(given)
    if options.dir is None:
        problem = "neither XDG_STATE_HOME nor HOME is set; give --dir DIRECTORY"
        sys.stderr.write(f"keyless sandbox: {problem}\n")
        return FAILED
    options.dir = options.dir.absolute()
    commands = {"up": _up, "env": _env, "token": _token, "status": _status, "down": _down}
    try:
        return commands[options.command](options)
    except BrokenPipeError:
        raise  # whoever read our output has gone
    except (SandboxError, StoreError, OSError) as exc:
        sys.stderr.write(f"keyless sandbox: {_reason(exc)}\n")
        return FAILED


def _reason(error: Exception) -> str:
    if not isinstance(error, OSError):
        return str(error)
    named = "" if error.filename is None else f"{error.filename}: "
    return f"{named}{error.strerror or error}"


# --- up ---------------------------------------------------------------------------------------


def _up(options: argparse.Namespace) -> int:
    if options.background:
        return _up_in_background(options)
    # What is imported here takes half a second, and the other commands do not need it.
    from keylessd.sandbox import runner  # noqa: PLC0415

    asked = runner.UpOptions(
        directory=options.dir,
        rekor=options.rekor,
        port_base=options.port_base,
        checkpoint_interval_seconds=options.checkpoint_interval_ms / 1000,
        certificate_seconds=options.certificate_lifetime,
        token_seconds=options.token_lifetime,
        auto_login=options.auto_login,
        accept_issuers=options.accept_issuers,
        faults=options.faults,
    )

    told = False

    def ready(instance: Instance) -> None:
        nonlocal told
        told = True
        if options.ready_fd is None:
            runner.announce(instance)
            return
        os.write(options.ready_fd, b"ready\n")
        os.close(options.ready_fd)

    try:
        runner.run(asked, ready=ready)
    except (SandboxError, StoreError, OSError) as exc:
        # Whoever waits for us is told even if there is no room for the log.
        if options.ready_fd is not None and not told:
            os.write(options.ready_fd, _reason(exc).encode("utf-8", "replace"))
        raise
    return 0


def _up_in_background(options: argparse.Namespace) -> int:
    pid = running_pid(options.dir)
    if pid is not None:
        sys.stderr.write(f"the sandbox runs already, as process {pid}\n")
        return 0
    options.dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    readable, writable = os.pipe()
    log = options.dir / LOG
    with os.fdopen(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as errors:
        subprocess.Popen(  # noqa: S603  # ourselves
            [*_own_command(options), "--ready-fd", str(writable)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=errors,
            pass_fds=[writable],
            start_new_session=True,
        )
    os.close(writable)
    with os.fdopen(readable, "rb") as pipe:
        said = pipe.read()
        if said != b"ready\n":
            reason = said.decode("utf-8", "replace") or log.read_text(errors="replace").strip()
            reason = reason or "it ended without a word"
            raise SandboxError(f"the sandbox did not start: {reason[-2000:]}")
    sys.stderr.write(f'the sandbox is up; to use it:\n  eval "$({_hint(options)} env)"\n')
    return 0


def _own_command(options: argparse.Namespace) -> list[str]:
    command = [sys.executable, "-P", "-m", "keylessd.sandbox"]
    command += ["--dir", str(options.dir), "up"]
    values = {
        "--rekor": options.rekor,
        "--port-base": options.port_base,
        "--checkpoint-interval-ms": options.checkpoint_interval_ms,
        "--certificate-lifetime": options.certificate_lifetime,
        "--token-lifetime": options.token_lifetime,
        "--auto-login": options.auto_login,
        "--accept-issuers": options.accept_issuers,
    }
    for name, value in values.items():
        if value is not None:
            command += [name, str(value)]
    return [*command, "--faults"] if options.faults else command


def _hint(options: argparse.Namespace) -> str:
    if options.dir == default_directory(os.environ):
        return "keyless sandbox"
    return f"keyless sandbox --dir {shlex.quote(str(options.dir))}"


# --- the others -------------------------------------------------------------------------------


def _known(options: argparse.Namespace) -> Instance:
    instance = Instance.read(options.dir)
    if instance is None:
        raise SandboxError(f"there is no sandbox in {options.dir}; start one with 'up'")
    return instance


def _say_if_down(options: argparse.Namespace) -> None:
    """Say that nobody answers yet; what is printed is of use again when the sandbox is."""
    if running_pid(options.dir) is None:
        sys.stderr.write(
            f"the sandbox in {options.dir} does not run; to start it:\n"
            f"  {_hint(options)} up --background\n"
        )


def _identities(options: argparse.Namespace, instance: Instance) -> Identities:
    return Identities(instance.urls["oidc"], vault=vault_of(options.dir), clock=SystemClock())


def environment(directory: Path, instance: Instance, *, token: str) -> dict[str, str]:
    """Return the environment variables that make clients use the sandbox in *directory*."""
    variables = {"SIGSTORE_ID_TOKEN": token}
    if directory == default_directory(os.environ):
        variables["KEYLESS_INSTANCE"] = NAME
    else:
        variables["KEYLESS_TRUST_CONFIG"] = str(directory / "trust_config.json")
    variables["KEYLESS_SANDBOX_DIR"] = str(directory)
    for name, url in instance.service_urls().items():
        variables[f"KEYLESS_SANDBOX_{name.upper()}"] = url
    return variables


def _env(options: argparse.Namespace) -> int:
    instance = _known(options)
    _say_if_down(options)
    token = _identities(options, instance).token(email=options.email)
    variables = environment(options.dir, instance, token=token)
    if options.json:
        sys.stdout.write(json.dumps(variables, indent=2) + "\n")
    else:
        for name, value in variables.items():
            sys.stdout.write(f"export {name}={shlex.quote(value)}\n")
    return 0


def _claims(texts: Sequence[str]) -> dict[str, JsonValue]:
    claims: dict[str, JsonValue] = {}
    for text in texts:
        name, separator, value = text.partition("=")
        if not separator:
            raise SandboxError(f"a claim is NAME=JSON, not {text!r}")
        try:
            claims[name] = json.loads(value)
        except ValueError:
            # For the many that are plain words.
            claims[name] = value
    return claims


def _token(options: argparse.Namespace) -> int:
    instance = _known(options)
    _say_if_down(options)
    token = _identities(options, instance).token(
        issuer=options.issuer,
        email=options.email,
        subject=options.subject,
        email_verified=not options.unverified,
        audience=options.audience,
        lifetime=timedelta(seconds=options.lifetime),
        claims=_claims(options.claim),
    )
    sys.stdout.write(token + "\n")
    return 0


def _status(options: argparse.Namespace) -> int:
    pid = running_pid(options.dir)
    instance = Instance.read(options.dir)
    urls: Mapping[str, str] = {} if instance is None else instance.service_urls()
    held_by_logs = {} if instance is None or pid is None else _log_sizes(instance)
    if options.json:
        facts = {"running": pid is not None, "pid": pid, "directory": str(options.dir)}
        sys.stdout.write(json.dumps({**facts, **urls, **held_by_logs}, indent=2) + "\n")
    else:
        state = "does not run" if pid is None else f"runs as process {pid}"
        sys.stdout.write(f"the sandbox in {options.dir} {state}\n")
        for name, value in [*urls.items(), *held_by_logs.items()]:
            sys.stdout.write(f"  {name} = {value}\n")
    return 0 if pid is not None else FAILED


def _log_sizes(instance: Instance) -> dict[str, int]:
    """Ask the logs of a running sandbox how much they hold; there is one CT entry a certificate."""
    import httpx  # noqa: PLC0415  # the other commands do not need it

    urls = instance.urls
    try:
        with httpx.Client(trust_env=False) as client:
            head = client.get(f"{urls['ctlog']}/ct/v1/get-sth").raise_for_status()
            log = client.get(f"{urls['rekor-v1']}/api/v1/log").raise_for_status()
            checkpoint = client.get(f"{urls['rekor-v2']}/api/v2/checkpoint").raise_for_status()
            return {
                "certificates": int(head.json()["tree_size"]),
                "rekor_v1_entries": int(log.json()["treeSize"]),
                "rekor_v2_entries": int(checkpoint.text.split("\n")[1]),
            }
    except (httpx.HTTPError, ValueError, KeyError, IndexError) as exc:
        raise SandboxError(f"the sandbox runs, but does not answer as it should: {exc}") from exc


def _down(options: argparse.Namespace) -> int:
    pid = running_pid(options.dir)
    if pid is None:
        sys.stderr.write(f"no sandbox runs in {options.dir}\n")
        return 0
    os.kill(pid, signal.SIGTERM)
    end = time.monotonic() + PATIENCE_SECONDS
    while held(options.dir):
        if time.monotonic() > end:
            raise SandboxError(f"process {pid} does not end")
        time.sleep(LOOK_SECONDS)
    return 0
