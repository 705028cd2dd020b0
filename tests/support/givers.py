"""Those who give out identity tokens, as fakes: GitHub, Buildkite, Google's two servers.

Each checks what it is asked as strictly as the real one, mints what it is told to, and misbehaves
on demand. They speak through httpx in process, or at a loopback port as a server of its own.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import httpx
import trio

REQUEST_TOKEN = "request-token-of-the-job"
AGENT_TOKEN = "agent-token-of-the-job"
ACCESS_TOKEN = "ya29.access-token-of-the-machine"
JOB = "0190046e-e199-453b-a302-a21a4d649d31"
ACCOUNT = "release@project.iam.gserviceaccount.com"
PAGE = b"<!DOCTYPE html><html><body>Sign in to the wireless network</body></html>"


@dataclass(frozen=True)
class Seen:
    """One request."""

    method: str
    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True)
class Answer:
    """What is answered."""

    status: int
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)


def say(status: int, value: object) -> Answer:
    return Answer(status, json.dumps(value).encode(), {"content-type": "application/json"})


# What goes wrong, by name: an answer in place of the right one. None: no answer at all.
FAULTS: dict[str, Answer | None] = {
    "forbidden": say(403, {"message": "no such permission"}),
    "broken": Answer(500, b"internal error"),
    "unavailable": Answer(503, b"", {"retry-after": "7"}),
    "redirect": Answer(302, b"", {"location": "https://evil.example/"}),
    "oversized": Answer(200, b'{"value": "' + b"x" * (1 << 20) + b'"}'),
    "page": Answer(200, PAGE, {"content-type": "text/html"}),
    "empty": Answer(200),
    "no-field": say(200, {"something": "else"}),
    "wrong-type": say(200, {"value": 7, "token": 7, "access_token": 7, "id_token": 7}),
    "timeout": None,
}


class Giver:
    """The part that all share.

    Attributes:
        mint: Makes a token for an audience, with or without an address.
        fault: Name of what goes wrong, or None.
        seen: All requests.
    """

    def __init__(self, mint: Callable[..., str]) -> None:
        self.mint = mint
        self.fault: str | None = None
        self.seen: list[Seen] = []

    def answer(self, seen: Seen) -> Answer | None:
        """Answer one request; None: say nothing for ever."""
        self.seen.append(seen)
        if self.fault is not None:
            return FAULTS[self.fault]
        return self.right(seen)

    def right(self, seen: Seen) -> Answer:
        raise NotImplementedError


class GitHub(Giver):
    """What ACTIONS_ID_TOKEN_REQUEST_URL leads to."""

    path = "/abc/00000000-0000-0000-0000-000000000000/_apis/distributedtask/idtoken"

    def right(self, seen: Seen) -> Answer:
        if seen.headers.get("authorization") != f"bearer {REQUEST_TOKEN}":
            return say(401, {"message": "the request token is not this job's"})
        if (seen.method, seen.path, seen.query.get("api-version")) != ("GET", self.path, ["2.0"]):
            return say(404, {"message": f"nothing at {seen.path}"})
        (audience,) = seen.query["audience"]
        return say(200, {"count": 1, "value": self.mint(audience)})

    def environ(self, origin: str = "https://run.actions.githubusercontent.com") -> dict[str, str]:
        return {
            "GITHUB_ACTIONS": "true",
            "ACTIONS_ID_TOKEN_REQUEST_URL": f"{origin}{self.path}?api-version=2.0",
            "ACTIONS_ID_TOKEN_REQUEST_TOKEN": REQUEST_TOKEN,
        }


class Buildkite(Giver):
    """The agent's interface."""

    def right(self, seen: Seen) -> Answer:
        if seen.headers.get("authorization") != f"Token {AGENT_TOKEN}":
            return say(401, {"message": "Unauthorized"})
        if (seen.method, seen.path) != ("POST", f"/v3/jobs/{JOB}/oidc/tokens"):
            return say(404, {"message": f"nothing at {seen.path}"})
        return say(200, {"token": self.mint(json.loads(seen.body)["audience"])})

    def environ(self, origin: str | None = None) -> dict[str, str]:
        return {
            "BUILDKITE": "true",
            "BUILDKITE_AGENT_ACCESS_TOKEN": AGENT_TOKEN,
            "BUILDKITE_JOB_ID": JOB,
            **({} if origin is None else {"BUILDKITE_AGENT_ENDPOINT": f"{origin}/v3"}),
        }


