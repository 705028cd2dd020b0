"""What the ledger says of an attempt that has ended, however it did."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import trio

from keylessd.errors import DaemonError, ShuttingDownError
from keylessd.flow.singleflight import CallAbandonedError
from keylessd.ops.ledger import text

if TYPE_CHECKING:
    from keylessd.keys.slot import KeySlot
    from keylessd.ops.ledger import Value
    from keylessd.ops.publish import Publication, Published

MAX_LISTED = 8  # entries in a record of the ledger


@dataclass(slots=True)
class Report:
    """What is known of an attempt so far.

    Attributes:
        slot: The key and certificate it got, or None.
        reused: Whether they had served before.
        publication: What was being published, or None.
        published: What came of it, or None.
    """

    slot: KeySlot | None = None
    reused: bool = False
    publication: Publication | None = None
    published: Published | None = None

    def success(self) -> dict[str, Value]:
        """Return the record of an attempt that succeeded."""
        return {"result": "ok", **self._facts()}

    def failure(self, exc: BaseException) -> dict[str, Value]:
        """Return the record of an attempt that ended by *exc*."""
        facts: dict[str, Value] = {"result": "failed", "code": "internal"}
        cause = _decisive(exc)
        if isinstance(cause, trio.Cancelled):
            facts = {"result": "cancelled"}
        elif isinstance(cause, CallAbandonedError):
            facts["code"] = ShuttingDownError.code
        elif isinstance(cause, DaemonError):
            facts["code"] = cause.code
            for name in ("service", "status", "check"):
                if name in cause.details:
                    facts[name] = cause.details[name]
        return {**facts, **self._facts()}

    def _facts(self) -> dict[str, Value]:
        facts: dict[str, Value] = {}
        if self.slot is not None:
            facts["certificate"] = {
                "serial": self.slot.serial,
                "not_after": self.slot.not_after.isoformat(),
                "spki_sha256": self.slot.spki_sha256.hex(),
                "reused": self.reused,
                "identity": text(self.slot.signer.identity),
                "issuer": text(self.slot.signer.issuer),
            }
        if self.publication is not None and self.publication.logged:
            # Also of a failed attempt: these entries are public.
            facts["entries"] = [
                {"log_id": entry.log_id.hex(), "log_index": entry.log_index}
                for entry in self.publication.logged[:MAX_LISTED]
            ]
        return facts


def _decisive(exc: BaseException) -> BaseException:
    """Return what a group of exceptions comes to: a fault, else an error, else a cancellation."""
    if not isinstance(exc, BaseExceptionGroup):
        return exc
    found = [_decisive(one) for one in exc.exceptions]
    return min(
        found, key=lambda one: (isinstance(one, trio.Cancelled), isinstance(one, DaemonError))
    )
