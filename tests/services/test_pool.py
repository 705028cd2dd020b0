"""The connection pool, against a server on loopback that misbehaves in every way."""

from __future__ import annotations

import datetime as dt
import ssl
import struct

import httpx
import pytest
import trio
import trio.testing
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from keylessd.services.exchange import Asked, UnwantedBodyError
from keylessd.services.pool import ON_LINK, PooledTransport

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"


class Server:
    """Answers each request of each connection by *script(stream, number of the request)*."""

    def __init__(self, script, *, ssl_context=None):
        self.script, self.ssl_context = script, ssl_context
        self.connections = self.requests = self.open = self.most_open = 0
        self.bodies = []

    async def start(self, nursery):
        listeners = await nursery.start(trio.serve_tcp, self.serve, 0)
        return listeners[0].socket.getsockname()[1]

    async def serve(self, stream):
        self.connections += 1
        self.open += 1
        self.most_open = max(self.most_open, self.open)
        if self.ssl_context is not None:
            stream = trio.SSLStream(
                stream, self.ssl_context, server_side=True, https_compatible=True
            )
        try:
            buffer = b""
            while True:
                while b"\r\n\r\n" not in buffer:
                    data = await stream.receive_some()
                    if not data:
                        return
                    buffer += data
                head, _, buffer = buffer.partition(b"\r\n\r\n")
                length = 0
                for line in head.lower().split(b"\r\n"):
                    if line.startswith(b"content-length:"):
                        length = int(line.partition(b":")[2])
                while len(buffer) < length:
                    buffer += await stream.receive_some()
                self.bodies.append(buffer[:length])
                buffer = buffer[length:]
                self.requests += 1
                if not await self.script(stream, self.requests):
                    return
        except (trio.BrokenResourceError, ssl.SSLError):
            pass
        finally:
            self.open -= 1
            await trio.aclose_forcefully(stream)


def answer(*parts, keep=True):
    async def script(stream, number):
        for part in parts:
            await stream.send_all(part)
        return keep

    return script


def transport(**kwargs):
    arguments = {
        "ssl_context": ssl.create_default_context,
        "max_connections": 8,
        "keepalive_seconds": 30,
        **kwargs,
    }
    return PooledTransport(**arguments)


TIMEOUT = httpx.Timeout(5.0)


async def run(server, test, *, scheme="http", **kwargs):
    async with trio.open_nursery() as nursery:
        port = await server.start(nursery)
        async with httpx.AsyncClient(
            transport=transport(**kwargs),
            base_url=f"{scheme}://127.0.0.1:{port}",
            timeout=TIMEOUT,
        ) as client:
            await test(client)
        nursery.cancel_scope.cancel()


async def test_connection_is_used_again(autojump_clock):
    server = Server(answer(OK))

    async def test(client):
        for number in range(5):
            reply = await client.post("/x", content=b"%d" % number)
            assert (reply.status_code, reply.content) == (200, b"hello")

    await run(server, test)
    assert server.connections == 1
    assert server.bodies == [b"0", b"1", b"2", b"3", b"4"]


