"""Serves several ASGI applications from one process, each at a loopback port of its own."""

from __future__ import annotations

import signal
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, cast

import trio
from hypercorn.config import Config
from hypercorn.trio import serve as hypercorn_serve

from keylessd.sandbox.names import HOST
from keylessd.sandbox.vault import SandboxError

if TYPE_CHECKING:
    from hypercorn.typing import ASGIFramework
    from starlette.types import ASGIApp, Receive, Scope, Send

BACKLOG = 1024
# Longer than the pools of clients keep connections, so that it is they who close them: a server
# that closes first makes some requests fail.
KEEP_ALIVE_SECONDS = 600
REQUESTS_PER_CONNECTION = 1_000_000_000
GRACE_SECONDS = 1.0


def listen(ports: Mapping[str, int]) -> dict[str, socket.socket]:
    """Open a listening socket for each service; port 0 means: any that is free.

    Raises:
        SandboxError: A port is taken.
    """
    sockets: dict[str, socket.socket] = {}
    for service, port in ports.items():
        opened = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # Inherited by accepted connections. Without it an answer of two segments waits 40 ms.
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            opened.bind((HOST, port))
            opened.listen(BACKLOG)
        except OSError as exc:
            opened.close()
            for other in sockets.values():
                other.close()
            raise SandboxError(f"cannot listen at port {port} for {service}: {exc}") from exc
        sockets[service] = opened
    return sockets


def by_port(apps: Mapping[int, ASGIApp]) -> ASGIApp:
    """Return the application that passes each request on by the port it came in at."""

    async def dispatch(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
            return
        await apps[scope["server"][1]](scope, receive, send)

    return dispatch


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return


def configuration(sockets: Mapping[str, socket.socket]) -> Config:
    """Return hypercorn's settings: quiet, lean, and done with soon after a signal."""
    config = Config()
    # hypercorn owns the descriptors from now on.
    config.bind = [f"fd://{opened.detach()}" for opened in sockets.values()]
    config.backlog = BACKLOG
    config.loglevel = "ERROR"
    config.include_date_header = True  # clients measure clock skew by it
    config.include_server_header = False
    config.keep_alive_timeout = KEEP_ALIVE_SECONDS
    config.keep_alive_max_requests = REQUESTS_PER_CONNECTION
    config.graceful_timeout = GRACE_SECONDS
    return config


async def serve(
    apps: Mapping[str, ASGIApp],
    sockets: Mapping[str, socket.socket],
    *,
    ready: Callable[[], None],
) -> None:
    """Serve *apps* at *sockets* until SIGTERM or SIGINT; call *ready* as soon as they answer."""
    ports = {opened.getsockname()[1]: apps[service] for service, opened in sockets.items()}
    stop = trio.Event()
    application = cast("ASGIFramework", by_port(ports))
    async with trio.open_nursery() as nursery:
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            nursery.start_soon(_stop_on_signal, signals, stop)
            await nursery.start(
                partial(
                    hypercorn_serve,
                    application,
                    configuration(sockets),
                    shutdown_trigger=stop.wait,
                    mode="asgi",
                )
            )
            ready()
            await stop.wait()


async def _stop_on_signal(signals: AsyncIterator[int], stop: trio.Event) -> None:
    async for _ in signals:
        stop.set()
        return
