"""One login session: what it holds, when it is due, when it is over. Asks nobody.

A session is *active* while its token can be used or another can be had without asking anybody,
*degraded* while its token can be used but the last attempt to renew it failed, and
*login_required* once only a person can bring it back. That is never undone but by a new login.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING

from keylessd.errors import DaemonError, LoginRequiredError
from keylessd.identity.moment import Moment
from keylessd.identity.token_refusal import MAX_WAIT

if TYPE_CHECKING:
    import random
    from collections.abc import Iterator

    from keylessd.identity.keep import SessionKey
    from keylessd.identity.token import IdentityToken
    from keylessd.secret import Secret

# A token is not handed out with less: Fulcio gives no leeway on its end.
MIN_REMAINING = 10.0  # seconds
# Short-lived tokens are renewed at half of their life, others at four fifths, and those that
# live less than two minutes only when somebody wants to sign: else we would never stop asking.
SHORT_LIFE = 300.0
LAZY_LIFE = 120.0
SHORT_SHARE = 0.5
LONG_SHARE = 0.8
JITTER = 0.1  # a renewal comes earlier by up to this share, so that a fleet does not come as one
# Proactive renewal is for sessions in use: those asked for within this, or one life of a token.
IN_USE = 300.0
RETRY_FIRST = 1.0
RETRY_CAP = 60.0
OUTLIVED = "its token has ended, and the issuer gave no leave to renew it"


class State(enum.StrEnum):
    """How a session is."""

    ACTIVE = "active"
    DEGRADED = "degraded"
    LOGIN_REQUIRED = "login_required"


@dataclass(frozen=True, slots=True)
class HeldToken:
    """An ID token, and when it is due and over.

    Attributes:
        token: The token, verified.
        length: Its whole life in seconds, counted from when it was asked for.
        ends: When it is over.
        renew_at: When to renew it, on the clock that counts suspend; infinity: only on demand.
    """

    token: IdentityToken
    length: float
    ends: Moment
    renew_at: float


def hold(
    token: IdentityToken, *, sent: Moment, expires_in: float | None, rng: random.Random
) -> HeldToken:
    """Return what is to be known of a token that was just issued.

    Its life is what the issuer says: ``exp`` less ``iat``, else ``expires_in``, else ``exp``
    less our own clock. It is counted from when we asked, since it cannot have begun later.

    Args:
        token: The token.
        sent: When it was asked for.
        expires_in: What the answer said beside it.
        rng: Jitter.
    """
    if token.issued is not None and token.issued < token.expires:
        length = (token.expires - token.issued).total_seconds()
    elif expires_in is not None:
        length = expires_in
    else:
        length = max(0.0, (token.expires - sent.wall).total_seconds())
    if length < LAZY_LIFE:
        renew_at = float("inf")
    else:
        share = SHORT_SHARE if length <= SHORT_LIFE else LONG_SHARE
        renew_at = sent.boot + length * share * (1.0 - rng.uniform(0.0, JITTER))
    return HeldToken(token, length, Moment(token.expires, sent.boot + length), renew_at)


@dataclass(slots=True)
class Failure:
    """Renewals that failed, one after the other.

    Attributes:
        error: Why the last one did.
        retry_at: When to try again, on the clock that counts suspend; until then the error is
            given to whoever asks.
        pauses: How long to wait after the next ones.
    """

    error: DaemonError
    retry_at: float
    pauses: Iterator[float]


@dataclass(slots=True, eq=False)
class Session:
    """A login of one person for one instance.

    Attributes:
        key: Which one.
        subject: The token's ``sub``; a renewal that gives another ends the session.
        logged_in: When the person logged in.
        ends: When it is over, whatever is renewed.
        held: The newest token, perhaps over already; None after the daemon's start.
        refresh_token: The newest refresh token; None if the issuer gave none, or took it back.
        nonce: The login's, which a renewed token may repeat; None if it is not known.
        used: When a token was last asked for.
        failure: Of the renewals since the last that succeeded, or None.
        was_used: Whether a token was ever asked for.
        note: What else makes it degraded, or None.
        over: Why only a person can bring it back, or None.
        spent: Whether the token was once seen to have ended: no clock brings it back.
    """

    key: SessionKey
    subject: str
    logged_in: Moment
    ends: Moment
    used: Moment
    held: HeldToken | None = None
    refresh_token: Secret | None = None
    nonce: str | None = None
    failure: Failure | None = None
    note: str | None = None
    over: str | None = None
    was_used: bool = False
    spent: bool = False

    @property
    def is_renewable(self) -> bool:
        """Whether another token can be had without asking a person."""
        return self.over is None and self.refresh_token is not None

    def token_left(self, now: Moment) -> float:
        """Return the seconds that the token can still be used; 0 or less if it cannot."""
        if self.over is not None or self.held is None or self.spent:
            return 0.0
        left = min(self.held.ends.left(now), self.ends.left(now)) - MIN_REMAINING
        if left <= 0:
            self.spent = True
        return left

    def is_due(self, now: Moment) -> bool:
        """Return whether the token should be renewed now, before anybody needs it."""
        if not self.is_renewable or self.held is None or self.is_quiet(now):
            return False
        idle = now.boot - self.used.boot
        return now.boot >= self.held.renew_at and idle <= max(IN_USE, self.held.length)

    def is_quiet(self, now: Moment) -> bool:
        """Return whether a renewal failed so lately that another would be no use."""
        return self.failure is not None and now.boot < self.failure.retry_at

    def why_over(self, now: Moment, *, idle_seconds: float) -> str | None:
        """Return why the session is over by now, or None."""
        if self.over is not None:
            return self.over
        if self.ends.left(now) <= 0:
            hours = (self.ends.boot - self.logged_in.boot) / 3600
            return f"it has lasted the {hours:g} hours that a login may"
        if now.boot - self.used.boot >= idle_seconds:
            return f"nobody used it for {idle_seconds / 3600:g} hours"
        return None

    def end(self, why: str) -> None:
        """Take it that only a new login helps. The token stays, for certificates it has earned."""
        self.over = why
        self.refresh_token = None
        self.failure = None

    def failed(self, error: DaemonError, now: Moment, rng: random.Random) -> None:
        """Take note of a renewal that failed and may succeed later."""
        pauses = self.failure.pauses if self.failure is not None else _pauses(rng)
        wait = max(next(pauses), min(error.retry_after_seconds or 0.0, MAX_WAIT))
        self.failure = Failure(error, now.boot + wait, pauses)

    def renewed(self, held: HeldToken) -> None:
        """Take a new token."""
        self.held = held
        self.failure = None
        self.spent = False

    def state(self) -> tuple[State, str | None]:
        """Return how it is, and why if it is not active."""
        if self.over is not None:
            return State.LOGIN_REQUIRED, self.over
        if self.spent and not self.is_renewable:
            return State.LOGIN_REQUIRED, OUTLIVED
        if self.failure is not None:
            return State.DEGRADED, f"it cannot be renewed now: {self.failure.error.message}"
        if self.note is not None:
            return State.DEGRADED, self.note
        return State.ACTIVE, None


def _pauses(rng: random.Random) -> Iterator[float]:
    """Yield pauses without end: 1 s, doubled up to 60 s, each shorter by up to a half."""
    ceiling = RETRY_FIRST
    while True:
        yield ceiling * (1.0 - rng.uniform(0.0, 0.5))
        ceiling = min(RETRY_CAP, ceiling * 2)


def login_command(instance: str | None, *, identity: str | None = None) -> str:
    """Return the command that a person must run, in backquotes, for a hint.

    Args:
        instance: As a session has it; one that a request described by files or URLs cannot be
            named again, so the hint says to give the same.
        identity: Who should log in, or None for anybody.
    """
    is_named = instance is not None and ":" not in instance and "+" not in instance
    words = ["keyless login"]
    if is_named:
        words.append(f"--instance {instance}")
    if identity is not None:
        words.append(f"--identity {identity}")
    command = "`" + " ".join(words) + "`"
    if is_named or instance is None:
        return command
    return command + ", with the same files and URLs of services,"


def login_required(key: SessionKey, why: str) -> LoginRequiredError:
    """Return the error that says that a person must log in again, and how."""
    return LoginRequiredError(
        f"the session of {key.identity!r} on instance {key.instance!r} is over: {why}",
        hint=f"run {login_command(key.instance)} (with --device where there is no display)",
    )
