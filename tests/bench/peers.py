"""keyless beside cosign and sigstore-python, on the real services, in turns, in one run.

A signature waits for the log most of its time, and how long is the log's business. So a relay
that only looks at the clock stands before each log, and what it saw is taken off: what is left,
"above the log", is the client's own. The daemon of keyless runs and has a certificate; the others
have nothing that runs. Needs `python -m tests.real install`.
"""

from __future__ import annotations

import os
import statistics
import sys
import time
from argparse import Namespace
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "support")]

from measuring import Spent, cpu_seconds, in_turns  # noqa: E402
from rawlog import Gauge, Writer, entries, rate  # noqa: E402
from tables import Goal, Table, finish, options  # noqa: E402
from tests.real.clients import Cosign  # noqa: E402
from tests.real.house import RealHouse  # noqa: E402
from tests.real.outcomes import counted  # noqa: E402
from tests.real.process import end_in_order_when_told  # noqa: E402
from tests.real.stack import Stack  # noqa: E402
from tests.real.trust import TRUSTED_ROOT, signing_config  # noqa: E402

from keylessd.sandbox.trust_files import trust_config  # noqa: E402
from standing import CHECKOUT, bundle_of  # noqa: E402

KEYLESS, NEVER, COSIGN, PYTHON = "keyless", "keyless --reuse never", "cosign", "sigstore-python"
BATCH = "keyless --batch"
OURS: Mapping[str, tuple[str, ...]] = {
    KEYLESS: (),
    NEVER: ("--reuse", "never"),
    BATCH: ("--batch",),
}
# Instances whose log is the real one, and one behind a gauge.
STRAIGHT, GAUGED = "straight-", "gauged-"
LOGS = {"v1": "rekor1", "v2": "rekor2_a"}
PARALLEL = 64
ABOVE_COSIGN = Goal(1 / 3)
ABOVE_PYTHON = Goal(1 / 12)
OF_RAW = Goal(0.8, at_least=True)
OVER_COSIGN = Goal(5.0, at_least=True)
VERIFY = Goal(1.0)


