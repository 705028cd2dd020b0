"""Fetches JWT-SVIDs from the SPIFFE Workload API of an agent on this machine.

gRPC by plain httpx: HTTP/2 with prior knowledge over the agent's Unix socket. Nothing is verified
here and nothing is kept; the agent keeps its SVIDs itself and renews them at half of their life.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote_to_bytes

import httpx
import trio

from keylessd.core.workload_api import (
    FRAME_HEAD,
    MAX_MESSAGE,
    PATH,
    JwtSvid,
    WorkloadApiError,
    decode_response,
    encode_request,
)
from keylessd.errors import IdentityError
from keylessd.held_settings import Spiffe
from keylessd.identity.fetch import Giver, received, unavailable
from keylessd.secret import Secret
from keylessd.services.urls import printable
from keylessd.spiffe_names import ENDPOINT_VARIABLE, agent_socket, is_spiffe_id

if TYPE_CHECKING:
    from datetime import datetime

    from keylessd.clock import Clock
    from keylessd.held_settings import HeldSettings
    from keylessd.identity.held.source import Parts
    from keylessd.identity.token import IdentityToken

# An agent answers in milliseconds; one that has to ask its server first takes a round trip.
DEADLINE_SECONDS: Final = 10.0
CONNECT_SECONDS: Final = 2.0
MAX_SHOWN: Final = 4  # identities in an error

_HEADERS: Final = {
    "content-type": "application/grpc",
    "te": "trailers",
    # SPIFFE Workload Endpoint, 6.1: without it an agent refuses, so that no browser and no
    # confused proxy can ask it.
    "workload.spiffe.io": "true",
    "grpc-accept-encoding": "identity",
}
_GIVER: Final = Giver(
    name="the SPIFFE agent",
    hint=None,
    hints=MappingProxyType({}),
    audience_hint="the agent gives what is asked for; this is a fault there",
)
# gRPC status -> (its name, whether the same request may succeed later, what to do).
_STATUS: Final[Mapping[int, tuple[str, bool, str | None]]] = MappingProxyType(
    {
        1: ("cancelled", True, None),
        2: ("unknown", False, None),
        3: ("invalid argument", False, "look into the agent's log for what it did not like"),
        4: ("deadline exceeded", True, None),
        5: ("not found", False, "look whether the socket is that of a SPIFFE agent"),
        7: (
            "permission denied",
            False,
            "register an entry whose selectors match this daemon; it is served seconds later",
        ),
        8: ("resource exhausted", True, None),
        10: ("aborted", True, None),
        12: ("unimplemented", False, "this agent gives no JWT-SVIDs, or is no SPIFFE agent"),
        13: ("internal", False, "look into the agent's log"),
        14: ("unavailable", True, "look whether the agent reaches its server"),
        16: ("unauthenticated", False, None),
    }
)


class SpiffeSource:
    """The identity that the agent on this machine gives to the daemon."""

    def __init__(self, settings: HeldSettings, environ: Mapping[str, str], *, clock: Clock) -> None:
        assert isinstance(settings.source, Spiffe)  # noqa: S101  # the registry pairs them
        self._name = settings.name
        self._audience = settings.audience
        self._clock = clock
        self._wanted = settings.source
        self._endpoint = settings.source.socket or environ.get(ENDPOINT_VARIABLE, "")

    @property
    def keeps(self) -> bool:
        """The agent gives the same token until half of its life is over, so it may be kept."""
        return True

    async def fetch(self) -> IdentityToken:
        """Return the token of the SVID that the settings choose.

        Raises:
            IdentityError: ``identity_unavailable``: there is no agent, no such SVID, or none that
                a CA could take.
            TokenError: ``token_audience`` or ``token_expired``.
        """
        wanted = self._wanted
        svids = await WorkloadApi(self._socket()).fetch(
            [self._audience], spiffe_id=wanted.spiffe_id
        )
        svid = choose(svids, spiffe_id=wanted.spiffe_id, hint=wanted.hint)
        return read_svid(svid, audience=self._audience, now=self._clock.now())

    def _socket(self) -> str:
        try:
            return agent_socket(self._endpoint)
        except ValueError as exc:
            problem = str(exc) if self._endpoint else "no socket of an agent is known"
            raise IdentityError(
                "identity_unavailable",
                f"identity {self._name!r}: {problem}",
                hint=f"set socket in its table, or {ENDPOINT_VARIABLE} where the daemon starts",
            ) from None


def make(settings: HeldSettings, parts: Parts) -> SpiffeSource:
    """Return the source of a ``kind = "spiffe"``."""
    return SpiffeSource(settings, parts.environ, clock=parts.clock)


class WorkloadApi:
    """One agent's Workload API."""

    def __init__(self, socket: str) -> None:
        """Store where the agent listens; nothing is opened.

        Args:
            socket: Absolute path of its Unix socket.
        """
        self._socket = socket

    async def fetch(
        self, audiences: Sequence[str], *, spiffe_id: str | None = None
    ) -> tuple[JwtSvid, ...]:
        """Return the SVIDs that the agent has for this daemon, in its order; at least one.

        Args:
            audiences: What they are to be for.
            spiffe_id: The only identity that is wanted, or None.

        Raises:
            IdentityError: ``identity_unavailable``: the agent cannot be asked, refuses, or answers
                what is no answer.
        """
        transport = httpx.AsyncHTTPTransport(
            uds=self._socket,
            http1=False,
            http2=True,
            # Never used over a plain socket; without it a store of certificates would be loaded.
            verify=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT),
            trust_env=False,
        )
        request = httpx.Request(
            "POST",
            "http://localhost" + PATH,
            headers=_HEADERS,
            content=encode_request(audiences, spiffe_id=spiffe_id),
            extensions={"timeout": {"connect": CONNECT_SECONDS}},
        )
        with trio.move_on_after(DEADLINE_SECONDS):
            try:
                async with transport:
                    return await self._exchange(transport, request)
            except (httpx.TransportError, OSError) as exc:
                raise self._failed(
                    f"cannot be asked: {_in_words(exc)}",
                    retryable=True,
                    hint="look whether the agent runs, and whether this daemon may open its socket",
                ) from exc
        raise self._failed(f"did not answer within {DEADLINE_SECONDS:g} seconds", retryable=True)

    async def _exchange(
        self, transport: httpx.AsyncHTTPTransport, request: httpx.Request
    ) -> tuple[JwtSvid, ...]:
        response = await transport.handle_async_request(request)
        try:
            if response.status_code != httpx.codes.OK:
                raise self._failed(f"answered with HTTP status {response.status_code}")
            kind = response.headers.get("content-type", "")
            if not kind.startswith("application/grpc"):
                raise self._failed(f"answered with content of the type {printable(kind)!r}")
            body = await self._read(response)
        finally:
            await response.aclose()
        # An error without a message has its status among the headers ("trailers only"). Where there
        # is a message, the call succeeded: this one has exactly one, at its end.
        if not body:
            raise self._refused(response.headers)
        try:
            return decode_response(body)
        except WorkloadApiError as exc:
            raise self._failed(f"answered what cannot be read: {exc}") from exc

    async def _read(self, response: httpx.Response) -> bytes:
        assert isinstance(response.stream, httpx.AsyncByteStream)  # noqa: S101  # for the types
        body = bytearray()
        # The iterators below are nested generators. Left before their end they would leak, so an
        # answer that is too long ends by cancelling what waits for more of it.
        with trio.CancelScope() as rest:
            async for piece in response.stream:
                if len(body) <= FRAME_HEAD + MAX_MESSAGE:
                    body += piece
                else:
                    rest.cancel()
        if len(body) > FRAME_HEAD + MAX_MESSAGE:
            raise self._failed(f"sent more than {MAX_MESSAGE} bytes")
        return bytes(body)

    def _refused(self, headers: httpx.Headers) -> IdentityError:
        text = headers.get("grpc-status", "")
        if not (text.isascii() and text.isdigit() and len(text) <= 3) or int(text) == 0:  # noqa: PLR2004
            return self._failed("answered without an SVID and without a reason")
        status = int(text)
        name, retryable, hint = _STATUS.get(status, (f"status {status}", False, None))
        # gRPC's own percent-encoding of UTF-8.
        said = unquote_to_bytes(headers.get("grpc-message", "")).decode("utf-8", "replace")
        words = f": {printable(said)}" if said else ""
        return self._failed(
            f"refused ({name}){words}", retryable=retryable, hint=hint, grpc_status=status
        )

    def _failed(
        self,
        what: str,
        *,
        retryable: bool = False,
        hint: str | None = None,
        grpc_status: int | None = None,
    ) -> IdentityError:
        where = printable(self._socket)
        details: dict[str, str | int] = {"socket": where}
        if grpc_status is not None:
            details["grpc_status"] = grpc_status
        return IdentityError(
            "identity_unavailable",
            f"the SPIFFE agent at {where} {what}",
            retryable=retryable,
            hint=hint,
            details=details,
        )


