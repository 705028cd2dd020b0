"""keyless beside cosign and sigstore-python, on the real services, in turns, in one run.

A signature waits for the log most of its time, and how long is the log's business. So a relay
that only looks at the clock stands before each log, and what it saw is taken off: what is left,
"above the log", is the client's own. The daemon of keyless runs and has a certificate; the others
have nothing that runs. Needs `python -m tests.real install`.
"""

from __future__ import annotations

import hashlib
import os
import select
import socket
import statistics
import sys
import threading
import time
from argparse import Namespace
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "support")]

import httpx  # noqa: E402
from cryptography.hazmat.primitives import hashes  # noqa: E402
from cryptography.hazmat.primitives.asymmetric import ec  # noqa: E402
from measuring import Spent, cpu_seconds, in_turns  # noqa: E402
from tables import Goal, Table, finish, options  # noqa: E402
from tests.real.clients import Cosign  # noqa: E402
from tests.real.house import RealHouse  # noqa: E402
from tests.real.outcomes import counted  # noqa: E402
from tests.real.stack import Stack  # noqa: E402
from tests.real.trust import TRUSTED_ROOT, signing_config  # noqa: E402

from keylessd.core.digests import Digest, HashAlgorithm  # noqa: E402
from keylessd.sandbox.trust_files import trust_config  # noqa: E402
from keylessd.services import rekor_v1, rekor_v2  # noqa: E402
from keylessd.services.verifier import key_verifier  # noqa: E402
from standing import CHECKOUT, bundle_of  # noqa: E402

KEYLESS, NEVER, COSIGN, PYTHON = "keyless", "keyless --reuse never", "cosign", "sigstore-python"
LOGS = {"v1": "rekor1", "v2": "rekor2_a"}
PARALLEL = 64
ABOVE_COSIGN = Goal(1 / 3)
ABOVE_PYTHON = Goal(1 / 12)
OF_RAW = Goal(0.8, at_least=True)
OVER_COSIGN = Goal(5.0, at_least=True)
VERIFY = Goal(1.0)


class Gauge:
    """Passes bytes to a server and notes how long each of its answers took. Reads none of them."""

    def __init__(self, target: str) -> None:
        found = httpx.URL(target)
        self._target = (found.host, found.port or 80)
        self._seconds: list[float] = []
        self._listening = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def taken(self) -> float:
        """Return the seconds of all answers since it was last asked."""
        found, self._seconds = sum(self._seconds), []
        return found

    def _accept(self) -> None:
        while True:
            client, _ = self._listening.accept()
            threading.Thread(target=self._relay, args=(client,), daemon=True).start()

    def _relay(self, client: socket.socket) -> None:
        with client, socket.create_connection(self._target) as server, suppress(OSError):
            for one in (client, server):
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            asked = None
            while True:
                for ready in select.select([client, server], [], [])[0]:
                    data = ready.recv(1 << 16)
                    if not data:
                        return
                    if ready is client:
                        server.sendall(data)
                        asked = time.perf_counter()
                        continue
                    if asked is not None:
                        self._seconds.append(time.perf_counter() - asked)
                        asked = None
                    client.sendall(data)