class Metadata(Giver):
    """Google's metadata server.

    Attributes:
        flavor: What it says of itself.
        only_identity: Faults are for identities and not for access tokens.
    """

    flavor = "Google"
    base = "/computeMetadata/v1/instance/service-accounts/default/"

    def answer(self, seen: Seen) -> Answer | None:
        answer = super().answer(seen)
        if answer is None or self.flavor == "":
            return answer
        return Answer(
            answer.status, answer.body, {**answer.headers, "Metadata-Flavor": self.flavor}
        )

    def right(self, seen: Seen) -> Answer:
        if seen.headers.get("metadata-flavor") != "Google":
            return Answer(403, b"Missing required header Metadata-Flavor")
        if seen.path == self.base + "token":
            assert seen.query["scopes"] == ["https://www.googleapis.com/auth/cloud-platform"]
            return say(200, {"access_token": ACCESS_TOKEN, "expires_in": 3599, "token_type": "B"})
        if seen.path != self.base + "identity":
            return Answer(404, b"not found")
        (audience,) = seen.query["audience"]
        is_full = seen.query.get("format") == ["full"]
        return Answer(200, self.mint(audience, has_email=is_full).encode())


class IamCredentials(Giver):
    """Google's service that makes tokens of other accounts."""

    account = ACCOUNT
    delegates: tuple[str, ...] = ()

    def right(self, seen: Seen) -> Answer:
        if seen.headers.get("authorization") != f"Bearer {ACCESS_TOKEN}":
            return say(401, {"error": {"message": "invalid credentials"}})
        path = f"/v1/projects/-/serviceAccounts/{self.account}:generateIdToken"
        if (seen.method, unquote(seen.path)) != ("POST", path):
            return say(404, {"error": {"message": f"nothing at {seen.path}"}})
        asked = json.loads(seen.body)
        wanted = [f"projects/-/serviceAccounts/{one}" for one in self.delegates]
        if asked.get("delegates", []) != wanted:
            return say(403, {"error": {"message": "the delegates are others"}})
        token = self.mint(asked["audience"], has_email=asked.get("includeEmail") is True)
        return say(200, {"token": token})


class Wires:
    """An httpx handler that leads each host to its giver."""

    def __init__(self, givers: dict[str, Any]) -> None:
        self._givers = givers
        self.hosts: list[str] = []

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        self.hosts.append(request.url.host)
        giver = self._givers.get(request.url.host)
        if giver is None:
            raise httpx.ConnectError("no such host", request=request)
        if not isinstance(giver, Giver):
            response: httpx.Response = await giver(request)
            return response
        answer = giver.answer(
            Seen(
                method=request.method,
                path=request.url.raw_path.partition(b"?")[0].decode(),
                query=parse_qs(request.url.query.decode(), keep_blank_values=True),
                headers=dict(request.headers),
                body=await request.aread(),
            )
        )
        await trio.lowlevel.checkpoint()
        if answer is None:
            await trio.sleep_forever()
        assert answer is not None
        return httpx.Response(answer.status, content=answer.body, headers=answer.headers)


@contextmanager
def served(giver: Giver) -> Iterator[str]:
    """Serve a giver at a port of this machine; yields scheme, host and port."""

    class Handler(BaseHTTPRequestHandler):
        def handle_any(self) -> None:
            url = urlsplit(self.path)
            answer = giver.answer(
                Seen(
                    method=self.command,
                    path=url.path,
                    query=parse_qs(url.query, keep_blank_values=True),
                    headers={name.lower(): value for name, value in self.headers.items()},
                    body=self.rfile.read(int(self.headers.get("content-length", 0))),
                )
            )
            if answer is None:
                return
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(answer.body)))
            self.end_headers()
            self.wfile.write(answer.body)

        do_GET = do_POST = handle_any  # noqa: N815  # the names that the server looks for

        def log_message(self, *words: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
