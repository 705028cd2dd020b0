"""No token and no key bytes anywhere: everything the daemon says and writes is searched for them.

A whole house at level debug, with the libraries' loggers opened up; each kind of success and of
failure is provoked with a request over the dispatcher, and then the log (its lines, and its fields
before they are redacted), the answers, the events, the ledger and the status are searched.
"""

from __future__ import annotations

import base64
import io
import json
import logging
from collections.abc import Awaitable, Callable, Iterator
from contextlib import nullcontext, suppress
from dataclasses import replace
from datetime import timedelta
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlsplit

import pytest
import trio
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from keyless.wire import Failure, Reply, Request
from keylessd.identity.token import parse_token
from keylessd.keys import slot
from keylessd.log import HumanFormatter, JsonFormatter
from keylessd.policy.peers import Peer
from keylessd.sandbox.faults import Cut, Delay, Endless, Garbage, LostReply, Status
from keylessd.secret import Secret
from keylessd.server.dispatch import Count, Dispatcher
from keylessd.server.files import FileCache
from keylessd.server.handlers import Handlers
from keylessd.settings import Settings
from login_rig import ADA, LoginRig, exchange, get, open_login
from ops_rig import Rig, open_rig

# All together; each test by itself is quick.
pytestmark = pytest.mark.slow

PEER = Peer(uid=1000, gid=1000, pid=7)
DIGEST = {"alg": "sha256", "value": b"\x01" * 32}
PASSWORD = "canary-password-5Zk"  # in the URL of a service
OPS = ("status", "whoami", "ledger", "trust_status")


class Log(logging.Handler):
    """Keeps every record in both forms, and its fields as they were given."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.lines = io.StringIO()
        self.fields = io.StringIO()
        self._forms = [JsonFormatter(), HumanFormatter(colour=False)]

    def emit(self, record: logging.LogRecord) -> None:
        for form in self._forms:
            self.lines.write(form.format(record) + "\n")
        self.fields.write(f"{record.getMessage()} {getattr(record, 'fields', '')!r}\n")


@pytest.fixture
def log() -> Iterator[Log]:
    root, kept = logging.getLogger(), {}
    handler = Log()
    for name in ("httpx", "httpcore", "h11", "hpack", "tuf", "keylessd", "trio"):
        kept[name] = logging.getLogger(name).level
        logging.getLogger(name).setLevel(logging.DEBUG)
    level, before = root.level, list(root.handlers)
    root.handlers[:] = [handler]
    root.setLevel(logging.DEBUG)
    yield handler
    root.handlers[:] = before
    root.setLevel(level)
    for name, old in kept.items():
        logging.getLogger(name).setLevel(old)


@pytest.fixture
def keys(monkeypatch: pytest.MonkeyPatch) -> list[ec.EllipticCurvePrivateKey]:
    """Every private key that is made for a slot."""
    made: list[ec.EllipticCurvePrivateKey] = []

    def generate(curve: ec.EllipticCurve) -> ec.EllipticCurvePrivateKey:
        made.append(real(curve))
        return made[-1]

    real = ec.generate_private_key
    fake = SimpleNamespace(**{**vars(ec), "generate_private_key": generate})
    monkeypatch.setattr(slot, "ec", fake)
    return made


def forms(raw: bytes) -> set[str]:
    """Return what bytes look like in text, however somebody wrote them."""
    padded = (raw, b"\x00" + raw, b"\x00\x00" + raw)
    coded = {base64.b64encode(text)[4:-4].decode() for text in padded}
    url = {base64.urlsafe_b64encode(text)[4:-4].decode() for text in padded}
    return {raw.hex(), raw.hex().upper(), repr(raw)[2:-1], *coded, *url}


def key_canaries(key: ec.EllipticCurvePrivateKey) -> set[str]:
    number = key.private_numbers().private_value
    raw = number.to_bytes((number.bit_length() + 7) // 8, "big")
    der = key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    return {*forms(raw), str(number), f"{number:x}", der.hex(), base64.b64encode(der).decode()}


def token_canaries(token: str) -> set[str]:
    _, payload, signature = (*token.split("."), "", "")[:3]
    parts = {token[:60], token[-40:], payload[10:50], signature[:40]}
    return {part for part in parts if len(part) > 20} | forms(token.encode()[-40:])


class Lab:
    """A house behind a dispatcher, and all that came out of it."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        self.token = rig.token().reveal()
        self.secrets = [self.token]
        self.answers: list[Reply | Failure] = []
        self.said = io.StringIO()
        self._number = 0
        trust = SimpleNamespace(status=list, default="sandbox")
        daemon = SimpleNamespace(
            version="1",
            pid=1,
            started=1,
            uptime_seconds=1,
            socket="/s",
            connections=1,
            counts={"sign": Count()},
            settings=Settings(),
        )
        table = Handlers(rig.house, trust=trust, files=FileCache(1 << 20), daemon=daemon).table()  # type: ignore[arg-type]
        self.dispatcher = Dispatcher(table, own_uid=1000)

    async def sign(self, token: str | None = None, **body: Any) -> Reply | Failure:
        token = self.token if token is None else token
        self.secrets.append(token)
        return await self.ask(
            "sign", {"digest": DIGEST, **body}, {"identity_token": token.encode()}
        )

    async def login(self, it: LoginRig, **body: Any) -> None:
        """Log in over the dispatcher; what the client is told goes to the person."""
        self._number += 1
        request = Request(self._number, "login", body, {})
        answer = await self.dispatcher.answer(PEER, request, it.tell)
        self.said.write(f"{answer!r} {getattr(answer, 'body', '')!r}\n")
        if isinstance(answer, Failure):
            self.said.write(f"{answer.error.message} {answer.error.hint}\n")
        self.answers.append(answer)

    async def ask(
        self, op: str, body: dict[str, Any], attachments: dict[str, bytes]
    ) -> Reply | Failure:
        self._number += 1
        request = Request(self._number, op, body, attachments)

        def progress(step: str, facts: Any) -> None:
            self.said.write(f"{step} {dict(facts)!r}\n")

        answer = await self.dispatcher.answer(PEER, request, progress)
        self.said.write(f"{request!r} {answer!r}\n")
        if isinstance(answer, Reply):
            self.said.write(f"{answer.body!r} {answer.attachments!r}\n")
        else:
            error = answer.error
            self.said.write(f"{error.message} {error.hint} {error.details!r}\n")
        return answer


