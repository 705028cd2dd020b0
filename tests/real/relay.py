"""A relay in front of a real service that loses answers on demand. It changes nothing else.

For a log whose tiles lie on a server of their own it is also what puts both under one address.
"""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx

_PASSED = ("content-type", "location", "date", "retry-after", "x-log-index", "etag")


class Relay:
    """Passes requests to *target* from a loopback port of its own, until close().

    Args:
        target: Where to.
        tiles: Where GET requests below ``/api/v2/`` go to instead, if anywhere.

    Attributes:
        url: Where it listens.
        lose: How many more answers to POST requests get lost: the service has done its work,
            the client sees its connection end.
        statuses: Of all answers of the service, in order, lost ones too.
    """

    def __init__(self, target: str, tiles: str | None = None) -> None:
        self.lose = 0
        self.statuses: list[tuple[str, int]] = []
        relay = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *words: object) -> None:
                """Say nothing."""

            def _pass(self) -> None:
                url = target + self.path
                if tiles is not None and self.command == "GET":
                    url = tiles + self.path.removeprefix("/api/v2")
                length = int(self.headers.get("content-length") or 0)
                reply = httpx.request(
                    self.command,
                    url,
                    content=self.rfile.read(length),
                    headers={
                        name: value
                        for name, value in self.headers.items()
                        if name.lower() in {"content-type", "accept"}
                    },
                    timeout=60,
                    trust_env=False,
                )
                relay.statuses.append((self.command, reply.status_code))
                if self.command == "POST" and relay.lose > 0:
                    relay.lose -= 1
                    self.close_connection = True
                    return
                self.send_response(reply.status_code)
                for name in _PASSED:
                    if name in reply.headers:
                        self.send_header(name, reply.headers[name])
                self.send_header("content-length", str(len(reply.content)))
                self.end_headers()
                self.wfile.write(reply.content)

            do_GET = do_POST = _pass  # noqa: N815  # the names it looks for

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
