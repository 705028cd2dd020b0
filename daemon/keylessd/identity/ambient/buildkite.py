"""Buildkite: the agent's interface, for jobs in which its command is not at hand."""

from __future__ import annotations

import json
import re
from types import MappingProxyType
from typing import TYPE_CHECKING

from keylessd.identity.ambient.hosts import allowed_url
from keylessd.identity.fetch import Giver, ask, in_header, received, text_in, unavailable

if TYPE_CHECKING:
    from keylessd.clock import Clock
    from keylessd.identity.source import AmbientGrant
    from keylessd.identity.token import IdentityToken
    from keylessd.services.http import HttpClient

KIND = "buildkite"
HOSTS = ("agent.buildkite.com", "agent-edge.buildkite.com")
ENDPOINT = f"https://{HOSTS[0]}/v3"
# A job's id is a UUID; this keeps the path what it is.
JOB = re.compile(r"[0-9A-Za-z-]{1,64}")

GIVER = Giver(
    name="Buildkite",
    hint=None,
    hints=MappingProxyType(
        {
            401: "the agent's token is not this job's; run this in the job itself",
            403: "the agent's token is not this job's; run this in the job itself",
            404: "the job must be running, and BUILDKITE_JOB_ID its id",
        }
    ),
    audience_hint="Buildkite gives a token for whatever audience is asked; this is a fault there",
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
    if grant.job is None or JOB.fullmatch(grant.job) is None:
        raise unavailable(GIVER, "there is no id of a job", hint="BUILDKITE_JOB_ID has it")
    base = allowed_url(
        grant.url or ENDPOINT, GIVER, known=HOSTS, configured=hosts, setting="buildkite_hosts"
    )
    path = f"{base.path.rstrip('/')}/jobs/{grant.job}/oidc/tokens"
    reply = await ask(
        http,
        GIVER,
        "POST",
        str(base.copy_with(path=path, query=None)),
        headers={
            "Authorization": f"Token {in_header(grant.token, GIVER)}",
            "Content-Type": "application/json",
            "Accept": "application/json",
        },
        content=json.dumps({"audience": audience}).encode(),
    )
    raw = text_in(reply, GIVER, "token")
    return received(raw, GIVER, audience=audience, now=clock.now(), reply=reply)
