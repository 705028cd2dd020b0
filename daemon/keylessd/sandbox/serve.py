"""Serves several ASGI applications from one process, each at a loopback port of its own."""

from __future__ import annotations

import signal
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING

import trio

from keylessd.sandbox import httpd
from keylessd.sandbox.names import HOST
from keylessd.sandbox.vault import SandboxError

if TYPE_CHECKING:
    from starlette.types import ASGIApp

BACKLOG = 1024
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


async def serve(
    apps: Mapping[str, ASGIApp],
    sockets: Mapping[str, socket.socket],
    *,
    ready: Callable[[], None],
) -> None:
    """Serve *apps* at *sockets* until SIGTERM or SIGINT; call *ready* as soon as they answer."""
    stop = trio.Event()
    async with trio.open_nursery() as nursery:
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            nursery.start_soon(_stop_on_signal, signals, stop)
            await nursery.start(
                partial(httpd.serve, apps, sockets, stop=stop, grace_seconds=GRACE_SECONDS)
            )
            ready()
            await stop.wait()


async def _stop_on_signal(signals: AsyncIterator[int], stop: trio.Event) -> None:
    async for _ in signals:
        stop.set()
        return
