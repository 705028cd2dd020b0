"""The trust in force while a reload replaces it."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import trio

from keylessd.errors import InvalidInputError, ShuttingDownError
from keylessd.server.rooms import HouseRooms, TrustInForce
from keylessd.settings import Settings, parse_settings
from keylessd.trust.where import Where


class FakeTrust:
    """Answers once it is let to; says that it ends when it is no longer run."""

    default = "x"

    def __init__(self, name: str) -> None:
        self.name = name
        self.go = trio.Event()
        self.over = trio.Event()
        self.runs = 0

    async def run(self, *, task_status: trio.TaskStatus[None]) -> None:
        self.runs += 1
        task_status.started()
        try:
            await trio.sleep_forever()
        finally:
            self.over.set()

    async def material(self, where: Where, purpose: str) -> str:
        async with trio.open_nursery() as nursery:

            async def end() -> None:
                await self.over.wait()
                nursery.cancel_scope.cancel()

            nursery.start_soon(end)
            await self.go.wait()
            nursery.cancel_scope.cancel()
        if self.over.is_set():
            raise ShuttingDownError("the daemon is shutting down")
        return self.name

    async def refresh(self, instance: str) -> str:
        return await self.material(Where(), "sign")


@pytest.mark.parametrize("ask", [lambda it: it.material(Where()), lambda it: it.refresh("x")])
async def test_who_waits_for_the_old_one_gets_the_answer_of_the_new(
    autojump_clock: object, ask
) -> None:
    old, new = FakeTrust("old"), FakeTrust("new")
    new.go.set()
    trust = TrustInForce(old)  # type: ignore[arg-type]
    found: list[str] = []

    async def wait() -> None:
        found.append(await ask(trust))

    async with trio.open_nursery() as nursery:
        await nursery.start(trust.run)
        nursery.start_soon(wait)
        await trio.sleep(1)
        trust.replace(new)  # type: ignore[arg-type]
        await trio.sleep(1)

        assert found == ["new"]
        assert (old.runs, new.runs) == (1, 1)
        assert old.over.is_set()
        nursery.cancel_scope.cancel()


async def test_at_the_end_of_all_they_are_told_so(autojump_clock: object) -> None:
    old = FakeTrust("old")
    trust = TrustInForce(old)  # type: ignore[arg-type]
    old.over.set()
    old.go.set()
    with pytest.raises(ShuttingDownError):
        await trust.material(Where())


async def test_two_replacements_at_once_leave_the_last(autojump_clock: object) -> None:
    trusts = [FakeTrust(name) for name in "abc"]
    for one in trusts:
        one.go.set()
    trust = TrustInForce(trusts[0])  # type: ignore[arg-type]
    async with trio.open_nursery() as nursery:
        await nursery.start(trust.run)
        trust.replace(trusts[1])  # type: ignore[arg-type]
        trust.replace(trusts[2])  # type: ignore[arg-type]
        await trio.sleep(1)

        assert [one.runs - one.over.is_set() for one in trusts] == [0, 0, 1]
        assert await trust.material(Where()) == "c"
        nursery.cancel_scope.cancel()


class Recorder:
    """Takes note of what is put in force; refuses on demand."""

    def __init__(self) -> None:
        self.applied: list[object] = []
        self.problem: InvalidInputError | None = None

    def apply(self, value: object) -> None:
        if self.problem is not None:
            raise self.problem
        self.applied.append(value)

    replace = allow_cleartext = resize = apply


def rooms_of(made: list[object]) -> tuple[HouseRooms, Recorder, Recorder, Recorder]:
    trust, ambient, held, rest = Recorder(), Recorder(), Recorder(), Recorder()
    house = SimpleNamespace(ledger=SimpleNamespace(), sessions=SimpleNamespace())

    def make_trust(settings: Settings) -> object:
        made.append(settings)
        return settings

    rooms = HouseRooms(
        house,  # type: ignore[arg-type]
        http=rest,  # type: ignore[arg-type]
        trust=trust,  # type: ignore[arg-type]
        make_trust=make_trust,  # type: ignore[arg-type]
        ambient=ambient,  # type: ignore[arg-type]
        held=held,  # type: ignore[arg-type]
        files=rest,  # type: ignore[arg-type]
        settings=Settings(),
    )
    return rooms, trust, ambient, held


OTHER = """
default_instance = "staging"
[ambient]
github_hosts = ["ghes.example"]
[identity.pod]
kind = "file"
path = "/token"
"""


def test_a_reload_puts_all_of_it_in_force() -> None:
    made: list[object] = []
    rooms, trust, ambient, held = rooms_of(made)
    settings = parse_settings(OTHER)
    rooms.apply(settings)
    assert trust.applied == made == [settings]
    assert ambient.applied == [settings.ambient]
    assert held.applied == [settings.identities]
    rooms.apply(settings)
    assert trust.applied == [settings]  # what did not change goes on


def test_a_reload_that_names_an_unknown_user_changes_nothing() -> None:
    made: list[object] = []
    rooms, trust, ambient, held = rooms_of(made)
    held.problem = InvalidInputError("nobody is called so")
    with pytest.raises(InvalidInputError):
        rooms.apply(parse_settings(OTHER))
    assert trust.applied == ambient.applied == []
    held.problem = None
    rooms.apply(parse_settings(OTHER))
    assert len(trust.applied) == 1
