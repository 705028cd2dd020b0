"""What the trust side hands out: one consistent set of trust root and services, as values."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from keylessd.core.signing_config import SigningConfig
    from keylessd.core.trusted_root import TrustedRoot

Source = Literal["tuf", "files", "request"]
Purpose = Literal["sign", "verify"]


@dataclass(frozen=True, slots=True)
class TrustMaterial:
    """Trust root and signing configuration that belong together.

    An operation takes one at its start and keeps it to its end, whatever is refreshed meanwhile.

    Attributes:
        instance: Name of the instance, or ``files:`` and the first 12 hex digits of the trusted
            root's SHA-256 where the request brought it.
        trusted_root: Whom to believe.
        signing_config: Which services to use; None if there is none (verification needs none).
        version: Changes whenever anything above changes; 16 hex digits. Whatever is cached for
            this material carries it in its key.
        source: Where the trusted root is from: a TUF repository, the daemon's configured files,
            or the request.
        fetched: When this material was obtained (UTC); for TUF, when the repository last
            confirmed it.
        expires: End of its validity by TUF's rules (UTC), the earliest of its four roles; None
            for files, which do not expire.
    """

    instance: str
    trusted_root: TrustedRoot
    signing_config: SigningConfig | None
    version: str
    source: Source
    fetched: datetime
    expires: datetime | None

    def has_expired(self, now: datetime) -> bool:
        """Return whether *now* (UTC) is at or past the end of validity."""
        return self.expires is not None and now >= self.expires
