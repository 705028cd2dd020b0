"""Which hosts the daemon asks because a client says so. Pure.

A client names the URL at which its CI system gives it a token. The daemon asks there with its own
network and its own name, so it goes to hosts of that CI system and to none else.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import httpx

from keylessd.identity.fetch import unavailable
from keylessd.services.urls import is_link_local, is_loopback, shown_url

if TYPE_CHECKING:
    from keylessd.identity.fetch import Giver

MAX_URL = 2048  # characters
HINT = "a URL of an endpoint has a host, and no user name and no fragment"
# Names and addresses; what else a parser lets pass as a host is nobody's.
_HOST = re.compile(r"[0-9a-z.-]+|[0-9a-f:.]+")


def allowed_url(
    url: str, giver: Giver, *, known: tuple[str, ...], configured: frozenset[str], setting: str
) -> httpx.URL:
    """Return *url* parsed, if the daemon may ask there for a client.

    Args:
        url: What the client said.
        giver: For errors.
        known: Hosts that are always allowed, with all below them: by https at the usual port.
        configured: Hosts that the settings allow, with all below them. By https; by plain http
            too if the host is this machine, which nobody gets into the settings by chance.
        setting: Name of the setting, for the hint.

    Raises:
        IdentityError: ``identity_unavailable``, not retryable.
    """
    try:
        parsed = httpx.URL(url) if len(url) <= MAX_URL else None
    except (httpx.InvalidURL, TypeError, ValueError):
        parsed = None
    if parsed is None or not parsed.host or parsed.userinfo or parsed.fragment:
        raise unavailable(
            giver,
            "the URL that it is to be asked at is none that can be asked",
            hint=HINT,
        )
    # The name as it goes over the wire: what is compared must be what is asked.
    host = parsed.raw_host.decode("ascii", "replace").lower()
    if _HOST.fullmatch(host) is None:
        raise unavailable(giver, "the URL that it is to be asked at has no host", hint=HINT)
    is_usual = parsed.scheme == "https" and parsed.port is None
    if is_usual and any(_is_below(host, one) for one in known):
        return parsed
    listed = any(_is_below(host, one) for one in configured) and not is_link_local(host)
    if listed and (parsed.scheme == "https" or (parsed.scheme == "http" and is_loopback(host))):
        return parsed
    raise unavailable(
        giver,
        f"{shown_url(url)} is not where this daemon asks for it; it does at"
        f" {' and '.join(known)}, below, and where its settings say",
        hint=f"an own server's host goes into the setting ambient.{setting}",
    )


def _is_below(host: str, base: str) -> bool:
    return host == base or host.endswith("." + base)
