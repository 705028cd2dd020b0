"""What a log takes by itself: a gauge on its answers, and entries written to it bare."""

from __future__ import annotations

import hashlib
import http.client
import os
import select
import socket
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from urllib.parse import urlsplit

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from keylessd.core.digests import Digest, HashAlgorithm
from keylessd.services import rekor_v1, rekor_v2
from keylessd.services.verifier import certificate_verifier
from sigsim.pki import CtLog, Leaf, ec_key, mint_ca, mint_leaf

_MODULES = {"v1": rekor_v1, "v2": rekor_v2}
_HEADERS = {"Content-Type": "application/json", "Accept": "application/json"}
PATIENCE = 60.0


class Gauge:
    """Passes bytes to a server and notes how long each of its answers took. Reads none of them."""

    def __init__(self, target: str) -> None:
        found = urlsplit(target)
        self._target = (found.hostname, found.port or 80)
        self._seconds: list[float] = []
        self._listening = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def taken(self) -> float:
        """Return the seconds of all answers since it was last asked."""
        found, self._seconds = sum(self._seconds), []
        return found

    def _accept(self) -> None:
        while True:
            client, _ = self._listening.accept()
            threading.Thread(target=self._relay, args=(client,), daemon=True).start()

    def _relay(self, client: socket.socket) -> None:
        with client, socket.create_connection(self._target) as server, suppress(OSError):
            for one in (client, server):
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            asked = None
            while True:
                for ready in select.select([client, server], [], [])[0]:
                    data = ready.recv(1 << 16)
                    if not data:
                        return
                    if ready is client:
                        server.sendall(data)
                        asked = time.perf_counter()
                        continue
                    if asked is not None:
                        self._seconds.append(time.perf_counter() - asked)
                        asked = None
                    client.sendall(data)


class Writer:
    """One bare connection to a log; it knows what a request looks like and nothing else."""

    def __init__(self, url: str, version: str) -> None:
        found = urlsplit(url)
        assert found.hostname is not None
        self._connection = http.client.HTTPConnection(
            found.hostname, found.port or 80, timeout=PATIENCE
        )
        self._path = _MODULES[version].ENTRIES

    def post(self, request: bytes) -> float:
        """Write one entry; return the seconds."""
        began = time.perf_counter()
        self._connection.request("POST", self._path, request, _HEADERS)
        reply = self._connection.getresponse()
        body = reply.read()
        took = time.perf_counter() - began
        assert reply.status == 201, body
        return took

    def close(self) -> None:
        """Hang up."""
        self._connection.close()


def entries(version: str, count: int) -> list[bytes]:
    """Return requests for entries that the log does not have yet.

    Like those of the clients they name their signer by a certificate: Rekor v1 indexes who is in
    it, which is a good part of its work. Neither log asks who issued it.
    """
    key = ec_key()
    certificate = mint_leaf(key, mint_ca("issuing"), [CtLog(ec_key())], Leaf())
    verifier = certificate_verifier(certificate, key.public_key())
    made = []
    for _ in range(count):
        content = os.urandom(32)
        digest = Digest(HashAlgorithm.SHA256, hashlib.sha256(content).digest())
        signature = key.sign(content, ec.ECDSA(hashes.SHA256()))
        made.append(_MODULES[version].hashedrekord_request(digest, signature, verifier))
    return made


def rate(url: str, version: str, requests: Sequence[bytes], parallel: int) -> float:
    """Write entries over that many connections at once; return entries per second."""
    writers = [Writer(url, version) for _ in range(parallel)]

    def write(number: int) -> None:
        for request in requests[number::parallel]:
            writers[number].post(request)

    with ThreadPoolExecutor(parallel) as pool:
        began = time.perf_counter()
        list(pool.map(write, range(parallel)))
        wall = time.perf_counter() - began
    for one in writers:
        one.close()
    return len(requests) / wall
