"""A daemon of a few lines: a Unix socket, a thread, and whatever a test wants it to answer."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Callable, Iterator
from hashlib import sha256

from keyless.wire import (
    NEED_DATA,
    SERVER,
    BadRequest,
    Cancel,
    Connection,
    ConnectionClosed,
    Event,
    Failure,
    Hello,
    Reply,
    Request,
    Welcome,
    WireError,
)

DROP = object()  # an answer: hang up


def signed(**more) -> dict[str, object]:
    """Return the body of a reply to any kind of signing."""
    return {
        "identity": "dev@example.com",
        "identity_kind": "email",
        "issuer": "https://issuer.example",
        "entries": [{"log": "log", "log_index": 7, "kind": "hashedrekord", "version": "0.0.2"}],
        "times": [{"time": 1_800_000_000, "source": "tsa", "authority": "tsa"}],
        "certificate": {"serial": "0a", "not_before": 1, "not_after": 2, "reused": True},
        "instance": "sandbox",
        **more,
    }


def verified(**more) -> dict[str, object]:
    """Return the body of a reply to `verify`."""
    return {"entries": [], "times": [], "scts": [], "steps": ["certificate-chain"], **more}


def answer(request: Request) -> object:
    """Answer as a daemon in good health would."""
    body, attachments = request.body, request.attachments
    if request.op == "sign":
        digest = body["digest"]["value"]
        return Reply(request.id, signed(), {"bundle": b'{"of":"' + digest.hex().encode() + b'"}'})
    if request.op == "sign_batch":
        count = len(attachments["subjects"].splitlines())
        return Reply(request.id, signed(subjects=count), {"bundle": attachments["subjects"]})
    if request.op == "attest":
        kind = body.get("predicate_type", "of the statement")
        content = attachments.get("statement") or attachments["predicate"]
        return Reply(request.id, signed(predicate_type=kind), {"bundle": content})
    if request.op == "verify":
        return Reply(request.id, verified(identity="dev@example.com"))
    if request.op == "reload":
        return Reply(request.id, {})
    return Failure(request.id, WireError("internal", f"no answer to {request.op}"))


class FakeDaemon:
    """Serves at a path, one thread per connection; remembers what it was asked.

    Args:
        path: Of the socket.
        answers: Called with each request; returns a message, several, DROP, or None to stay
            silent.
    """

    def __init__(
        self, path: str, answers: Callable[[Request], object] = answer, **wire: int
    ) -> None:
        self.path = path
        self.answers = answers
        self.wire = wire
        self.requests: list[Request] = []
        self.cancelled: list[int] = []
        self.connections = 0
        self.something = threading.Condition()
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(path)
        self._listener.listen()
        self._open: list[socket.socket] = []
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(10)
        self.hang_up()

    def hang_up(self) -> None:
        for connection in self._open:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def wait_until(self, condition: Callable[[], bool]) -> None:
        with self.something:
            assert self.something.wait_for(condition, timeout=20)

    def _accept(self) -> None:
        threads = []
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                break
            self.connections += 1
            self._open.append(connection)
            thread = threading.Thread(target=self._serve, args=(connection,), daemon=True)
            thread.start()
            threads.append(thread)
        self.hang_up()
        for thread in threads:
            thread.join(10)

    def _serve(self, connection: socket.socket) -> None:
        wire = Connection(SERVER, **self.wire)
        with connection, contextlib.suppress(OSError):
            while True:
                event = wire.next_event()
                if event is NEED_DATA:
                    wire.receive_data(connection.recv(65_536))
                    continue
                if isinstance(event, ConnectionClosed):
                    break
                if not self._react(connection, wire, event):
                    break
        with self.something:
            self.something.notify_all()

    def _react(self, connection: socket.socket, wire: Connection, event: object) -> bool:
        if isinstance(event, Hello):
            connection.sendall(wire.send(Welcome(agent="fake", limits=wire.limits)))
        elif isinstance(event, BadRequest):
            connection.sendall(wire.send(Failure(event.id, event.error)))
        elif isinstance(event, Cancel):
            with self.something:
                self.cancelled.append(event.id)
                self.something.notify_all()
            connection.sendall(wire.send(Failure(event.id, WireError("cancelled", "cancelled"))))
        elif isinstance(event, Request):
            with self.something:
                self.requests.append(event)
                self.something.notify_all()
            given = self.answers(event)
            if given is DROP:
                return False
            for message in given if isinstance(given, list) else [given] if given else []:
                connection.sendall(wire.send(message))
        return True


@contextlib.contextmanager
def fake_daemon(
    path: str | os.PathLike[str], answers: Callable[[Request], object] = answer, **wire: int
) -> Iterator[FakeDaemon]:
    daemon = FakeDaemon(os.fspath(path), answers, **wire)
    try:
        yield daemon
    finally:
        daemon.close()


def unless_known(known: set[bytes]) -> Callable[[Request], object]:
    """Return answers that ask for files whose hash is not in *known*, and then know them."""

    def answers(request: Request) -> object:
        for name, digest in request.body.get("where", {}).items():
            if isinstance(digest, bytes) and digest not in known:
                content = request.attachments.get(name)
                if content is None:
                    error = WireError("unknown_file", "not known", details={"name": name})
                    return Failure(request.id, error)
                assert sha256(content).digest() == digest
                known.add(digest)
        return answer(request)

    return answers


def with_events(request: Request) -> object:
    """Answer with two events first."""
    return [
        Event(request.id, "progress", {"step": "certificate", "reused": 1}),
        Event(request.id, "progress", {"step": "log", "log": "rekor"}),
        answer(request),
    ]
