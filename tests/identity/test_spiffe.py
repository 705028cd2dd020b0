"""Fetching JWT-SVIDs from an agent: what is asked, what is taken, and every way it can fail."""

from __future__ import annotations

import base64
import json
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
import trio

from issuer_rig import FakeClock
from keylessd.core.workload_api import MAX_MESSAGE, JwtSvid, encode_request, frame
from keylessd.errors import IdentityError, TokenError
from keylessd.identity.held.spiffe import (
    DEADLINE_SECONDS,
    SpiffeSource,
    WorkloadApi,
    choose,
    read_svid,
)
from keylessd.settings import parse_settings
from workload_api import Agent, Answer, message, refusal

ID = "spiffe://example.org/builder"
OTHER = "spiffe://example.org/other"


NOW = datetime(2026, 5, 1, tzinfo=UTC)


def jwt(**claims: object) -> str:
    payload = {
        "iss": "https://spire.example.org",
        "sub": ID,
        "aud": ["sigstore"],
        "exp": 2000000000,
        **claims,
    }
    parts = ({"alg": "ES256"}, {k: v for k, v in payload.items() if v is not None})
    texts = [base64.urlsafe_b64encode(json.dumps(part).encode()) for part in parts]
    return b".".join([text.rstrip(b"=") for text in texts] + [b"c2ln"]).decode()


GOOD = JwtSvid(ID, jwt(), "")


@asynccontextmanager
async def agent(folder: Path, answer: Answer):
    async with trio.open_nursery() as nursery:
        one = Agent(folder / "api.sock", answer)
        one.start(nursery)
        yield one
        nursery.cancel_scope.cancel()


async def failure(folder: Path, answer: Answer) -> IdentityError:
    async with agent(folder, answer) as one:
        with pytest.raises(IdentityError) as found:
            await WorkloadApi(str(one.path)).fetch(["sigstore"])
    assert found.value.code == "identity_unavailable"
    assert str(one.path) in found.value.message
    assert "eyJ" not in found.value.message
    return found.value


# --- asked and answered ----------------------------------------------------------------------


async def test_svids_in_the_agents_order(tmp_path: Path) -> None:
    second = JwtSvid(OTHER, "t", "ci")
    trailers = {"grpc-status": "0"}
    async with agent(tmp_path, Answer(body=[message(GOOD, second)], trailers=trailers)) as one:
        assert await WorkloadApi(str(one.path)).fetch(["sigstore"]) == (GOOD, second)


async def test_request_is_grpc_with_the_security_header(tmp_path: Path) -> None:
    async with agent(tmp_path, Answer(body=[message(GOOD)])) as one:
        await WorkloadApi(str(one.path)).fetch(["sigstore", "other"], spiffe_id=ID)

    ((headers, body),) = one.requests
    assert headers[":method"] == "POST"
    assert headers[":path"] == "/SpiffeWorkloadAPI/FetchJWTSVID"
    assert headers["content-type"] == "application/grpc"
    assert headers["te"] == "trailers"
    assert headers["workload.spiffe.io"] == "true"
    assert body == encode_request(["sigstore", "other"], spiffe_id=ID)


async def test_answer_in_many_pieces(tmp_path: Path) -> None:
    whole = message(GOOD)
    pieces = [whole[n : n + 1] for n in range(len(whole))]
    async with agent(tmp_path, Answer(body=pieces, trailers={"grpc-status": "0"})) as one:
        assert await WorkloadApi(str(one.path)).fetch(["sigstore"]) == (GOOD,)


async def test_each_fetch_opens_a_connection_and_leaves_none(tmp_path: Path) -> None:
    async with agent(tmp_path, Answer(body=[message(GOOD)])) as one:
        for _ in range(3):
            await WorkloadApi(str(one.path)).fetch(["sigstore"])
    assert len(one.requests) == 3


# --- refused -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "words", "retryable"),
    [
        (1, "cancelled", True),
        (2, "unknown", False),
        (3, "invalid argument", False),
        (4, "deadline exceeded", True),
        (7, "permission denied", False),
        (8, "resource exhausted", True),
        (10, "aborted", True),
        (12, "unimplemented", False),
        (13, "internal", False),
        (14, "unavailable", True),
        (16, "unauthenticated", False),
        (99, "status 99", False),
    ],
)
async def test_refusal(tmp_path: Path, status: int, words: str, retryable: bool) -> None:
    found = await failure(tmp_path, refusal(status, "no%20identity issued"))

    assert f"refused ({words}): no identity issued" in found.message
    assert found.retryable is retryable
    assert found.details["grpc_status"] == status