@dataclass
class Bench:
    """Everything that is up, and the command lines of the clients."""

    stack: Stack
    house: RealHouse
    cosign: Cosign
    gauges: dict[str, Gauge] = field(default_factory=dict)
    daemon: int = 0
    above: dict[str, list[float]] = field(default_factory=dict)
    log: dict[str, list[float]] = field(default_factory=dict)
    cpu: dict[str, list[float]] = field(default_factory=dict)

    def prepare(self) -> None:
        """Write the configurations that lead through the gauges; start the daemon."""
        trust = self.stack.trust
        root = (trust / TRUSTED_ROOT).read_bytes()
        text = self.house.config.read_text()
        for version, name in LOGS.items():
            gauge = Gauge(getattr(self.stack.urls, name))
            self.gauges[version] = gauge
            logs = [(gauge.url, int(version[1]))]
            stamp = version == "v2"
            config = signing_config(self.stack.keys, self.stack.urls, logs, timestamp=stamp)
            path = trust / f"signing-bench-{version}.json"
            path.write_bytes(config)
            (trust / f"trust-bench-{version}.json").write_bytes(trust_config(root, config))
            text += f'[instance.bench-{version}]\ntrusted_root = "{trust / TRUSTED_ROOT}"\n'
            text += f'signing_config = "{path}"\n'
        self.house.config.write_text(text)
        for version in LOGS:
            self.house.sign(f"bench-{version}", *self.house.files(1, stem=f"warm-{version}-"))
        found = self.house.daemon_pid()
        assert found is not None
        self.daemon = found

    def keyless(self, *words: str | Path) -> tuple[list[str], dict[str, str]]:
        """Return a command line and its environment."""
        script = str(CHECKOUT / "clientlib" / "bin" / "keyless")
        command = [sys.executable, script, *map(str, words)]
        return command, {**self.house.environ, "SIGSTORE_ID_TOKEN": self.stack.dex_token()}

    def signing(self, client: str, version: str, *files: Path) -> tuple[list[str], dict[str, str]]:
        """Return the command line that signs, and its environment."""
        instance = f"bench-{version}"
        if client in (KEYLESS, NEVER):
            reuse = ["--reuse", "never"] if client == NEVER else []
            return self.keyless("sign", "--quiet", "--instance", instance, *reuse, *files)
        token = self.stack.dex_token()
        if client == COSIGN:
            (path,) = files
            words = self.cosign.sign_words(bundle_of(path), path, instance)
            command = [self.cosign.command, *map(str, words), "--identity-token", token]
            return command, self.cosign.environ()
        config = self.stack.trust / f"trust-{instance}.json"
        command = [sys.executable, "-m", "sigstore", "--trust-config", str(config), "sign"]
        command += ["--overwrite", "--identity-token", token, *map(str, files)]
        return command, self._python_environ()

    def verifying(self, client: str, path: Path) -> tuple[list[str], dict[str, str]]:
        """Return the command line that verifies, and its environment."""
        who = self.house.who
        if client == KEYLESS:
            words = ("--certificate-identity", who.identity)
            issuer = ("--certificate-oidc-issuer", who.issuer)
            return self.keyless(
                "verify", "--quiet", "--instance", "bench-v1", *words, *issuer, path
            )
        if client == COSIGN:
            words = self.cosign.verify_words(bundle_of(path), path, who)
            return [self.cosign.command, *map(str, words)], self.cosign.environ()
        config = self.stack.trust / "trust-bench-v1.json"
        command = [sys.executable, "-m", "sigstore", "--trust-config", str(config), "verify"]
        command += ["identity", "--cert-identity", who.identity, "--cert-oidc-issuer", who.issuer]
        return [*command, "--bundle", str(bundle_of(path)), str(path)], self._python_environ()

    def sign_once(self, client: str, version: str) -> float:
        """Sign one new file in a cold process; return the seconds above the log's own."""
        (path,) = self.house.files(1, stem=f"one-{os.urandom(6).hex()}-")
        command, environ = self.signing(client, version, path)
        gauge = self.gauges[version]
        gauge.taken()
        before = cpu_seconds(self.daemon)
        spent = self._run(command, environ)
        took = gauge.taken()
        name = f"{client}, {version}"
        daemon = cpu_seconds(self.daemon) - before if client in (KEYLESS, NEVER) else 0.0
        self.above.setdefault(name, []).append(spent.wall - took)
        self.log.setdefault(name, []).append(took)
        self.cpu.setdefault(name, []).append(spent.cpu + daemon)
        return spent.wall - took

    def verify_once(self, client: str, path: Path) -> float:
        """Verify a bundle in a cold process; return the seconds."""
        return self._run(*self.verifying(client, path)).wall

    def many(
        self, client: str, version: str, files: Sequence[Path], *, each: int
    ) -> tuple[Spent, float]:
        """Sign files by PARALLEL processes at a time, *each* files per process.

        Returns:
            What the clients took, and the seconds of processor time of the daemon.
        """
        parts = [files[at : at + each] for at in range(0, len(files), each)]
        jobs = [self.signing(client, version, *part) for part in parts]
        before = cpu_seconds(self.daemon)
        began = time.perf_counter()
        # posix_spawn and wait4 let the interpreter go, so threads do.
        with ThreadPoolExecutor(PARALLEL) as pool:
            spent = list(pool.map(lambda job: self._run(*job), jobs))
        wall = time.perf_counter() - began
        daemon = cpu_seconds(self.daemon) - before if client in (KEYLESS, NEVER) else 0.0
        return Spent(wall, sum(one.cpu for one in spent)), daemon

    def _run(self, command: Sequence[str], environ: Mapping[str, str]) -> Spent:
        # Not measuring.run(): that changes the directory, and threads have but one.
        null = os.devnull
        actions = [
            (os.POSIX_SPAWN_OPEN, 0, null, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, null, os.O_WRONLY, 0),
            (os.POSIX_SPAWN_OPEN, 2, self.errors, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600),
        ]
        began = time.perf_counter()
        pid = os.posix_spawn(command[0], list(command), dict(environ), file_actions=actions)
        _, status, used = os.wait4(pid, 0)
        wall = time.perf_counter() - began
        if status != 0:
            tail = Path(self.errors).read_text()[-1000:]
            raise RuntimeError(f"{command[:4]} ended with {status}: {tail}")
        return Spent(wall, used.ru_utime + used.ru_stime)

    @property
    def errors(self) -> str:
        """The file that takes what the clients say."""
        return str(self.stack.directory / "bench.err")

    def _python_environ(self) -> dict[str, str]:
        return {"PATH": os.environ["PATH"], "HOME": str(self.stack.directory), "LANG": "C.UTF-8"}


