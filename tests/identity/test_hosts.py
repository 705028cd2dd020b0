"""Where the daemon asks because a client says so, and where it never does."""

from __future__ import annotations

import random

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from givers import REQUEST_TOKEN
from issuer_rig import FakeClock
from keylessd.errors import IdentityError
from keylessd.identity.ambient import buildkite, github
from keylessd.identity.ambient.hosts import allowed_url
from keylessd.identity.ambient.source import AmbientSource
from keylessd.identity.source import AmbientGrant, IdentityRequest
from keylessd.secret import Secret
from keylessd.services.http import HttpClient, new_client
from keylessd.settings import AmbientSettings

CONFIGURED = frozenset({"ghes.corp.example", "127.0.0.1", "::1", "169.254.169.254", "10.0.0.7"})


def allowed(url: str, configured: frozenset[str] = frozenset()) -> httpx.URL:
    return allowed_url(
        url, github.GIVER, known=(github.HOST,), configured=configured, setting="github_hosts"
    )


@pytest.mark.parametrize(
    "url",
    [
        "https://pipelines.actions.githubusercontent.com/a?api-version=2.0",
        "https://actions.githubusercontent.com/",
        "https://a.b.actions.githubusercontent.com:443/",
        "https://PIPELINES.Actions.GitHubUserContent.com/x",
    ],
)
def test_the_ci_systems_own(url: str) -> None:
    assert allowed(url).host.endswith("actions.githubusercontent.com")


@pytest.mark.parametrize(
    "url",
    [
        "https://ghes.corp.example/_services/token",
        "https://a.ghes.corp.example:8443/",
        "http://127.0.0.1:8080/x",
        "http://[::1]:8080/x",
        "https://10.0.0.7/",
    ],
)
def test_those_of_the_settings(url: str) -> None:
    allowed(url, CONFIGURED)
    with pytest.raises(IdentityError):
        allowed(url)


@pytest.mark.parametrize(
    "url",
    [
        "http://pipelines.actions.githubusercontent.com/",
        "https://pipelines.actions.githubusercontent.com:8443/",
        "https://evil.example/",
        "https://evilactions.githubusercontent.com/",
        "https://actions.githubusercontent.com.evil.example/",
        "https://pipelines.actions.githubusercontent.com@evil.example/",
        "https://user:secret@pipelines.actions.githubusercontent.com/",
        "https://pipelines.actions.githubusercontent.com./",
        "https://pipelines.actions.githubusercontent.com#@evil.example/",
        "https://evil.example\\.actions.githubusercontent.com/",
        "https://evil.example/?.actions.githubusercontent.com",
        "https://evil.example/.actions.githubusercontent.com",
        "https://evil.example\t.actions.githubusercontent.com/",
        "https://\u0430ctions.githubusercontent.com/",
        "https://actions。githubusercontent。com.evil.example/",
        "https://xghes.corp.example/",
        "http://ghes.corp.example/",
        "http://10.0.0.7/",
        "https://169.254.169.254/",
        "http://169.254.169.254/",
        "https://[fe80::1]/",
        "https://[::ffff:169.254.169.254]/",
        "https://0x7f000001/",
        "https://2130706433/",
        "http://localhost/",
        "http://127.0.0.2/",
        "ftp://pipelines.actions.githubusercontent.com/",
        "file:///etc/passwd",
        "//pipelines.actions.githubusercontent.com/",
        "pipelines.actions.githubusercontent.com",
        "",
        "https://",
        "https://[::1",
        "https://pipelines.actions.githubusercontent.com:99999/",
        "https://pipelines.actions.githubusercontent.com/" + "x" * 3000,
    ],
)
def test_all_others_are_refused(url: str) -> None:
    with pytest.raises(IdentityError) as caught:
        allowed(url, CONFIGURED)
    assert caught.value.code == "identity_unavailable"
    assert not caught.value.retryable
    assert caught.value.hint
    assert "secret" not in caught.value.message


@given(st.text(max_size=60) | st.text(max_size=30).map(lambda text: f"https://{text}/"))
def test_only_the_declared_error_escapes(text: str) -> None:
    try:
        url = allowed(text)
    except IdentityError:
        return
    assert url.raw_host.decode().endswith("actions.githubusercontent.com")


