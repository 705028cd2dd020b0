"""What of a session may outlive the daemon, and the keeper that lets nothing do so."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from keylessd.errors import DaemonError

if TYPE_CHECKING:
    from datetime import datetime

    from keylessd.secret import Secret


class KeepError(DaemonError):
    """The keeper cannot read or write now; the session goes on in memory, degraded."""

    code = "identity_unavailable"
    retryable = True


@dataclass(frozen=True, slots=True)
class SessionKey:
    """What makes a session another one.

    Attributes:
        owner_uid: Whose it is. Nobody else's request ever finds it.
        instance: Name of the Sigstore instance it was begun for.
        issuer: The OIDC issuer.
        client_id: Whom the issuer knows us as.
        identity: Who it is: the email address, else the subject, as the issuer's token says.
    """

    owner_uid: int
    instance: str
    issuer: str
    client_id: str
    identity: str


@dataclass(frozen=True, slots=True)
class KeptSession:
    """One session as it is kept.

    Attributes:
        key: Which one.
        subject: The token's subject; a refresh that gives another ends the session.
        refresh_token: The newest. It is saved before it is used, so that no crash loses it.
        logged_in: When the person logged in (UTC).
        ends: When the session ends whatever is refreshed (UTC).
        is_default: Whether it is the default of its instance.
    """

    key: SessionKey
    subject: str
    refresh_token: Secret
    logged_in: datetime
    ends: datetime
    is_default: bool = False


class Keep(Protocol):
    """Keeps sessions. Calls for one session never overlap.

    Attributes:
        outlives: Whether what is kept is there for the next daemon.
    """

    outlives: bool

    async def load(self, owner_uid: int) -> list[KeptSession]:
        """Return what is kept for a user; whatever cannot be read is left out.

        Raises:
            KeepError: the store cannot be asked now.
        """
        ...

    async def save(self, session: KeptSession) -> None:
        """Keep *session* in place of the one with its key; durable on return.

        Raises:
            KeepError: it is not kept.
        """
        ...

    async def forget(self, key: SessionKey) -> None:
        """Forget a session; one that is not kept is no error.

        Raises:
            KeepError: it may still be there.
        """
        ...


class MemoryKeep:
    """Keeps nothing: a session ends with the daemon."""

    outlives = False

    async def load(self, owner_uid: int) -> list[KeptSession]:
        """Return nothing."""
        del owner_uid
        return []

    async def save(self, session: KeptSession) -> None:
        """Do nothing."""

    async def forget(self, key: SessionKey) -> None:
        """Do nothing."""
