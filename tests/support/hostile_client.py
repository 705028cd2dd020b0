"""A program that behaves as badly as it can towards a daemon, until it is killed.

As a script: the name of an attack, and the daemon's socket.
"""

from __future__ import annotations

import os
import resource
import socket
import struct
import sys
import time
from collections.abc import Callable
from contextlib import suppress

from keyless.wire import CLIENT, Connection, Hello

HELLO = Connection(CLIENT).send(Hello(agent="hostile"))
KEPT = 5000  # connections; many more than one process is allowed
SPARE = 50  # descriptors for all else

Attack = Callable[[str], None]


def dial(path: str) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(2)
    try:
        connection.connect(path)
    except OSError:
        connection.close()
        raise
    return connection


def repeat(once: Callable[[socket.socket], None]) -> Attack:
    """Make an attack of what is done with one connection after the other."""

    def attack(path: str) -> None:
        while True:
            with suppress(OSError), dial(path) as connection:
                once(connection)

    return attack


def garbage(connection: socket.socket) -> None:
    connection.sendall(os.urandom(4096))
    connection.recv(1000)


def garbage_after_hello(connection: socket.socket) -> None:
    connection.sendall(HELLO + struct.pack(">I", 100) + os.urandom(100))
    while connection.recv(1000):
        pass


def endless_head(connection: socket.socket) -> None:
    connection.sendall(HELLO + struct.pack(">I", 65536))
    while True:
        connection.sendall(b"\x91" * 65536)


def huge_length(connection: socket.socket) -> None:
    connection.sendall(HELLO + b"\xff\xff\xff\xff")
    while True:
        connection.sendall(b"\0" * 65536)


def half_open(connection: socket.socket) -> None:
    connection.sendall(HELLO)
    connection.shutdown(socket.SHUT_WR)
    while connection.recv(1000):
        pass


def gone_at_once(connection: socket.socket) -> None:
    connection.sendall(HELLO[:3])


def never_reads(connection: socket.socket) -> None:
    request = b"\x85\xa1t\xa7request\xa2id\xcd%s\xa2op\xa6status\xa4body\x80\xa3att\x90"
    connection.sendall(HELLO)
    for number in range(256, 65536):
        head = request % struct.pack(">H", number)
        connection.sendall(struct.pack(">I", len(head)) + head)


def slow_bytes(path: str) -> None:
    frame = HELLO + struct.pack(">I", 1000) + b"\x81" * 1000
    connections: list[list[object]] = []
    while True:
        time.sleep(0.02)
        with suppress(OSError):
            while len(connections) < 100:
                connections.append([dial(path), 0])
        for one in connections[:]:
            connection, sent = one
            assert isinstance(connection, socket.socket)
            assert isinstance(sent, int)
            try:
                connection.send(frame[sent : sent + 1])
                one[1] = sent + 1
            except OSError:
                connection.close()
                connections.remove(one)


def opened_and_kept(path: str) -> None:
    connections: list[socket.socket] = []
    _, allowed = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, allowed))
    kept = KEPT if allowed == resource.RLIM_INFINITY else min(KEPT, allowed - SPARE)
    while True:
        time.sleep(0.01)
        with suppress(OSError):
            while len(connections) < kept:
                connection = dial(path)
                connections.append(connection)
                connection.sendall(HELLO)


ATTACKS: dict[str, Attack] = {
    **{
        once.__name__: repeat(once)
        for once in (
            garbage,
            garbage_after_hello,
            endless_head,
            huge_length,
            half_open,
            gone_at_once,
            never_reads,
        )
    },
    "slow_bytes": slow_bytes,
    "opened_and_kept": opened_and_kept,
}

if __name__ == "__main__":
    ATTACKS[sys.argv[1]](sys.argv[2])