@pytest.mark.parametrize(
    "script",
    [
        answer(OK, keep=False),
        answer(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello"),
        answer(b"HTTP/1.1 200 OK\r\n\r\nhello", keep=False),
        answer(OK, b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"),
    ],
    ids=["hangs up", "says close", "no length", "talks unasked"],
)
async def test_connection_is_not_used_again(autojump_clock, script):
    server = Server(script)

    async def test(client):
        for _ in range(2):
            assert (await client.get("/")).content == b"hello"
            await trio.testing.wait_all_tasks_blocked()

    await run(server, test)
    assert server.connections == 2


async def test_old_idle_connection_is_not_used_again(autojump_clock):
    server = Server(answer(OK))

    async def test(client):
        await client.get("/")
        await trio.sleep(31)
        await client.get("/")

    await run(server, test)
    assert server.connections == 2


async def test_chunked_answer_and_early_hints(autojump_clock):
    server = Server(
        answer(
            b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Enc",
            b"oding: chunked\r\n\r\n3\r\nhel\r\n",
            b"2\r\nlo\r\n0\r\n\r\n",
        )
    )

    async def test(client):
        for _ in range(2):
            assert (await client.get("/")).content == b"hello"

    await run(server, test)
    assert server.connections == 1


async def test_parallel_requests_wait_for_a_free_connection(autojump_clock):
    async def slow(stream, number):
        await trio.sleep(1)
        await stream.send_all(OK)
        return True

    server = Server(slow)

    async def test(client):
        async with trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(client.get, "/")
        assert trio.current_time() < 4

    await run(server, test)
    assert server.requests == 20
    assert server.most_open <= 8


async def test_pool_timeout(autojump_clock):
    async def never(stream, number):
        await trio.sleep_forever()

    server = Server(never)

    async def test(client):
        async def hold():
            with pytest.raises(httpx.ReadTimeout):
                await client.get("/", timeout=httpx.Timeout(50))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(hold)
            await trio.testing.wait_all_tasks_blocked()
            with pytest.raises(httpx.PoolTimeout):
                await client.get("/")

    await run(server, test, max_connections=1)


@pytest.mark.parametrize(
    ("script", "error"),
    [
        (answer(keep=False), httpx.RemoteProtocolError),
        (answer(b"HTTP/1.1 200", keep=False), httpx.RemoteProtocolError),
        (answer(b"SSH-2.0-OpenSSH\r\n\r\n"), httpx.RemoteProtocolError),
        (answer(OK[:-2], keep=False), httpx.RemoteProtocolError),
        (answer(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 20000), httpx.RemoteProtocolError),
        (answer(OK[:-2]), httpx.ReadTimeout),
        (answer(b"HTTP/1.1 200 OK\r\n"), httpx.ReadTimeout),
    ],
    ids=["nothing", "half a head", "garbage", "half a body", "endless head", "stuck", "stuck head"],
)
async def test_broken_answers(autojump_clock, script, error):
    server = Server(script)

    async def test(client):
        for _ in range(20):  # more than there are connections: each was given back
            with pytest.raises(error):
                await client.get("/")
        server.script = answer(OK)
        assert (await client.get("/")).content == b"hello"

    await run(server, test)


async def test_cancelled_requests_give_their_connections_back(autojump_clock):
    async def never(stream, number):
        await stream.send_all(OK[:-1])
        await trio.sleep_forever()

    server = Server(never)

    async def test(client):
        for _ in range(3):
            async with trio.open_nursery() as nursery:
                for _ in range(8):
                    nursery.start_soon(client.get, "/")
                await trio.testing.wait_all_tasks_blocked()
                nursery.cancel_scope.cancel()
        server.script = answer(OK)
        assert (await client.get("/")).content == b"hello"

    await run(server, test)


async def test_unread_answer_closes_its_connection(autojump_clock):
    server = Server(answer(OK))

    async def test(client):
        for _ in range(10):
            async with client.stream("GET", "/") as reply:
                assert reply.status_code == 200

    await run(server, test)
    assert server.connections == 10


async def test_nobody_listens(autojump_clock):
    with trio.socket.socket() as unused:
        await unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        async with httpx.AsyncClient(transport=transport()) as client:
            for _ in range(10):
                with pytest.raises(httpx.ConnectError, match=r"^Connection refused$"):
                    await client.get(f"http://127.0.0.1:{port}/")


async def test_server_that_dies_just_after_it_was_reached(monkeypatch):
    """What the kernel took off the queue and reset has no peer any more."""
    open_stream = trio.open_tcp_stream

    async def open_and_lose(host, port):
        stream = await open_stream(host, port)
        accepted, _ = await listener.accept()
        accepted.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_LINGER, struct.pack("ii", 1, 0))
        accepted.close()  # lingers not at all: a reset
        await trio.lowlevel.wait_readable(stream.socket)
        return stream

    monkeypatch.setattr(trio, "open_tcp_stream", open_and_lose)
    with trio.socket.socket() as listener:
        await listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        pool = transport(max_connections=1)
        asked = Asked(b"GET", b"/", [(b"Host", b"localhost")], b"")
        for _ in range(2):  # more than there are connections: each was given back
            with pytest.raises(httpx.ConnectError, match="closed the connection at once"):
                await pool.ask(("http", "127.0.0.1", port), asked, max_body=9, limits=LIMITS)


@pytest.mark.parametrize("host", [f"{'a' * 64}.example", "a..example"])
async def test_name_that_nobody_can_look_up(host):
    asked = Asked(b"GET", b"/", [(b"Host", b"localhost")], b"")
    with pytest.raises(httpx.ConnectError, match="no host can have this name"):
        await transport().ask(("https", host, 443), asked, max_body=9, limits=LIMITS)


def certificate(name):
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    start = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)
    cert = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(start)
        .not_valid_after(start + dt.timedelta(days=36500))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    return cert.public_bytes(serialization.Encoding.PEM), key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


