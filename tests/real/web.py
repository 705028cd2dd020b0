"""Serves what the real stack needs beside Sigstore's services: issuers, TUF and tile files.

``python -m tests.real.web DIRECTORY ISSUER_PORT FILES_PORT``. The issuers are the sandbox's: one
to log in at and one per kind of workload, keys and all below ``DIRECTORY/issuer``, so that
whoever reads that folder can mint their tokens. SPIRE's issuer is two files there. Other files
come from ``DIRECTORY/www`` as they are.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import trio
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, Response
from starlette.routing import Route
from tests.real.services import SPIRE_PATH

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
        self._directory = directory / "issuer"
        self.vault = DirectoryVault(self._directory)
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
        app = make_app(flows, [*self.known.workloads.values(), self.unknown])
        for path, name in (
            (f"{SPIRE_PATH}/.well-known/openid-configuration", "discovery"),
            (f"{SPIRE_PATH}/keys", "keys"),
        ):
            app.router.routes.append(Route(path, self._published(name)))
        return app

    def _published(self, name: str) -> Callable[[Request], Awaitable[Response]]:
        """Return what answers with a file that somebody else writes: SPIRE, once it is up."""
        path = self._directory / SPIRE_PATH.strip("/") / name

        async def answer(request: Request) -> Response:
            del request
            if not path.is_file():
                return PlainTextResponse("not published yet", status_code=404)
            return FileResponse(path, media_type="application/json")

        return answer


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
