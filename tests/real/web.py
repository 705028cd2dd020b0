"""Serves what the real stack needs beside Sigstore's services: issuers, TUF and tile files.

``python -m tests.real.web DIRECTORY ISSUER_PORT FILES_PORT``. The issuers are the sandbox's: one
to log in at and one per kind of workload, keys and all below ``DIRECTORY/issuer``, so that
whoever reads that folder can mint their tokens. Files come from ``DIRECTORY/www`` as they are.
"""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import trio
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, Response
from starlette.routing import Route

from keylessd.clock import SystemClock
from keylessd.sandbox.identities import Identities
from keylessd.sandbox.login import LoginFlows
from keylessd.sandbox.oidc import OidcIssuer
from keylessd.sandbox.oidc_app import make_app
from keylessd.sandbox.serve import listen, serve
from keylessd.sandbox.vault import DirectoryVault

# An issuer that works in every way, and that Fulcio has not been told of.
UNKNOWN = "unknown"


class Issuers:
    """The issuers whose keys lie in one folder; the same in every process that opens it."""

    def __init__(self, directory: Path, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.vault = DirectoryVault(directory / "issuer")
        clock = SystemClock()
        self.known = Identities(self.url, vault=self.vault, clock=clock)
        self.unknown = OidcIssuer(
            f"{self.url}/{UNKNOWN}",
            vault=self.vault,
            clock=clock,
            name=f"oidc-{UNKNOWN}",
            interactive=False,
        )

    def app(self) -> Starlette:
        """Return the application that publishes their keys."""
        flows = LoginFlows(self.known.login, vault=self.vault, clock=SystemClock())
        return make_app(flows, [*self.known.workloads.values(), self.unknown])


def files_app(directory: Path) -> Starlette:
    """Return the application that serves the files below *directory*, links followed."""

    async def file(request: Request) -> Response:
        parts = request.path_params["path"].split("/")
        path = directory.joinpath(*parts)
        if any(not part or part.startswith(".") for part in parts) or not path.is_file():
            return PlainTextResponse("not found", status_code=404)
        return FileResponse(path, media_type="application/octet-stream")

    return Starlette(routes=[Route("/{path:path}", file)])


def main() -> None:
    """Serve until SIGTERM."""
    directory, issuer_port, files_port = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    logging.basicConfig(level=logging.WARNING)
    apps = {"issuer": Issuers(directory, issuer_port).app(), "files": files_app(directory / "www")}
    sockets = listen({"issuer": issuer_port, "files": files_port})
    trio.run(lambda: serve(apps, sockets, ready=lambda: None))


if __name__ == "__main__":
    main()