def unsound(token: str) -> str:
    head, payload, _ = token.split(".")
    return f"{head}.{payload}.{'A' * 86}"


async def _plain(lab: Lab) -> list[Reply | Failure]:
    return [await lab.sign()]


def _fault(service: str, path: str, fault: object) -> Callable[[Lab], Awaitable[list[Any]]]:
    async def provoke(lab: Lab) -> list[Reply | Failure]:
        if isinstance(fault, Status) and fault.body == b"ECHO":
            body = json.dumps({"message": f"bad token {lab.token} sent", "code": 3}).encode()
            lab.rig.faults[service].fail(replace(fault, body=body), path=path)
        elif isinstance(fault, Status) and fault.body == b"ECHO TEXT":
            body = f"no: {lab.token}".encode()
            lab.rig.faults[service].fail(replace(fault, body=body), path=path)
        else:
            lab.rig.faults[service].fail(fault, path=path)  # type: ignore[arg-type]
        with trio.move_on_after(200):
            return [await lab.sign(reuse="never"), await lab.sign(reuse="window")]
        return []

    return provoke


async def _bad_tokens(lab: Lab) -> list[Reply | Failure]:
    rig = lab.rig
    tokens = [
        lab.token[:-20] + "!" * 20,
        lab.token[:200],
        unsound(lab.token),
        rig.token(lifetime=timedelta(seconds=5)).reveal(),
        rig.token(audience="somebody-else").reveal(),
        rig.token(email_verified=False).reveal(),
        "x" * 70_000,
        lab.token + "\u00e9",
    ]
    return [await lab.sign(token) for token in tokens]