# --- what the log takes by itself ---------------------------------------------------------------


def entries(version: str, count: int) -> list[bytes]:
    """Return requests for entries that the log does not have yet."""
    key = ec.generate_private_key(ec.SECP256R1())
    verifier = key_verifier(key.public_key())
    module = rekor_v1 if version == "v1" else rekor_v2
    made = []
    for _ in range(count):
        content = os.urandom(32)
        digest = Digest(HashAlgorithm.SHA256, hashlib.sha256(content).digest())
        signature = key.sign(content, ec.ECDSA(hashes.SHA256()))
        made.append(module.hashedrekord_request(digest, signature, verifier))
    return made


def post(client: httpx.Client, url: str, request: bytes) -> float:
    """Write one entry; return the seconds."""
    began = time.perf_counter()
    reply = client.post(url, content=request, headers={"content-type": "application/json"})
    assert reply.status_code == 201, reply.text
    return time.perf_counter() - began


def raw_url(stack: Stack, version: str) -> str:
    """Return where entries are written to."""
    path = "/api/v1/log/entries" if version == "v1" else "/api/v2/log/entries"
    return getattr(stack.urls, LOGS[version]) + path


def raw_many(stack: Stack, version: str, count: int) -> float:
    """Write *count* entries over PARALLEL connections; return entries per second."""
    requests, url = entries(version, count), raw_url(stack, version)
    with ThreadPoolExecutor(PARALLEL) as pool:
        clients = [httpx.Client(timeout=60, trust_env=False) for _ in range(PARALLEL)]
        began = time.perf_counter()
        parts = [(clients[n], requests[n::PARALLEL]) for n in range(PARALLEL)]
        list(pool.map(lambda part: [post(part[0], url, one) for one in part[1]], parts))
        wall = time.perf_counter() - began
        for one in clients:
            one.close()
    return count / wall


# --- the tables ----------------------------------------------------------------------------------


def one_signature(bench: Bench, rounds: int) -> Table:
    """Measure single signatures as cold processes."""
    table = Table(
        "one signature, cold process: time above the log's own write",
        ("above, ms", "of cosign's", "of python's", "in the log, ms", "CPU, ms"),
        [f"{rounds} rounds in turns; medians; CPU with the daemon's"],
    )
    for version in LOGS:
        cases: dict[str, Callable[[], float]] = {
            client: partial(bench.sign_once, client, version)
            for client in (KEYLESS, NEVER, COSIGN, PYTHON)
        }
        url, client = raw_url(bench.stack, version), httpx.Client(timeout=60, trust_env=False)
        requests = iter(entries(version, rounds + 2))
        cases["raw POST"] = lambda u=url, c=client, r=requests: post(c, u, next(r))
        found = in_turns(cases, rounds=rounds)
        client.close()
        cosign, python = found[COSIGN].median, found[PYTHON].median
        for name in (KEYLESS, NEVER, COSIGN, PYTHON):
            above = found[name].median
            key = f"{name}, {version}"
            log, cpu = (statistics.median(of[key][-rounds:]) for of in (bench.log, bench.cpu))
            row = (above * 1e3, above / cosign, above / python, log * 1e3, cpu * 1e3)
            table.add(key, row, goal=ABOVE_COSIGN if name == KEYLESS else None, judged=1)
            if name == KEYLESS:
                table.add("", (None, None, above / python, None, None), goal=ABOVE_PYTHON, judged=2)
        table.add(f"raw POST, {version}", (None, None, None, found["raw POST"].median * 1e3, None))
    return table