async def test_no_entry_says_what_to_do(tmp_path: Path) -> None:
    found = await failure(tmp_path, refusal(7, "no identity issued"))

    assert found.hint is not None
    assert "selectors" in found.hint


async def test_hostile_words_of_the_agent_are_escaped(tmp_path: Path) -> None:
    said = "%1B[2J%E2%80%AEabc%FF" + jwt()
    found = await failure(tmp_path, refusal(7, said))

    assert "\x1b" not in found.message
    assert "\u202e" not in found.message


@pytest.mark.parametrize("status", ["0", "", "-1", "7x", "٧", "1234"])
async def test_no_answer_and_no_reason(tmp_path: Path, status: str) -> None:
    found = await failure(tmp_path, refusal(status.encode().decode("latin-1")))

    assert "without a reason" in found.message


async def test_success_without_a_message(tmp_path: Path) -> None:
    found = await failure(tmp_path, Answer(trailers={"grpc-status": "0"}))

    assert "without an SVID" in found.message


# --- not an answer -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (Answer(status="404"), "HTTP status 404"),
        (Answer(status="302", headers={"location": "http://x/"}), "HTTP status 302"),
        (Answer(headers={"content-type": "text/html"}, body=[b"<p>"]), "text/html"),
        (Answer(headers={}, body=[message(GOOD)]), "content of the type ''"),
        (Answer(body=[b"garbage"]), "cannot be read"),
        (Answer(body=[message(GOOD)[:-1]]), "cannot be read"),
        (Answer(body=[message(GOOD), message(GOOD)]), "cannot be read"),
        (Answer(body=[b"\1" + message(GOOD)[1:]]), "compressed"),
        (Answer(body=[frame(b"")]), "no SVID"),
        (Answer(body=[b"\0\xff\xff\xff\xff"]), "the limit is"),
        (Answer(body=[bytes(1 << 14)] * (MAX_MESSAGE // (1 << 14) + 2)), "sent more than"),
        (Answer(cut="reset"), "cannot be asked"),
        (Answer(body=[message(GOOD)[:20]], cut="reset"), "cannot be asked"),
        (Answer(cut="close"), "cannot be asked"),
        (Answer(body=[message(GOOD)[:20]], cut="close"), "cannot be asked"),
        (Answer(cut="garbage"), "cannot be asked"),
    ],
    ids=range(16),
)
async def test_what_is_no_answer(tmp_path: Path, answer: Answer, words: str) -> None:
    assert words in (await failure(tmp_path, answer)).message


async def test_silent_agent(tmp_path: Path, autojump_clock: object) -> None:
    async with agent(tmp_path, Answer(cut="silent")) as one:
        before = trio.current_time()
        with pytest.raises(IdentityError, match="did not answer within") as found:
            await WorkloadApi(str(one.path)).fetch(["sigstore"])

    assert found.value.retryable
    assert trio.current_time() - before == pytest.approx(DEADLINE_SECONDS)


async def test_no_agent(tmp_path: Path) -> None:
    with pytest.raises(IdentityError, match="No such file or directory") as found:
        await WorkloadApi(str(tmp_path / "absent")).fetch(["sigstore"])

    assert found.value.retryable


async def test_nobody_listens(tmp_path: Path) -> None:
    path = tmp_path / "stale"
    with trio.socket.socket(trio.socket.AF_UNIX) as left:
        await left.bind(str(path))
    with pytest.raises(IdentityError, match="Connection refused"):
        await WorkloadApi(str(path)).fetch(["sigstore"])


async def test_caller_may_give_up(tmp_path: Path) -> None:
    async with agent(tmp_path, Answer(cut="silent")) as one, trio.open_nursery() as nursery:

        async def ask() -> None:
            await WorkloadApi(str(one.path)).fetch(["sigstore"])

        nursery.start_soon(ask)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()


# --- choosing ------------------------------------------------------------------------------------


A, B, C = JwtSvid(ID, "a", ""), JwtSvid(OTHER, "b", "ci"), JwtSvid(ID, "c", "ci")


@pytest.mark.parametrize(
    ("options", "chosen"),
    [
        ({}, A),
        ({"spiffe_id": OTHER}, B),
        ({"hint": "ci"}, B),
        ({"hint": ""}, A),
        ({"spiffe_id": ID, "hint": "ci"}, C),
    ],
)
def test_choice(options: dict[str, str], chosen: JwtSvid) -> None:
    assert choose([A, B, C], **options) is chosen


@pytest.mark.parametrize(
    "options",
    [
        {"spiffe_id": ID + "x"},
        {"spiffe_id": ID[:-1]},
        {"hint": "c"},
        {"spiffe_id": ID, "hint": "x"},
    ],
)
def test_nothing_else_is_chosen_instead(options: dict[str, str]) -> None:
    with pytest.raises(IdentityError) as found:
        choose([A, B, C], **options)

    assert found.value.code == "identity_unavailable"
    assert ID in found.value.message
    assert "hint 'ci'" in found.value.message


def test_long_lists_are_cut() -> None:
    with pytest.raises(IdentityError, match="6 more"):
        choose([A] * 10, hint="x")


# --- the token inside ----------------------------------------------------------------------------


def test_token_of_an_svid() -> None:
    token = read_svid(GOOD, audience="sigstore", now=NOW)

    assert (token.subject, token.audience) == (ID, ("sigstore",))


@pytest.mark.parametrize(
    ("svid", "words"),
    [
        (JwtSvid(ID, "x.y", ""), "what it gave is none"),
        (JwtSvid(ID, jwt(iss=None), ""), "without iss"),
        (JwtSvid(ID, jwt(sub=OTHER), ""), "is for 'spiffe://example.org/other'"),
        (JwtSvid("https://example.org/builder", jwt(), ""), "not a SPIFFE ID"),
    ],
)
def test_unusable_svid(svid: JwtSvid, words: str) -> None:
    with pytest.raises(IdentityError, match=words) as found:
        read_svid(svid, audience="sigstore", now=NOW)

    assert svid.token not in found.value.message


@pytest.mark.parametrize(
    ("claims", "code"),
    [({"aud": ["sigstor"]}, "token_audience"), ({"exp": 1700000000}, "token_expired")],
)
def test_token_that_the_ca_would_refuse(claims: dict[str, object], code: str) -> None:
    with pytest.raises(TokenError) as found:
        read_svid(JwtSvid(ID, jwt(**claims), ""), audience="sigstore", now=NOW)

    assert found.value.code == code


def test_svid_without_issuer_says_how_to_get_one() -> None:
    with pytest.raises(IdentityError) as found:
        read_svid(JwtSvid(ID, jwt(iss=None), ""), audience="sigstore", now=NOW)

    assert found.value.hint is not None
    assert "jwt_issuer" in found.value.hint


# --- the held identity ---------------------------------------------------------------------------


def source(**environ: str):
    text = environ.pop("text", "")
    settings = parse_settings(f'[identity.builder]\nkind = "spiffe"\n{text}')
    return SpiffeSource(settings.identities["builder"], environ, clock=FakeClock())


@pytest.mark.parametrize("prefix", ["", "unix://"])
@pytest.mark.parametrize("place", ["settings", "environment"])
async def test_held_identity(tmp_path: Path, prefix: str, place: str) -> None:
    async with agent(tmp_path, Answer(body=[message(GOOD)])) as one:
        endpoint = f"{prefix}{one.path}"
        if place == "settings":
            token = await source(text=f'socket = "{endpoint}"', SPIFFE_ENDPOINT_SOCKET="/x").fetch()
        else:
            token = await source(SPIFFE_ENDPOINT_SOCKET=endpoint).fetch()

    assert token.subject == ID
    assert one.requests[0][1] == encode_request(["sigstore"])


async def test_held_identity_is_the_one_that_the_settings_name(tmp_path: Path) -> None:
    other = JwtSvid(OTHER, jwt(sub=OTHER, aud=["corp", "sigstore"]), "ci")
    async with agent(tmp_path, Answer(body=[message(GOOD, other)])) as one:
        where = f'socket = "{one.path}"\naudience = "corp"\n'
        by_id = await source(text=f'{where}spiffe_id = "{OTHER}"').fetch()
        by_hint = await source(text=f'{where}hint = "ci"').fetch()
        with pytest.raises(IdentityError, match="has no identity with hint 'prod'"):
            await source(text=f'{where}hint = "prod"').fetch()

    assert by_id.subject == by_hint.subject == OTHER
    assert one.requests[0][1] == encode_request(["corp"], spiffe_id=OTHER)
    assert one.requests[1][1] == encode_request(["corp"])


@pytest.mark.parametrize("endpoint", ["", "tcp://127.0.0.1:8081", "api.sock"])
async def test_no_usable_endpoint(endpoint: str) -> None:
    with pytest.raises(IdentityError, match="identity 'builder'") as found:
        await source(SPIFFE_ENDPOINT_SOCKET=endpoint).fetch()

    assert found.value.code == "identity_unavailable"
    assert found.value.hint is not None
    assert "SPIFFE_ENDPOINT_SOCKET" in found.value.hint
