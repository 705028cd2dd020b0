"""The whole real stack: makes keys, starts everything in order, writes the trust material."""

from __future__ import annotations

import base64
import getpass
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import httpx
from tests.real.dex import password_grant
from tests.real.keys import Keys, make_keys
from tests.real.process import Program, free_ports, is_free
from tests.real.recipes import environment
from tests.real.services import (
    DATABASE_PASSWORD,
    EMAIL,
    HOST,
    TSA_METRICS,
    Maker,
)
from tests.real.trust import SIGNING_CONFIG, TRUSTED_ROOT, Repository, Urls, write_trust
from tests.real.versions import module_file, system_program
from tests.real.web import Issuers

_PORTS = (
    *("issuer", "files", "dex", "provider", "ct", "fulcio", "fulcio-grpc", "fulcio-metrics", "tsa"),
    *("rekor2-a", "rekor2-a-grpc", "rekor2-a-metrics"),
    *("rekor2-b", "rekor2-b-grpc", "rekor2-b-metrics"),
    *("mariadb", "trillian", "trillian-http", "signer", "signer-http", "rekor1"),
)


class StackError(Exception):
    """The stack cannot be started here; the message is for people."""


class Stack:
    """Everything, on loopback, below one new folder.

    Attributes:
        directory: It is short, since paths of sockets must be, and gone after down().
        programs: Name -> program, in the order of their start.
        urls: Where the services are.
        provider_port: Where Fulcio expects one more OpenID provider, which is not started here.
        trust: Folder with ``trusted_root.json``, ``signing-NAME.json`` and ``trust-NAME.json``.
        seconds: How long the start took.
    """

    def __init__(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="keyless-real-"))
        self.trust = self.directory / "trust"
        self.programs: dict[str, Program] = {}
        self.seconds = 0.0
        self.keys: Keys
        self.urls: Urls
        self.issuers: Issuers
        self.provider_port: int
        self.repository: Repository
        self._token: tuple[float, str] | None = None

    # --- up and down --------------------------------------------------------------------------

    def up(self) -> None:
        """Start everything; it answers when this returns.

        Raises:
            StackError: Another stack runs on this machine.
            NotStartedError: A program does not start.
        """
        if not is_free(TSA_METRICS):
            raise StackError(
                f"port {TSA_METRICS} is taken: the timestamp authority needs it; does another "
                "stack run on this machine (python -m tests.real down)?"
            )
        began = time.monotonic()
        port = dict(zip(_PORTS, free_ports(len(_PORTS)), strict=True))
        self.urls = _urls(port)
        self.provider_port = port["provider"]
        self.keys = make_keys(self.directory / "keys")
        self._folders()
        maker = Maker(self.directory)
        self.issuers = Issuers(self.directory, port["issuer"])
        # Dex looks at an issuer that it federates when it starts.
        self._start(web=maker.web(port["issuer"], port["files"]))
        self._start(
            dex=maker.dex(port["dex"], upstream=self.urls.issuer),
            ct=maker.ct(port["ct"]),
            tsa=maker.tsa(port["tsa"]),
            mariadb=self._database(maker, port["mariadb"]),
            **{
                name: maker.rekor2(name, port[name], port[f"{name}-grpc"], port[f"{name}-metrics"])
                for name in ("rekor2-a", "rekor2-b")
            },
        )
        self._schema()
        database = port["mariadb"]
        self._start(
            fulcio=maker.fulcio(
                *(port["fulcio"], port["fulcio-grpc"], port["fulcio-metrics"]),
                ct_port=port["ct"],
                dex=self.urls.dex,
                issuer=self.urls.issuer,
                provider=f"http://{HOST}:{self.provider_port}",
            ),
            trillian_log_server=maker.trillian(
                *("trillian_log_server", port["trillian"], port["trillian-http"]),
                database_port=database,
            ),
            trillian_log_signer=maker.trillian(
                *("trillian_log_signer", port["signer"], port["signer-http"]),
                database_port=database,
            ),
        )
        self._start(
            rekor1=maker.rekor1(
                port["rekor1"], trillian_port=port["trillian"], database_port=database, tree=0
            )
        )
        # The first start made a tree; later ones have to go on with it.
        tree = int(httpx.get(f"{self.urls.rekor1}/api/v1/log").json()["treeID"])
        self.programs["rekor1"].command = maker.rekor1(
            port["rekor1"], trillian_port=port["trillian"], database_port=database, tree=tree
        ).command
        write_trust(self.trust, self.keys, self.urls)
        self.repository = Repository(self.directory, self.urls.files, "tuf")
        self.repository.tuf.publish(
            {
                TRUSTED_ROOT: (self.trust / TRUSTED_ROOT).read_bytes(),
                SIGNING_CONFIG: (self.trust / "signing-v2.json").read_bytes(),
            }
        )
        self.seconds = time.monotonic() - began

    def down(self) -> None:
        """End everything and remove the folder."""
        # Nothing of it is needed any more, so nothing has to end in order.
        for one in reversed(self.programs.values()):
            one.stop(signal.SIGKILL)
        shutil.rmtree(self.directory, ignore_errors=True)

    def _start(self, **programs: Program) -> None:
        for name, one in programs.items():
            self.programs[name] = one
            one.start()
        for one in programs.values():
            one.wait_until_ready()

    def _folders(self) -> None:
        for name in ("www", "issuer"):
            (self.directory / name).mkdir(mode=0o700)
        for name in ("rekor2-a", "rekor2-b", "ct"):
            (self.directory / name).mkdir()
            (self.directory / "www" / name).symlink_to(self.directory / name)

    # --- the database -------------------------------------------------------------------------

    def _database(self, maker: Maker, port: int) -> Program:
        data = self.directory / "mariadb"
        command = [
            *(str(system_program("mariadb-install-db")), "--no-defaults"),
            *(f"--user={getpass.getuser()}", f"--datadir={data}"),
            *("--auth-root-authentication-method=normal", "--skip-test-db"),
        ]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0:
            raise StackError(
                f"mariadb-install-db failed:\n{done.stdout[-800:]}{done.stderr[-800:]}"
            )
        return maker.mariadb(port)

    def _schema(self) -> None:
        schema = module_file("storage.sql").read_text()
        statements = (
            "CREATE DATABASE trillian; CREATE DATABASE search;\n"
            f"CREATE USER 'real'@'{HOST}' IDENTIFIED BY '{DATABASE_PASSWORD}';\n"
            f"GRANT ALL ON *.* TO 'real'@'{HOST}';\nUSE trillian;\n{schema}"
        )
        socket = self.directory / "mariadb" / "s"
        subprocess.run(
            [
                *(system_program("mariadb") or "mariadb", "--no-defaults"),
                *(f"--socket={socket}", "--user=root"),
            ],
            input=statements,
            text=True,
            check=True,
            capture_output=True,
        )

    # --- identities ---------------------------------------------------------------------------

    def dex_token(self) -> str:
        """Return an identity token of Dex for EMAIL, by its password grant; a fresh enough one."""
        now = time.monotonic()
        if self._token is None or now - self._token[0] > 120:
            self._token = (now, str(self.dex_login()["id_token"]))
        return self._token[1]

    def dex_login(self) -> Mapping[str, object]:
        """Return Dex's answer to the password grant."""
        return password_grant(self.urls.dex)

    # --- the logs -----------------------------------------------------------------------------

    def certificates(self) -> int:
        """Return how many certificates the CT log holds by its newest checkpoint."""
        return _checkpoint_size(self.directory / "ct" / "checkpoint")

    def entries(self, name: str) -> int:
        """Return how many entries a log holds: ``rekor1``, ``rekor2-a`` or ``rekor2-b``."""
        if name == "rekor1":
            found = httpx.get(f"{self.urls.rekor1}/api/v1/log").json()
            return int(found["treeSize"])
        return _checkpoint_size(self.directory / name / "checkpoint")

    def environment(self) -> dict[str, str]:
        """Return what points every client at this stack, with a token that ends soon."""
        found = environment(
            directory=self.directory,
            trust=self.trust,
            tuf=(self.repository.url, self.repository.root),
            signer=EMAIL,
            urls=asdict(self.urls),
        )
        return {**found, "SIGSTORE_ID_TOKEN": self.dex_token()}


def _urls(port: Mapping[str, int]) -> Urls:
    def at(name: str) -> str:
        return f"http://{HOST}:{port[name]}"

    return Urls(
        fulcio=at("fulcio"),
        ct=at("ct"),
        issuer=at("issuer"),
        dex=at("dex"),
        rekor1=at("rekor1"),
        rekor2_a=at("rekor2-a"),
        rekor2_b=at("rekor2-b"),
        tsa=at("tsa") + "/api/v1/timestamp",
        files=at("files"),
    )


def _checkpoint_size(path: Path) -> int:
    if not path.exists():
        return 0
    lines = path.read_text().split("\n")
    assert base64.b64decode(lines[2]), "a checkpoint has a root hash on its third line"
    return int(lines[1])
