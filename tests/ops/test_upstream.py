"""How many services are asked, which one next, and what a failure leads to."""

from __future__ import annotations

from datetime import UTC, datetime
from types import SimpleNamespace

import pytest
import trio

from keylessd.core.signing_config import Selection, Selector, Service, SigningConfig
from keylessd.core.trusted_root import TimeRange
from keylessd.errors import NoServiceError, RateLimitedError, ServiceUnavailableError
from keylessd.ops.upstream import Plan, ask, plan_services

NAMES = ("a", "b", "c", "d")
SERVICES = tuple(Service(name, 1, None, name) for name in NAMES)


class Asked:
    """Answers with the service's name; those in *dead* fail."""

    def __init__(self, *dead: str, error: Exception | None = None) -> None:
        self.dead = dead
        self.error = error or ServiceUnavailableError("x", "dead")
        self.calls: list[str] = []

    async def __call__(self, service: Service) -> str:
        self.calls.append(service.url)
        await trio.sleep(1)
        if service.url in self.dead:
            raise self.error
        return service.url


async def test_any_asks_the_first_only(autojump_clock):
    asked = Asked()
    answers = await ask(Selection(SERVICES, 1), asked)
    assert (answers.values, answers.complete, asked.calls) == (["a"], True, ["a"])


@pytest.mark.parametrize(
    "error", [ServiceUnavailableError("x", "dead"), RateLimitedError("slow down")]
)
async def test_any_goes_to_the_next_after_a_failure(autojump_clock, error):
    asked = Asked("a", "b", error=error)
    answers = await ask(Selection(SERVICES, 1), asked)
    assert (answers.values, answers.complete, asked.calls) == (["c"], True, ["a", "b", "c"])


async def test_exact_asks_side_by_side_and_shares_the_spares(autojump_clock):
    asked = Asked("a")
    began = trio.current_time()
    answers = await ask(Selection(SERVICES, 2), asked)
    assert sorted(answers.values) == ["b", "c"]
    assert answers.complete
    assert sorted(asked.calls) == ["a", "b", "c"]
    assert trio.current_time() - began == pytest.approx(2)


async def test_all_has_no_spares(autojump_clock):
    asked = Asked("b")
    answers = await ask(Selection(SERVICES, 4), asked)
    assert not answers.complete
    assert len(answers.values) == 3
    assert len(answers.errors) == 1


async def test_all_dead(autojump_clock):
    answers = await ask(Selection(SERVICES, 1), Asked(*NAMES))
    assert not answers.complete
    assert len(answers.errors) == 4


async def test_none_required_asks_nobody(autojump_clock):
    asked = Asked()
    answers = await ask(Selection((), 0), asked)
    assert (answers.complete, asked.calls) == (True, [])


async def test_a_fault_is_no_failure_of_a_service(autojump_clock):
    with pytest.raises(ZeroDivisionError):
        await ask(Selection(SERVICES, 1), Asked("a", error=ZeroDivisionError()))


# --- the plan ---------------------------------------------------------------------------------

NOW = datetime(2026, 1, 1, tzinfo=UTC)
ALWAYS = TimeRange(NOW, None)


def planned(
    logs: list[tuple[str, str]], *, tsas: list[tuple[str, str]], selector: Selector
) -> Plan:
    """Plan with logs and authorities of these URLs and operators."""

    def services(named: list[tuple[str, str]], version: int) -> tuple[Service, ...]:
        return tuple(Service(url, version, ALWAYS, operator) for url, operator in named)

    config = SigningConfig(
        ca_urls=services([("https://ca.example", "x")], 1),
        oidc_urls=(),
        rekor_urls=services(logs, 2),
        tsa_urls=services(tsas, 1),
        rekor_selector=selector,
        rekor_count=2,
        tsa_selector=selector,
        tsa_count=2,
    )
    return plan_services(SimpleNamespace(instance="i", signing_config=config), NOW)


ONE = [("https://a.example", "x"), ("https://a.example/", "y")]
TWO = [("https://a.example", "x"), ("https://b.example", "y")]


@pytest.mark.parametrize("selector", [Selector.ALL, Selector.EXACT])
def test_one_service_under_two_operators_is_not_two(selector):
    """Told before anything is signed: a log would have the entry, and no bundle could say so."""
    with pytest.raises(
        NoServiceError, match="2 services of the kind transparency log, and names 1"
    ):
        planned(ONE, tsas=TWO, selector=selector)
    with pytest.raises(NoServiceError, match="2 services of the kind timestamp authority"):
        planned(TWO, tsas=ONE, selector=selector)
    plan = planned(TWO, tsas=TWO, selector=selector)
    assert (plan.logs.required, plan.tsas.required) == (2, 2)


def test_one_service_under_two_operators_is_no_spare_for_itself():
    plan = planned([*ONE, ("https://b.example", "z")], tsas=ONE, selector=Selector.ANY)
    assert [service.url for service in plan.logs.services] == [
        "https://a.example",
        "https://b.example",
    ]
    assert [service.operator for service in plan.tsas.services] == ["x"]
