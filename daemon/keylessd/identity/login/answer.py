"""Whether a request to the loopback listener is the browser's answer. Pure.

Anybody on this machine, and any page in any browser on it, can send requests there. So everything
that is not exactly the answer to this login is refused without an effect, and the wait goes on;
nothing is looked at before the state is found to be ours.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlsplit

from keylessd.secret import Secret
from keylessd.services.urls import printable

if TYPE_CHECKING:
    from collections.abc import Sequence

PATH = "/auth/callback"
MAX_FIELDS = 32
# RFC 6749, 4.1.2.1 and OpenID Connect Core 1.0, 3.1.2.6: what a person or an issuer means by no.
DENIALS = frozenset({"access_denied", "consent_required", "login_required", "interaction_required"})


@dataclass(frozen=True, slots=True)
class Asked:
    """What the answer must fit.

    Attributes:
        port: Of the listener.
        state: Of this login.
        issuer: Who was asked.
        names_itself: Whether its answers must name it (RFC 9207).
    """

    port: int
    state: Secret
    issuer: str
    names_itself: bool


@dataclass(frozen=True, slots=True)
class Code:
    """The answer: an authorization code."""

    code: Secret


@dataclass(frozen=True, slots=True)
class Refusal:
    """The answer: the issuer's error.

    Attributes:
        is_denial: Whether somebody said no, rather than something went wrong.
        message: What it says, fit to be shown.
    """

    is_denial: bool
    message: str


@dataclass(frozen=True, slots=True)
class Stray:
    """No answer to this login; the wait goes on.

    Attributes:
        status: HTTP status to answer with.
        reason: Why, for whoever sent it.
    """

    status: int
    reason: str


def read_answer(
    method: str, target: str, headers: Sequence[tuple[str, str]], asked: Asked
) -> Code | Refusal | Stray:
    """Return what a request is.

    Args:
        method: HTTP method.
        target: Request target, as it was sent.
        headers: Names in lower case, and values.
        asked: What it must fit.
    """
    stray = _misplaced(method, target, headers, asked.port)
    if stray is not None:
        return stray
    try:
        pairs = parse_qsl(
            urlsplit(target).query,
            keep_blank_values=True,
            max_num_fields=MAX_FIELDS,
            errors="strict",
        )
    except ValueError:
        return Stray(400, "the request cannot be read")
    return _read_fields(pairs, asked)


def _misplaced(
    method: str, target: str, headers: Sequence[tuple[str, str]], port: int
) -> Stray | None:
    """Say why a request cannot be a browser's that was sent here, or return None."""
    names = {f"{host}:{port}" for host in ("127.0.0.1", "localhost", "[::1]")}
    hosts = [value for name, value in headers if name == "host"]
    origins = [value for name, value in headers if name == "origin"]
    if len(hosts) != 1 or hosts[0] not in names:
        # A name that somebody else's DNS points here (DNS rebinding).
        return Stray(400, "the request is for another host")
    if method != "GET":
        return Stray(405, "only GET is answered")
    if any(origin.removeprefix("http://") not in names for origin in origins):
        return Stray(403, "the request was made by another page")
    if target.partition("?")[0] != PATH:
        return Stray(404, "there is nothing here")
    return None


def _read_fields(pairs: list[tuple[str, str]], asked: Asked) -> Code | Refusal | Stray:
    states = [value for name, value in pairs if name == "state"]
    # Every comparison takes place, whatever the first one says.
    ours = [_is_equal(state, asked.state.reveal()) for state in states]
    if ours != [True]:
        return Stray(400, "the request belongs to another sign-in")
    fields = dict(pairs)
    if len(fields) != len(pairs):
        return Stray(400, "the request says something twice")
    named = fields.get("iss")
    if (named is None and asked.names_itself) or named not in (None, asked.issuer):
        return Stray(400, "the answer is not from the issuer that was asked")
    if "error" in fields:
        said = [
            printable(fields[name]) for name in ("error", "error_description") if name in fields
        ]
        return Refusal(fields["error"] in DENIALS, ": ".join(filter(None, said)))
    if not fields.get("code"):
        return Stray(400, "the answer holds no code")
    return Code(Secret(fields["code"]))


def _is_equal(found: str, wanted: str) -> bool:
    return hmac.compare_digest(found.encode("utf-8", "surrogatepass"), wanted.encode())