def choose(
    svids: Sequence[JwtSvid], *, spiffe_id: str | None = None, hint: str | None = None
) -> JwtSvid:
    """Return the SVID to use: the one that is named, else the agent's first (its default).

    Args:
        svids: What the agent gave, in its order.
        spiffe_id: Whose it must be, or None.
        hint: The operator's word that it must bear, or None. The first counts if several do
            (SPIFFE Workload API, 4.4).

    Raises:
        IdentityError: ``identity_unavailable``: there is no such SVID.
    """
    for svid in svids:
        if spiffe_id in (None, svid.spiffe_id) and hint in (None, svid.hint):
            return svid
    wanted = [f"SPIFFE ID {spiffe_id!r}"] if spiffe_id is not None else []
    wanted += [f"hint {hint!r}"] if hint is not None else []
    shown = [_shown(svid) for svid in svids[:MAX_SHOWN]]
    if len(svids) > MAX_SHOWN:
        shown.append(f"{len(svids) - MAX_SHOWN} more")
    raise IdentityError(
        "identity_unavailable",
        f"the SPIFFE agent has no identity with {' and '.join(wanted)}; it has"
        f" {', '.join(shown) or 'none'}",
    )


def read_svid(svid: JwtSvid, *, audience: str, now: datetime) -> IdentityToken:
    """Return the token of an SVID, which nobody has verified, as one to sign with.

    Args:
        svid: As the agent gave it.
        audience: For whom it was asked.
        now: Wall clock, UTC.

    Raises:
        IdentityError: ``identity_unavailable``: it is no token that a CA could take, or not what
            the agent said it is. It never quotes the token.
        TokenError: ``token_audience`` or ``token_expired``.
    """
    if not is_spiffe_id(svid.spiffe_id):
        raise unavailable(_GIVER, f"{printable(svid.spiffe_id)!r} is not a SPIFFE ID")
    try:
        token = received(Secret(svid.token), _GIVER, audience=audience, now=now)
    except IdentityError as exc:
        if "claim iss" not in exc.message:
            raise
        hint = "set jwt_issuer in the configuration of the SPIRE server"
        raise unavailable(_GIVER, f"{svid.spiffe_id!r} has one without iss", hint=hint) from None
    if token.subject != svid.spiffe_id:
        raise unavailable(_GIVER, f"that of {svid.spiffe_id!r} is for {printable(token.subject)!r}")
    return token


def _shown(svid: JwtSvid) -> str:
    named = printable(svid.spiffe_id)
    return f"{named!r} (hint {printable(svid.hint)!r})" if svid.hint else repr(named)


def _in_words(exc: Exception) -> str:
    reason: BaseException | None = exc
    while reason is not None:
        if isinstance(reason, OSError) and reason.strerror:
            return reason.strerror
        reason = reason.__cause__ or reason.__context__
    text = printable(str(exc))
    return f"{type(exc).__name__}: {text}" if text else type(exc).__name__
