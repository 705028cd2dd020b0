"""What the daemon holds: for whom, by which name, and what a reload changes."""

from __future__ import annotations

import random
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from givers import ACCOUNT
from keylessd.errors import IdentityError, InvalidInputError
from keylessd.flow.threads import Threads, run_inline
from keylessd.held_settings import KINDS, SecretPlace
from keylessd.identity.held.identities import HeldIdentities
from keylessd.identity.held.registry import MAKERS
from keylessd.identity.held.secrets import read_secret
from keylessd.identity.held.source import Parts
from keylessd.identity.provider import Providers
from keylessd.identity.source import IdentityRequest
from keylessd.settings import parse_settings
from source_cases import OWN_UID, World, open_world

MACHINE = '[identity.machine]\nkind = "google-metadata"\n'
RELEASE = f'[identity.release]\nkind = "google-impersonation"\nservice_account = "{ACCOUNT}"\n'
USERS = {"builder": 1500}
GROUPS = {"wheel": 27}


def request(
    identity: str | None = None,
    *,
    uid: int = OWN_UID,
    instance: str | None = "public",
    groups: frozenset[int] = frozenset(),
) -> IdentityRequest:
    return IdentityRequest(uid, instance, None, identity=identity, groups=groups)


def held(world: World, text: str, *, system: bool = False) -> HeldIdentities:
    identities = HeldIdentities(
        Parts(
            http=world.http,
            clock=world.clock,
            rng=random.Random(1),
            threads=Threads(run_inline),
            nursery=world.nursery,
            environ={},
            providers=Providers(world.http, clock=world.clock, nursery=world.nursery),
        ),
        own_uid=OWN_UID,
        system=system,
        find_user=USERS.__getitem__,
        find_group=GROUPS.__getitem__,
    )
    put(identities, text)
    return identities


def put(identities: HeldIdentities, text: str) -> None:
    identities.apply(parse_settings(text, file="/etc/keyless/config.toml").identities)


@asynccontextmanager
async def world_of(tmp_path: Path):
    async with open_world(tmp_path) as world:
        yield world


async def signs_as(identities: HeldIdentities, asked: IdentityRequest) -> str | None:
    source = identities.granted(asked) if asked.identity is None else identities.named(asked)
    return None if source is None else (await source.token(asked)).raw.reveal()


def test_every_kind_of_the_settings_has_a_source() -> None:
    assert set(KINDS) == set(MAKERS)


async def test_nothing_is_held_without_settings(autojump_clock, tmp_path) -> None:
    async with world_of(tmp_path) as world:
        identities = held(world, "")
        assert await signs_as(identities, request()) is None
        assert await signs_as(identities, request("machine")) is None
        assert identities.describe(request()) == []


async def test_another_uid_neither_uses_nor_sees_it(autojump_clock, tmp_path) -> None:
    async with world_of(tmp_path) as world:
        identities = held(world, MACHINE)
        assert await signs_as(identities, request()) == world.minted[-1]
        for uid in (0, OWN_UID + 1):
            assert await signs_as(identities, request(uid=uid)) is None
            assert await signs_as(identities, request("machine", uid=uid)) is None
            assert await signs_as(identities, request("ada@example.org", uid=uid)) is None
            assert identities.describe(request(uid=uid)) == []
        assert len(world.minted) == 1


async def test_a_system_daemon_gives_it_to_those_who_are_named_alone(
    autojump_clock, tmp_path
) -> None:
    async with world_of(tmp_path) as world:
        text = MACHINE + 'allow_uids = ["builder"]\nallow_gids = ["wheel"]\n'
        identities = held(world, text, system=True)
        assert await signs_as(identities, request()) is None
        assert await signs_as(identities, request(uid=1500)) is not None
        assert await signs_as(identities, request(uid=7, groups=frozenset({27}))) is not None
        # One token for all who may have it.
        assert len(world.minted) == 1
        assert await signs_as(held(world, MACHINE, system=True), request()) is None


@pytest.mark.parametrize("key", ["allow_uids", "allow_gids"])
async def test_a_name_nobody_has_is_refused(autojump_clock, tmp_path, key) -> None:
    async with world_of(tmp_path) as world:
        identities = held(world, MACHINE)
        with pytest.raises(InvalidInputError, match=rf"identity.machine.{key}: 'nobody-knows'"):
            put(identities, MACHINE + f'{key} = ["nobody-knows"]\n')
        # What was in force stays in force.
        assert await signs_as(identities, request()) is not None


async def test_the_first_that_is_granted_is_taken_and_its_failure_is_final(
    autojump_clock, tmp_path
) -> None:
    async with world_of(tmp_path) as world:
        identities = held(world, RELEASE + 'instance = ["public"]\n' + MACHINE)
        assert (await signs_as(identities, request())) == world.minted[-1]
        assert [one.path.split(":")[-1] for one in world.iam.seen] == ["generateIdToken"]
        assert await signs_as(identities, request(instance="staging")) == world.minted[-1]
        assert len(world.minted) == 2

        world.clock.advance(4000)
        world.iam.fault = "forbidden"
        with pytest.raises(IdentityError):
            await signs_as(identities, request())
        assert len(world.minted) == 2


