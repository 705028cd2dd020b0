"""What each signal does: TERM drains, a second one cuts, HUP reloads, USR1 drops all keys."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

from keylessd.log import EventLog

_log = EventLog(__name__)


@dataclass(frozen=True, slots=True)
class Reactions:
    """What the daemon does when it is told to. None of these may raise."""

    drain: Callable[[], None]
    cut: Callable[[], None]
    reload: Callable[[], Awaitable[None]]
    drop_keys: Callable[[], None]


async def obey(signals: AsyncIterator[int], reactions: Reactions) -> None:
    """Act on each of *signals*; runs until cancelled.

    Args:
        signals: From ``trio.open_signal_receiver``, for TERM, INT, HUP and USR1.
        reactions: What to do.
    """
    draining = False
    async for number in signals:
        name = signal.Signals(number).name
        _log.info("signal.received", signal=name)
        if number in {signal.SIGTERM, signal.SIGINT}:
            if draining:
                # Handlers go back to the default: a third one ends the process at once.
                signal.signal(signal.SIGTERM, signal.SIG_DFL)
                signal.signal(signal.SIGINT, signal.SIG_DFL)
                reactions.cut()
            else:
                draining = True
                reactions.drain()
        elif number == signal.SIGHUP:
            await reactions.reload()
        elif number == signal.SIGUSR1:
            reactions.drop_keys()
