"""Feeds python-tuf's blocking Updater from the daemon's own HTTP client.

Imports python-tuf's client, which is slow: import this in a worker thread.
"""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import trio

# From its own module: the package's re-export is not declared as one.
from tuf.api.exceptions import DownloadError, DownloadHTTPError, SlowRetrievalError
from tuf.ngclient.fetcher import FetcherInterface

from keylessd.errors import InvalidInputError
from keylessd.services.urls import printable, shown_url
from keylessd.trust.downloads import OK, Downloads


class HttpxFetcher(FetcherInterface):
    """Works only in a thread of ``trio.to_thread.run_sync``.

    Each piece is read by the host task through ``trio.from_thread``. A cancelled host makes that
    raise Cancelled, a BaseException, which python-tuf does not swallow: the thread ends.
    """

    def __init__(self, downloads: Downloads) -> None:
        """Store the other end; whoever made it closes it after the thread has ended."""
        self._downloads = downloads

    # Not a generator itself: FetcherInterface.fetch() maps only errors raised before it returns.
    def _fetch(self, url: str) -> Iterator[bytes]:
        shown = shown_url(url)
        try:
            status, encoding = trio.from_thread.run(self._downloads.open, url)
        except (httpx.HTTPError, httpx.InvalidURL, InvalidInputError) as exc:
            raise _in_tuf_terms(exc, shown) from exc
        # 404 and 403 for the next root mean that there is none, so the status must be exact.
        # A redirect is an answer like any other that is not 200: it is not followed.
        if status != OK:
            raise DownloadHTTPError(f"{shown} answered {status}", status)
        if encoding.strip().lower() not in {"", "identity"}:
            raise DownloadError(f"{shown} came with content encoding {printable(encoding)!r}")
        return self._pieces(shown)

    # The response is closed by the host, not here: a generator that was not exhausted would
    # do so whenever, and in whichever thread, it is collected.
    def _pieces(self, shown: str) -> Iterator[bytes]:
        while True:
            try:
                piece = trio.from_thread.run(self._downloads.read)
            except httpx.HTTPError as exc:
                raise _in_tuf_terms(exc, shown) from exc
            if piece is None:
                return
            yield piece


def _in_tuf_terms(exc: Exception, shown: str) -> DownloadError:
    if isinstance(exc, httpx.TimeoutException):
        return SlowRetrievalError(f"{shown}: {printable(str(exc)) or 'it is too slow'}")
    return DownloadError(f"{shown}: {printable(str(exc)) or type(exc).__name__}")