@pytest.mark.parametrize(
    ("trusted", "name", "accepted"),
    [(True, "localhost", True), (False, "localhost", False), (True, "other.example", False)],
    ids=["right", "unknown authority", "other name"],
)
async def test_tls_server_is_verified(tmp_path, trusted, name, accepted):
    cert, key = certificate(name)
    (tmp_path / "both.pem").write_bytes(cert + key)
    server_context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server_context.load_cert_chain(tmp_path / "both.pem")
    client_context = ssl.create_default_context()
    if trusted:
        client_context.load_verify_locations(cadata=cert.decode())
    server = Server(answer(OK), ssl_context=server_context)

    async def test(client):
        url = f"https://localhost:{client.base_url.port}/"
        if not accepted:
            with pytest.raises(httpx.ConnectError, match="certificate"):
                await client.get(url)
            return
        for _ in range(3):
            assert (await client.get(url)).content == b"hello"
        assert server.connections == 1

    await run(server, test, ssl_context=lambda: client_context)
    assert server.requests == (3 if accepted else 0)


# --- whole answers ---------------------------------------------------------------------------

LIMITS = {"connect": 5.0, "write": 5.0, "read": 5.0, "pool": 5.0}


async def run_asking(server, test, **kwargs):
    """Like run(), for the way that passes by httpx's objects."""
    async with trio.open_nursery() as nursery:
        port = await server.start(nursery)
        pool = transport(**kwargs)

        async def ask(body=b"", limits=LIMITS):
            asked = Asked(b"POST", b"/x", [(b"Host", b"localhost")], body)
            return await pool.ask(("http", "127.0.0.1", port), asked, max_body=100, limits=limits)

        await test(ask)
        await pool.aclose()
        nursery.cancel_scope.cancel()


async def test_asking_uses_a_connection_again(autojump_clock):
    server = Server(answer(OK))

    async def test(ask):
        for number in range(5):
            assert (await ask(b"%d" % number)).body == b"hello"

    await run_asking(server, test)
    assert server.connections == 1
    assert server.bodies == [b"0", b"1", b"2", b"3", b"4"]


