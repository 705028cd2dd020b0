"""One test for every source of identities in every situation: what it gives, how it fails.

Whatever is added as a source is added to ``source_cases.SOURCES`` and has to pass this.
"""

from __future__ import annotations

import logging
import traceback

import pytest

from keyless.errors import CODES, KeylessError
from keylessd.errors import DaemonError
from source_cases import OF_THE_TOKEN, SOURCES, Case, World, cases, open_world

# What a situation comes to: the codes it may have, and whether asking again may help.
AGAIN, NEVER = True, False
EXPECTED: dict[str, tuple[set[str], bool | None]] = {
    "other-audience": ({"token_audience"}, NEVER),
    "no-audience": ({"identity_unavailable", "token_malformed"}, None),
    "ended": ({"token_expired"}, NEVER),
    "about-to-end": ({"token_expired"}, NEVER),
    "malformed": ({"identity_unavailable", "token_malformed"}, None),
    "unsigned": ({"identity_unavailable", "token_malformed"}, None),
    "unavailable": ({"identity_unavailable"}, AGAIN),
    "broken": ({"identity_unavailable"}, AGAIN),
    "timeout": ({"identity_unavailable"}, AGAIN),
    "nobody-there": ({"identity_unavailable"}, AGAIN),
    "missing": ({"identity_unavailable"}, None),
    "empty-file": ({"identity_unavailable", "token_malformed"}, None),
    "half-written": ({"identity_unavailable", "token_malformed"}, None),
    "no-subject": ({"identity_unavailable"}, None),
    "no-secret": ({"identity_unavailable"}, None),
}
OTHERS: tuple[set[str], bool | None] = ({"identity_unavailable"}, NEVER)
# Those in which somebody has something to do, and is told what.
TOLD = {"other-audience", "no-permission", "hostile-host", "wrong-token", "no-account", "no-secret"}
RIGHT = {"right", "several-audiences"}


@pytest.fixture(params=cases(), ids=lambda case: f"{case[0].name}: {case[1]}")
def case(request: pytest.FixtureRequest) -> tuple[type[Case], str]:
    found: tuple[type[Case], str] = request.param
    return found


async def test_source(autojump_clock, tmp_path, caplog, case) -> None:
    kind, situation = case
    caplog.set_level(logging.DEBUG)
    async with open_world(tmp_path) as world:
        world.situation = situation if situation in OF_THE_TOKEN else "right"
        source = kind(world)
        if situation in RIGHT:
            await gives_the_right_token(source, situation)
        else:
            await fails_well(source, situation)
        assert_unseen(source, caplog.text)


async def gives_the_right_token(source: Case, situation: str) -> None:
    world = source.world
    assert await source.obtain(situation) == world.minted[-1]
    # Fresh each time, or the one that is held and good; never anybody else's.
    made = len(world.minted)
    again = await source.obtain(situation)
    assert again == world.minted[made - 1 if source.keeps else -1]
    assert len(world.minted) == (made if source.keeps else made + 1)


async def fails_well(source: Case, situation: str) -> None:
    codes, again = EXPECTED.get(situation, OTHERS)
    with pytest.raises((DaemonError, KeylessError)) as caught:
        await source.obtain(situation)
    error = caught.value
    assert error.code in codes
    assert error.code in CODES
    if again is not None:
        assert error.retryable is again
    if situation in TOLD:
        assert error.hint
    assert error.message
    assert error.message.isprintable()
    shown = [*traceback.format_exception(error), str(error.details), repr(error), error.hint or ""]
    assert_unseen(source, "".join(shown))
    await forgets_the_failure(source, situation)


async def forgets_the_failure(source: Case, situation: str) -> None:
    """Nothing of a failure stays: when all is well again, the next use gives a right token."""
    world = source.world
    world.situation, world.gone = "right", set()
    healed = type(source)(world) if not source.keeps else source
    restore(world)
    world.clock.advance(120)  # a failure of what is kept counts for a while
    if situation == "no-file":
        (world.folder / "token").rmdir()
    assert await healed.obtain("right") == world.minted[-1]


def restore(world: World) -> None:
    fresh = World(world.clock, world.folder)
    world.metadata.flavor, world.metadata.base = fresh.metadata.flavor, fresh.metadata.base
    world.iam.delegates, world.iam.account = fresh.iam.delegates, fresh.iam.account
    world.issuer.keys = fresh.issuer.keys


def assert_unseen(source: Case, text: str) -> None:
    for token in source.world.minted:
        if token.startswith("eyJ"):
            _, payload, signature = token.split(".")
            assert payload not in text or len(payload) < 8
            assert signature not in text or len(signature) < 8
    for secret in source.secrets():
        assert secret not in text


def test_every_source_has_a_name_of_its_own() -> None:
    names = [source.name for source in SOURCES]
    assert len(names) == len(set(names))
