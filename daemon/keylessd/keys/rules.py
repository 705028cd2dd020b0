"""What a CA says about the tokens it takes, remembered for a while; and why it refused one."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

import trio

from keylessd.errors import RateLimitedError, ServiceError, TokenError
from keylessd.flow.singleflight import SingleFlight
from keylessd.identity.fetch import skew_text
from keylessd.identity.token import DEFAULT_AUDIENCE, check_token, seconds_text
from keylessd.services import fulcio

if TYPE_CHECKING:
    from datetime import datetime

    from keylessd.clock import Clock
    from keylessd.identity.token import IdentityToken
    from keylessd.services.fulcio import FulcioConfiguration, FulcioIssuer
    from keylessd.services.http import HttpClient

KEEP_SECONDS = 600.0  # how long an answer counts; issuers are added rarely
RETRY_SECONDS = 30.0  # how long a failure counts: not every signature waits for a dead endpoint
MAX_KNOWN = 64  # CAs
MAX_LISTED = 12  # issuers in an error
THE_CA = "the certificate authority"


@dataclass(frozen=True, slots=True)
class _Known:
    configuration: FulcioConfiguration | None
    until: float  # on trio's clock
    ahead: timedelta | None = None


class CaRules:
    """The configurations of CAs, by URL."""

    def __init__(self, http: HttpClient, nursery: trio.Nursery, clock: Clock) -> None:
        """Store the parts; nothing is asked yet."""
        self._http = http
        self._clock = clock
        self._asking: SingleFlight[FulcioConfiguration | None] = SingleFlight(nursery)
        self._known: dict[str, _Known] = {}

    async def configuration(self, ca_url: str) -> FulcioConfiguration | None:
        """Return the CA's configuration, or None while it cannot be had."""
        known = self._known.get(ca_url)
        if known is not None and trio.current_time() < known.until:
            return known.configuration
        return await self._asking.run(ca_url, lambda: self._ask(ca_url))

    async def issuer(self, ca_url: str, token: IdentityToken) -> FulcioIssuer | None:
        """Return the CA's rules for tokens of this issuer, or None if they are not known."""
        configuration = await self.configuration(ca_url)
        return configuration.find(token.issuer) if configuration is not None else None

    def ahead(self, ca_url: str) -> timedelta | None:
        """Return how far our clock was ahead of the CA's (negative: behind), if it said."""
        known = self._known.get(ca_url)
        return None if known is None else known.ahead

    def forget(self, ca_url: str) -> None:
        """Ask anew next time: the CA decided otherwise than its known rules say."""
        self._known.pop(ca_url, None)

    async def _ask(self, ca_url: str) -> FulcioConfiguration | None:
        before = self._clock.now()
        try:
            answer = await fulcio.configuration(self._http, ca_url)
        except (ServiceError, RateLimitedError):
            # A CA without this endpoint issues certificates all the same.
            self._remember(ca_url, _Known(None, trio.current_time() + RETRY_SECONDS))
            return None
        ahead = None
        if answer.server_time is not None:
            # What the answer took may have been on either way.
            ahead = before + (self._clock.now() - before) / 2 - answer.server_time
        self._remember(ca_url, _Known(answer, trio.current_time() + KEEP_SECONDS, ahead))
        return answer

    def _remember(self, ca_url: str, known: _Known) -> None:
        if len(self._known) >= MAX_KNOWN:
            del self._known[next(iter(self._known))]
        self._known[ca_url] = known


def check_against(
    token: IdentityToken,
    issuer: FulcioIssuer | None,
    *,
    now: datetime,
    ahead: timedelta | None = None,
) -> None:
    """Check a token's claims against the CA's rules for its issuer, before the CA is called.

    Args:
        token: The token.
        issuer: The rules, or None if they are not known.
        now: Current time, UTC.
        ahead: How far our clock is ahead of the CA's, or None if that is not known.

    Raises:
        TokenError: ``token_expired``, ``token_audience`` or ``token_unverified_email``.
    """
    try:
        _check_against(token, issuer, now=now)
    except TokenError as exc:
        skew = "" if ahead is None else skew_text(now, now - ahead, THE_CA)
        if exc.code != "token_expired" or not skew:
            raise
        # The clock is not corrected: whoever sets it should know.
        raise TokenError(
            exc.code, exc.message + skew, hint="set this machine's clock, then get a fresh token"
        ) from None


def _check_against(token: IdentityToken, issuer: FulcioIssuer | None, *, now: datetime) -> None:
    if issuer is None:
        # What the public CAs do with a token that has an address.
        check_token(token, now=now, needs_email=token.email is not None)
        return
    check_token(
        token,
        now=now,
        audience=issuer.audience or DEFAULT_AUDIENCE,
        needs_email=issuer.issuer_type == "email" and not issuer.skip_email_verification,
    )


def explain_refusal(
    token: IdentityToken,
    configuration: FulcioConfiguration | None,
    *,
    now: datetime,
    server_time: datetime | None,
) -> TokenError:
    """Return the error that says why a CA most likely refused a token.

    The CA itself never says. What it goes by is known, so the first rule that fails is named.

    Args:
        token: The refused token.
        configuration: What the CA accepts, freshly asked, or None.
        now: Our clock, UTC.
        server_time: The CA's clock when it refused, or None.
    """
    reason, hint = _reason(token, configuration, now=server_time or now)
    if server_time is not None:
        reason += skew_text(now, server_time, THE_CA)
    return TokenError(
        "token_rejected",
        f"the certificate authority refused the identity token: {reason}",
        hint=hint,
    )


def _reason(
    token: IdentityToken, configuration: FulcioConfiguration | None, *, now: datetime
) -> tuple[str, str | None]:
    """Return (reason, what to do). *now* is the CA's clock where it is known."""
    issuer = configuration.find(token.issuer) if configuration is not None else None
    if configuration is not None and issuer is None:
        known = [entry.pattern for entry in configuration.issuers]
        more = f" and {len(known) - MAX_LISTED} more" if len(known) > MAX_LISTED else ""
        listed = ", ".join(repr(pattern[:200]) for pattern in known[:MAX_LISTED])
        return (
            f"its issuer {token.issuer!r} is unknown there; known are {listed}{more}",
            "get a token from one of these issuers, or name the instance that knows yours",
        )
    if token.expires <= now:
        return f"it expired {seconds_text(now - token.expires)} ago", "get a fresh token"
    audience = issuer.audience if issuer is not None and issuer.audience else DEFAULT_AUDIENCE
    if audience not in token.audience:
        found = ", ".join(repr(entry[:200]) for entry in token.audience[:4])
        return (
            f"it is for audience {found}, and {audience!r} is wanted",
            f"ask the issuer for a token with audience {audience}",
        )
    if issuer is not None and issuer.issuer_type == "email":
        if token.email is None:
            return "it has no email address", "ask the issuer for the scope `openid email`"
        if not token.email_verified and not issuer.skip_email_verification:
            return f"the address {token.email!r} is not verified by its issuer", None
    return (
        (
            f"issuer {token.issuer!r}, audience and times are as they should be, so its signature"
            " is wrong, the issuer's keys were not reachable, or its subject is not admitted"
        ),
        None,
    )
