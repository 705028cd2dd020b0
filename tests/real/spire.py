"""A SPIRE server and its agent, and the issuer that makes their JWT-SVIDs known to a CA.

The issuer is a path of the stack's own web server: SPIRE itself publishes no discovery document.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable

import trio
from tests.real.process import PATIENCE, Program, accepts_unix, free_ports, plain_environ
from tests.real.services import HOST, SPIRE_DOMAIN, SPIRE_PATH
from tests.real.stack import Stack
from tests.real.versions import program

from keylessd.errors import IdentityError
from keylessd.identity.held.spiffe import WorkloadApi

NODE = f"spiffe://{SPIRE_DOMAIN}/node"
# Registered for whoever runs the tests. The agent gives the first as the default.
BUILDER = f"spiffe://{SPIRE_DOMAIN}/builder"
RELEASE = f"spiffe://{SPIRE_DOMAIN}/release"
RELEASE_HINT = "release"
STRANGER = f"spiffe://{SPIRE_DOMAIN}/stranger"  # registered for another user
SVID_LIFE = "300"  # seconds

_SERVER = """
server {{
  bind_address = "{host}"
  bind_port = "{port}"
  socket_path = "{folder}/server.sock"
  trust_domain = "{domain}"
  data_dir = "{folder}/server"
  jwt_issuer = "{issuer}"
  log_level = "WARN"
  experimental {{ cache_reload_interval = "500ms" }}
}}
plugins {{
  DataStore "sql" {{
    plugin_data {{ database_type = "sqlite3" connection_string = "{folder}/server.sqlite3" }}
  }}
  NodeAttestor "join_token" {{ plugin_data {{}} }}
  KeyManager "memory" {{ plugin_data {{}} }}
}}
"""
_AGENT = """
agent {{
  data_dir = "{folder}/agent"
  socket_path = "{folder}/api.sock"
  server_address = "{host}"
  server_port = "{port}"
  trust_domain = "{domain}"
  insecure_bootstrap = true
  log_level = "WARN"
  experimental {{ sync_interval = "500ms" }}
}}
plugins {{
  NodeAttestor "join_token" {{ plugin_data {{}} }}
  KeyManager "memory" {{ plugin_data {{}} }}
  WorkloadAttestor "unix" {{ plugin_data {{}} }}
}}
"""


class Spire:
    """A trust domain with one node.

    Attributes:
        issuer: What its JWT-SVIDs name.
        socket: Where the agent's Workload API listens.
    """

    def __init__(self, stack: Stack) -> None:
        # Paths of sockets must be short.
        self.folder = stack.directory / "spire"
        self.issuer = stack.urls.issuer + SPIRE_PATH
        self.socket = self.folder / "api.sock"
        self.agent: Program
        self._port = free_ports(1)[0]
        self._published = stack.directory / "issuer" / SPIRE_PATH.strip("/")
        self._programs: list[Program] = []

    def start(self) -> None:
        """Start both; the agent gives out identities when this returns."""
        self.folder.mkdir(mode=0o700)
        values = {
            "folder": self.folder,
            "host": HOST,
            "port": self._port,
            "domain": SPIRE_DOMAIN,
            "issuer": self.issuer,
        }
        listens = accepts_unix(self.folder / "server.sock")
        server = self._program("server", _SERVER.format(**values), listens)
        server.start()
        server.wait_until_ready()
        self._register()
        self._publish()
        token = json.loads(self._ask("token", "generate", "-spiffeID", NODE))["value"]
        config = _AGENT.format(**values)
        self.agent = self._program("agent", config, self._serves, "-joinToken", str(token))
        self.agent.start()
        self.agent.wait_until_ready()

    def close(self) -> None:
        """End both."""
        for one in reversed(self._programs):
            one.stop(signal.SIGKILL)

    def _serves(self) -> bool:
        """Say whether the agent has heard of all that is registered for us."""
        try:
            svids = trio.run(WorkloadApi(str(self.socket)).fetch, ["sigstore"])
        except IdentityError:
            return False
        return {svid.spiffe_id for svid in svids} == {BUILDER, RELEASE}

    def _program(self, part: str, config: str, ready: Callable[[], bool], *words: str) -> Program:
        path = self.folder / f"{part}.conf"
        path.write_text(config)
        one = Program(
            f"spire-{part}",
            [program(f"spire-{part}"), "run", "-config", path, *words],
            log=self.folder / f"{part}.log",
            ready=ready,
            environ=plain_environ(self.folder),
        )
        self._programs.append(one)
        return one

    def _register(self) -> None:
        """Make the entries."""
        me, other = f"unix:uid:{os.getuid()}", f"unix:uid:{os.getuid() + 1}"
        for spiffe_id, selector, hint in (
            (BUILDER, me, ""),
            (RELEASE, me, RELEASE_HINT),
            (STRANGER, other, ""),
        ):
            self._ask(
                *("entry", "create", "-parentID", NODE, "-spiffeID", spiffe_id),
                *("-selector", selector, "-hint", hint, "-jwtSVIDTTL", SVID_LIFE),
            )

    def _publish(self) -> None:
        """Put what a verifier of the tokens asks for where the web server finds it."""
        bundle = json.loads(self._ask("bundle", "show", "-format", "spiffe", output=None))
        keys = [
            # What SPIFFE calls the use of a key is no use that RFC 7517 knows.
            {**key, "use": "sig"}
            for key in bundle["keys"]
            if key["use"] == "jwt-svid"
        ]
        document = {
            "issuer": self.issuer,
            "jwks_uri": f"{self.issuer}/keys",
            "authorization_endpoint": "",
            "response_types_supported": ["id_token"],
            "subject_types_supported": [],
            "id_token_signing_alg_values_supported": ["ES256"],
        }
        self._published.mkdir(mode=0o700)
        (self._published / "discovery").write_text(json.dumps(document))
        (self._published / "keys").write_text(json.dumps({"keys": keys}))

    def _ask(self, *words: str, output: str | None = "json") -> str:
        more = [] if output is None else ["-output", output]
        done = subprocess.run(
            [
                program("spire-server"),
                *words,
                *("-socketPath", str(self.folder / "server.sock")),
                *more,
            ],
            env=plain_environ(self.folder),
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout
