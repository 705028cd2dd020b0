"""`keyless demo`: a local Sigstore, a daemon, one signature and its verification, step by step.

Everything runs in a private directory and is stopped at the end. Speed of import is no matter here.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time

from keyless._client import Client
from keyless.cli._demo_login import log_in
from keyless.cli._inputs import write_file
from keyless.cli._options import Option, Options, UsageError, parse, usage_text
from keyless.cli._output import FAILED, OK, json_line, out, shown
from keyless.cli._text import moment
from keyless.errors import KeylessError
from keyless.values import AcceptedSigner, Where

TYPE_CHECKING = False
if TYPE_CHECKING:
    from keyless.values import SignResult, VerifyResult

ABOUT = """
See keyless at work on this machine, without an account and without the internet: a local Sigstore
and a daemon are started in a private directory, FILE (README.md if none is given) is signed and
verified, a changed copy of it is refused, and what was started is stopped again.
"""

OPTIONS = (
    Option("--rekor", "v1|v2|both", "transparency logs to use (v2)"),
    Option("--json", "", "print one JSON object at the end instead of the steps"),
    Option("--help -h", "", "show this text"),
)

PERSON = "you@sandbox.test"
START_SECONDS = 30  # for each of the two processes


def run(_command: str, argv: "list[str]") -> int:
    """Run the demonstration; return the exit code."""
    options = parse(argv, OPTIONS)
    if options.flag("help"):
        sys.stdout.write(usage_text("keyless demo", "[FILE]", ABOUT, (("options", OPTIONS),)))
        return OK
    if len(options.words) > 1:
        raise UsageError("name one file, or none")
    rekor = options.text("rekor")
    if rekor not in (None, "v1", "v2", "both"):
        raise UsageError(f"--rekor takes v1, v2 or both, not {rekor}")
    home = tempfile.mkdtemp(prefix="keyless-demo-")
    demo = _Demo(home, options)
    try:
        code = demo.run(_content_of(options.words))
    except BaseException:
        demo.stop()
        # Nothing in it is of use without the bundle that was to be made.
        shutil.rmtree(home, ignore_errors=True)
        raise
    demo.stop()
    return code


def _content_of(words: "list[str]") -> "tuple[str, bytes]":
    """Return the name and content of the file to sign."""
    path = words[0] if words else "README.md"
    try:
        with open(path, "rb") as file:
            return path, file.read()
    except OSError as exc:
        if words:
            reason = exc.strerror or "unreadable"
            raise KeylessError("file_error", f"cannot read {path}: {reason}") from exc
        return path, b"There is no README.md here, so the demonstration signs this sentence.\n"


class _Demo:
    """The processes of one demonstration, and its account of what happens."""

    def __init__(self, home: str, options: Options) -> None:
        self._home = home
        self._options = options
        self._json = options.flag("json")
        self._processes: list[subprocess.Popen[bytes]] = []
        self._step = 0
        self._began = time.monotonic()

    def run(self, file: "tuple[str, bytes]") -> int:
        name, content = file
        copy = os.path.join(self._home, os.path.basename(name))
        write_file(copy, content)
        self._say(f"Everything below happens on this machine, in {self._home}\n")

        sandbox = os.path.join(self._home, "sandbox")
        self._begin("a local Sigstore")
        self._start(
            "keylessd.sandbox", "up", "--dir", sandbox, "--auto-login", PERSON,
            "--rekor", self._options.text("rekor") or "v2",
        )  # fmt: skip
        urls = _read_json(os.path.join(sandbox, "instance.json"))
        self._end("issuer, Fulcio, CT log, Rekor, timestamp authority and TUF on loopback")

        self._begin("the daemon")
        socket = os.path.join(self._home, "sign.sock")
        self._start(
            "keylessd", "--socket", socket, "--sandbox-dir", sandbox,
            "--cache-dir", os.path.join(self._home, "cache"),
            "--state-dir", os.path.join(self._home, "state"),
        )  # fmt: skip
        self._end(f"keylessd listens on {socket}")

        self._begin("an identity")
        issuer = urls["oidc_issuer"]
        token = log_in(issuer)
        self._end(f"{PERSON}, by an authorization code with PKCE from {issuer}")

        where = Where(instance="sandbox")
        with Client(socket_path=socket, autostart=False) as client:
            self._begin(f"sign {shown(name)}")
            signed = client.sign(copy, where=where, identity_token=token)
            bundle = f"{copy}.sigstore.json"
            write_file(bundle, signed.bundle)
            self._end(_signed_lines(signed))

            self._begin("verify it")
            accepted = [AcceptedSigner(identity=PERSON, issuer=issuer)]
            verified = client.verify(copy, signed.bundle, accepted=accepted, where=where)
            self._end(_verified_lines(verified))

            self._begin("change it, and verify again")
            changed = f"{copy}.changed"
            write_file(changed, content + b"!\n")
            refusal = _refusal(client, changed, signed.bundle, accepted, where)
        if refusal is None:
            self._end("ACCEPTED, which must never happen")
            return FAILED
        self._end(f"refused: {shown(refusal.message)}")

        trust = os.path.join(self._home, "trusted_root.json")
        shutil.copyfile(os.path.join(sandbox, "trusted_root.json"), trust)
        os.unlink(changed)
        self.stop()
        self._close(copy, bundle, trust, signed, issuer)
        return OK

    def _close(self, copy: str, bundle: str, trust: str, signed: "SignResult", issuer: str) -> None:
        seconds = time.monotonic() - self._began
        if self._json:
            facts = signed.as_dict()
            del facts["bundle"]
            json_line(
                {"ok": True, "artifact": copy, "bundle": bundle, "trusted_root": trust, **facts}
            )
            return
        self._say(f"\nDone in {seconds:.1f} s; the local Sigstore and the daemon are stopped.")
        self._say(f"The bundle lies in {bundle}\nIt needs neither of them any more:\n")
        self._say(
            f"  {_own_name()} verify --trusted-root {trust} \\\n"
            f"    --certificate-identity {signed.identity} \\\n"
            f"    --certificate-oidc-issuer {issuer} {copy}"
        )

    # --- the account ---------------------------------------------------------------------------

    def _begin(self, title: str) -> None:
        self._step += 1
        self._said = time.monotonic()
        if not self._json and sys.stdout.isatty():
            sys.stdout.write(f" {self._step}  {title} ...")
            sys.stdout.flush()
        self._title = title

    def _end(self, text: "str | list[str]") -> None:
        if self._json:
            return
        took = time.monotonic() - self._said
        rewrite = "\r\x1b[K" if sys.stdout.isatty() else ""
        out(f"{rewrite} {self._step}  {self._title} ({took * 1000:.0f} ms)")
        for line in [text] if isinstance(text, str) else text:
            out(f"      {line}")

    def _say(self, text: str) -> None:
        if not self._json:
            out(text)

    # --- the processes -------------------------------------------------------------------------

    def _start(self, module: str, *arguments: str) -> None:
        """Start a module of ours and wait until it says that it is ready.

        Raises:
            KeylessError: it ended instead; the message is what it printed.
        """
        readable, writable = os.pipe()
        log = os.path.join(self._home, f"{module}.log")
        with open(log, "wb") as errors:
            process = subprocess.Popen(  # noqa: S603  # our own interpreter
                [sys.executable, "-P", "-m", module, *arguments, "--ready-fd", str(writable)],
                stdin=subprocess.DEVNULL,
                stdout=errors,
                stderr=errors,
                pass_fds=[writable],
                start_new_session=True,
            )
        os.close(writable)
        self._processes.append(process)
        with os.fdopen(readable, "rb") as pipe:
            word = _read_within(pipe.fileno(), START_SECONDS)
        if not word.startswith((b"ready", b"READY")):
            with open(log, "rb") as errors:
                reason = errors.read().decode("utf-8", "replace").strip().splitlines()
            said = reason[-1].removeprefix("keyless ") if reason else f"{module} did not start"
            raise KeylessError("daemon_failed", said)

    def stop(self) -> None:
        """Stop what was started and remove what nobody needs any more."""
        for process in reversed(self._processes):
            process.terminate()
        for process in reversed(self._processes):
            try:
                process.wait(timeout=5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._processes = []
        for name in ("sandbox", "cache", "state"):
            shutil.rmtree(os.path.join(self._home, name), ignore_errors=True)
        for name in os.listdir(self._home):
            if name.endswith((".log", ".sock", ".lock")) or name.startswith("sign.sock"):
                os.unlink(os.path.join(self._home, name))
        if not os.listdir(self._home):
            os.rmdir(self._home)


def _own_name() -> str:
    """Return how this program was called, so that the shown command can be pasted."""
    called = sys.argv[0]
    return called if os.path.basename(called) == "keyless" else "keyless"


def _read_within(fd: int, seconds: float) -> bytes:
    import select

    ready, _, _ = select.select([fd], [], [], seconds)
    return os.read(fd, 256) if ready else b""


def _read_json(path: str) -> "dict[str, str]":
    import json

    with open(path, "rb") as file:
        value: dict[str, str] = json.load(file)
    return value


def _refusal(
    client: Client,
    path: str,
    bundle: bytes,
    accepted: "list[AcceptedSigner]",
    where: Where,
) -> "KeylessError | None":
    """Return why the changed file is refused, or None if it is not."""
    try:
        client.verify(path, bundle, accepted=accepted, where=where)
    except KeylessError as error:
        if error.code != "verification_failed":
            raise
        return error
    return None


def _signed_lines(signed: "SignResult") -> "list[str]":
    certificate = signed.certificate
    minutes = (certificate.not_after - certificate.not_before) // 60
    lines = [
        f"a new key; a certificate of {minutes} minutes for {shown(signed.identity)}",
    ]
    lines += [f"logged in {entry.log} as #{entry.log_index}" for entry in signed.entries]
    lines += [f"stamped {moment(at.time)} by {at.authority}" for at in signed.times]
    lines.append("the bundle was verified before it left the daemon")
    return lines


def _verified_lines(verified: "VerifyResult") -> "list[str]":
    return [
        f"OK: signed by {shown(verified.identity or '')} ({shown(verified.issuer or '')})",
        f"checked offline: {', '.join(verified.steps)}",
    ]
