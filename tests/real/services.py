"""The command line of each real service, and when it is ready. Starts nothing."""

from __future__ import annotations

import getpass
import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.real.keys import CA_PASSWORD, TSA_PASSWORD
from tests.real.process import Program, accepts, answers, plain_environ
from tests.real.versions import program, system_program

from keylessd.sandbox import workloads

HOST = "127.0.0.1"
CHECKOUT = Path(__file__).parents[2]
# The names of the logs: hosts without port, as some clients take no others.
CT_ORIGIN = "ct.keyless.test"
REKOR1_NAME = "rekor1.keyless.test"
REKOR2_NAMES: Mapping[str, str] = {
    "rekor2-a": "rekor2-a.keyless.test",
    "rekor2-b": "rekor2-b.keyless.test",
    # Trusted and not started: for a test that wants a log without entries.
    "rekor2-new": "rekor2-new.keyless.test",
}
TSA_METRICS = 2112  # it has no flag for another one
EMAIL = "builder@keyless.test"
PASSWORD = "password"
# bcrypt of the above, cost 10: the least that Dex takes.
PASSWORD_HASH = "$2b$10$abcdefghijklmnopqrstuu5Lo0g67CiD3M4RpN1BmBb4Crp5w7dbK"
SPIRE_DOMAIN = "spire.keyless.test"
SPIRE_PATH = "/spire"  # of its issuer, below that of our own
DATABASE_PASSWORD = "database-of-the-tests"
ID_TOKEN_LIFE = "5m"
FARM = "farm"  # a client of Dex that trades tokens in
FARM_SECRET = "secret-of-the-farm"
UPSTREAM = "ci"  # the connector for the tokens that it trades
UPSTREAM_AUDIENCE = "dex"

# GitHub's workflow claims as Fulcio's own configuration maps them.
GITHUB_TEMPLATES = {
    "GithubWorkflowTrigger": "event_name",
    "GithubWorkflowSHA": "sha",
    "GithubWorkflowName": "workflow",
    "GithubWorkflowRepository": "repository",
    "GithubWorkflowRef": "ref",
    "BuildSignerURI": "{{ .url }}/{{ .job_workflow_ref }}",
    "BuildSignerDigest": "job_workflow_sha",
    "RunnerEnvironment": "runner_environment",
    "SourceRepositoryURI": "{{ .url }}/{{ .repository }}",
    "SourceRepositoryDigest": "sha",
    "SourceRepositoryRef": "ref",
    "SourceRepositoryIdentifier": "repository_id",
    "SourceRepositoryOwnerURI": "{{ .url }}/{{ .repository_owner }}",
    "SourceRepositoryOwnerIdentifier": "repository_owner_id",
    "BuildConfigURI": "{{ .url }}/{{ .workflow_ref }}",
    "BuildConfigDigest": "workflow_sha",
    "BuildTrigger": "event_name",
    "RunInvocationURI": "{{ .url }}/{{ .repository }}/actions/runs/{{ .run_id }}"
    "/attempts/{{ .run_attempt }}",
    "SourceRepositoryVisibilityAtSigning": "repository_visibility",
}


