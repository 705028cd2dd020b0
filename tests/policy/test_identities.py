"""Who may sign as what the daemon holds."""

from __future__ import annotations

import pytest

from keylessd.policy.identities import Asker, Grant, decide_identity

ME, OTHER = (1000, frozenset({1000, 27})), (1001, frozenset({1001}))
ROOT = (0, frozenset({0}))


def allowed(
    who: tuple[int, frozenset[int]],
    *,
    users: tuple[range, ...] | None = None,
    groups: tuple[range, ...] = (),
    instances: frozenset[str] | None = None,
    instance: str | None = "public",
    system: bool = False,
    names_services: bool = False,
) -> bool:
    grant = Grant("it", instances, users, groups)
    asker = Asker(*who, instance, names_services)
    decision = decide_identity(grant, asker, own_uid=1000, system=system)
    assert decision.reason
    return decision.allowed


def test_unsaid_a_users_daemon_serves_its_own_user_and_nobody_else() -> None:
    assert allowed(ME)
    assert not allowed(OTHER)
    assert not allowed(ROOT)


def test_unsaid_a_system_daemon_serves_nobody_not_even_its_own_user() -> None:
    assert not allowed(ME, system=True)
    assert not allowed(ROOT, system=True)


@pytest.mark.parametrize("system", [False, True])
def test_users_that_are_listed_and_no_others(system: bool) -> None:
    users = (range(2000, 3000), range(1001, 1002))
    assert allowed(OTHER, users=users, system=system)
    assert allowed((2000, frozenset()), users=users, system=system)
    assert allowed((2999, frozenset()), users=users, system=system)
    assert not allowed((3000, frozenset()), users=users, system=system)
    # Who is listed takes the place of who is meant when nobody is.
    assert not allowed(ME, users=users, system=system)


def test_an_empty_list_is_nobody() -> None:
    assert not allowed(ME, users=())


@pytest.mark.parametrize("system", [False, True])
def test_members_of_a_listed_group(system: bool) -> None:
    groups = (range(27, 28),)
    assert allowed(ME, groups=groups, system=system)
    assert not allowed(OTHER, groups=groups, system=system)
    assert allowed(OTHER, groups=groups, users=(range(1001, 1002),), system=system)


@pytest.mark.parametrize(
    ("instances", "instance", "expected"),
    [
        (None, "public", True),
        (None, None, True),
        (frozenset({"public"}), "public", True),
        (frozenset({"public"}), "corp", False),
        (frozenset({"public"}), None, False),
        (frozenset(), "public", False),
    ],
)
def test_instances(instances: frozenset[str] | None, instance: str | None, expected: bool) -> None:
    assert allowed(ME, instances=instances, instance=instance) is expected


def test_a_request_that_says_where_the_token_goes_is_for_the_daemons_own_user_alone() -> None:
    users = (range(1000, 1002),)
    assert allowed(ME, names_services=True)
    assert allowed(ME, users=users, names_services=True)
    assert not allowed(OTHER, users=users, names_services=True)
    assert not allowed(ME, users=users, names_services=True, system=True)
    assert not allowed(ME, groups=(range(27, 28),), names_services=True, system=True)
