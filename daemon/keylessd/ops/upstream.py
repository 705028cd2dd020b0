"""Which services a signature needs, and asking several of them at once with spares. No keys."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

import trio

from keylessd.core.signing_config import Selection, Service, select_ca, select_rekor, select_tsa
from keylessd.errors import DaemonError, NoServiceError
from keylessd.services.urls import shown_url

if TYPE_CHECKING:
    from datetime import datetime

    from keylessd.trust.material import TrustMaterial

T = TypeVar("T")

REKOR_V2 = 2
NO_TSA = Selection((), 0)


@dataclass(frozen=True, slots=True)
class Plan:
    """The services of one signature.

    Attributes:
        ca: The certificate authority.
        logs: The logs, all of one version.
        tsas: The timestamp authorities; none at all is possible with Rekor v1.
    """

    ca: Service
    logs: Selection
    tsas: Selection

    @property
    def log_version(self) -> int:
        """1 or 2: the interface of the logs."""
        return self.logs.services[0].api_version


def plan_services(material: TrustMaterial, now: datetime) -> Plan:
    """Select the services of a signature made at *now*.

    Raises:
        NoServiceError: one that is needed cannot be selected. A Rekor v2 log vouches for no
            time, so it needs a timestamp authority.
    """
    config = material.signing_config
    if config is None:
        raise NoServiceError(
            f"instance {material.instance!r} has a trust root but no signing configuration",
            hint="give one with --signing-config, or the services' URLs",
        )
    ca = select_ca(config, now)
    logs = _distinct("transparency log", select_rekor(config, now))
    version = logs.services[0].api_version
    if not config.tsa_urls and version < REKOR_V2:
        return Plan(ca, logs, NO_TSA)
    try:
        tsas = _distinct("timestamp authority", select_tsa(config, now))
    except NoServiceError as exc:
        if version < REKOR_V2:
            raise
        raise NoServiceError(
            f"the log {shown_url(logs.services[0].url)} is Rekor v2 and needs a timestamp"
            f" authority, but {exc.message}"
        ) from exc
    return Plan(ca, logs, tsas)


def _distinct(what: str, selection: Selection) -> Selection:
    """Return the selection with each service once, whoever is said to run it.

    Raises:
        NoServiceError: More are required. A log would be told twice, and no bundle can say so.
    """
    services = tuple(
        {service.url.rstrip("/"): service for service in reversed(selection.services)}.values()
    )[::-1]
    if selection.required > len(services):
        raise NoServiceError(
            f"the signing config demands {selection.required} services of the kind {what}, and"
            f" names {len(services)} under several operators"
        )
    return Selection(services, selection.required)


@dataclass(slots=True)
class Answers(Generic[T]):
    """What the services of a selection answered.

    Attributes:
        values: In the order they came.
        errors: Of those that failed, in the order they failed.
        complete: Whether as many answered as are required.
    """

    values: list[T]
    errors: list[DaemonError]
    complete: bool


async def ask(selection: Selection, call: Callable[[Service], Awaitable[T]]) -> Answers[T]:
    """Ask as many services as are required, side by side; a spare takes the place of a failure.

    None is cancelled because another failed: a log may have taken the entry by then.

    Args:
        selection: The services, best first, and how many must answer.
        call: Asks one. Only a DaemonError leads to a spare; any other is a fault, and leaves
            from here.
    """
    answers: Answers[T] = Answers([], [], complete=False)
    rest = iter(selection.services)
    if selection.required == 1:
        await _lane(rest, call, answers)
    elif selection.required > 1:
        async with trio.open_nursery() as lanes:
            for _ in range(selection.required):
                lanes.start_soon(_lane, rest, call, answers)
    answers.complete = len(answers.values) >= selection.required
    return answers


async def _lane(
    rest: Iterator[Service], call: Callable[[Service], Awaitable[T]], answers: Answers[T]
) -> None:
    for service in rest:
        try:
            value = await call(service)
        except DaemonError as exc:
            answers.errors.append(exc)
        else:
            answers.values.append(value)
            return