@dataclass(frozen=True, slots=True)
class Maker:
    """Makes programs whose files are all below one folder."""

    directory: Path

    def _program(
        self, name: str, command: Sequence[str | Path], ready: object, **environ: str
    ) -> Program:
        assert callable(ready)
        return Program(
            name,
            command,
            log=self.directory / f"{name}.log",
            ready=ready,
            environ={**plain_environ(self.directory), **environ},
        )

    def web(self, issuer_port: int, files_port: int) -> Program:
        """Return our issuers, TUF and tiles."""
        paths = [str(CHECKOUT), str(CHECKOUT / "daemon"), str(CHECKOUT / "clientlib")]
        command = [sys.executable, "-m", "tests.real.web"]
        return self._program(
            "web",
            [*command, self.directory, str(issuer_port), str(files_port)],
            accepts(files_port),
            PYTHONPATH=os.pathsep.join([*paths, *filter(None, [os.environ.get("PYTHONPATH")])]),
        )

    def dex(
        self, port: int, *, name: str = "dex", reuse: str = "3s", upstream: str | None = None
    ) -> Program:
        """Return Dex: memory storage, a connector with a password and one without.

        Its issuer has no path: with one, Dex does not take its own address for devices from a
        client that has no redirect URIs listed.

        Args:
            port: Where it listens.
            name: Of the program and its files.
            upstream: An issuer whose tokens are taken in exchange for Dex's own, if there is one.
            reuse: How long a refresh token is good after its use; for so long none is rotated.
        """
        issuer = f"http://{HOST}:{port}"
        config = {
            "issuer": issuer,
            "storage": {"type": "memory"},
            "web": {"http": f"{HOST}:{port}"},
            "logger": {"level": "error"},
            "expiry": {
                "idTokens": ID_TOKEN_LIFE,
                "refreshTokens": {"reuseInterval": reuse},
            },
            "oauth2": {
                "skipApprovalScreen": True,
                "passwordConnector": "local",
                "responseTypes": ["code"],
                "grantTypes": [
                    "authorization_code",
                    "refresh_token",
                    "password",
                    "urn:ietf:params:oauth:grant-type:device_code",
                    "urn:ietf:params:oauth:grant-type:token-exchange",
                ],
            },
            "enablePasswordDB": True,
            "staticPasswords": [
                {"email": EMAIL, "hash": PASSWORD_HASH, "username": "builder", "userID": "1"}
            ],
            "connectors": [{"type": "mockCallback", "id": "mock", "name": "Mock"}],
            "staticClients": [
                # Public and without redirectURIs: any port of localhost, out of band, and device.
                {"id": "sigstore", "name": "sigstore", "public": True, "trustedPeers": [FARM]},
                {"id": FARM, "name": FARM, "secret": FARM_SECRET},
            ],
        }
        if upstream is not None:
            federated = {
                "issuer": upstream,
                "clientID": UPSTREAM_AUDIENCE,
                "clientSecret": "never-used",
                "redirectURI": f"{issuer}/callback",
                "userNameKey": "email",  # a machine has no other name
            }
            config["connectors"] += [
                {"type": "oidc", "id": UPSTREAM, "name": UPSTREAM, "config": federated}
            ]
        path = self.directory / f"{name}.json"
        path.write_text(json.dumps(config))
        ready = answers(f"{issuer}/.well-known/openid-configuration")
        return self._program(name, [program("dex"), "serve", path], ready)

    def ct(self, port: int) -> Program:
        """Return TesseraCT, the certificate transparency log."""
        keys = self.directory / "keys"
        storage = self.directory / "ct"
        storage.mkdir(exist_ok=True)
        command = [
            program("tesseract-posix"),
            *("--private_key", keys / "ct.key", "--origin", CT_ORIGIN),
            *("--storage_dir", storage, "--roots_pem_file", keys / "ca.pem"),
            *("--ext_key_usages", "CodeSigning", "--http_endpoint", f"{HOST}:{port}"),
            *("--checkpoint_interval", "1s", "--batch_max_age", "50ms"),
            "--enable_publication_awaiter=false",
        ]
        return self._program("ct", command, answers(f"http://{HOST}:{port}/ct/v1/get-roots"))

    def fulcio(
        self,
        port: int,
        grpc: int,
        metrics: int,
        *,
        ct_port: int,
        dex: str,
        issuer: str,
        provider: str,
    ) -> Program:
        """Return Fulcio with a CA from files and issuers of every kind."""
        keys = self.directory / "keys"
        path = self.directory / "fulcio.json"
        path.write_text(json.dumps(_fulcio_config(dex, issuer, provider)))
        command = [
            *(program("fulcio"), "serve", "--ca=fileca", "--fileca-cert", keys / "ca.pem"),
            *("--fileca-key", keys / "ca.key", "--fileca-key-passwd", CA_PASSWORD),
            *("--fileca-watch=false", "--ct-log-url", f"http://{HOST}:{ct_port}"),
            *("--ct-log-public-key-path", keys / "ct.pub", "--ct-log-origin", CT_ORIGIN),
            *("--config-path", path, "--host", HOST, "--port", str(port)),
            *("--grpc-host", HOST, "--grpc-port", str(grpc), "--metrics-port", str(metrics)),
            # Abstract sockets belong to the whole machine.
            *("--legacy-unix-domain-socket", f"@keyless-tests-{port}"),
        ]
        return self._program("fulcio", command, answers(f"http://{HOST}:{port}/api/v2/trustBundle"))

    def rekor2(self, name: str, port: int, grpc: int, metrics: int) -> Program:
        """Return a Rekor v2 log; its tiles lie in a folder of its name."""
        storage = self.directory / name
        storage.mkdir(exist_ok=True)
        command = [
            *(program("rekor-tiles"), "serve", "--hostname", REKOR2_NAMES[name]),
            *("--storage-dir", storage, "--signer-filepath", self.directory / f"keys/{name}.key"),
            *("--checkpoint-interval", "1s", "--http-address", HOST, "--http-port", str(port)),
            *("--grpc-address", HOST, "--grpc-port", str(grpc)),
            *("--http-metrics-port", str(metrics), "--log-level", "warn"),
            # Or what was logged before a restart could be logged again after it.
            "--persistent-antispam",
        ]
        return self._program(name, command, answers(f"http://{HOST}:{port}/healthz"))

    def tsa(self, port: int) -> Program:
        """Return the timestamp authority. There can be one on a machine."""
        keys = self.directory / "keys"
        command = [
            *(program("timestamp-server"), "serve", "--host", HOST, "--port", str(port)),
            *("--timestamp-signer", "file", "--file-signer-key-path", keys / "tsa.key"),
            *("--file-signer-passwd", TSA_PASSWORD, "--certificate-chain-path", keys / "tsa.pem"),
            *("--timestamp-signer-hash", "sha384", "--disable-ntp-monitoring"),
        ]
        ready = answers(f"http://{HOST}:{port}/api/v1/timestamp/certchain")
        return self._program("tsa", command, ready)

    def mariadb(self, port: int) -> Program:
        """Return the database server; its data folder is made by `stack`."""
        data = self.directory / "mariadb"
        command = [
            *(_system("mariadbd"), "--no-defaults", f"--user={getpass.getuser()}"),
            *(
                f"--datadir={data}",
                f"--socket={data}/s",
                f"--port={port}",
                f"--bind-address={HOST}",
            ),
            *("--skip-log-bin", "--skip-name-resolve", "--performance-schema=OFF"),
            # Nothing here has to survive a power cut.
            *("--innodb-flush-log-at-trx-commit=0", "--innodb-buffer-pool-size=64M"),
        ]
        return self._program("mariadb", command, accepts(port))

    def trillian(self, part: str, rpc: int, http: int, *, database_port: int) -> Program:
        """Return ``trillian_log_server`` or ``trillian_log_signer``."""
        uri = f"real:{DATABASE_PASSWORD}@tcp({HOST}:{database_port})/trillian"
        command = [
            *(program(part), "--quota_system=noop", "--storage_system=mysql"),
            *(f"--mysql_uri={uri}", f"--rpc_endpoint={HOST}:{rpc}"),
            *(f"--http_endpoint={HOST}:{http}", "--logtostderr"),
        ]
        if part == "trillian_log_signer":
            command += ["--force_master", "--sequencer_interval=100ms", "--batch_size=500"]
        return self._program(part, command, accepts(rpc))

    def rekor1(self, port: int, *, trillian_port: int, database_port: int, tree: int) -> Program:
        """Return the Rekor v1 server for an existing tree, with its search index."""
        dsn = (
            f"real:{DATABASE_PASSWORD}@tcp({HOST}:{database_port})/search"
            "?parseTime=true&interpolateParams=true"
        )
        attestations = self.directory / "attestations"
        attestations.mkdir(exist_ok=True)
        command = [
            *(program("rekor-server"), "serve"),
            *(
                f"--trillian_log_server.address={HOST}",
                f"--trillian_log_server.port={trillian_port}",
            ),
            *(f"--trillian_log_server.tlog_id={tree}",),
            *(f"--rekor_server.address={HOST}", f"--port={port}"),
            *("--rekor_server.signer", self.directory / "keys/rekor1.key"),
            *(f"--rekor_server.hostname={REKOR1_NAME}", "--enable_attestation_storage"),
            *(f"--attestation_storage_bucket=file://{attestations}",),
            *("--search_index.storage_provider=mysql", f"--search_index.mysql.dsn={dsn}"),
        ]
        return self._program("rekor1", command, answers(f"http://{HOST}:{port}/api/v1/log"))


