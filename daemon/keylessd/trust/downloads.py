"""The asynchronous end of a TUF refresh: opens and reads the responses that its thread asks for.

Lives in the task that waits for the thread, so that task's deadline and cancellation reach into
the blocking code.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from keylessd.services.pieces import CLOSE_SECONDS, Pieces

if TYPE_CHECKING:
    import httpx

    from keylessd.services.http import HttpClient

READ_SECONDS = 15.0  # between two pieces of a body; the whole refresh has its own deadline
# Until an answer begins. A request may wait for it, and who refuses to answer is no better asked
# again for long.
OPEN_SECONDS = 10.0
ATTEMPTS = 3
RETRY_STATUSES = frozenset({429, 502, 503, 504})
OK = 200


class Downloads:
    """At most one response at a time, as python-tuf asks for them."""

    def __init__(self, http: HttpClient) -> None:
        self._http = http
        self._response: httpx.Response | None = None
        self._pieces: Pieces | None = None

    async def open(self, url: str) -> tuple[int, str]:
        """Ask for *url*; return the status and the content encoding.

        Raises:
            httpx.HTTPError: If there is no answer.
            InvalidInputError: If the URL cannot be used.
        """
        await self.aclose()
        response = await self._http.open(
            url,
            read_seconds=READ_SECONDS,
            open_seconds=OPEN_SECONDS,
            attempts=ATTEMPTS,
            retry_statuses=RETRY_STATUSES,
        )
        self._response, self._pieces = response, Pieces(response)
        return response.status_code, response.headers.get("content-encoding", "")

    async def read(self) -> bytes | None:
        """Return the next piece of the body, or None at its end.

        Raises:
            httpx.HTTPError: If the connection breaks.
        """
        if self._pieces is None:
            return None
        return await anext(self._pieces, None)

    async def aclose(self) -> None:
        """Close what is open. A response that nobody reads to its end is cut off."""
        response, pieces = self._response, self._pieces
        self._response = self._pieces = None
        if pieces is not None:
            await pieces.aclose()
        if response is not None:
            with trio.CancelScope(shield=True), trio.move_on_after(CLOSE_SECONDS):
                await response.aclose()
