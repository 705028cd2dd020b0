"""GitHub Actions: a job's own request URL and request token, for an identity token.

A workflow gets both only with ``permissions: id-token: write``. The URL has a query of its own
already, so the audience is added to that.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

from keylessd.identity.ambient.hosts import allowed_url
from keylessd.identity.fetch import Giver, ask, in_header, received, text_in, unavailable

if TYPE_CHECKING:
    from keylessd.clock import Clock
    from keylessd.identity.source import AmbientGrant
    from keylessd.identity.token import IdentityToken
    from keylessd.services.http import HttpClient

KIND = "github"
HOST = "actions.githubusercontent.com"
PERMISSION = "give the job `permissions: id-token: write`"

GIVER = Giver(
    name="GitHub Actions",
    hint=None,
    hints=MappingProxyType(
        {
            400: f"{PERMISSION}; the request token must be this very job's",
            401: "the job's request token has ended or is another job's; run this in a new job",
            403: f"{PERMISSION}; a pull request from a fork gets no identity",
            404: "the request URL must be this very job's",
        }
    ),
    audience_hint="GitHub gives a token for whatever audience is asked for; this is a fault there",
)


async def fetch(
    http: HttpClient,
    clock: Clock,
    grant: AmbientGrant,
    *,
    audience: str,
    hosts: frozenset[str],
) -> IdentityToken:
    """Return a token of the job that *grant* comes from.

    Raises:
        IdentityError: ``identity_unavailable``.
        TokenError: ``token_audience``, ``token_expired``.
    """
    if grant.url is None:
        raise unavailable(GIVER, "there is no URL to ask at", hint=PERMISSION)
    url = allowed_url(grant.url, GIVER, known=(HOST,), configured=hosts, setting="github_hosts")
    reply = await ask(
        http,
        GIVER,
        "GET",
        str(url.copy_set_param("audience", audience)),
        headers={
            "Authorization": f"bearer {in_header(grant.token, GIVER)}",
            "Accept": "application/json",
        },
    )
    raw = text_in(reply, GIVER, "value")
    return received(raw, GIVER, audience=audience, now=clock.now(), reply=reply)
