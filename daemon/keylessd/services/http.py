"""One HTTP call to a service: deadline, size cap, retries, errors. Knows no service's interface.

Certificates are checked against the system's store, nothing is read from the environment,
redirects are never followed, and no compressed body is accepted (a cap on its size would mean
nothing). What leaves here towards people has no user name, password or query of a URL in it.
"""

from __future__ import annotations

import random
import ssl
from collections.abc import Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass

import httpx
import trio

from keylessd.errors import ServiceReplyError, ServiceSilentError, ServiceUnavailableError
from keylessd.flow.backoff import backoff
from keylessd.services.answer import MAX_RETRY_AFTER, HttpReply, refusal, retry_after
from keylessd.services.direct_client import DirectClient
from keylessd.services.exchange import Asked, UnwantedBodyError
from keylessd.services.pieces import CLOSE_SECONDS, Pieces
from keylessd.services.pool import ON_LINK, PooledTransport
from keylessd.services.proxied import DIRECT, Proxied
from keylessd.services.urls import Target, check_url, printable

__all__ = [
    "MAX_PARALLEL",
    "MAX_RETRY_AFTER",
    "HttpClient",
    "HttpReply",
    "new_client",
    "refusal",
    "retry_after",
]

# Connections in all. A full house signs 256 things at once, and each asks a log and a timestamp
# authority side by side; what remains is for certificates and trust roots.
MAX_PARALLEL = 576
KEEPALIVE_SECONDS = 30.0  # idle connections; most servers drop theirs after 60 s or more
CONNECT_SECONDS = 5.0
WRITE_SECONDS = 10.0
RETRY_FIRST_SECONDS = 0.2
RETRY_CAP_SECONDS = 5.0
MAX_KNOWN_URLS = 1024
_TIMEOUTS = {"connect": CONNECT_SECONDS, "write": WRITE_SECONDS}

_SAFE_METHODS = frozenset({"GET", "HEAD"})


def new_client(
    *, proxy: str | None = None, transport: httpx.AsyncBaseTransport | None = None
) -> httpx.AsyncClient:
    """Return a client with the profile of this module; enter it before use.

    Args:
        proxy: URL of an HTTP proxy for all but this machine, from the settings; never from the
            environment.
        transport: Replaces the network, in tests.
    """
    if transport is None:
        transport = PooledTransport(
            ssl_context=ssl.create_default_context,
            max_connections=MAX_PARALLEL,
            keepalive_seconds=KEEPALIVE_SECONDS,
        )
        if proxy is not None:
            transport = Proxied(transport, _proxy_transport(proxy))
    return DirectClient(transport)


def _proxy_transport(url: str) -> httpx.AsyncBaseTransport:
    return httpx.AsyncHTTPTransport(
        # The system's store, not a package's copy of one.
        verify=ssl.create_default_context(),
        trust_env=False,
        proxy=url,
        limits=httpx.Limits(
            max_connections=MAX_PARALLEL,
            max_keepalive_connections=MAX_PARALLEL,
            keepalive_expiry=KEEPALIVE_SECONDS,
        ),
    )


