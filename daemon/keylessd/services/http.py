"""One HTTP call to a service: deadline, size cap, retries, errors. Knows no service's interface.

Certificates are checked against the system's store, nothing is read from the environment,
redirects are never followed, and no compressed body is accepted (a cap on its size would mean
nothing). What leaves here towards people has no user name, password or query of a URL in it.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import TYPE_CHECKING

import httpx
import trio

from keylessd.errors import (
    DaemonError,
    RateLimitedError,
    ServiceRefusedError,
    ServiceReplyError,
    ServiceUnavailableError,
)
from keylessd.flow.backoff import backoff
from keylessd.services.body import close, read_capped
from keylessd.services.pool import ON_LINK, DirectClient, PooledTransport
from keylessd.services.proxied import DIRECT, Proxied
from keylessd.services.urls import Target, check_url, printable, upstream_message

if TYPE_CHECKING:
    import random
    from collections.abc import Mapping

# Connections in all. A full house signs 256 things at once, and each asks a log and a timestamp
# authority side by side; what remains is for certificates and trust roots.
MAX_PARALLEL = 576
KEEPALIVE_SECONDS = 30.0  # idle connections; most servers drop theirs after 60 s or more
CONNECT_SECONDS = 5.0
WRITE_SECONDS = 10.0
MAX_RETRY_AFTER = 60.0  # seconds; a longer wish is cut to this
RETRY_FIRST_SECONDS = 0.2
RETRY_CAP_SECONDS = 5.0
MAX_KNOWN_URLS = 1024
_TIMEOUTS = {"connect": CONNECT_SECONDS, "write": WRITE_SECONDS}

_SAFE_METHODS = frozenset({"GET", "HEAD"})


@dataclass(frozen=True, slots=True)
class HttpReply:
    """An answer, complete and within its cap.

    Attributes:
        status: HTTP status.
        headers: Its headers.
        body: Raw body.
        url: The URL that was asked, fit to be shown.
    """

    status: int
    headers: httpx.Headers
    body: bytes
    url: str


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
        self._rng = rng
        self._cleartext_hosts = cleartext_hosts
        self._near_hosts: frozenset[str] = frozenset()
        self._user_agent = user_agent
        self._base_headers = {"User-Agent": user_agent, "Accept-Encoding": "identity"}
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

        Raises:
            InvalidInputError: If the URL cannot be used.
            ServiceUnavailableError: If no answer came.
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
                await trio.sleep(pause)
        raise ServiceUnavailableError(
            service,
            f"{service} at {target.shown} did not answer within {deadline_seconds:g} seconds",
            url=target.shown,
        )

    async def open(
        self,
        url: str,
        *,
        read_seconds: float,
        attempts: int = 1,
        retry_statuses: frozenset[int] = frozenset(),
    ) -> httpx.Response:
        """GET *url* and return the response unread, for a reader with caps of its own.

        The caller closes it, caps it, refuses content encodings, and has a deadline.

        Args:
            url: Absolute URL, as for send().
            read_seconds: Longest silence.
            attempts: Most attempts, at least 1.
            retry_statuses: Statuses that mean: not now.

        Raises:
            InvalidInputError: If the URL cannot be used.
            httpx.TransportError: If no answer came.
        """
        target = self._target(url)
        pauses = backoff(RETRY_FIRST_SECONDS, RETRY_CAP_SECONDS, self._rng)
        for left in range(attempts - 1, -1, -1):
            timeouts = {**_TIMEOUTS, "read": read_seconds, "pool": read_seconds}
            request = self._request("GET", target, None, None, timeouts)
            try:
                response = await self._client.send(request, stream=True)
            except httpx.TransportError:
                if not left:
                    raise
            else:
                if not left or response.status_code not in retry_statuses:
                    return response
                await close(response)
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
        request = self._request(call.method, call.target, call.headers, call.content, _TIMEOUTS)
        try:
            response = await self._client.send(request, stream=True)
            try:
                body = await read_capped(
                    response, call.service, call.target.shown, max_body=call.max_body
                )
            finally:
                await close(response)
        except (httpx.HTTPError, httpx.InvalidURL) as exc:
            raise ServiceUnavailableError(
                call.service,
                f"{call.service} at {call.target.shown} cannot be reached: {_in_words(exc)}",
                url=call.target.shown,
            ) from exc
        return HttpReply(response.status_code, response.headers, body, call.target.shown)

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
            extensions={"timeout": timeouts, **self._way(target.url.host)},
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


def _in_words(exc: Exception) -> str:
    if isinstance(exc, httpx.TimeoutException):
        return f"timed out ({type(exc).__name__})"
    text = printable(str(exc))
    return f"{type(exc).__name__}: {text}" if text else type(exc).__name__


# --- answers -------------------------------------------------------------------------------


def retry_after(reply: HttpReply) -> float | None:
    """Return how many seconds the service asks to wait, cut to MAX_RETRY_AFTER, or None.

    RFC 9110, 10.2.3. A date is taken relative to the answer's own ``Date``: the clocks of two
    machines need not agree.
    """
    value = reply.headers.get("retry-after", "").strip()
    if not value:
        return None
    if value.isascii() and value.isdigit():
        return min(float(value[:9]), MAX_RETRY_AFTER)
    until, since = _http_date(value), _http_date(reply.headers.get("date", ""))
    if until is None or since is None:
        return None
    return min(max((until - since).total_seconds(), 0.0), MAX_RETRY_AFTER)


def _http_date(value: str) -> datetime | None:
    try:
        moment = parsedate_to_datetime(value)
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, TypeError, OverflowError):
        return None


def refusal(reply: HttpReply, *, service: str) -> DaemonError:
    """Return the error that says what an unwelcome answer means; the caller raises it.

    Args:
        reply: An answer whose status is not the one hoped for.
        service: Name of the service.

    Returns:
        RateLimitedError for 429; ServiceUnavailableError for 408, 425 and 5xx (but 501 and 505);
        ServiceRefusedError for any other 4xx, 501 and 505; ServiceReplyError for the rest: a
        redirect is never followed, and an unexpected success is none.
    """
    status, wait = reply.status, retry_after(reply)
    said = upstream_message(reply.body)
    message = f"{service} at {reply.url} answered {status}" + (f": {said}" if said else "")
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        return RateLimitedError(
            message,
            retry_after_seconds=wait,
            details={"service": service, "url": reply.url, "status": status},
        )
    if status in {HTTPStatus.NOT_IMPLEMENTED, HTTPStatus.HTTP_VERSION_NOT_SUPPORTED}:
        return ServiceRefusedError(service, message, url=reply.url, status=status)
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR or status in {
        HTTPStatus.REQUEST_TIMEOUT,
        HTTPStatus.TOO_EARLY,
    }:
        return ServiceUnavailableError(
            service, message, url=reply.url, status=status, retry_after_seconds=wait
        )
    if status >= HTTPStatus.BAD_REQUEST:
        return ServiceRefusedError(service, message, url=reply.url, status=status)
    return ServiceReplyError(service, message, url=reply.url, status=status)
