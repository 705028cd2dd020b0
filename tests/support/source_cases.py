"""Every source of identities behind one interface, for the conformance test of all of them.

A source is a class here and a line in SOURCES. It says which situations it can be put into, gets
itself a token in one of them the way it does in life, and names what must not be seen.
"""

from __future__ import annotations

import os
import random
import stat
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

import httpx
import trio

from givers import (
    ACCESS_TOKEN,
    ACCOUNT,
    AGENT_TOKEN,
    FAULTS,
    REQUEST_TOKEN,
    Buildkite,
    GitHub,
    IamCredentials,
    Metadata,
    Wires,
)
from issuer_rig import ISSUER, FakeClock, Issuer
from keyless._gather import gather
from keylessd.core.workload_api import JwtSvid
from keylessd.flow.threads import Threads, run_inline
from keylessd.identity.ambient.source import AmbientSource
from keylessd.identity.held.identities import HeldIdentities
from keylessd.identity.held.source import Parts
from keylessd.identity.provider import Providers
from keylessd.identity.source import AmbientGrant, IdentityRequest, SuppliedToken
from keylessd.identity.token import IdentityToken, check_token
from keylessd.secret import Secret
from keylessd.services.http import HttpClient, new_client
from keylessd.settings import AmbientSettings, parse_settings
from workload_api import Agent, Answer, message, refusal

OWN_UID = 1000
CLIENT_SECRET = "client-secret-of-the-robot"
SUBJECT_TOKEN = "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJzdWJqZWN0LXRva2VuIn0.c3ViamVjdA"

# Situations that a token itself brings about, for all sources.
OF_THE_TOKEN = {
    "right": {},
    "several-audiences": {"aud": ["other", "sigstore"]},
    "other-audience": {"aud": "other"},
    "no-audience": {"aud": None},
    "ended": {"exp": -40},
    "about-to-end": {"exp": 5},
    "malformed": None,
    "unsigned": None,
}
# Of whoever is asked over HTTP.
OF_HTTP = frozenset({*FAULTS, "nobody-there"})
OF_PROGRAMS = frozenset({"fails", "silent", "prints-a-page", "prints-too-much"})
OF_FILES = frozenset({"missing", "no-file", "pipe", "empty-file", "half-written", "oversized-file"})


class World:
    """What a case has at hand: a clock, an issuer that mints, the network, a folder."""

    def __init__(self, clock: FakeClock, folder: Path) -> None:
        self.clock = clock
        self.folder = folder
        self.issuer = Issuer(clock)
        self.github = GitHub(self.mint)
        self.buildkite = Buildkite(self.mint)
        self.metadata = Metadata(self.mint)
        self.iam = IamCredentials(self.mint)
        self.wires = Wires(
            {
                "issuer.example": self.oauth,
                "run.actions.githubusercontent.com": self.github,
                "agent.buildkite.com": self.buildkite,
                "metadata.google.internal": self.metadata,
                "iamcredentials.googleapis.com": self.iam,
            }
        )
        self.situation = "right"
        self.minted: list[str] = []
        self.oauth_fault: str | None = None
        self.forms: list[dict[str, str]] = []
        self.gone: set[str] = set()
        self.field = "id_token"  # in which a token comes that was not traded
        self.http: HttpClient
        self.nursery: trio.Nursery

    def mint(
        self, audience: str = "sigstore", *, has_email: bool = True, subject: str | None = None
    ) -> str:
        """Return another token, as the situation wants it."""
        if self.situation == "malformed":
            token = "not.a.token-at-all"
        elif self.situation == "unsigned":
            token = "eyJhbGciOiJub25lIn0.e30.c2ln"
        else:
            claims = dict(OF_THE_TOKEN.get(self.situation) or {"aud": audience})
            claims.setdefault("aud", audience)
            if subject is not None:
                claims["sub"] = subject
            if "exp" in claims:
                claims["exp"] = int(self.clock.now().timestamp()) + claims["exp"]
            without = () if has_email else ("email", "email_verified")
            token = self.issuer.token(jti=str(len(self.minted)), without=without, **claims)
        self.minted.append(token)
        return token

    async def oauth(self, request: httpx.Request) -> httpx.Response:
        """Answer as an OpenID provider does."""
        if not request.url.path.endswith("/token"):
            return await self.issuer(request)
        if self.oauth_fault is not None:
            answer = FAULTS[self.oauth_fault]
            if answer is None:
                await trio.sleep_forever()
            assert answer is not None
            return httpx.Response(answer.status, content=answer.body, headers=answer.headers)
        self.issuer.answers = [self._granted]
        return await self.issuer(request)

    def _granted(self, form: dict[str, str]) -> httpx.Response:
        self.forms.append(form)
        exchanged = form["grant_type"].endswith(":token-exchange")
        if form.get("client_secret", CLIENT_SECRET) != CLIENT_SECRET:
            return httpx.Response(401, json={"error": "invalid_client"})
        field = "access_token" if exchanged else self.field
        return httpx.Response(200, json={field: self.mint(), "token_type": "bearer"})


