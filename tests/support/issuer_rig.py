"""An OpenID provider of a few lines that says whatever a test wants, and a clock to move."""

from __future__ import annotations

import base64
import hashlib
import inspect
import json
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qsl

import httpx
import jwt
import trio
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from keylessd.identity.provider import Providers
from keylessd.identity.token_endpoint import TokenEndpoint
from keylessd.services.http import HttpClient, new_client

EPOCH = datetime(2026, 3, 1, 12, tzinfo=UTC)
ISSUER = "https://issuer.example"
EMAIL = "ada@example.org"


class FakeClock:
    """Stands still unless it is moved; jump() moves the wall clock alone."""

    def __init__(self) -> None:
        self.wall = EPOCH
        self.boot = 5000.0

    def now(self) -> datetime:
        return self.wall

    def boottime(self) -> float:
        return self.boot

    def advance(self, seconds: float) -> None:
        self.wall += timedelta(seconds=seconds)
        self.boot += seconds

    suspend = advance

    def jump(self, seconds: float) -> None:
        self.wall += timedelta(seconds=seconds)


def half_hash(text: str, name: str = "sha256") -> str:
    digest = hashlib.new(name, text.encode()).digest()
    return base64.urlsafe_b64encode(digest[: len(digest) // 2]).rstrip(b"=").decode()


_KEYS: dict[str, Any] = {}


def private_key(algorithm: str) -> Any:
    """Return a key for *algorithm*; made once, since RSA keys take long."""
    if algorithm not in _KEYS:
        if algorithm.startswith("ES"):
            curve = {"ES256": ec.SECP256R1, "ES384": ec.SECP384R1, "ES512": ec.SECP521R1}[algorithm]
            _KEYS[algorithm] = ec.generate_private_key(curve())
        elif algorithm == "EdDSA":
            _KEYS[algorithm] = ed25519.Ed25519PrivateKey.generate()
        elif algorithm == "weak":
            _KEYS[algorithm] = rsa.generate_private_key(65537, 1024)
        else:
            _KEYS[algorithm] = rsa.generate_private_key(65537, 2048)
    return _KEYS[algorithm]


def jwk(key: Any, kid: str | None, **more: object) -> dict[str, object]:
    """Return the public JWK of a private key."""
    public = key.public_key()
    if isinstance(public, ec.EllipticCurvePublicKey):
        value = json.loads(jwt.algorithms.ECAlgorithm.to_jwk(public))
    elif isinstance(public, rsa.RSAPublicKey):
        value = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(public))
    else:
        value = json.loads(jwt.algorithms.OKPAlgorithm.to_jwk(public))
    return {**value, **({} if kid is None else {"kid": kid}), **more}


@dataclass
class Issuer:
    """The provider. Whatever a test changes here, the next request sees."""

    clock: FakeClock
    document: dict[str, Any] = field(default_factory=dict)
    keys: list[dict[str, object]] = field(default_factory=list)
    algorithm: str = "ES256"
    lifetime: int = 3600
    answers: list[httpx.Response | Exception | Callable[[dict[str, str]], Any]] = field(
        default_factory=list
    )
    forms: list[dict[str, str]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    broken: bool = False
    unwell: httpx.Response | None = None  # what it says to everything

    def __post_init__(self) -> None:
        self.document = {
            "issuer": ISSUER,
            "jwks_uri": f"{ISSUER}/keys",
            "authorization_endpoint": f"{ISSUER}/auth",
            "token_endpoint": f"{ISSUER}/token",
            "device_authorization_endpoint": f"{ISSUER}/device",
            "revocation_endpoint": f"{ISSUER}/revoke",
            "scopes_supported": ["openid", "email", "offline_access"],
            "code_challenge_methods_supported": ["S256"],
        }
        self.keys = [jwk(private_key(self.algorithm), "k1")]

    def token(
        self,
        *,
        key: Any = None,
        headers: dict[str, Any] | None = None,
        without: tuple[str, ...] = (),
        **claims: object,
    ) -> str:
        now = int(self.clock.now().timestamp())
        payload = {
            "iss": ISSUER,
            "sub": "subject-1",
            "aud": "sigstore",
            "iat": now,
            "exp": now + self.lifetime,
            "email": EMAIL,
            "email_verified": True,
            **claims,
        }
        for name in without:
            payload.pop(name, None)
        key = private_key(self.algorithm) if key is None else key
        return jwt.encode(
            payload, key, algorithm=self.algorithm, headers={"kid": "k1", **(headers or {})}
        )

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        await trio.lowlevel.checkpoint()
        self.paths.append(request.url.path)
        if self.broken:
            raise httpx.ConnectError("nobody there")
        if self.unwell is not None:
            return self.unwell
        if request.url.path.endswith("/.well-known/openid-configuration"):
            return httpx.Response(200, json=self.document)
        if request.url.path.endswith("/keys"):
            return httpx.Response(200, json={"keys": self.keys})
        form = dict(parse_qsl((await request.aread()).decode(), keep_blank_values=True))
        self.forms.append(form)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        if not callable(answer):
            return answer
        found = answer(form)
        return await found if inspect.isawaitable(found) else found


@dataclass
class IssuerRig:
    clock: FakeClock
    issuer: Issuer
    http: HttpClient
    providers: Providers
    endpoint: TokenEndpoint
    nursery: trio.Nursery


@asynccontextmanager
async def open_issuer() -> AsyncIterator[IssuerRig]:
    clock = FakeClock()
    issuer = Issuer(clock)
    async with new_client(transport=httpx.MockTransport(issuer)) as client:
        http = HttpClient(client, rng=random.Random(0), user_agent="test/1")
        async with trio.open_nursery() as nursery:
            yield IssuerRig(
                clock,
                issuer,
                http,
                Providers(http, clock=clock, nursery=nursery),
                TokenEndpoint(http, clock, f"{ISSUER}/token", client_id="sigstore"),
                nursery,
            )
            nursery.cancel_scope.cancel()