@pytest.mark.parametrize(
    "script",
    [
        answer(OK, keep=False),
        answer(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello"),
        answer(b"HTTP/1.1 200 OK\r\n\r\nhello", keep=False),
        answer(OK, b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"),
    ],
    ids=["hangs up", "says close", "no length", "talks unasked"],
)
async def test_asking_does_not_use_a_connection_again(autojump_clock, script):
    server = Server(script)

    async def test(ask):
        for _ in range(2):
            assert (await ask()).body == b"hello"
            await trio.testing.wait_all_tasks_blocked()

    await run_asking(server, test)
    assert server.connections == 2


@pytest.mark.parametrize(
    ("script", "error"),
    [
        (answer(keep=False), httpx.RemoteProtocolError),
        (answer(b"SSH-2.0-OpenSSH\r\n\r\n"), httpx.RemoteProtocolError),
        (answer(OK[:-2], keep=False), httpx.RemoteProtocolError),
        (answer(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 20000), httpx.RemoteProtocolError),
        (answer(OK[:-2]), httpx.ReadTimeout),
        (answer(b"HTTP/1.1 200 OK\r\n"), httpx.ReadTimeout),
        (answer(OK.replace(b"5", b"500")), UnwantedBodyError),
        (answer(b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 101), UnwantedBodyError),
    ],
    ids=[
        "nothing",
        "garbage",
        "half a body",
        "endless head",
        "stuck",
        "stuck head",
        "said too long",
        "too long",
    ],
)
async def test_asking_and_broken_answers(autojump_clock, script, error):
    server = Server(script)

    async def test(ask):
        for _ in range(20):  # more than there are connections: each was given back
            with pytest.raises(error):
                await ask()
        server.script = answer(OK)
        assert (await ask()).body == b"hello"

    await run_asking(server, test)


async def test_cancelled_asking_gives_its_connection_back(autojump_clock):
    async def never(stream, number):
        await stream.send_all(OK[:-1])
        await trio.sleep_forever()

    server = Server(never)

    async def test(ask):
        for _ in range(3):
            async with trio.open_nursery() as nursery:
                for _ in range(8):
                    nursery.start_soon(ask, b"", {})
                await trio.testing.wait_all_tasks_blocked()
                nursery.cancel_scope.cancel()
        server.script = answer(OK)
        assert (await ask()).body == b"hello"

    await run_asking(server, test)


async def test_early_refusal_of_a_long_body_is_read():
    # In real time: so much takes the kernel a moment, in which a clock that jumps would jump.
    async def serve(stream):
        await stream.receive_some(100)
        await stream.send_all(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")
        await stream.send_eof()
        while await stream.receive_some():
            pass

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(trio.serve_tcp, serve, 0)
        origin = ("http", "127.0.0.1", listeners[0].socket.getsockname()[1])
        pool = transport()
        asked = Asked(b"POST", b"/", [(b"Host", b"localhost")], b"x" * (8 << 20))
        reply = await pool.ask(origin, asked, max_body=100, limits=LIMITS)
        assert reply.status == 413
        await pool.aclose()
        nursery.cancel_scope.cancel()


async def test_server_that_reads_nothing_is_given_up(autojump_clock):
    async def serve(stream):
        await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(trio.serve_tcp, serve, 0)
        origin = ("http", "127.0.0.1", listeners[0].socket.getsockname()[1])
        pool = transport()
        asked = Asked(b"POST", b"/", [(b"Host", b"localhost")], b"x" * (16 << 20))
        with pytest.raises(httpx.WriteTimeout):
            await pool.ask(origin, asked, max_body=100, limits=LIMITS)
        nursery.cancel_scope.cancel()


async def test_a_name_that_leads_where_no_service_is_gets_nothing_sent():
    server = Server(answer(OK))
    async with trio.open_nursery() as nursery:
        port = await server.start(nursery)
        url = f"http://127.0.0.1:{port}/"
        origin = ("http", "127.0.0.1", port)
        plain = Asked(b"GET", b"/", [(b"Host", b"localhost")], b"")
        async with transport(refuses=lambda address: address == "127.0.0.1") as pool:
            with pytest.raises(httpx.ConnectError, match="where no service is"):
                await pool.handle_async_request(httpx.Request("GET", url))
            with pytest.raises(httpx.ConnectError, match="where no service is"):
                await pool.ask(origin, plain, max_body=100, limits=LIMITS)
            assert server.requests == 0
            # Unless it is meant.
            asked = httpx.Request("GET", url, extensions={ON_LINK: True})
            response = await pool.handle_async_request(asked)
            assert await response.aread() == b"hello"
            reply = await pool.ask(origin, plain, max_body=100, limits=LIMITS, on_link=True)
            assert reply.body == b"hello"
        nursery.cancel_scope.cancel()