@asynccontextmanager
async def open_world(folder: Path) -> AsyncIterator[World]:
    world = World(FakeClock(), folder)

    async def wires(request: httpx.Request) -> httpx.Response:
        if request.url.host in world.gone:
            raise httpx.ConnectError("connection refused", request=request)
        return await world.wires(request)

    async with (
        new_client(transport=httpx.MockTransport(wires)) as client,
        trio.open_nursery() as nursery,
    ):
        world.http = HttpClient(client, rng=random.Random(0), user_agent="test/1")
        world.nursery = nursery
        yield world
        nursery.cancel_scope.cancel()


def usable(token: IdentityToken, world: World) -> str:
    """Return the token's text, if the daemon would go to the CA with it."""
    check_token(token, now=world.clock.now())
    return token.raw.reveal()


# --- the sources -------------------------------------------------------------------------------


class Case:
    """One source.

    Attributes:
        name: Of the case.
        situations: What it can be put into, besides what OF_THE_TOKEN has.
        keeps: Whether a second use may have the first one's token.
    """

    name: str
    situations: frozenset[str] = frozenset()
    keeps = False

    def __init__(self, world: World) -> None:
        self.world = world

    def secrets(self) -> list[str]:
        """Return what must never be seen, besides the tokens that were minted."""
        return []

    async def obtain(self, situation: str) -> str:
        """Return a token as the source gives it, or raise its error."""
        raise NotImplementedError


class FromEnvironment(Case):
    """What the client gathers, and the daemon then does with it."""

    def environ(self, situation: str) -> dict[str, str]:
        raise NotImplementedError

    async def obtain(self, situation: str) -> str:
        world = self.world
        found = gather(self.environ(situation), well_known_file=str(world.folder / "none"))
        assert found is not None
        if found.ambient is None:
            assert found.token is not None
            request = IdentityRequest(OWN_UID, None, Secret(found.token))
            return usable(await SuppliedToken().token(request), world)
        ambient = found.ambient
        grant = AmbientGrant(
            ambient.kind, Secret(ambient.token), ambient.url, ambient.job, ambient.audience
        )
        source = AmbientSource(world.http, world.clock, AmbientSettings())
        request = IdentityRequest(OWN_UID, None, None, ambient=grant)
        return usable(await source.token(request), world)


class Supplied(FromEnvironment):
    name = "SIGSTORE_ID_TOKEN"

    def environ(self, situation: str) -> dict[str, str]:
        return {"SIGSTORE_ID_TOKEN": self.world.mint()}


class GitLabJob(FromEnvironment):
    name = "GitLab"
    situations = frozenset({"no-permission"})

    def environ(self, situation: str) -> dict[str, str]:
        if situation == "no-permission":
            return {"GITLAB_CI": "true"}
        return {"GITLAB_CI": "true", "SIGSTORE_ID_TOKEN": self.world.mint()}


class GitHubJob(FromEnvironment):
    name = "GitHub Actions"
    situations = OF_HTTP | {"no-permission", "hostile-host", "wrong-token"}

    def secrets(self) -> list[str]:
        return [REQUEST_TOKEN]

    def environ(self, situation: str) -> dict[str, str]:
        origin = "https://run.actions.githubusercontent.com"
        if situation == "hostile-host":
            origin = "https://run.actions.githubusercontent.com.evil.example"
        environ = self.world.github.environ(origin)
        if situation == "no-permission":
            del environ["ACTIONS_ID_TOKEN_REQUEST_TOKEN"]
        if situation == "wrong-token":
            environ["ACTIONS_ID_TOKEN_REQUEST_TOKEN"] = REQUEST_TOKEN + "x"
        if situation == "nobody-there":
            self.world.gone.add("run.actions.githubusercontent.com")
        self.world.github.fault = situation if situation in FAULTS else None
        return environ


class BuildkiteApi(FromEnvironment):
    name = "Buildkite's interface"
    situations = OF_HTTP | {"no-permission", "hostile-host", "wrong-token"}

    def secrets(self) -> list[str]:
        return [AGENT_TOKEN]

    def environ(self, situation: str) -> dict[str, str]:
        hostile = "https://agent.buildkite.com@evil.example"
        origin = hostile if situation == "hostile-host" else None
        environ = {**self.world.buildkite.environ(origin), "PATH": str(self.world.folder)}
        if situation == "no-permission":
            del environ["BUILDKITE_JOB_ID"]
        if situation == "wrong-token":
            environ["BUILDKITE_AGENT_ACCESS_TOKEN"] = AGENT_TOKEN + "x"
        if situation == "nobody-there":
            self.world.gone.add("agent.buildkite.com")
        self.world.buildkite.fault = situation if situation in FAULTS else None
        return environ