@dataclass
class Many:
    """What many signatures by one client came to.

    Attributes:
        count: Signatures.
        rate: Of them, per second.
        client: Seconds of processor time of the clients, for each.
        daemon: The same of the daemon.
        certificates: Issued meanwhile.
        entries: Logged meanwhile.
        raw: Entries per second of the log alone, around that time.
    """

    count: int
    rate: float
    client: float
    daemon: float
    certificates: int
    entries: int
    raw: float = 0.0


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
        """Write the configurations, straight and through the gauges; start the daemon."""
        instances = []
        for version in LOGS:
            url = self.raw_url(version)
            self.gauges[version] = gauge = Gauge(url)
            instances.append(self._configure(STRAIGHT + version, url, version))
            instances.append(self._configure(GAUGED + version, gauge.url, version))
        self.house.config.write_text(self.house.config.read_text() + "".join(instances))
        for version in LOGS:
            for instance in (STRAIGHT + version, GAUGED + version):
                self.house.sign(instance, *self.house.files(1, stem=f"warm-{instance}-"))
        found = self.house.daemon_pid()
        assert found is not None
        self.daemon = found

    def _configure(self, instance: str, url: str, version: str) -> str:
        """Write what makes a client log there; return the settings of the instance."""
        trust = self.stack.trust
        logs, stamp = [(url, int(version[1]))], version == "v2"
        config = signing_config(self.stack.keys, self.stack.urls, logs, timestamp=stamp)
        path = trust / f"signing-{instance}.json"
        path.write_bytes(config)
        root = trust / TRUSTED_ROOT
        (trust / f"trust-{instance}.json").write_bytes(trust_config(root.read_bytes(), config))
        return f'[instance.{instance}]\ntrusted_root = "{root}"\nsigning_config = "{path}"\n'

    def keyless(self, *words: str | Path) -> tuple[list[str], dict[str, str]]:
        """Return a command line and its environment."""
        script = str(CHECKOUT / "clientlib" / "bin" / "keyless")
        command = [sys.executable, script, *map(str, words)]
        return command, {**self.house.environ, "SIGSTORE_ID_TOKEN": self.stack.dex_token()}

    def signing(self, client: str, instance: str, *files: Path) -> tuple[list[str], dict[str, str]]:
        """Return the command line that signs, and its environment."""
        if client in OURS:
            words: list[str | Path] = ["--quiet", "--instance", instance, *OURS[client]]
            if client == BATCH:
                words += ["--bundle", bundle_of(files[0])]
            return self.keyless("sign", *words, *files)
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
                "verify", "--quiet", "--instance", STRAIGHT + "v1", *words, *issuer, path
            )
        if client == COSIGN:
            words = self.cosign.verify_words(bundle_of(path), path, who)
            return [self.cosign.command, *map(str, words)], self.cosign.environ()
        config = self.stack.trust / f"trust-{STRAIGHT}v1.json"
        command = [sys.executable, "-m", "sigstore", "--trust-config", str(config), "verify"]
        command += ["identity", "--cert-identity", who.identity, "--cert-oidc-issuer", who.issuer]
        return [*command, "--bundle", str(bundle_of(path)), str(path)], self._python_environ()

    def sign_once(self, client: str, version: str) -> float:
        """Sign one new file in a cold process; return the seconds above the log's own."""
        (path,) = self.house.files(1, stem=f"one-{os.urandom(6).hex()}-")
        command, environ = self.signing(client, GAUGED + version, path)
        gauge = self.gauges[version]
        gauge.taken()
        before = cpu_seconds(self.daemon)
        spent = self._run(command, environ)
        took = gauge.taken()
        name = f"{client}, {version}"
        daemon = cpu_seconds(self.daemon) - before if client in OURS else 0.0
        self.above.setdefault(name, []).append(spent.wall - took)
        self.log.setdefault(name, []).append(took)
        self.cpu.setdefault(name, []).append(spent.cpu + daemon)
        return spent.wall - took

    def verify_once(self, client: str, path: Path) -> float:
        """Verify a bundle in a cold process; return the seconds."""
        return self._run(*self.verifying(client, path)).wall

    def many(self, client: str, version: str, count: int, processes: int) -> Many:
        """Sign files by that many processes, PARALLEL of them at a time."""
        files = self.house.files(count, stem=f"many-{os.urandom(4).hex()}-")
        instance = STRAIGHT + version
        jobs = [self.signing(client, instance, *files[n::processes]) for n in range(processes)]
        with counted(self.stack) as added:
            before = cpu_seconds(self.daemon)
            began = time.perf_counter()
            # posix_spawn and wait4 let the interpreter go, so threads do.
            with ThreadPoolExecutor(PARALLEL) as pool:
                spent = list(pool.map(lambda job: self._run(*job), jobs))
            wall = time.perf_counter() - began
            daemon = cpu_seconds(self.daemon) - before if client in OURS else 0.0
        return Many(
            count=count,
            rate=count / wall,
            client=sum(one.cpu for one in spent) / count,
            daemon=daemon / count,
            certificates=added.certificates,
            entries=sum(added.entries.values()),
        )

    def raw_rate(self, version: str, count: int) -> float:
        """Return how many entries per second the log takes over PARALLEL bare connections."""
        return rate(self.raw_url(version), version, entries(version, count), PARALLEL)

    def raw_url(self, version: str) -> str:
        """Return where the log is."""
        url = getattr(self.stack.urls, LOGS[version])
        assert isinstance(url, str)
        return url

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
        writer = Writer(bench.raw_url(version), version)
        requests = iter(entries(version, rounds + 2))
        cases["raw POST"] = lambda w=writer, r=requests: w.post(next(r))
        found = in_turns(cases, rounds=rounds)
        writer.close()
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
    bench.house.sign(STRAIGHT + "v1", path)
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


