"""The caller's own environment as a source of identities: fetched for one request, never kept."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Protocol

from keylessd.errors import IdentityError, LoginRequiredError
from keylessd.identity.ambient import buildkite, github
from keylessd.identity.token import DEFAULT_AUDIENCE

if TYPE_CHECKING:
    from keylessd.clock import Clock
    from keylessd.identity.source import AmbientGrant, IdentityRequest
    from keylessd.identity.token import IdentityToken
    from keylessd.services.http import HttpClient
    from keylessd.settings import AmbientSettings


class _Fetch(Protocol):
    async def __call__(
        self,
        http: HttpClient,
        clock: Clock,
        grant: AmbientGrant,
        *,
        audience: str,
        hosts: frozenset[str],
    ) -> IdentityToken: ...


_FETCH: Final[Mapping[str, _Fetch]] = MappingProxyType(
    {github.KIND: github.fetch, buildkite.KIND: buildkite.fetch}
)


class AmbientSource:
    """Fetches a token with what a caller found in its environment.

    What was fetched is returned and forgotten. Two callers never share one, whoever they are:
    each has shown a right of its own, and for that request only.
    """

    def __init__(self, http: HttpClient, clock: Clock, settings: AmbientSettings) -> None:
        """Store the parts.

        Args:
            http: Sends.
            clock: Tells what has ended.
            settings: Which hosts may be asked; apply() puts others in force.
        """
        self._http = http
        self._clock = clock
        self._settings = settings

    def apply(self, settings: AmbientSettings) -> None:
        """Put other hosts in force for what comes next."""
        self._settings = settings

    async def token(self, request: IdentityRequest) -> IdentityToken:
        """Return a token for whoever bears the grant of *request*.

        Raises:
            LoginRequiredError: the request has none.
            IdentityError: ``identity_unavailable``. Nobody else's identity takes its place.
            TokenError: ``token_audience``, ``token_expired``.
        """
        grant = request.ambient
        if grant is None:
            raise LoginRequiredError("the request brought nothing of its environment")
        fetch = _FETCH.get(grant.kind)
        if fetch is None:
            raise IdentityError(
                "identity_unavailable",
                f"nobody fetches an identity of the kind {grant.kind[:40]!r} here",
                hint="update the daemon, or give the token itself with --identity-token",
            )
        hosts = {
            github.KIND: self._settings.github_hosts,
            buildkite.KIND: self._settings.buildkite_hosts,
        }
        return await fetch(
            self._http,
            self._clock,
            grant,
            audience=grant.audience or DEFAULT_AUDIENCE,
            hosts=hosts[grant.kind],
        )