class Program(FromEnvironment):
    """A CI system's own command."""

    situations = OF_PROGRAMS
    command: str
    arguments: str
    variables: Mapping[str, str]

    def secrets(self) -> list[str]:
        return ["secret-in-the-environment"]

    def environ(self, situation: str) -> dict[str, str]:
        token = self.world.folder / "printed"
        token.write_text(self.world.mint() + "\n")
        script = {
            "fails": 'echo "no permission: $JOB_SECRET" | tr s S >&2; exit 3',
            "silent": "exit 0",
            "prints-a-page": "echo '<html><body>Sign in</body></html>'",
            "prints-too-much": "head -c 100000 /dev/zero | tr '\\0' x",
        }.get(situation, f"test \"$*\" = '{self.arguments}' || exit 9; cat {token}")
        path = self.world.folder / self.command
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        return {
            **self.variables,
            "PATH": f"{self.world.folder}:{os.environ['PATH']}",
            "JOB_SECRET": "secret-in-the-environment",
        }


class BuildkiteAgent(Program):
    name = "buildkite-agent"
    command = "buildkite-agent"
    arguments = "oidc request-token --audience sigstore"
    variables = MappingProxyType({"BUILDKITE": "true", "BUILDKITE_AGENT_ACCESS_TOKEN": AGENT_TOKEN})


class CircleCi(Program):
    name = "circleci"
    command = "circleci"
    arguments = 'run oidc get --claims {"aud":"sigstore"} --root-issuer'
    variables = MappingProxyType({"CIRCLECI": "true"})


