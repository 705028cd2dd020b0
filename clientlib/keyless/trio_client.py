"""The client for trio programs: many tasks share one connection to the daemon.

    async with open_client() as client:
        async with trio.open_nursery() as nursery:
            for path in paths:
                nursery.start_soon(sign_one, client, path)

A cancelled task cancels its request. The connection is not made again when it is lost: every
method then raises KeylessError ``daemon_failed``, and a new client is to be opened.
"""

from __future__ import annotations

import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import trio

from keyless import _calls, _daemon_calls, _identities, _verifying
from keyless._connect import READ_SIZE, open_daemon
from keyless._exchange import WINDOW, Exchange
from keyless._hash import digest_of, digests_of, hash_bytes
from keyless._surroundings import identity_named, instance_named, names_file, where_named
from keyless.values import Digest
from keyless.wire import quick_codec

if TYPE_CHECKING:
    from keyless._calls import Call, Notice
    from keyless._hash import Artifact
    from keyless._identities import Ambient, EndedSession
    from keyless._surroundings import Whose
    from keyless.states import Identity, InstanceState, Status
    from keyless.values import (
        AcceptedSigner,
        Detached,
        Inspection,
        SignResult,
        Thresholds,
        VerifyResult,
        Where,
    )


RunSync = Callable[..., Awaitable[Any]]


@asynccontextmanager
async def open_client(
    *,
    socket_path: str | None = None,
    environ: Mapping[str, str] | None = None,
    autostart: bool | None = None,
    notice: Callable[[str], None] | None = None,
    window: int = WINDOW,
) -> AsyncIterator[TrioClient]:
    """Connect to the daemon for the length of a block; the arguments are those of Client.

    Raises:
        DaemonUnreachableError: nobody listens, and none was or could be started.
    """
    environ = os.environ if environ is None else environ
    dial = partial(
        open_daemon,
        socket_path,
        environ,
        autostart=autostart,
        notice=notice,
    )
    # Connecting may wait for a full backlog or for a daemon to start.
    connection = await trio.to_thread.run_sync(dial)
    # The connection is a _socket.socket, which trio does not take.
    whole = socket.socket(fileno=connection.detach())
    whole.setblocking(False)
    stream = trio.SocketStream(trio.socket.from_stdlib_socket(whole))
    async with client_on(stream, environ=environ, window=window) as client:
        yield client


@asynccontextmanager
async def client_on(
    stream: trio.abc.Stream,
    *,
    environ: Mapping[str, str] | None = None,
    window: int = WINDOW,
    run_sync: RunSync = trio.to_thread.run_sync,
) -> AsyncIterator[TrioClient]:
    """Speak to the daemon at the other end of *stream*, which is closed after the block.

    Args:
        stream: Any stream; who is at the other end was checked by whoever opened it.
        environ: The environment; that of the process if None.
        window: How many requests may be unanswered at once.
        run_sync: Runs what reads files in a thread.
    """
    environ = os.environ if environ is None else environ
    client = TrioClient(stream, environ=environ, window=window, run_sync=run_sync)
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client._read)  # noqa: SLF001  # the two are one thing
            nursery.start_soon(client._write)  # noqa: SLF001
            yield client
            nursery.cancel_scope.cancel()
    finally:
        await trio.aclose_forcefully(stream)