async def _an_odd_header(lab: Lab) -> list[Reply | Failure]:
    # JSON may begin with a blank or a line end, and then its base64 with other letters.
    answers: list[Reply | Failure] = []
    payload, signature = lab.token.split(".")[1:]
    claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    payload = base64.urlsafe_b64encode(json.dumps(claims, indent=1).encode()).decode().rstrip("=")
    for header in (b'{ "alg": "ES256"}', b'{\n "alg": "ES256"}'):
        head = base64.urlsafe_b64encode(header).decode().rstrip("=")
        token = f"{head}.{payload}.{signature}"
        body = json.dumps({"message": f"bad token {token} sent"}).encode()
        lab.rig.faults["fulcio"].clear()
        lab.rig.faults["fulcio"].fail(Status(400, body), path=SIGNING)
        answers.append(await lab.sign(token))
    return answers


async def _who_leaves(lab: Lab) -> list[Reply | Failure]:
    lab.rig.faults["rekor-v2"].fail(Delay(20))
    with trio.move_on_after(3):
        await lab.sign(idempotency_key="k")
    lab.rig.faults["fulcio"].fail(Delay(20), path="/api/v2/signingCert")
    with trio.move_on_after(3):
        await lab.sign(reuse="never")
    return [await lab.sign(digest={"alg": "sha256", "value": b"\x02" * 32}, idempotency_key="k")]


async def _dropped_keys(lab: Lab) -> list[Reply | Failure]:
    lab.rig.faults["rekor-v2"].fail(Status(409, b'{"code":6,"message":"exists with index 7"}'))
    answers: list[Reply | Failure] = []

    async def sign() -> None:
        answers.append(await lab.sign())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(sign)
        await trio.lowlevel.checkpoint()
        lab.rig.house.ring.drop_all()
    return answers


async def _closed_ledger(lab: Lab) -> list[Reply | Failure]:
    lab.rig.house.ledger.close()
    answer = await lab.sign()
    lab.rig.house.ledger.open()
    return [answer]


async def _a_fault_of_ours(lab: Lab) -> list[Reply | Failure]:
    token = lab.token
    material = lab.rig.trust.current

    async def broken(where: object, purpose: str = "sign") -> object:
        lab.rig.house.sign._material = lab.rig.trust.material  # type: ignore[method-assign]
        await trio.lowlevel.checkpoint()
        raise RuntimeError(f"with {material.instance}, token={token}")

    lab.rig.house.sign._material = broken  # type: ignore[method-assign, assignment]
    return [await lab.sign()]


async def _passwords_in_urls(lab: Lab) -> list[Reply | Failure]:
    trust, config = lab.rig.trust, lab.rig.trust.current.signing_config
    assert config is not None

    def with_password(services: tuple[Any, ...]) -> tuple[Any, ...]:
        return tuple(
            replace(one, url=one.url.replace("http://", f"http://user:{PASSWORD}@"))
            for one in services
        )

    config = replace(
        config,
        ca_urls=with_password(config.ca_urls),
        rekor_urls=with_password(config.rekor_urls),
        tsa_urls=with_password(config.tsa_urls),
    )
    trust.current = replace(trust.current, signing_config=config)
    answers = [await lab.sign()]
    for service in ("fulcio", "rekor-v2", "tsa"):
        for fault in (Status(400, b"identity token"), Status(429, retry_after="90"), Garbage()):
            lab.rig.faults[service].fail(fault)
            answers.append(await lab.sign(reuse="never"))
            lab.rig.faults[service].clear()
            await trio.sleep(100)
    return answers


# --- logins: every secret of theirs is noted where it is made or passes by ---------------------


class Secrets:
    """Collects what an issuer gives out and what we show it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.found: set[str] = set()
        real = Secret.__init__

        def noted(secret: Secret, value: str) -> None:
            real(secret, value)
            if len(value) > 15:
                self.found.add(value)

        monkeypatch.setattr(Secret, "__init__", noted)


async def _with(it: LoginRig, lab: Lab, person: Callable[[], Awaitable[None]], **body: Any) -> None:
    """Log in with a person at hand, who leaves when it is over, however it ended."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(person)
        await lab.login(it, **body)
        nursery.cancel_scope.cancel()


async def _browser_login(it: LoginRig, lab: Lab) -> None:
    await _with(it, lab, lambda: it.browse(ADA))