def _system(name: str) -> str:
    found = system_program(name)
    assert found is not None, f"{name} is not installed"
    return found


def _fulcio_config(dex: str, issuer: str, provider: str) -> Mapping[str, object]:
    def entry(url: str, kind: str, **more: str) -> dict[str, str]:
        return {"IssuerURL": url, "ClientID": "sigstore", "Type": kind, **more}

    at = {name: issuer + path for name, path in workloads.PATHS.items()}
    issuers = [
        entry(dex, "email"),
        entry(issuer, "email"),
        # Fulcio wants a domain of the issuer's own host for these.
        entry(at["uri"], "uri", SubjectDomain=issuer),
        entry(provider, "uri", SubjectDomain=provider),
        entry(at["spiffe"], "spiffe", SPIFFETrustDomain=workloads.DOMAIN),
        entry(issuer + SPIRE_PATH, "spiffe", SPIFFETrustDomain=SPIRE_DOMAIN),
        entry(at["username"], "username", SubjectDomain=HOST),
        entry(at["kubernetes"], "kubernetes"),
        entry(at["github"], "ci-provider", CIProvider="github-workflow"),
    ]
    return {
        "OIDCIssuers": {one["IssuerURL"]: one for one in issuers},
        "CIIssuerMetadata": {
            "github-workflow": {
                "DefaultTemplateValues": {"url": "https://github.com"},
                "ExtensionTemplates": GITHUB_TEMPLATES,
                "SubjectAlternativeNameTemplate": "{{ .url }}/{{ .job_workflow_ref }}",
            }
        },
    }