def written(path: Path, situation: str, token: str) -> None:
    """Put a token file into a situation."""
    if path.exists() and not path.is_dir():
        path.unlink()
    if situation == "missing":
        return
    if situation == "no-file":
        path.mkdir()
    elif situation == "pipe":
        os.mkfifo(path)
        assert stat.S_ISFIFO(path.stat().st_mode)
    elif situation == "empty-file":
        path.write_text("\n")
    elif situation == "half-written":
        path.write_text(token[: len(token) // 3])
    elif situation == "oversized-file":
        path.write_text(token + "x" * 100_000)
    else:
        path.write_text(f" {token}\n")


class ClientFile(FromEnvironment):
    name = "the client's token file"
    situations = OF_FILES

    def environ(self, situation: str) -> dict[str, str]:
        path = self.world.folder / "token"
        written(path, situation, self.world.mint())
        return {"KEYLESS_IDENTITY_TOKEN_FILE": str(path)}


class Held(Case):
    """An identity of the daemon's, through its settings and its policy."""

    settings: str
    environment: Mapping[str, str] = MappingProxyType({})

    def __init__(self, world: World) -> None:
        super().__init__(world)
        parts = Parts(
            http=world.http,
            clock=world.clock,
            rng=random.Random(1),
            threads=Threads(run_inline),
            nursery=world.nursery,
            environ=self.environment,
            providers=Providers(world.http, clock=world.clock, nursery=world.nursery),
        )
        self.identities = HeldIdentities(
            parts, own_uid=OWN_UID, system=False, find_user=_nobody, find_group=_nobody
        )
        file = str(world.folder / "config.toml")
        self.identities.apply(parse_settings(self.settings, file=file).identities)

    def prepare(self, situation: str) -> None:
        """Put the world into the situation."""

    async def obtain(self, situation: str) -> str:
        self.prepare(situation)
        request = IdentityRequest(OWN_UID, None, None)
        source = self.identities.granted(request)
        assert source is not None
        return usable(await source.token(request), self.world)


def _nobody(name: str) -> int:
    raise KeyError(name)


class HeldFile(Held):
    name = "the daemon's token file"
    situations = OF_FILES
    settings = '[identity.it]\nkind = "file"\npath = "token"'

    def prepare(self, situation: str) -> None:
        written(self.world.folder / "token", situation, self.world.mint())


class GoogleMachine(Held):
    name = "Google's metadata server"
    # A body is a token or it is not; there are no fields.
    situations = (OF_HTTP - {"no-field", "wrong-type"}) | {"no-flavor", "no-account"}
    settings = '[identity.it]\nkind = "google-metadata"'
    keeps = True

    def prepare(self, situation: str) -> None:
        metadata = self.world.metadata
        metadata.fault = situation if situation in FAULTS else None
        if situation == "no-flavor":
            metadata.flavor = ""
        if situation == "no-account":
            metadata.base = "/elsewhere/"
        if situation == "nobody-there":
            self.world.gone.add("metadata.google.internal")


class GoogleImpersonated(Held):
    name = "a Google service account"
    situations = OF_HTTP | {"no-flavor", "no-account", "no-permission"}
    settings = f'[identity.it]\nkind = "google-impersonation"\nservice_account = "{ACCOUNT}"'
    keeps = True

    def secrets(self) -> list[str]:
        return [ACCESS_TOKEN]

    def prepare(self, situation: str) -> None:
        self.world.iam.fault = situation if situation in FAULTS else None
        if situation == "no-permission":
            self.world.iam.delegates = ("somebody@project.iam.gserviceaccount.com",)
        if situation == "no-account":
            self.world.iam.account = "other@project.iam.gserviceaccount.com"
        if situation == "no-flavor":
            self.world.metadata.flavor = ""
        if situation == "nobody-there":
            self.world.gone.add("iamcredentials.googleapis.com")


class CloudBuild(GoogleImpersonated):
    name = "Cloud Build"
    settings = '[identity.it]\nkind = "google-impersonation"'
    environment = MappingProxyType({"GOOGLE_SERVICE_ACCOUNT_NAME": ACCOUNT})


class OAuth(Held):
    situations = OF_HTTP | {"no-permission", "no-secret", "forged"}
    keeps = True

    def secrets(self) -> list[str]:
        return [CLIENT_SECRET]

    def prepare(self, situation: str) -> None:
        world = self.world
        world.oauth_fault = situation if situation in FAULTS else None
        secret = world.folder / "secret"
        secret.write_text(CLIENT_SECRET + "\n")
        if situation == "no-secret":
            secret.unlink()
        if situation == "no-permission":
            secret.write_text("another-secret")
        if situation == "forged":
            world.issuer.keys = []
        if situation == "nobody-there":
            world.gone.add("issuer.example")


class Robot(OAuth):
    name = "client credentials"
    settings = (
        f'[identity.it]\nkind = "client-credentials"\nissuer = "{ISSUER}"\nclient_id = "robot"\n'
        'client_secret_file = "secret"'
    )


class RobotOfAccess(OAuth):
    name = "client credentials, of a provider that gives access tokens alone"
    settings = f'{Robot.settings}\nresource = "urn:sigstore"\ntoken = "access_token"'

    def prepare(self, situation: str) -> None:
        super().prepare(situation)
        self.world.field = "access_token"


class Traded(OAuth):
    name = "token exchange"
    situations = OAuth.situations | {"no-subject"}
    settings = (
        f'[identity.it]\nkind = "token-exchange"\nissuer = "{ISSUER}"\nclient_id = "farm"\n'
        'client_secret_file = "secret"\nsubject_token_file = "subject"\nconnector_id = "ci"'
    )

    def secrets(self) -> list[str]:
        return [CLIENT_SECRET, SUBJECT_TOKEN]

    def prepare(self, situation: str) -> None:
        super().prepare(situation)
        if situation != "no-subject":
            (self.world.folder / "subject").write_text(SUBJECT_TOKEN)


class SpiffeAgent(Held):
    name = "a SPIFFE agent"
    situations = frozenset(
        {"unavailable", "broken", "timeout", "nobody-there", "no-permission", "another's"}
    )
    settings = '[identity.it]\nkind = "spiffe"'
    keeps = True
    spiffe_id = "spiffe://example.org/builder"

    def __init__(self, world: World) -> None:
        self.agent = Agent(world.folder / "api.sock", self.answer)
        self.agent.start(world.nursery)
        self.environment = {"SPIFFE_ENDPOINT_SOCKET": f"unix://{self.agent.path}"}
        self.situation = "right"
        super().__init__(world)

    def prepare(self, situation: str) -> None:
        self.situation = situation
        away = self.agent.path.with_suffix(".away")
        if situation == "nobody-there":
            self.agent.path.rename(away)
        elif away.exists():
            away.rename(self.agent.path)

    def answer(self) -> Answer:
        if self.situation == "no-permission":
            return refusal(7, "no identity issued")
        if self.situation == "unavailable":
            return refusal(14, "the server is away")
        if self.situation in {"broken", "timeout"}:
            return Answer(cut="reset" if self.situation == "broken" else "silent")
        subject = self.spiffe_id + ("x" if self.situation == "another's" else "")
        token = self.world.mint(has_email=False, subject=subject)
        return Answer(body=[message(JwtSvid(self.spiffe_id, token, ""))])


SOURCES: list[type[Case]] = [
    Supplied, GitLabJob, GitHubJob, BuildkiteApi, BuildkiteAgent, CircleCi, ClientFile,
    HeldFile, GoogleMachine, GoogleImpersonated, CloudBuild, Robot, RobotOfAccess, Traded,
    SpiffeAgent,
]  # fmt: skip


def cases() -> list[Any]:
    """Return all (source, situation) that there are."""
    return [
        (source, situation)
        for source in SOURCES
        for situation in [*OF_THE_TOKEN, *sorted(source.situations)]
    ]
