"""What every kind of held identity promises, and what it is made with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import random

    import trio

    from keylessd.clock import Clock
    from keylessd.flow.threads import Threads
    from keylessd.held_settings import HeldSettings
    from keylessd.identity.provider import Providers
    from keylessd.identity.token import IdentityToken
    from keylessd.services.http import HttpClient


class HeldSource(Protocol):
    """Gets tokens of one identity. Knows nothing of who may have them, and keeps none."""

    @property
    def keeps(self) -> bool:
        """Whether a token may be kept until it is due; if not, every use fetches."""
        ...

    async def fetch(self) -> IdentityToken:
        """Return a token that was got just now. It has deadlines of its own.

        Raises:
            IdentityError: ``identity_unavailable``; it names the source and what to do.
            TokenError: ``token_malformed``: what came is no token.
        """
        ...


@dataclass(frozen=True, slots=True)
class Parts:
    """What a source may be made with.

    Attributes:
        http: Sends requests to services.
        clock: Wall clock, and the one that counts suspend.
        rng: Jitter.
        threads: Runs what blocks: ``threads.run("disk", ...)``.
        nursery: Runs shared calls.
        environ: The daemon's environment; two names in it matter, see held_settings.
        providers: OpenID providers and their keys.
    """

    http: HttpClient
    clock: Clock
    rng: random.Random
    threads: Threads
    nursery: trio.Nursery
    environ: Mapping[str, str]
    providers: Providers


class Maker(Protocol):
    """Makes the source of one kind: ``settings.source`` is the kind's own settings."""

    def __call__(self, settings: HeldSettings, parts: Parts) -> HeldSource:
        """Return the source; nothing is asked or opened yet."""
        ...