async def test_one_can_be_named(autojump_clock, tmp_path) -> None:
    async with world_of(tmp_path) as world:
        identities = held(world, RELEASE + MACHINE)
        assert await signs_as(identities, request("machine")) == world.minted[-1]
        assert world.iam.seen == []
        # By whom its last token named, too.
        assert await signs_as(identities, request("ada@example.org")) == world.minted[-1]
        assert await signs_as(identities, request("mach")) is None
        assert await signs_as(identities, request("eve@example.org")) is None


async def test_what_is_told_of_it(autojump_clock, tmp_path) -> None:
    async with world_of(tmp_path) as world:
        identities = held(world, MACHINE)
        (before,) = identities.describe(request())
        assert (before.name, before.kind, before.identity, before.problem) == (
            "machine",
            "google-metadata",
            None,
            None,
        )
        await signs_as(identities, request())
        (state,) = identities.describe(request())
        assert state.identity == "ada@example.org"
        assert state.last_used == world.clock.now()
        assert state.expires is not None
        assert world.minted[-1] not in repr(state)
        world.clock.advance(4000)
        world.metadata.fault = "broken"
        with pytest.raises(IdentityError):
            await signs_as(identities, request())
        (state,) = identities.describe(request())
        assert state.expires is None
        assert "answered 500" in (state.problem or "")


async def test_a_reload_keeps_the_token_of_what_did_not_change(autojump_clock, tmp_path) -> None:
    async with world_of(tmp_path) as world:
        identities = held(world, MACHINE)
        first = await signs_as(identities, request())
        put(identities, MACHINE + RELEASE)
        assert await signs_as(identities, request()) == first
        put(identities, MACHINE + 'audience = "sigstore"\nallow_uids = [1000]\n')
        assert await signs_as(identities, request()) != first
        put(identities, RELEASE)
        assert await signs_as(identities, request("machine")) is None


async def test_cloud_build_without_an_account_says_what_is_missing(
    autojump_clock, tmp_path
) -> None:
    async with world_of(tmp_path) as world:
        identities = held(world, '[identity.it]\nkind = "google-impersonation"\n')
        with pytest.raises(IdentityError, match="no service account is named") as caught:
            await signs_as(identities, request())
        assert "GOOGLE_SERVICE_ACCOUNT_NAME" in (caught.value.hint or "")
        assert world.wires.hosts == []


async def test_delegates_are_sent(autojump_clock, tmp_path) -> None:
    async with world_of(tmp_path) as world:
        middle = "middle@project.iam.gserviceaccount.com"
        world.iam.delegates = (middle,)
        identities = held(world, RELEASE + f'delegates = ["{middle}"]\n')
        assert await signs_as(identities, request()) == world.minted[-1]


async def test_a_projected_file_is_followed_when_it_is_rotated(autojump_clock, tmp_path) -> None:
    async with world_of(tmp_path) as world:
        tokens = [world.mint(), world.mint()]
        for number, token in enumerate(tokens):
            (tmp_path / f"..{number}").mkdir()
            (tmp_path / f"..{number}" / "token").write_text(token)
        (tmp_path / "..data").symlink_to("..0")
        (tmp_path / "token").symlink_to("..data/token")
        identities = held(world, f'[identity.pod]\nkind = "file"\npath = "{tmp_path}/token"\n')
        assert await signs_as(identities, request()) == tokens[0]
        (tmp_path / "..data_tmp").symlink_to("..1")
        (tmp_path / "..data_tmp").rename(tmp_path / "..data")
        assert await signs_as(identities, request()) == tokens[1]
        # Between two versions there is none, and that is told.
        (tmp_path / "..data").unlink()
        with pytest.raises(IdentityError, match="cannot be read") as caught:
            await signs_as(identities, request())
        assert caught.value.retryable


async def test_a_request_that_names_its_services_is_for_our_own_user_alone(
    autojump_clock, tmp_path
) -> None:
    async with world_of(tmp_path) as world:
        identities = held(world, MACHINE + f"allow_uids = [{OWN_UID}, 1500]\n")
        for uid, expected in ((OWN_UID, True), (1500, False)):
            asked = replace(request(uid=uid), names_services=True)
            assert (await signs_as(identities, asked) is not None) is expected
        assert await signs_as(identities, request(uid=1500)) is not None


async def test_credentials_of_the_service_manager(tmp_path) -> None:
    place = SecretPlace(None, "dex")
    (tmp_path / "dex").write_text("hunter2\n")
    environ = {"CREDENTIALS_DIRECTORY": str(tmp_path)}
    assert read_secret("it", place, environ).reveal() == "hunter2"
    for wrong in ({}, {"CREDENTIALS_DIRECTORY": "relative"}):
        with pytest.raises(IdentityError, match="CREDENTIALS_DIRECTORY") as caught:
            read_secret("it", place, wrong)
        assert "LoadCredential=" in (caught.value.hint or "")
    (tmp_path / "dex").unlink()
    with pytest.raises(IdentityError, match="cannot be read"):
        read_secret("it", place, environ)
