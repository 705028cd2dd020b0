"""A whole house as processes: a served sandbox, the daemon, the command; all below one directory.

For the acceptance and chaos tests. Counts what the sandbox's logs hold, sets its faults, and
kills what it is told to; what it started is gone after close().
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import httpx

CHECKOUT = Path(__file__).parents[2]
IDENTITY = "you@sandbox.test"
PATIENCE = 60.0  # seconds until something that should have happened has failed to
LOOK = 0.02  # seconds between two looks
# What a source checkout needs that is not installed; harmless where it is.
PATHS = os.pathsep.join(
    [str(CHECKOUT / "clientlib"), str(CHECKOUT / "daemon"), os.environ.get("PYTHONPATH", "")]
).rstrip(os.pathsep)


@dataclass(frozen=True, slots=True)
class Counts:
    """How many records the sandbox's logs hold."""

    certificates: int
    v1: int
    v2: int

    @property
    def entries(self) -> int:
        return self.v1 + self.v2

    def since(self, before: Counts) -> Counts:
        return Counts(
            self.certificates - before.certificates, self.v1 - before.v1, self.v2 - before.v2
        )


class Standing:
    """A sandbox, and a daemon that the command starts on demand."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.work = directory / "work"
        self.run = directory / "run"
        for path in (self.work, self.run):
            path.mkdir(mode=0o700, parents=True)
        self.sandbox_directory = directory / "state" / "keyless" / "sandbox"
        self.socket = self.run / "keyless" / "sign.sock"
        self.log = directory / "state" / "keyless" / "keylessd.log"
        self.ledger = directory / "state" / "keyless" / "ledger.jsonl"
        self.environ = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": PATHS,
            "HOME": str(directory),
            "XDG_STATE_HOME": str(directory / "state"),
            "XDG_CACHE_HOME": str(directory / "cache"),
            "XDG_CONFIG_HOME": str(directory / "config"),
            "XDG_RUNTIME_DIR": str(self.run),
        }
        self.urls: dict[str, str] = {}
        self._sandbox: subprocess.Popen[bytes] | None = None
        self.kills = 0  # of daemons
        self._daemons: set[int] = set()
        self._http = httpx.Client(trust_env=False, verify=False, timeout=PATIENCE)

    def close(self) -> None:
        """End whatever was started here."""
        self.kill_daemon()
        if self._sandbox is not None:
            with suppress(ProcessLookupError):
                self._sandbox.kill()
            self._sandbox.wait(PATIENCE)
        self._http.close()

    # --- the command --------------------------------------------------------------------------

    def command(self, *words: str | Path) -> list[str]:
        """Return the command line of `keyless`."""
        script = str(CHECKOUT / "clientlib" / "bin" / "keyless")
        return [sys.executable, script, *map(str, words)]

    def keyless(
        self, *words: str | Path, environ: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run one command to its end."""
        done = subprocess.run(
            self.command(*words),
            env={**self.environ, **(environ or {})},
            cwd=self.work,
            capture_output=True,
            text=True,
            timeout=3 * PATIENCE,
            check=False,
        )
        self.note_daemon()
        return done

    def start(
        self, *words: str | Path, environ: Mapping[str, str] | None = None
    ) -> subprocess.Popen[str]:
        """Start one command and leave it running; collect it with finish()."""
        return subprocess.Popen(
            self.command(*words),
            env={**self.environ, **(environ or {})},
            cwd=self.work,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def finish(
        self, processes: Sequence[subprocess.Popen[str]]
    ) -> list[subprocess.CompletedProcess[str]]:
        """Wait for commands to end."""
        done = []
        for process in processes:
            out, err = process.communicate(timeout=3 * PATIENCE)
            done.append(subprocess.CompletedProcess(process.args, process.returncode, out, err))
        self.note_daemon()
        return done

    def verify(self, *words: str | Path) -> subprocess.CompletedProcess[str]:
        """Verify with the sandbox's usual signer expected."""
        return self.keyless(
            "verify",
            "--certificate-identity",
            IDENTITY,
            "--certificate-oidc-issuer",
            self.urls["oidc_issuer"],
            *words,
        )

    def files(self, count: int, *, stem: str = "file") -> list[Path]:
        """Make files that nobody has signed yet, each different from all others."""
        made = [self.work / f"{stem}{number}" for number in range(count)]
        for path in made:
            path.write_bytes(b"%s %s" % (path.name.encode(), os.urandom(16)))
        return made

    # --- the sandbox --------------------------------------------------------------------------

    def sandbox_up(self, *options: str) -> None:
        """Serve the sandbox, new or as it was, and make it everybody's default."""
        readable, writable = os.pipe()
        with (self.directory / "sandbox.log").open("ab") as log:
            self._sandbox = subprocess.Popen(
                [
                    *(sys.executable, "-m", "keylessd.sandbox", "up", "--faults"),
                    *("--checkpoint-interval-ms", "20", "--ready-fd", str(writable), *options),
                ],
                env=self.environ,
                pass_fds=[writable],
                stderr=log,
            )
        os.close(writable)
        with os.fdopen(readable, "rb") as pipe:
            assert pipe.read() == b"ready\n", (self.directory / "sandbox.log").read_text()
        found = json.loads((self.sandbox_directory / "instance.json").read_bytes())
        self.urls = {name: url for name, url in found.items() if isinstance(url, str)}
        if "SIGSTORE_ID_TOKEN" not in self.environ:
            self.environ["KEYLESS_INSTANCE"] = "sandbox"
            self.environ["SIGSTORE_ID_TOKEN"] = self.token()

    def sandbox_signal(self, number: int) -> None:
        """Send the sandbox a signal; after SIGKILL it is gone when this returns."""
        assert self._sandbox is not None
        self._sandbox.send_signal(number)
        if number in {signal.SIGKILL, signal.SIGTERM}:
            self._sandbox.wait(PATIENCE)

    def token(self, *options: str) -> str:
        """Return an identity token of the sandbox."""
        done = self.keyless("sandbox", "token", *options)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def fault(self, service: str, **rule: object) -> None:
        """Make a service fail; see keylessd.sandbox.faults_app for the rules."""
        reply = self._http.post(f"{self.origin(service)}/_faults", json=rule)
        assert reply.status_code == 201, reply.text

    def heal(self) -> None:
        """End all faults."""
        for service in ("fulcio", "rekor_v1", "rekor_v2", "tsa", "ctlog", "tuf", "oidc_issuer"):
            self._http.delete(f"{self.origin(service)}/_faults").raise_for_status()

    def asked(self, service: str) -> int:
        """Return how many requests a service has seen since it was healed."""
        found = self._http.get(f"{self.origin(service)}/_faults").json()
        return int(found["requests"])

    def origin(self, service: str) -> str:
        """Return scheme, host and port of a service."""
        names = {"tsa": "timestamp_server_url", "oidc_issuer": "oidc_issuer"}
        url = httpx.URL(self.urls[names.get(service, f"{service}_url")])
        return f"{url.scheme}://{url.host}:{url.port}"

    def counts(self) -> Counts:
        """Return the sizes of the logs."""
        certificates = self._http.get(f"{self.origin('ctlog')}/ct/v1/get-sth").json()["tree_size"]
        v1 = self._http.get(f"{self.origin('rekor_v1')}/api/v1/log").json()["treeSize"]
        v2 = self._http.get(f"{self.origin('rekor_v2')}/api/v2/checkpoint").text.splitlines()[1]
        return Counts(int(certificates), int(v1), int(v2))

    def where(self, version: str) -> tuple[str | Path, ...]:
        """Return options that make a command write to the log of this version alone."""
        config = json.loads((self.sandbox_directory / "signing_config.json").read_bytes())
        service = {**config["rekorTlogUrls"][0], "url": self.urls[f"rekor_{version}_url"]}
        service["majorApiVersion"] = int(version[1])
        config |= {"rekorTlogUrls": [service], "rekorTlogConfig": {"selector": "ANY"}}
        path = self.directory / f"signing_config-{version}.json"
        path.write_text(json.dumps(config))
        root = self.sandbox_directory / "trusted_root.json"
        return "--trusted-root", root, "--signing-config", path

    # --- the daemon ---------------------------------------------------------------------------

    def daemon_pid(self) -> int | None:
        """Return the process that holds the lock beside the socket, if it lives."""
        try:
            pid = int((self.run / "keyless" / "sign.sock.lock").read_text())
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
        except (OSError, ValueError):
            return None
        return pid if b"keylessd" in command else None

    def wait_for_daemon(self) -> int:
        """Wait until a daemon answers; return its process."""
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            with socket.socket(socket.AF_UNIX) as probe, suppress(OSError):
                probe.connect(str(self.socket))
                pid = self.note_daemon()
                if pid is not None:
                    return pid
            time.sleep(LOOK)
        raise TimeoutError(self.log.read_text() if self.log.exists() else "no log")

    def kill_daemon(self, number: int = signal.SIGKILL) -> None:
        """End the daemon, if there is one; it is gone when this returns."""
        self.note_daemon()
        for pid in self._daemons:
            with suppress(ProcessLookupError):
                os.kill(pid, number)
                self.kills += 1
        end = time.monotonic() + PATIENCE
        while any(_lives(pid) for pid in self._daemons):
            assert time.monotonic() < end, f"{self._daemons} do not end"
            time.sleep(LOOK)
        self._daemons.clear()

    def note_daemon(self) -> int | None:
        """Remember the daemon that runs, so that close() ends it; return its process."""
        pid = self.daemon_pid()
        if pid is not None:
            self._daemons.add(pid)
        return pid

    def log_events(self) -> list[dict[str, object]]:
        """Return the daemon's log lines."""
        return [json.loads(line) for line in self.log.read_text().splitlines()]

    def records(self, *, killed: bool = False) -> list[dict[str, object]]:
        """Return the ledger's records, all of which must be whole.

        Args:
            killed: Leave out those that a kill may have cut short.
        """
        lines = self.ledger.read_bytes().split(b"\n")
        assert lines.pop() == b""
        return [json.loads(line) for line in lines if not killed or line.endswith(b"}")]


def bundle_of(path: Path) -> Path:
    """Return where the bundle of a file lies."""
    return path.with_name(f"{path.name}.sigstore.json")


def log_indexes(bundles: Sequence[Path]) -> Counter[tuple[str, str]]:
    """Return (log, index) of all entries in *bundles*, counted."""
    found: Counter[tuple[str, str]] = Counter()
    for path in bundles:
        for entry in json.loads(path.read_bytes())["verificationMaterial"]["tlogEntries"]:
            found[entry["logId"]["keyId"], entry["logIndex"]] += 1
    return found


def certificates(bundles: Sequence[Path]) -> set[bytes]:
    """Return the different certificates in *bundles*."""
    return {
        base64.b64decode(
            json.loads(path.read_bytes())["verificationMaterial"]["certificate"]["rawBytes"]
        )
        for path in bundles
    }


def _lives(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return False
    return state != "Z"


def standing(directory: Path, *options: str) -> Iterator[Standing]:
    """Yield a house with its sandbox up; for fixtures."""
    house = Standing(directory)
    try:
        house.sandbox_up(*options)
        yield house
    finally:
        house.close()


class Independent:
    """sigstore-python as the judge, with the trust root that the sandbox hands out."""

    def __init__(self, house: Standing, *, identity: str = IDENTITY) -> None:
        from sigstore.models import TrustedRoot
        from sigstore.verify import Verifier
        from sigstore.verify.policy import Identity

        root = TrustedRoot.from_file(str(house.sandbox_directory / "trusted_root.json"))
        self._verifier = Verifier(trusted_root=root)
        self._policy = Identity(identity=identity, issuer=house.urls["oidc_issuer"])

    def verify(self, path: Path, *, bundle: Path | None = None) -> None:
        """Verify a file against its bundle; raises if it does not."""
        from sigstore.models import Bundle

        text = (bundle or bundle_of(path)).read_text()
        found = Bundle.from_json(text)
        if "dsseEnvelope" not in json.loads(text):
            self._verifier.verify_artifact(path.read_bytes(), found, self._policy)
            return
        _, payload = self._verifier.verify_dsse(found, self._policy)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        subjects = json.loads(payload)["subject"]
        if digest not in {subject["digest"].get("sha256") for subject in subjects}:
            raise ValueError(f"{path} is no subject of the statement")

    def payload(self, bundle: Path) -> tuple[str, bytes]:
        """Verify an attestation; return its payload's type and bytes."""
        from sigstore.models import Bundle

        found = Bundle.from_json(bundle.read_text())
        return self._verifier.verify_dsse(found, self._policy)