def one_verification(bench: Bench, rounds: int) -> Table:
    """Measure single verifications as cold processes."""
    (path,) = bench.house.files(1, stem="verified-")
    bench.house.sign("bench-v1", path)
    cases = {name: partial(bench.verify_once, name, path) for name in (KEYLESS, COSIGN, PYTHON)}
    found = in_turns(cases, rounds=rounds)
    table = Table(
        "one verification, cold process", ("ms", "of cosign's"), [f"{rounds} rounds in turns"]
    )
    for name, samples in found.items():
        ratio = samples.median / found[COSIGN].median
        goal = VERIFY if name == KEYLESS else None
        table.add(name, (samples.median * 1e3, ratio), goal=goal, judged=1)
    return table


def many_signatures(bench: Bench, counts: Mapping[str, int], version: str) -> Table:
    """Measure many signatures by many processes."""
    table = Table(
        f"many signatures by {PARALLEL} processes at once, Rekor {version}",
        ("/s", "of raw", "of cosign's", "client ms", "daemon ms", "certificates", "entries"),
        [
            "cosign signs one file per process; the others share the files among their processes",
            "client ms, daemon ms: processor time for each signature",
        ],
    )
    raw = raw_many(bench.stack, version, counts[KEYLESS])
    rates: dict[str, float] = {}
    for name in (COSIGN, KEYLESS, f"{KEYLESS}, a process each", PYTHON):
        client, count = name.partition(",")[0], counts[name.partition(",")[0]]
        each = 1 if name == COSIGN or "," in name else -(-count // PARALLEL)
        files = bench.house.files(count, stem=f"many-{version}-{len(rates)}-")
        with counted(bench.stack) as added:
            spent, daemon = bench.many(client, version, files, each=each)
        rates[name] = count / spent.wall
        row = (
            rates[name],
            rates[name] / raw,
            rates[name] / rates[COSIGN],
            spent.cpu / count * 1e3,
            daemon / count * 1e3,
            float(added.certificates),
            float(sum(added.entries.values())),
        )
        is_goal = name == KEYLESS
        table.add(f"{name} ({count})", row, goal=OF_RAW if is_goal else None, judged=1)
        if is_goal and version == "v1":
            again = (None, None, row[2], None, None, None, None)
            table.add("", again, goal=OVER_COSIGN, judged=2)
    table.add("raw POST", (raw, 1.0, None, None, None, None, None))
    return table


def main() -> int:
    """Measure, print, and say whether the goals are met."""
    parser = options(__doc__ or "")
    parser.add_argument("--rounds", type=int, default=10, help="of single ones (%(default)s)")
    parser.add_argument("--many", type=int, default=400, help="signatures at once (%(default)s)")
    parser.add_argument(
        "--python", type=int, default=128, help="of them by sigstore-python (%(default)s)"
    )
    arguments = parser.parse_args()
    stack = Stack()
    try:
        stack.up()
        bench = Bench(stack, RealHouse(stack), Cosign(stack))
        try:
            bench.prepare()
            return _measure(bench, arguments)
        finally:
            bench.house.close()
    finally:
        stack.down()


def _measure(bench: Bench, arguments: Namespace) -> int:
    counts = {KEYLESS: arguments.many, COSIGN: arguments.many, PYTHON: arguments.python}
    status = finish(one_signature(bench, arguments.rounds), check=arguments.check)
    status |= finish(one_verification(bench, arguments.rounds), check=arguments.check)
    for version in LOGS:
        status |= finish(many_signatures(bench, counts, version), check=arguments.check)
    return status


if __name__ == "__main__":
    sys.exit(main())