class HttpClient:
    """Sends requests to services through one ``httpx.AsyncClient``."""

    def __init__(
        self,
        client: httpx.AsyncClient,
        *,
        rng: random.Random,
        user_agent: str,
        cleartext_hosts: frozenset[str] = frozenset(),
    ) -> None:
        """Store the parts; nothing is opened.

        Args:
            client: From new_client(); whoever opened it closes it.
            rng: Jitter of the retries.
            user_agent: ``name/version``.
            cleartext_hosts: Host names that may be spoken to by plain http, besides loopback.
        """
        self._client = client
        # With another transport, or a proxy, requests take httpx's own way.
        self._pool = client.pool if isinstance(client, DirectClient) else None
        self._rng = rng
        self._cleartext_hosts = cleartext_hosts
        self._near_hosts: frozenset[str] = frozenset()
        self._user_agent = user_agent
        self._base_headers = {"User-Agent": user_agent, "Accept-Encoding": "identity"}
        self._base_header_lines = [
            (name.encode("ascii"), value.encode("ascii"))
            for name, value in self._base_headers.items()
        ]
        self._targets: dict[str, Target] = {}

    def reaching(self, hosts: frozenset[str]) -> HttpClient:
        """Return a client over the same connections for what answers this machine alone.

        It asks *hosts* by plain http too, also at link-local addresses, and never through the
        proxy; all others as any client does. Nothing that a request names may be asked by it.
        """
        other = HttpClient(
            self._client, rng=self._rng, user_agent=self._user_agent, cleartext_hosts=hosts
        )
        other._near_hosts = hosts  # of our own kind
        return other

    async def send(
        self,
        method: str,
        url: str,
        *,
        service: str,
        content: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        deadline_seconds: float,
        max_body: int = 1 << 20,
        attempts: int = 1,
        retry_statuses: frozenset[int] = frozenset(),
        idempotent: bool | None = None,
        on_retry: Callable[[], None] | None = None,
    ) -> HttpReply:
        """Return the answer, whatever its status.

        Another attempt is made when no connection could be opened, when the status is one of
        *retry_statuses*, and, for an idempotent request, when the connection broke. If the
        service says ``Retry-After`` longer than the deadline leaves, the answer is returned.

        Args:
            method: HTTP method, upper case.
            url: Absolute URL, https (or http to loopback or an allowed host).
            service: Name of the service, for errors.
            content: Request body.
            headers: Request headers besides the client's own.
            deadline_seconds: For everything together: all attempts and the pauses between.
            max_body: Most bytes of answer.
            attempts: Most attempts, at least 1.
            retry_statuses: Statuses that mean: not now.
            idempotent: Whether the request may arrive twice; None: GET and HEAD may.
            on_retry: Called when an attempt has failed and another one follows.

        Raises:
            InvalidInputError: If the URL cannot be used.
            ServiceSilentError: If no answer came in time.
            ServiceUnavailableError: If none can come.
            ServiceReplyError: If the answer is too long or compressed.
        """
        target = self._target(url)
        repeatable = method in _SAFE_METHODS if idempotent is None else idempotent
        call = _Call(method, target, service, content, headers, max_body)
        pauses = backoff(RETRY_FIRST_SECONDS, RETRY_CAP_SECONDS, self._rng)
        deadline = trio.current_time() + deadline_seconds
        with trio.CancelScope(deadline=deadline):
            for attempt in range(1, attempts + 1):
                is_last = attempt == attempts
                try:
                    reply = await self._once(call)
                except ServiceUnavailableError as exc:
                    may_repeat = repeatable or isinstance(exc.__cause__, _NOT_SENT)
                    if is_last or not may_repeat:
                        raise
                    pause = next(pauses)
                else:
                    if is_last or reply.status not in retry_statuses:
                        return reply
                    pause = max(next(pauses), retry_after(reply) or 0.0)
                    if trio.current_time() + pause >= deadline:
                        return reply
                if on_retry is not None:
                    on_retry()
                await trio.sleep(pause)
        raise ServiceSilentError(
            service,
            f"{service} at {target.shown} did not answer within {deadline_seconds:g} seconds",
            url=target.shown,
        )

    async def open(
        self,
        url: str,
        *,
        read_seconds: float,
        open_seconds: float,
        attempts: int = 1,
        retry_statuses: frozenset[int] = frozenset(),
    ) -> httpx.Response:
        """GET *url* and return the response unread, for a reader with caps of its own.

        The caller closes it, caps it, refuses content encodings, and has a deadline.

        Args:
            url: Absolute URL, as for send().
            read_seconds: Longest silence, once it has begun to answer.
            open_seconds: Longest wait for that, with all attempts and the pauses between.
            attempts: Most attempts, at least 1.
            retry_statuses: Statuses that mean: not now.

        Raises:
            InvalidInputError: If the URL cannot be used.
            httpx.TransportError: If no answer came.
        """
        target = self._target(url)
        with trio.CancelScope(deadline=trio.current_time() + open_seconds):
            return await self._open(target, read_seconds, attempts, retry_statuses)
        raise httpx.ReadTimeout(f"no answer within {open_seconds:g} seconds")

    async def _open(
        self, target: Target, read_seconds: float, attempts: int, retry_statuses: frozenset[int]
    ) -> httpx.Response:
        pauses = backoff(RETRY_FIRST_SECONDS, RETRY_CAP_SECONDS, self._rng)
        timeouts = {**_TIMEOUTS, "read": read_seconds, "pool": read_seconds}
        for left in range(attempts - 1, -1, -1):
            request = self._request("GET", target, None, None, timeouts)
            try:
                response = await self._client.send(request, stream=True)
            except httpx.TransportError:
                if not left:
                    raise
            else:
                if not left or response.status_code not in retry_statuses:
                    return response
                await _close(response)
            await trio.sleep(next(pauses))
        raise ValueError(f"attempts is {attempts}; at least 1 is needed")

    def allow_cleartext(self, hosts: frozenset[str]) -> None:
        """Set the host names that may be asked by plain http, besides loopback."""
        if hosts != self._cleartext_hosts:
            self._cleartext_hosts = hosts
            self._targets.clear()

    def check(self, url: str) -> None:
        """Refuse a URL that send() would refuse.

        Raises:
            InvalidInputError: See check_url().
        """
        self._target(url)

    async def _once(self, call: _Call) -> HttpReply:
        # Waiting for the answer is bounded by the deadline over all attempts and nothing else: a
        # log may rightly take 20 s to its first byte.
        try:
            if self._pool is not None:
                return await self._ask(self._pool, call)
            request = self._request(call.method, call.target, call.headers, call.content, _TIMEOUTS)
            response = await self._client.send(request, stream=True)
            try:
                body = await _read_capped(response, call)
            finally:
                await _close(response)
        except (httpx.HTTPError, httpx.InvalidURL) as exc:
            raise ServiceUnavailableError(
                call.service,
                f"{call.service} at {call.target.shown} cannot be reached: {_in_words(exc)}",
                url=call.target.shown,
            ) from exc
        except UnwantedBodyError as exc:
            raise _unwanted(call, exc) from None
        return HttpReply(response.status_code, response.headers, body, call.target.shown)

    async def _ask(self, pool: PooledTransport, call: _Call) -> HttpReply:
        """Do the same without httpx's objects, which cost more than all the rest of it."""
        target = call.target
        headers = [(b"Host", target.netloc), *self._base_header_lines]
        if target.authorization is not None:
            headers.append((b"Authorization", target.authorization.encode("ascii")))
        if call.headers is not None:
            headers += [(k.encode("ascii"), v.encode("ascii")) for k, v in call.headers.items()]
        asked = Asked(
            call.method.encode("ascii"), target.url.raw_path, headers, call.content or b""
        )
        answer = await pool.ask(
            target.origin,
            asked,
            max_body=call.max_body,
            limits=_TIMEOUTS,
            on_link=target.origin[1] in self._cleartext_hosts,
        )
        return HttpReply(answer.status, answer.headers, answer.body, target.shown)

    def _request(
        self,
        method: str,
        target: Target,
        headers: Mapping[str, str] | None,
        content: bytes | None,
        timeouts: Mapping[str, float],
    ) -> httpx.Request:
        own = self._base_headers
        if target.authorization is not None:
            own = {**own, "Authorization": target.authorization}
        return httpx.Request(
            method,
            target.url,
            headers={**own, **(headers or {})},
            content=content,
            extensions={"timeout": timeouts, **self._way(target.origin[1])},
        )

    def _way(self, host: str) -> dict[str, bool]:
        """Return the extensions that say how *host* may be reached."""
        if host in self._near_hosts:
            return {ON_LINK: True, DIRECT: True}
        return {ON_LINK: True} if host in self._cleartext_hosts else {}

    def _target(self, url: str) -> Target:
        target = self._targets.get(url)
        if target is None:
            target = check_url(url, cleartext_hosts=self._cleartext_hosts)
            if len(self._targets) >= MAX_KNOWN_URLS:
                self._targets.clear()
            self._targets[url] = target
        return target