async def _device_login(it: LoginRig, lab: Lab) -> None:
    async def person() -> None:
        facts = await it.heard()
        it.rig.sigstore.flows.finish_device(facts["user_code"], ADA)

    await _with(it, lab, person, flow="device")


async def _pasted_login(it: LoginRig, lab: Lab) -> None:
    async def person() -> None:
        facts = await it.heard()
        page = await it.consent(facts["url"], ADA)
        code = page.partition("<code>")[2].partition("</code>")[0].encode()
        await lab.ask("login_code", {"login": "wrong"}, {"code": code})
        await lab.ask("login_code", {"login": facts["login"]}, {"code": code})

    await _with(it, lab, person, flow="oob")


async def _stray_requests(it: LoginRig, lab: Lab) -> None:
    async def person() -> None:
        facts = await it.heard()
        location = await it.consent(facts["url"], ADA)
        query = urlsplit(location).query
        for target in (f"/other?{query}", f"/auth/callback?{query}&{query}"):
            response = await exchange(it.listeners[0].connect(), get(target))
            assert response is not None
            lab.said.write(response.body)
        page = await it.callback(location)
        lab.said.write(page.body)

    await _with(it, lab, person)


def _failing(path: str, fault: object, *, after: bool) -> Callable[..., Awaitable[None]]:
    async def provoke(it: LoginRig, lab: Lab) -> None:
        if after:
            await _browser_login(it, lab)
            it.clock.suspend(3700)
        if fault == "ECHO":
            it.rig.sigstore.apps["oidc"] = Echo(it.rig.sigstore.apps["oidc"], path)
        else:
            it.rig.faults["oidc"].fail(fault, path=path)  # type: ignore[arg-type]
        if after:
            lab.answers.append(await lab.ask("sign", {"digest": DIGEST}, {}))
            lab.answers.append(await lab.ask("logout", {"all": True}, {}))
        else:
            await _browser_login(it, lab)

    return provoke