def many_signatures(bench: Bench, counts: Mapping[str, int], version: str, rounds: int) -> Table:
    """Measure many signatures by many processes, the log alone before and after each."""
    found: dict[str, list[Many]] = {}
    for _ in range(rounds):
        raw = bench.raw_rate(version, counts[KEYLESS])
        for name in (KEYLESS, COSIGN, f"{KEYLESS}, a process each", BATCH, PYTHON):
            if name == PYTHON and name in found:
                continue  # it takes too long, and nothing hangs on it
            client = name.partition(",")[0]
            processes = PARALLEL if client == name != COSIGN else counts[client]
            one = bench.many(client, version, counts[client], processes)
            after = bench.raw_rate(version, counts[KEYLESS])
            one.raw, raw = (raw + after) / 2, after
            found.setdefault(name, []).append(one)
    table = Table(
        f"many signatures by {PARALLEL} processes at once, Rekor {version}",
        ("/s", "raw /s", "of raw", "of cosign's", "client ms", "daemon ms", "certs", "entries"),
        [
            f"{rounds} rounds in turns (sigstore-python: 1); medians",
            "cosign signs one file per process; the others share the files among their processes",
            "--batch: a process signs all of its files at once, in one entry",
            "client ms, daemon ms: processor time for each signature",
        ],
    )
    for name, measured in found.items():

        def median(of: Callable[[Many], float], measured: list[Many] = measured) -> float:
            return statistics.median(of(one) for one in measured)

        pairs = zip(measured, found[COSIGN], strict=False)
        over = statistics.median(one.rate / cosign.rate for one, cosign in pairs)
        row = (
            median(lambda one: one.rate),
            median(lambda one: one.raw),
            median(lambda one: one.rate / one.raw),
            over,
            median(lambda one: one.client * 1e3),
            median(lambda one: one.daemon * 1e3),
            median(lambda one: one.certificates),
            median(lambda one: one.entries),
        )
        is_goal = name == KEYLESS
        table.add(f"{name} ({measured[0].count})", row, goal=OF_RAW if is_goal else None, judged=2)
        if is_goal and version == "v1":
            again = (None, None, None, over, None, None, None, None)
            table.add("", again, goal=OVER_COSIGN, judged=3)
    return table


def main() -> int:
    """Measure, print, and say whether the goals are met."""
    parser = options(__doc__ or "")
    parser.add_argument("--rounds", type=int, default=10, help="of single ones (%(default)s)")
    parser.add_argument(
        "--rounds-of-many", type=int, default=3, help="of many at once (%(default)s)"
    )
    parser.add_argument("--many", type=int, default=400, help="signatures at once (%(default)s)")
    parser.add_argument(
        "--python", type=int, default=400, help="of them by sigstore-python (%(default)s)"
    )
    parser.add_argument(
        "--apart",
        action="store_true",
        help="the services on one half of the processors, daemon and clients on the other, as if"
        " the services were on machines of their own",
    )
    arguments = parser.parse_args()
    end_in_order_when_told()
    processors = sorted(os.sched_getaffinity(0))
    if arguments.apart and len(processors) == 1:
        parser.error("--apart needs two processors")
    theirs, ours = _halves(processors) if arguments.apart else (processors, processors)
    stack = Stack()
    try:
        # Whatever is started has the processors of the thread that starts it.
        os.sched_setaffinity(0, theirs)
        stack.up()
        os.sched_setaffinity(0, ours)
        bench = Bench(stack, RealHouse(stack), Cosign(stack))
        try:
            bench.prepare()
            return _measure(bench, arguments)
        finally:
            bench.house.close()
    finally:
        stack.down()


def _halves(processors: Sequence[int]) -> tuple[Sequence[int], Sequence[int]]:
    middle = len(processors) // 2
    return processors[:middle], processors[middle:]


def _measure(bench: Bench, arguments: Namespace) -> int:
    counts = dict.fromkeys((KEYLESS, BATCH, COSIGN), arguments.many)
    counts[PYTHON] = arguments.python
    status = finish(one_signature(bench, arguments.rounds), check=arguments.check)
    status |= finish(one_verification(bench, arguments.rounds), check=arguments.check)
    for version in LOGS:
        table = many_signatures(bench, counts, version, arguments.rounds_of_many)
        status |= finish(table, check=arguments.check)
    return status


if __name__ == "__main__":
    sys.exit(main())
