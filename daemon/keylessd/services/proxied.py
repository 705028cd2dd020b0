"""Requests through a proxy, but never those to this machine. Sends nothing itself."""

from __future__ import annotations

from types import TracebackType

import httpx

from keylessd.services.urls import is_loopback

# Extension of a request that only this machine can make.
DIRECT = "keyless.direct"


class Proxied(httpx.AsyncBaseTransport):
    """Chooses between two transports by the host that is asked.

    Plain http to this machine is allowed since it does not leave it. A proxy elsewhere would
    carry it, with its token, through the network; and would ask its own machine.
    """

    def __init__(self, direct: httpx.AsyncBaseTransport, proxy: httpx.AsyncBaseTransport) -> None:
        """Store the transports; both are closed with this one."""
        self._direct = direct
        self._proxy = proxy

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send *request* the way that its host demands."""
        is_near = DIRECT in request.extensions or is_loopback(request.url.host)
        chosen = self._direct if is_near else self._proxy
        return await chosen.handle_async_request(request)

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc_value: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close both."""
        await self._direct.aclose()
        await self._proxy.aclose()