class Echo:
    """An issuer that repeats every word that it is told, and says no."""

    def __init__(self, app: Any, path: str) -> None:
        self._app = app
        self._path = path

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] != self._path:
            await self._app(scope, receive, send)
            return
        message = await receive()
        told = dict(parse_qsl(message.get("body", b"").decode()))
        body = {"error": "invalid_scope", "error_description": " ".join(told.values())}
        headers = [(b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": 400, "headers": headers})
        await send({"type": "http.response.body", "body": json.dumps(body).encode()})


async def _locks(it: LoginRig, lab: Lab) -> None:
    del it
    secret = {"passphrase": PASSWORD.encode()}
    for op in ("lock", "lock", "unlock"):
        lab.answers.append(await lab.ask(op, {}, secret))
    await lab.ask("lock", {}, secret)
    wrong = {"passphrase": f"{PASSWORD}2".encode()}
    lab.answers.append(await lab.ask("unlock", {}, wrong))


LOGINS: dict[str, Callable[[LoginRig, Lab], Awaitable[None]]] = {
    "browser": _browser_login,
    "device": _device_login,
    "pasted code": _pasted_login,
    "stray requests": _stray_requests,
    "locks": _locks,
    **{
        f"{path} {fault!r} {'when renewing' if after else 'when logging in'}": _failing(
            path, fault, after=after
        )
        for path in ("/token", "/revoke", "/keys", "/.well-known/openid-configuration")
        for fault in ("ECHO", Cut(40), LostReply(), Garbage(), Endless(), Status(500))
        for after in (False, True)
    },
}


@pytest.mark.parametrize("name", LOGINS)
async def test_no_login_is_said_or_written(autojump_clock, tmp_path, log, monkeypatch, name):
    secrets = Secrets(monkeypatch)
    async with open_login(tmp_path) as it:
        lab = Lab(it.rig)
        with suppress(AssertionError) if "browser" not in name else nullcontext():
            await LOGINS[name](it, lab)
        it.clock.suspend(3700)
        lab.answers.append(await lab.ask("sign", {"digest": DIGEST, "reuse": "never"}, {}))
        for op in OPS:
            await lab.ask(op, {}, {})
        await lab.ask("logout", {"all": True}, {})
        ledger = b"".join(path.read_bytes() for path in tmp_path.iterdir()).decode()
        told = [(step, facts) for step, facts in it.told if step in ("open_url", "enter_code")]
        state = {parse_qs(urlsplit(facts["url"]).query)["state"][0] for _, facts in told}
        places = {
            "log": log.lines.getvalue(),
            "fields of the log": log.fields.getvalue(),
            "answers and events": lab.said.getvalue(),
            "ledger": ledger,
            # The state is what the browser must be told, and nothing else of it.
            "events": repr(it.told) if not state else "",
        }
        assert len(secrets.found) > len(state) or name == "locks"
        for place, text in places.items():
            for secret in secrets.found - state:
                for canary in {secret, secret[:24], secret[-24:]}:
                    assert canary not in text, (place, canary)
            for secret in state:
                assert secret not in places["log"] + places["ledger"]
            assert PASSWORD not in text, place


SIGNING = "/api/v2/signingCert"
CASES: dict[str, Callable[[Lab], Awaitable[list[Any]]]] = {
    "success": _plain,
    "bad tokens": _bad_tokens,
    "an odd header": _an_odd_header,
    "who leaves": _who_leaves,
    "dropped keys": _dropped_keys,
    "closed ledger": _closed_ledger,
    "a fault of ours": _a_fault_of_ours,
    "passwords in URLs": _passwords_in_urls,
    **{
        f"{service} {fault!r}": _fault(service, path, fault)
        for service, path in (("fulcio", SIGNING), ("rekor-v2", ""), ("tsa", ""))
        for fault in (
            Status(400, b"ECHO"),
            Status(500, b"ECHO TEXT", "text/plain"),
            Status(429, retry_after="90"),
            Status(302, b"ECHO"),
            Cut(40),
            LostReply(),
            Garbage(),
            Endless(),
            Delay(100),
        )
    },
}


@pytest.mark.parametrize("name", CASES)
async def test_nothing_secret_is_said_or_written(autojump_clock, tmp_path, log, keys, name):
    async with open_rig(tmp_path) as rig:
        lab = Lab(rig)
        answers = await CASES[name](lab)
        for op in OPS:
            await lab.ask(op, {}, {"identity_token": lab.token.encode()} if op == "whoami" else {})
        ledger = b"".join(path.read_bytes() for path in tmp_path.iterdir()).decode()
        places = {
            "log": log.lines.getvalue(),
            "fields of the log": "" if name == "a fault of ours" else log.fields.getvalue(),
            "answers and events": lab.said.getvalue(),
            "ledger": ledger,
        }

        assert answers
        assert all(len(text) > 100 for place, text in places.items() if text or place == "log")
        if name != "success":
            assert any(isinstance(answer, Failure) for answer in answers)
        for place, text in places.items():
            for token in lab.secrets:
                for canary in token_canaries(token):
                    assert canary not in text, (place, canary)
            for key in keys:
                for canary in key_canaries(key):
                    assert canary not in text, (place, canary)
            assert PASSWORD not in text, place


async def test_the_search_would_find_one(autojump_clock, tmp_path, log, keys):
    async with open_rig(tmp_path) as rig:
        lab = Lab(rig)
        await lab.sign()
        logging.getLogger("any").debug("token %s", lab.token[-40:])  # redaction knows whole ones
        logging.getLogger("any").debug("key %d", keys[0].private_numbers().private_value)

        assert any(canary in log.lines.getvalue() for canary in token_canaries(lab.token))
        assert any(canary in log.lines.getvalue() for canary in key_canaries(keys[0]))


def test_nothing_shows_a_token_by_its_repr():
    payload = base64.urlsafe_b64encode(
        json.dumps({"iss": "i", "sub": "s", "aud": "sigstore", "exp": 2e9}).encode()
    )
    token = f"eyJhbGciOiJFUzI1NiJ9.{payload.decode().rstrip('=')}.{'c' * 43}"
    shown = [
        repr(parse_token(Secret(token))),
        repr(Request(1, "sign", {"digest": DIGEST}, {"identity_token": token.encode()})),
        f"{Secret(token)} {Secret(token)!r}",
    ]
    assert token[-40:] not in "".join(shown)