class TrioClient:
    """The methods of Client, to be awaited; opened by open_client().

    Every method raises KeylessError. ``on_event`` is called in the reader's task and must not
    raise.
    """

    def __init__(
        self,
        stream: trio.abc.Stream,
        *,
        environ: Mapping[str, str],
        window: int,
        run_sync: RunSync,
    ) -> None:
        self._stream = stream
        self._environ = environ
        self._exchange = Exchange(window=window, codec=quick_codec())
        self._run_sync = run_sync
        self._ended: dict[Call, trio.Event] = {}
        self._news = trio.Event()  # set when there may be something to send
        self._news.set()  # hello

    async def sign(
        self,
        artifact: Artifact,
        *,
        where: Where | None = None,
        identity_token: str | None = None,
        identity: str | None = None,
        ambient: Ambient | None = None,
        reuse: str | None = None,
        idempotency_key: str | None = None,
        name: str | None = None,
        algorithm: str = "sha256",
        on_event: Notice | None = None,
    ) -> SignResult:
        """Sign one artifact; see Client.sign()."""
        options = await self._options(
            where, (identity_token, identity, ambient), reuse, idempotency_key, on_event
        )
        digest = await self._digest(artifact, algorithm)
        return cast("SignResult", await self._run(_calls.sign(digest, options, name=name)))

    async def sign_batch(
        self,
        subjects: Iterable[tuple[str, Artifact]],
        *,
        where: Where | None = None,
        identity_token: str | None = None,
        identity: str | None = None,
        ambient: Ambient | None = None,
        reuse: str | None = None,
        idempotency_key: str | None = None,
        on_event: Notice | None = None,
    ) -> SignResult:
        """Sign up to 1,024 artifacts with one signature; see Client.sign_batch()."""
        options = await self._options(
            where, (identity_token, identity, ambient), reuse, idempotency_key, on_event
        )
        hashed = [(name, (await self._digest(artifact)).value) for name, artifact in subjects]
        return cast("SignResult", await self._run(_calls.sign_batch(hashed, options)))

    async def attest(
        self,
        *,
        statement: bytes | None = None,
        predicate: bytes | None = None,
        predicate_type: str | None = None,
        subjects: Sequence[tuple[str, Artifact]] = (),
        where: Where | None = None,
        identity_token: str | None = None,
        identity: str | None = None,
        ambient: Ambient | None = None,
        reuse: str | None = None,
        idempotency_key: str | None = None,
        on_event: Notice | None = None,
    ) -> SignResult:
        """Sign an in-toto statement; see Client.attest()."""
        call = _calls.attest(
            await self._options(
                where, (identity_token, identity, ambient), reuse, idempotency_key, on_event
            ),
            statement=statement,
            predicate=predicate,
            predicate_type=predicate_type,
            subjects=[(name, await self._digest(artifact)) for name, artifact in subjects],
        )
        return cast("SignResult", await self._run(call))

    async def verify(
        self,
        artifact: Artifact,
        bundle: bytes | Detached,
        *,
        accepted: Sequence[AcceptedSigner] = (),
        key: bytes | None = None,
        where: Where | None = None,
        predicate_type: str | None = None,
        thresholds: Thresholds | None = None,
        explain: bool = False,
    ) -> VerifyResult:
        """Verify that *bundle* proves what is asked about the artifact; see Client.verify()."""
        call = _verifying.verify(
            await self._digests(artifact),
            bundle,
            place=await self._place(where),
            accepted=accepted,
            key=key,
            predicate_type=predicate_type,
            thresholds=thresholds,
            artifact=artifact,
            explain=explain,
        )
        return cast("VerifyResult", await self._run(call))

    async def inspect(self, bundle: bytes | Detached) -> Inspection:
        """Return what is in a bundle of any form. Nothing of it is verified."""
        return cast("Inspection", await self._run(_verifying.inspect(bundle)))

    async def status(self) -> Status:
        """Return how the daemon is."""
        return cast("Status", await self._run(_daemon_calls.status()))

    async def whoami(
        self,
        *,
        where: Where | None = None,
        identity_token: str | None = None,
        identity: str | None = None,
        ambient: Ambient | None = None,
    ) -> list[Identity]:
        """Return as whom a signature could be made now."""
        call = _identities.whoami(
            await self._place(where),
            identity_token=identity_token,
            identity=identity,
            ambient=ambient,
        )
        return cast("list[Identity]", await self._run(call))

    async def login(
        self,
        *,
        on_event: Notice,
        where: Where | None = None,
        flow: str = "browser",
        connector: str | None = None,
        identity: str | None = None,
        client_id: str | None = None,
        default: bool = False,
    ) -> Identity:
        """Let the person here log in; see Client.login()."""
        call = _identities.login(
            await self._place(where),
            flow=flow,
            connector=connector,
            identity=identity,
            client_id=client_id,
            default=default,
            on_event=on_event,
        )
        return cast("Identity", await self._run(call))

    async def login_code(self, login: str, code: str) -> None:
        """Send the code that a page showed for the login called *login*."""
        await self._run(_identities.login_code(login, code))

    async def logout(
        self,
        *,
        identity: str | None = None,
        instance: str | None = None,
        everyone: bool = False,
    ) -> list[EndedSession]:
        """End sessions; see Client.logout()."""
        call = _identities.logout(identity=identity, instance=instance, everyone=everyone)
        return cast("list[EndedSession]", await self._run(call))

    async def lock(self, passphrase: str) -> None:
        """Refuse to sign until unlock() brings the same passphrase."""
        await self._run(_identities.lock("lock", passphrase))

    async def unlock(self, passphrase: str) -> None:
        """Sign again."""
        await self._run(_identities.lock("unlock", passphrase))

    async def trust_status(self, instance: str | None = None) -> list[InstanceState]:
        """Return the trust root in force for one instance, or for all."""
        found = await self._run(_daemon_calls.trust("trust_status", instance))
        return cast("list[InstanceState]", found)

    async def trust_refresh(self, instance: str | None = None) -> list[InstanceState]:
        """Refresh the trust root of one instance, and return it; see Client.trust_refresh()."""
        if instance is None:
            instance = instance_named(self._environ)
        found = await self._run(_daemon_calls.trust("trust_refresh", instance))
        return cast("list[InstanceState]", found)

    async def ledger(self, limit: int | None = None) -> list[dict[str, Any]]:
        """Return the newest records of what this daemon signed, oldest first; see Client."""
        return cast("list[dict[str, Any]]", await self._run(_daemon_calls.ledger(limit)))

    async def reload(self) -> None:
        """Make the daemon read its settings again."""
        await self._run(_daemon_calls.reload())

    # --- what the environment says ------------------------------------------------------------

    async def _place(self, where: Where | None) -> _calls.Place:
        if where is None and names_file(self._environ):
            where = cast("Where | None", await self._run_sync(where_named, self._environ))
        elif where is None:
            where = where_named(self._environ)
        return _calls.Place(where, hash_bytes)

    async def _options(
        self,
        where: Where | None,
        whose: Whose,
        reuse: str | None,
        idempotency_key: str | None,
        on_event: Notice | None,
    ) -> _calls.SignOptions:
        return _calls.SignOptions(
            await self._place(where),
            identity_token=whose[0],
            identity=identity_named(self._environ, whose),
            ambient=whose[2],
            reuse=reuse,
            idempotency_key=idempotency_key,
            on_event=on_event,
        )

    # --- moving bytes -------------------------------------------------------------------------

    async def _digest(self, artifact: Artifact, algorithm: str = "sha256") -> Digest:
        if isinstance(artifact, Digest):
            return artifact
        return cast("Digest", await self._run_sync(digest_of, artifact, algorithm))

    async def _digests(self, artifact: Artifact) -> list[Digest]:
        if isinstance(artifact, Digest):
            return [artifact]
        return cast("list[Digest]", await self._run_sync(digests_of, artifact))

    async def _run(self, call: Call) -> Any:  # noqa: ANN401  # as `read` makes it
        while True:
            await self._wait_for(call)
            if call.needs is None or call.artifact is None:
                return call.result()
            call.again_with(await self._digest(call.artifact, call.needs))

    async def _wait_for(self, call: Call) -> None:
        """Submit a call and return when it has ended; cancelled here, it is cancelled there."""
        self._exchange.submit(call)
        ended = self._ended[call] = trio.Event()
        self._news.set()
        try:
            await ended.wait()
        finally:
            del self._ended[call]
            if not call.done:
                self._exchange.cancel(call)
                self._news.set()

    async def _write(self) -> None:
        """Send what is to be sent, as long as the connection lasts. Alone in writing."""
        while True:
            await self._news.wait()
            self._news = trio.Event()
            data = self._exchange.outgoing()
            self._settle()
            if data:
                try:
                    await self._stream.send_all(data)
                except (trio.BrokenResourceError, trio.ClosedResourceError):
                    return  # the reader is told so too, and knows more

    async def _read(self) -> None:
        """Take what the daemon says, as long as the connection lasts."""
        while self._exchange.broken is None:
            try:
                data = await self._stream.receive_some(READ_SIZE)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                data = b""
            self._exchange.receive(bytes(data))
            self._settle()
            if self._exchange.may_send:
                self._news.set()

    def _settle(self) -> None:
        """Wake the tasks whose calls have ended."""
        for call in self._exchange.finished():
            if (ended := self._ended.get(call)) is not None:
                ended.set()
