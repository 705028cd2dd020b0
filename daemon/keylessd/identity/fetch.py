"""One call to whoever gives out identity tokens, and a first look at the token that comes.

Every source that asks somebody asks here, so that all have one deadline, one cap, no redirects,
and errors that say who failed and what to do.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from http import HTTPStatus
from typing import TYPE_CHECKING

from keylessd.core.strict_json import StrictJsonError, loads
from keylessd.errors import DaemonError, IdentityError, TokenError
from keylessd.identity.token import MIN_REMAINING, parse_token, seconds_text
from keylessd.identity.token_refusal import MAX_WAIT
from keylessd.secret import Secret
from keylessd.services.http import refusal
from keylessd.services.reply import date_of

if TYPE_CHECKING:
    from datetime import datetime

    from keylessd.identity.token import IdentityToken
    from keylessd.services.http import HttpClient, HttpReply

DEADLINE_SECONDS = 20.0  # for one call, with another attempt and whatever the server makes of it
ATTEMPTS = 2
RETRY_STATUSES = frozenset({429, 500, 502, 503, 504})
MAX_REPLY = 64 << 10  # bytes; an answer holds one token
SKEW_WORTH_TELLING = timedelta(seconds=30)
# What an environment gives to authenticate with goes into a header; anything else in there would
# be repeated in the complaint of whoever writes headers.
_HEADER_TEXT = re.compile(r"[\x21-\x7e]+")


@dataclass(frozen=True, slots=True)
class Giver:
    """Who gives out tokens, and what to do when it does not.

    Attributes:
        name: What it is called in errors.
        hint: What to do about any failure of it, or None.
        hints: What to do about a status, where that is known better.
        audience_hint: What to do about a token that is for somebody else.
    """

    name: str
    hint: str | None
    hints: Mapping[int, str]
    audience_hint: str


def unavailable(
    giver: Giver,
    problem: str,
    *,
    hint: str | None = None,
    retryable: bool = False,
    retry_after_seconds: float | None = None,
) -> IdentityError:
    """Return the error that says that *giver* gave no token; the caller raises it."""
    return IdentityError(
        "identity_unavailable",
        f"{giver.name} gave no identity token: {problem}",
        hint=hint if hint is not None else giver.hint,
        retryable=retryable,
        retry_after_seconds=retry_after_seconds,
        details={"source": giver.name},
    )


async def ask(
    http: HttpClient,
    giver: Giver,
    method: str,
    url: str,
    *,
    headers: Mapping[str, str],
    content: bytes | None = None,
    max_body: int = MAX_REPLY,
) -> HttpReply:
    """Return an answer with status 200.

    Asking twice is safe: at worst a token exists that nobody uses.

    Raises:
        IdentityError: ``identity_unavailable``: no answer, or another one.
    """
    try:
        reply = await http.send(
            method,
            url,
            service=giver.name,
            content=content,
            headers=headers,
            deadline_seconds=DEADLINE_SECONDS,
            max_body=max_body,
            attempts=ATTEMPTS,
            retry_statuses=RETRY_STATUSES,
            idempotent=True,
        )
        if reply.status != HTTPStatus.OK:
            raise refusal(reply, service=giver.name, at_most=MAX_WAIT)
    except DaemonError as exc:
        status = exc.details.get("status")
        raise unavailable(
            giver,
            exc.message,
            hint=giver.hints.get(status) if isinstance(status, int) else None,
            retryable=exc.retryable,
            retry_after_seconds=exc.retry_after_seconds,
        ) from exc
    return reply


def text_in(reply: HttpReply, giver: Giver, field: str) -> Secret:
    """Return the secret text in one field of a JSON object.

    Raises:
        IdentityError: ``identity_unavailable``: there is none; what came is not repeated.
    """
    try:
        value = loads(reply.body, max_bytes=MAX_REPLY)
    except StrictJsonError:
        raise unavailable(giver, f"what {reply.url} answered is not JSON") from None
    found = value.get(field) if isinstance(value, dict) else None
    if not isinstance(found, str) or not found:
        raise unavailable(giver, f"the answer of {reply.url} has no field {field!r} with a token")
    return Secret(found)


def in_header(secret: Secret, giver: Giver) -> str:
    """Return a secret that can stand in a header.

    Raises:
        IdentityError: ``identity_unavailable``: it cannot.
    """
    text = secret.reveal()
    if _HEADER_TEXT.fullmatch(text) is None:
        raise unavailable(
            giver, f"what it is to be asked with, {len(text)} characters, is no token"
        )
    return text


def received(
    raw: Secret,
    giver: Giver,
    *,
    audience: str,
    now: datetime,
    reply: HttpReply | None = None,
) -> IdentityToken:
    """Return the token that *giver* gave, if it can be of use at all.

    Args:
        raw: The token.
        giver: Who gave it.
        audience: For whom it was asked.
        now: Our clock, UTC.
        reply: The answer it came in, whose ``Date`` is the giver's clock; None: it came
            otherwise.

    Raises:
        IdentityError: ``identity_unavailable``: it is no token.
        TokenError: ``token_audience`` or ``token_expired``.
    """
    try:
        token = parse_token(raw)
    except TokenError as exc:
        raise unavailable(giver, f"what it gave is none ({exc.message})") from None
    if audience not in token.audience:
        found = ", ".join(repr(entry[:200]) for entry in token.audience[:4])
        raise TokenError(
            "token_audience",
            f"the identity token that {giver.name} gave is for audience {found}, and {audience!r}"
            " is wanted",
            hint=giver.audience_hint,
        )
    if token.expires - now < MIN_REMAINING:
        raise _ended(token, giver, now, None if reply is None else date_of(reply))
    return token


def _ended(
    token: IdentityToken, giver: Giver, now: datetime, server_time: datetime | None
) -> TokenError:
    left = token.expires - now
    when = f"ended {seconds_text(-left)} ago" if left <= timedelta(0) else "is about to end"
    skew = "" if server_time is None else skew_text(now, server_time, giver.name)
    return TokenError(
        "token_expired",
        f"the identity token that {giver.name} gave {when}, at {token.expires.isoformat()}{skew}",
        hint="set this machine's clock" if skew else giver.hint,
    )


def skew_text(now: datetime, server_time: datetime, server: str) -> str:
    """Return the end of a sentence that says how far our clock is off, or nothing if it is not."""
    if abs(now - server_time) <= SKEW_WORTH_TELLING:
        return ""
    side = "ahead of" if now > server_time else "behind"
    off = seconds_text(abs(now - server_time))
    return f"; this machine's clock is {off} {side} that of {server}"
