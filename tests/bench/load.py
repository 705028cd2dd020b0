"""Many clients at once, of the daemon or of the services themselves. Counts; judges nothing."""

from __future__ import annotations

import os
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from urllib.parse import urlsplit

import trio
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed

from keyless.trio_client import TrioClient, open_client
from keyless.values import Digest as KeylessDigest
from keylessd.core.csr import build_csr
from keylessd.core.digests import Digest, HashAlgorithm, digest_of
from keylessd.core.timestamp import build_request
from keylessd.secret import Secret
from keylessd.services import fulcio, rekor_v1, rekor_v2
from keylessd.services.http import HttpClient, new_client
from keylessd.services.verifier import Verifier, certificate_verifier

READ_SIZE = 65_536
STAMP_TYPE = "application/timestamp-query"
# One signature: waits until it is there.
Once = Callable[[], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Round:
    """What one round of many clients gave.

    Attributes:
        rate: Signatures per second.
        seconds: What each took, as its client saw it.
    """

    rate: float
    seconds: tuple[float, ...]


async def together(clients: list[Once], *, each: int) -> Round:
    """Let every client sign *each* times, one signature after the other."""
    took: list[float] = []

    async def one(once: Once) -> None:
        for _ in range(each):
            began = time.perf_counter()
            await once()
            took.append(time.perf_counter() - began)

    began = time.perf_counter()
    async with trio.open_nursery() as nursery:
        for once in clients:
            nursery.start_soon(one, once)
    return Round(len(took) / (time.perf_counter() - began), tuple(took))


# --- clients of the daemon -----------------------------------------------------------------


@asynccontextmanager
async def daemon_clients(socket: str, token: str, count: int) -> AsyncIterator[list[Once]]:
    """Open *count* connections to the daemon; each signs a digest that is new."""
    async with AsyncExitStack() as stack:
        clients = [
            await stack.enter_async_context(open_client(socket_path=socket, autostart=False))
            for _ in range(count)
        ]

        async def once(client: TrioClient) -> None:
            digest = KeylessDigest("sha256", os.urandom(32))
            await client.sign(digest, identity_token=token)

        yield [partial(once, client) for client in clients]


# --- clients of the services ---------------------------------------------------------------


class Requests:
    """Makes what the daemon would send for a signature, beforehand and as whole HTTP requests."""

    def __init__(self, key: ec.EllipticCurvePrivateKey, verifier: Verifier, urls: dict[str, str]):
        self._key = key
        self._verifier = verifier
        self._is_v2 = urls["rekor"] == "v2"
        log = urls["rekor_v2_url"] + rekor_v2.ENTRIES if self._is_v2 else urls["rekor_v1_url"]
        self.log_url = log if self._is_v2 else log + rekor_v1.ENTRIES
        self.tsa_url = urls["timestamp_server_url"]
        self._ready: list[tuple[bytes, bytes]] = []

    @classmethod
    async def open(cls, urls: dict[str, str], token: str) -> Requests:
        """Get a certificate, as the daemon would."""
        key = ec.generate_private_key(ec.SECP256R1())
        async with new_client() as client:
            http = HttpClient(client, rng=random.Random(), user_agent="bench")
            chain = await fulcio.issue(http, urls["fulcio_url"], build_csr(key), Secret(token))
        leaf = x509.load_der_x509_certificate(chain[0])
        return cls(key, certificate_verifier(leaf, key.public_key()), urls)

    def prepare(self, count: int) -> None:
        """Have at least *count* ready."""
        while len(self._ready) < count:
            self._ready.append(self._make())

    def take(self) -> tuple[bytes, bytes]:
        """Return the request to the log and the one to the timestamp authority."""
        return self._ready.pop() if self._ready else self._make()

    def _make(self) -> tuple[bytes, bytes]:
        digest = Digest(HashAlgorithm.SHA256, os.urandom(32))
        scheme = ec.ECDSA(Prehashed(digest.algorithm.hash()))
        signature = self._key.sign(digest.value, scheme)
        build = rekor_v2.hashedrekord_request if self._is_v2 else rekor_v1.hashedrekord_request
        entry = build(digest, signature, self._verifier)
        imprint = digest_of(HashAlgorithm.SHA256, signature)
        nonce = int.from_bytes(os.urandom(7), "big") | 1
        stamp = build_request(imprint, nonce=nonce, certificates=False)
        return (
            _post(self.log_url, entry, "application/json"),
            _post(self.tsa_url, stamp, STAMP_TYPE),
        )


def _post(url: str, body: bytes, media_type: str) -> bytes:
    parts = urlsplit(url)
    head = f"POST {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Type: {media_type}\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


@asynccontextmanager
async def raw_clients(requests: Requests, count: int) -> AsyncIterator[list[Once]]:
    """Open *count* pairs of connections; each sends what a signature needs, side by side."""
    streams: list[trio.SocketStream] = []

    async def once(log: trio.SocketStream, tsa: trio.SocketStream) -> None:
        entry, stamp = requests.take()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_exchange, tsa, stamp)
            await _exchange(log, entry)

    try:
        for _ in range(count):
            for url in (requests.log_url, requests.tsa_url):
                parts = urlsplit(url)
                streams.append(await trio.open_tcp_stream(parts.hostname, parts.port))
        pairs = zip(streams[::2], streams[1::2], strict=True)
        yield [partial(once, log, tsa) for log, tsa in pairs]
    finally:
        for stream in streams:
            await trio.aclose_forcefully(stream)


async def _exchange(stream: trio.SocketStream, request: bytes) -> None:
    """Send a request and read its answer, knowing no more of HTTP than these two need."""
    await stream.send_all(request)
    data = b""
    while (end := data.find(b"\r\n\r\n")) < 0:
        data += await stream.receive_some(READ_SIZE)
    head = data[:end].lower()
    if head[9:12] not in {b"200", b"201"}:
        raise RuntimeError(data.decode(errors="replace"))
    length = int(head.split(b"content-length:", 1)[1].split(b"\r\n", 1)[0])
    missing = end + 4 + length - len(data)
    while missing > 0:
        missing -= len(await stream.receive_some(READ_SIZE))
