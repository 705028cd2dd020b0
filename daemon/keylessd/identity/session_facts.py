"""What goes into the store of sessions and what comes out of it, as values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime

    from keylessd.identity.keep import SessionKey
    from keylessd.identity.session import HeldToken, State
    from keylessd.secret import Secret


@dataclass(frozen=True, slots=True)
class Caps:
    """How long a login may last, in seconds, whatever the issuer allows.

    Attributes:
        lifetime: From the login on.
        idle: Without use.
    """

    lifetime: float = 12 * 3600.0
    idle: float = 4 * 3600.0


@dataclass(frozen=True, slots=True)
class SessionStatus:
    """A session as it is shown.

    Attributes:
        key: Which one.
        state: How it is.
        reason: Why it is not active, or None.
        expires: End of its token, or None.
        token_sha256: Names the token, to find its certificates by; or None.
        ends: When it is over, whatever is renewed.
        last_used: When a token was last taken, or None.
        is_renewable: Whether it renews itself.
        is_default: Whether it is the default of its instance.
    """

    key: SessionKey
    state: State
    reason: str | None
    expires: datetime | None
    token_sha256: bytes | None
    ends: datetime
    last_used: datetime | None
    is_renewable: bool
    is_default: bool


@dataclass(frozen=True, slots=True)
class Login:
    """What a login gave.

    Attributes:
        held: The token.
        refresh_token: Leave to renew it, or None.
        nonce: What it repeats, or None.
    """

    held: HeldToken
    refresh_token: Secret | None
    nonce: str | None


@dataclass(frozen=True, slots=True)
class Ended:
    """A session that was ended on demand.

    Attributes:
        key: Which one.
        revoked: Whether the issuer took its refresh token back.
        reason: Why not, or None.
    """

    key: SessionKey
    revoked: bool
    reason: str | None
