"""Serves a sandbox from a directory until it is told to stop: the body of ``up``."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from keylessd.clock import SystemClock
from keylessd.sandbox.faults import FaultController, SkewedClock
from keylessd.sandbox.faults_app import ControlledFaults
from keylessd.sandbox.instance import ISSUERS, PID, Instance, vault_of, write_files
from keylessd.sandbox.issuers import IssuerRule, parse_rule
from keylessd.sandbox.local import LocalSigstore
from keylessd.sandbox.names import HOST, SERVICES, STATE
from keylessd.sandbox.serve import listen, serve
from keylessd.sandbox.vault import DirectoryLock, SandboxError

if TYPE_CHECKING:
    import socket

    from starlette.types import ASGIApp

DEFAULT_REKOR = "v1"


@dataclass(frozen=True, slots=True)
class UpOptions:
    """What ``up`` was asked for.

    Attributes:
        directory: Where everything is kept.
        rekor: ``v1``, ``v2`` or ``both``; None: as the last time.
        port_base: Port of the first service, the others follow; None: the ports of the last
            time, or any that are free.
        checkpoint_interval_seconds: How long the logs collect entries for one checkpoint.
        certificate_seconds, token_seconds: Lifetimes.
        auto_login: Log everybody in as this person.
        accept_issuers: File with a JSON list of further issuers; kept for the next time.
        faults: Serve ``/_faults`` at every service.
    """

    directory: Path
    rekor: str | None = None
    port_base: int | None = None
    checkpoint_interval_seconds: float = 0.05
    certificate_seconds: int = 600
    token_seconds: int = 3600
    auto_login: str | None = None
    accept_issuers: Path | None = None
    faults: bool = False


def run(options: UpOptions, *, ready: Callable[[Instance], None]) -> None:
    """Serve until SIGTERM or SIGINT; call *ready* when all services answer.

    Raises:
        SandboxError: It cannot start; the message says why.
        StoreError: A log is damaged.
    """
    directory = options.directory
    os.umask(0o077)
    with ExitStack() as resources:
        lock = DirectoryLock(directory)
        resources.callback(lock.close)
        directory.chmod(0o700)
        sockets = listen(_ports(options))
        ports = {service: opened.getsockname()[1] for service, opened in sockets.items()}
        instance = Instance(ports=ports, rekor=_rekor(options))
        clocks = {service: SkewedClock(SystemClock()) for service in SERVICES}
        sandbox = resources.enter_context(_open(options, instance, lock, clocks))
        write_files(directory, instance, sandbox)
        resources.callback((directory / PID).unlink, missing_ok=True)
        apps = dict(sandbox.apps)
        if options.faults:
            apps = {
                service: ControlledFaults(app, FaultController(clocks[service]))
                for service, app in apps.items()
            }
        trio.run(_serve, apps, sockets, lambda: ready(instance))


async def _serve(
    apps: Mapping[str, ASGIApp],
    sockets: Mapping[str, socket.socket],
    ready: Callable[[], None],
) -> None:
    await serve(apps, sockets, ready=ready)


def _ports(options: UpOptions) -> dict[str, int]:
    if options.port_base is not None:
        return {service: options.port_base + number for number, service in enumerate(SERVICES)}
    before = Instance.read(options.directory)
    # The first time any ports; from then on the same, so that the issuers keep their names.
    return dict.fromkeys(SERVICES, 0) if before is None else dict(before.ports)


def _rekor(options: UpOptions) -> str:
    if options.rekor is not None:
        return options.rekor
    before = Instance.read(options.directory)
    return DEFAULT_REKOR if before is None else before.rekor


def _open(
    options: UpOptions, instance: Instance, lock: DirectoryLock, clocks: Mapping[str, SkewedClock]
) -> LocalSigstore:
    issuers = _issuers(options)
    try:
        return LocalSigstore.create(
            options.directory,
            clocks=clocks,
            urls=instance.urls,
            rekor=instance.rekor,
            issuers=issuers,
            interval_seconds=options.checkpoint_interval_seconds,
            certificate_lifetime=timedelta(seconds=options.certificate_seconds),
            token_lifetime=timedelta(seconds=options.token_seconds),
            auto_login=options.auto_login,
            lock=lock,
        )
    except (ValueError, KeyError, TypeError) as exc:
        # Keys, certificates and documents of the last time, whatever reads them.
        state = options.directory / STATE
        raise SandboxError(f"{state} is damaged ({exc}); remove it to begin anew") from exc


def _issuers(options: UpOptions) -> list[IssuerRule]:
    """Return the further issuers: of the file named now, or of that of the last time."""
    (options.directory / STATE).mkdir(mode=0o700, exist_ok=True)
    vault = vault_of(options.directory)
    if options.accept_issuers is not None:
        try:
            raw = options.accept_issuers.read_bytes()
        except OSError as exc:
            raise SandboxError(f"cannot read {options.accept_issuers}: {exc.strerror}") from exc
    else:
        raw = vault.load(ISSUERS) or b"[]"
    try:
        values = json.loads(raw)
    except ValueError as exc:
        raise SandboxError(f"the list of issuers is not JSON: {exc}") from exc
    if not isinstance(values, list) or not all(isinstance(value, dict) for value in values):
        raise SandboxError("the list of issuers is not a JSON list of objects")
    rules = [parse_rule(value) for value in values]
    vault.save(ISSUERS, raw)
    return rules


def announce(instance: Instance) -> None:
    """Say on stderr where the services are."""
    width = max(map(len, instance.ports))
    lines = [f"  {name:{width}}  http://{HOST}:{port}" for name, port in instance.ports.items()]
    sys.stderr.write("\n".join(["the sandbox is up:", *lines, ""]))
    sys.stderr.flush()
