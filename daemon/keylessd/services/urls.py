"""URLs and texts from outside, checked before use and made safe to show. Asks nobody."""

from __future__ import annotations

import base64
import json
import re
from dataclasses import dataclass, field
from functools import lru_cache
from ipaddress import IPv6Address, ip_address

import httpx

from keylessd.errors import InvalidInputError

_SHOWN_URLS = 256  # remembered: the same few services are named in every signature's records
DEFAULT_PORTS = {"http": 80, "https": 443}
MAX_UPSTREAM_TEXT = 200  # characters of somebody else's words in an error

# A JSON Web Token, whole or cut: in base64url its header begins with eyJ; if blanks follow the
# brace, with other letters.
_JWT = re.compile(r"eyJ[\w-]{8,}(?:\.[\w-]*){0,2}|\be[wy][\w-]{14,}\.[\w-]{40,}(?:\.[\w-]*)?")


@dataclass(frozen=True, slots=True)
class Target:
    """A checked URL.

    Attributes:
        url: Where to ask.
        shown: The form of it that may be shown.
        origin: Scheme, host and port of the server.
        netloc: What a ``Host`` header says of it.
        authorization: Header for the user that the URL names, or None.
    """

    url: httpx.URL
    shown: str
    origin: tuple[str, str, int]
    netloc: bytes
    authorization: str | None = field(default=None, repr=False)


def check_url(url: str, *, cleartext_hosts: frozenset[str] = frozenset()) -> Target:
    """Return *url* parsed, if a request may go there.

    Raises:
        InvalidInputError: If it is not absolute, or plain http to a host that is neither
            loopback nor in *cleartext_hosts*: tokens travel in these requests. Also if its host
            is a link-local address that is not in there: that is where machines ask who they are.
    """
    try:
        parsed = httpx.URL(url)
    except (httpx.InvalidURL, TypeError, ValueError) as exc:
        raise InvalidInputError("the URL of a service cannot be parsed") from exc
    shown = _shown(parsed)
    port_is_possible = parsed.port is None or 0 < parsed.port < 1 << 16
    if parsed.scheme not in {"https", "http"} or not parsed.host or not port_is_possible:
        raise InvalidInputError(f"{shown} is not an http or https URL")
    cleartext_is_fine = is_loopback(parsed.host) or parsed.host in cleartext_hosts
    if parsed.scheme == "http" and not cleartext_is_fine:
        raise InvalidInputError(
            f"{shown} would be asked in clear text; https is required beyond this machine"
        )
    if is_link_local(parsed.host) and parsed.host not in cleartext_hosts:
        raise InvalidInputError(f"{shown} is on the link of this machine, where no service is")
    return Target(
        parsed, shown, origin_of(parsed), parsed.netloc, authorization=_authorization(parsed)
    )


def origin_of(url: httpx.URL) -> tuple[str, str, int]:
    """Return scheme, host and port of the server that *url* names."""
    return url.scheme, url.host, url.port or DEFAULT_PORTS[url.scheme]


def _authorization(url: httpx.URL) -> str | None:
    """Return the header for the user and password of *url* (RFC 7617)."""
    if not url.userinfo:
        return None
    pair = f"{url.username}:{url.password}".encode()
    return f"Basic {base64.b64encode(pair).decode()}"


def is_loopback(host: str) -> bool:
    """Return whether *host* is this machine by its very name.

    Not names below ``localhost``: where the system does not know them, a name server is asked.
    """
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def is_link_local(host: str) -> bool:
    """Return whether *host* is an address of the link this machine is on, in whatever form.

    RFC 3927 and RFC 4291, 2.5.6. Clouds answer there with the machine's own credentials.
    """
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return (mapped or address).is_link_local


@lru_cache(maxsize=_SHOWN_URLS)
def shown_url(url: str) -> str:
    """Return *url* without user name, password, query and fragment, fit for logs and errors."""
    try:
        return _shown(httpx.URL(url))
    except (httpx.InvalidURL, TypeError, ValueError):
        return "(a URL that cannot be parsed)"


def _shown(url: httpx.URL) -> str:
    return printable(str(url.copy_with(userinfo=b"", query=None, fragment=None)))


def printable(text: str, limit: int = MAX_UPSTREAM_TEXT) -> str:
    """Return text from outside, made safe to show: escaped, tokens blotted out, cut to *limit*.

    Args:
        text: Anything.
        limit: Most characters of the result.
    """
    text = _JWT.sub("(token)", text[: 8 * limit])
    # Not only control characters: bidirectional overrides can make a log line lie as well.
    text = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return text if len(text) <= limit else text[: limit - 3] + "..."


def upstream_message(body: bytes) -> str:
    """Return what the body of an error says, in one safe line; "" if it says nothing.

    Understands the JSON of Fulcio, Rekor and OAuth servers, and plain text.
    """
    text = body[:4096].decode("utf-8", "replace").strip()
    if text.startswith("{"):
        try:
            value = json.loads(body[:65536])
        except (ValueError, RecursionError):
            value = None
        if isinstance(value, dict):
            for key in ("message", "error_description", "error", "detail", "title"):
                found = value.get(key)
                if isinstance(found, str) and found:
                    return printable(found.strip())
    elif text.startswith("<"):
        return ""  # a page for a browser helps nobody here
    return printable(text)
