"""What a refusal of a token endpoint means, said in one place.

RFC 6749, 5.2, RFC 8628, 3.5, and the dialect of Dex, which answers a dead refresh token with
``invalid_request`` and a failure of its own with 500 and the same word.
"""

from __future__ import annotations

import enum
from http import HTTPStatus
from typing import TYPE_CHECKING

from keylessd.core.strict_json import StrictJsonError, loads
from keylessd.errors import IdentityError
from keylessd.services.http import retry_after
from keylessd.services.urls import printable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from keylessd.services.http import HttpReply

MAX_REPLY = 64 << 10  # bytes
# Seconds that whoever gives out tokens may make us wait by Retry-After. More than others may: what
# is in hand serves on meanwhile, and an issuer that is asked too soon shuts out everybody.
MAX_WAIT = 300.0
# Fields of a form that must not be shown.
SECRET_FIELDS = frozenset(
    {
        "client_secret",
        "code",
        "code_verifier",
        "device_code",
        "refresh_token",
        "subject_token",
        "token",
    }
)


class Verdict(enum.Enum):
    """What a refusal means for whoever asked."""

    RETRY = "retry"  # the same request may succeed later
    DEAD = "dead"  # this code or refresh token will never work again
    CONFIGURATION = "configuration"  # the issuer does not take such requests from us
    PENDING = "pending"  # device flow: nobody has answered yet
    SLOW_DOWN = "slow_down"  # device flow: ask less often from now on
    DENIED = "denied"  # the person said no
    EXPIRED = "expired"  # device flow: nobody answered in time


class GrantError(IdentityError):
    """The token endpoint refused.

    Attributes:
        verdict: What that means.
        error: The issuer's code for it, or "".
    """

    def __init__(
        self, verdict: Verdict, message: str, *, error: str = "", wait: float | None = None
    ) -> None:
        super().__init__(
            "identity_unavailable",
            message,
            retryable=verdict is Verdict.RETRY,
            retry_after_seconds=wait,
        )
        self.verdict = verdict
        self.error = error


def refused(reply: HttpReply, *, grant_type: str, form: Mapping[str, str]) -> GrantError:
    """Return the error that says what an answer other than 200 means.

    Args:
        reply: The answer.
        grant_type: What was asked for.
        form: What was sent; an issuer that repeats its secrets does not get them shown.
    """
    error, description = _error_of(reply)
    verdict = classify(reply.status, error, description, grant_type=grant_type)
    for name in SECRET_FIELDS & form.keys():
        error = error.replace(form[name], f"({name})")
        description = description.replace(form[name], f"({name})")
    said = ": ".join(printable(text) for text in (error, description) if text)
    return GrantError(
        verdict,
        f"the issuer at {reply.url} answered {reply.status}" + (f": {said}" if said else ""),
        error=error,
        wait=retry_after(reply, at_most=MAX_WAIT),
    )


_BY_ERROR: Mapping[str, Verdict] = {
    "authorization_pending": Verdict.PENDING,
    "slow_down": Verdict.SLOW_DOWN,
    "access_denied": Verdict.DENIED,
    "expired_token": Verdict.EXPIRED,
    "invalid_grant": Verdict.DEAD,
}
_NOT_NOW = frozenset({408, 425, 429})


def classify(status: int, error: str, description: str, *, grant_type: str) -> Verdict:
    """Return what a refusal means.

    Args:
        status: HTTP status, not 200.
        error: The field ``error`` of the answer, or "".
        description: Its ``error_description``, or "".
        grant_type: What was asked for.
    """
    # First: Dex answers a race or a failure of the issuer behind it by 500 invalid_request, and
    # the token is good as before.
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR or status in _NOT_NOW:
        return Verdict.RETRY
    if status == HTTPStatus.UNAUTHORIZED:
        return Verdict.CONFIGURATION
    if error in _BY_ERROR:
        return _BY_ERROR[error]
    if (
        error == "invalid_request"
        and grant_type == "refresh_token"
        and description.lower().startswith("refresh token")
    ):
        return Verdict.DEAD
    return Verdict.CONFIGURATION


def _error_of(reply: HttpReply) -> tuple[str, str]:
    try:
        value = loads(reply.body, max_bytes=MAX_REPLY)
    except StrictJsonError:
        return "", ""
    if not isinstance(value, dict):
        return "", ""
    error, description = value.get("error"), value.get("error_description")
    return (
        error if isinstance(error, str) else "",
        description if isinstance(description, str) else "",
    )