async def asked(grant: AmbientGrant) -> list[httpx.Request]:
    """Return what is sent for *grant* with all of CONFIGURED allowed."""
    return (await refused(grant, httpx.Response(404)))[0]


async def refused(
    grant: AmbientGrant, refusal: httpx.Response
) -> tuple[list[httpx.Request], IdentityError]:
    """Return what is sent for *grant*, and the error when it is answered with *refusal*."""
    seen: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return refusal

    async with new_client(transport=httpx.MockTransport(answer)) as client:
        http = HttpClient(client, rng=random.Random(0), user_agent="test/1")
        source = AmbientSource(http, FakeClock(), AmbientSettings(CONFIGURED, CONFIGURED))
        with pytest.raises(IdentityError) as caught:
            await source.token(IdentityRequest(1000, None, None, ambient=grant))
    return seen, caught.value


@pytest.mark.parametrize(("asked", "waited"), [("200", 200.0), ("9999", 300.0)])
async def test_whoever_wants_to_be_left_alone_says_for_how_long(asked, waited) -> None:
    grant = AmbientGrant("github", Secret("t"), "https://x.actions.githubusercontent.com/t")
    _, error = await refused(grant, httpx.Response(429, headers={"retry-after": asked}))
    assert (error.retryable, error.retry_after_seconds) == (True, waited)


@pytest.mark.parametrize(
    ("url", "audience", "query"),
    [
        ("https://x.actions.githubusercontent.com/t", None, "audience=sigstore"),
        (
            "https://x.actions.githubusercontent.com/t?api-version=2.0&a=b%26c",
            None,
            "api-version=2.0&a=b%26c&audience=sigstore",
        ),
        (
            "https://x.actions.githubusercontent.com/t?audience=other&api-version=2.0",
            None,
            "audience=sigstore&api-version=2.0",
        ),
        (
            "https://x.actions.githubusercontent.com/t?api-version=2.0",
            "a&b=c #\u00e9",
            "api-version=2.0&audience=a%26b%3Dc+%23%C3%A9",
        ),
    ],
)
async def test_the_audience_goes_into_the_query(url, audience, query) -> None:
    grant = AmbientGrant("github", Secret(REQUEST_TOKEN), url, None, audience)
    (request,) = await asked(grant)
    assert request.method == "GET"
    assert request.url.query.decode().replace("%20", "+") == query
    assert request.headers["authorization"] == f"bearer {REQUEST_TOKEN}"


async def test_buildkite_is_asked_at_the_jobs_own_path() -> None:
    grant = AmbientGrant("buildkite", Secret("t"), "https://agent.buildkite.com/v3/?x=y", "j-1")
    (request,) = await asked(grant)
    assert str(request.url) == "https://agent.buildkite.com/v3/jobs/j-1/oidc/tokens"
    grant = AmbientGrant("buildkite", Secret("t"), "https://agent-edge.buildkite.com/v3", "j-1")
    (request,) = await asked(grant)
    assert str(request.url) == "https://agent-edge.buildkite.com/v3/jobs/j-1/oidc/tokens"
    grant = AmbientGrant("buildkite", Secret("t"), None, "j-1")
    assert [one.url.host for one in await asked(grant)] == ["agent.buildkite.com"]
    assert request.method == "POST"


@pytest.mark.parametrize("job", [None, "", "../../x", "a/b", "a?b", "a#b", "x" * 65])
async def test_a_job_is_no_path(job: str | None) -> None:
    grant = AmbientGrant("buildkite", Secret("t"), "https://agent.buildkite.com/v3", job)
    assert await asked(grant) == []


@pytest.mark.parametrize("token", ["a b", "a\r\nX-Evil: 1", "", "\u00e9", "a\x00"])
@pytest.mark.parametrize("kind", [github.KIND, buildkite.KIND])
async def test_a_secret_that_is_no_header_is_not_sent(kind: str, token: str) -> None:
    url = {
        "github": "https://x.actions.githubusercontent.com/t",
        "buildkite": "https://agent.buildkite.com/v3",
    }[kind]
    assert await asked(AmbientGrant(kind, Secret(token), url, "j-1")) == []


async def test_an_unknown_kind() -> None:
    assert await asked(AmbientGrant("elsewhere", Secret("t"), "https://x/")) == []