@dataclass(frozen=True, slots=True)
class _Call:
    """What stays the same over all attempts."""

    method: str
    target: Target
    service: str
    content: bytes | None
    headers: Mapping[str, str] | None
    max_body: int


# Failures before a byte of the request was sent: another attempt cannot double anything.
_NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.ProxyError)


async def _read_capped(response: httpx.Response, call: _Call) -> bytes:
    encoding = response.headers.get("content-encoding", "identity")
    if encoding.strip().lower() not in {"", "identity"}:
        raise UnwantedBodyError(response.status_code, encoding)
    chunks: list[bytes] = []
    size = 0
    async with aclosing(Pieces(response)) as pieces:
        async for piece in pieces:
            size += len(piece)
            if size > call.max_body:
                raise UnwantedBodyError(response.status_code, None)
            chunks.append(piece)
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def _unwanted(call: _Call, exc: UnwantedBodyError) -> ServiceReplyError:
    if exc.encoding is None:
        said = f"sent more than {call.max_body} bytes"
    else:
        said = f"answered with content encoding {printable(exc.encoding)!r}; none was asked for"
    return ServiceReplyError(
        call.service,
        f"{call.service} at {call.target.shown} {said}",
        url=call.target.shown,
        status=exc.status,
    )


async def _close(response: httpx.Response) -> None:
    # A cancelled request must still give its connection back.
    if not response.is_closed:
        deadline = trio.current_time() + CLOSE_SECONDS
        with trio.CancelScope(shield=True, deadline=deadline):
            await response.aclose()


def _in_words(exc: Exception) -> str:
    if isinstance(exc, httpx.TimeoutException):
        return f"timed out ({type(exc).__name__})"
    return printable(str(exc)) or type(exc).__name__
