"""An httpx client that adds nothing to its transport; knows no service, no rule of a request."""

from __future__ import annotations

import httpx

from keylessd.services.pool import PooledTransport


class DirectClient(httpx.AsyncClient):
    """Hands requests to its transport as they are.

    What a client does around that, with cookies, authentication, redirects and hooks, is not
    wanted here and is a quarter of the work of a request.

    Attributes:
        pool: The transport, if it is ours and can be asked directly.
    """

    def __init__(self, transport: httpx.AsyncBaseTransport) -> None:
        """Send through *transport*, which is opened and closed with this."""
        super().__init__(transport=transport, trust_env=False, follow_redirects=False)
        self._direct = transport
        self.pool = transport if isinstance(transport, PooledTransport) else None

    async def send(
        self, request: httpx.Request, *, stream: bool = False, **_options: object
    ) -> httpx.Response:
        """Send *request* and return the answer."""
        response = await self._direct.handle_async_request(request)
        if not stream:
            await response.aread()
        return response
