"""The table of operations: each takes a checked request, calls the house, and words the reply."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from keylessd.errors import UnknownInstanceError
from keylessd.ops.request import AttestRequest, SignRequest
from keylessd.ops.verify import VerifyRequest
from keylessd.server import bodies
from keylessd.server.dispatch import Call, Handler, Outcome
from keylessd.server.identity_handlers import IdentityHandlers, identity_rows, owner_of
from keylessd.server.rows import SHOWN, fitting

if TYPE_CHECKING:
    from keylessd.keys.ring import SlotStatus
    from keylessd.ops.house import House
    from keylessd.ops.request import SignResult
    from keylessd.server.app import Daemon
    from keylessd.server.files import FileCache
    from keylessd.server.rooms import TrustInForce
    from keylessd.trust.status import InstanceStatus
    from keylessd.trust.where import Where

# The predicate of a batch says nothing: its subjects are all there is to say. This type is the
# one that cosign expects if it is told none, so its users need no option to verify a batch.
BATCH_PREDICATE_TYPE: Final = "https://cosign.sigstore.dev/attestation/v1"
BATCH_PREDICATE: Final = b"{}"
LEDGER_RECORDS: Final = 100  # returned if the request does not say
MAX_LEDGER_BYTES: Final = 15 << 20  # a reply carries at most 16 MiB


class Handlers:
    """All operations.

    Args:
        house: Does the work.
        trust: Returns the trust in force, which a reload may replace.
        files: What clients sent before.
        daemon: Facts and settings in force.
    """

    def __init__(
        self, house: House, *, trust: TrustInForce, files: FileCache, daemon: Daemon
    ) -> None:
        self._house = house
        self._trust = trust
        self._files = files
        self._daemon = daemon
        self._identities = IdentityHandlers(house, files=files)

    def table(self) -> Mapping[str, Handler]:
        """Return the handler of each operation."""
        return {
            "status": self.status,
            "sign": self.sign,
            "sign_batch": self.sign_batch,
            "attest": self.attest,
            "verify": self.verify,
            "inspect": self.inspect,
            "trust_status": self.trust_status,
            "trust_refresh": self.trust_refresh,
            "ledger": self.ledger,
            "reload": self.reload,
            **self._identities.table(),
        }

    async def status(self, call: Call) -> Outcome:
        """Say what the daemon is and does."""
        daemon, house, owner = self._daemon, self._house, owner_of(call)
        slots = house.status.slots(owner)
        body: dict[str, object] = {
            "version": daemon.version,
            "pid": daemon.pid,
            "started": daemon.started,
            "uptime_seconds": daemon.uptime_seconds,
            "socket": daemon.socket,
            "requests": {
                op: {"ok": count.ok, "failed": count.failed}
                for op, count in daemon.counts.items()
                if count.ok or count.failed
            },
            "connections": daemon.connections,
            "default_instance": daemon.settings.default_instance,
            "reuse": daemon.settings.reuse,
            "instances": fitting(_instance_body(one) for one in self._trust.status()),
            # Those used last.
            "slots": fitting(_slot_body(slot) for slot in reversed(slots))[::-1],
            "queued": house.status.queued(),
            "ledger_failures": house.status.ledger_failures(),
            "sessions": identity_rows(
                [*await house.status.sessions(owner), *house.status.held(owner)]
            ),
            "locked": house.login.is_locked(owner),
        }
        return Outcome(body)

    async def sign(self, call: Call) -> Outcome:
        """Sign one digest."""
        asked = self._identities.asked(call)
        request = SignRequest(
            owner=asked.owner,
            where=asked.where,
            token=asked.token,
            identity=asked.identity,
            ambient=asked.ambient,
            reuse=self._reuse(call),
            idempotency_key=call.body.get("idempotency_key"),
            digest=bodies.digest_of_body(call.body["digest"]),
            name=call.body.get("name"),
        )
        return _signed(await self._house.sign.sign(request, call.progress))

    async def sign_batch(self, call: Call) -> Outcome:
        """Sign many digests as the subjects of one statement."""
        subjects = bodies.batch_subjects(call.attachments["subjects"])
        statement = await self._house.sign.statement(
            subjects, BATCH_PREDICATE_TYPE, BATCH_PREDICATE
        )
        return _signed(await self._attest(call, statement), subjects=len(subjects))

    async def attest(self, call: Call) -> Outcome:
        """Sign a statement, or one made of subjects and a predicate."""
        statement = call.attachments.get("statement")
        if statement is None:
            statement = await self._house.sign.statement(
                bodies.subjects_of(call.body["subjects"]),
                call.body["predicate_type"],
                call.attachments["predicate"],
            )
        result = await self._attest(call, statement)
        return _signed(result, predicate_type=result.predicate_type or "")

    async def _attest(self, call: Call, statement: bytes) -> SignResult:
        asked = self._identities.asked(call)
        request = AttestRequest(
            owner=asked.owner,
            where=asked.where,
            token=asked.token,
            identity=asked.identity,
            ambient=asked.ambient,
            reuse=self._reuse(call),
            idempotency_key=call.body.get("idempotency_key"),
            statement=statement,
        )
        return await self._house.sign.attest(request, call.progress)

    async def verify(self, call: Call) -> Outcome:
        """Verify a bundle, or a signature in files of its own."""
        key = call.attachments.get("key")
        request = VerifyRequest(
            bundle=call.attachments.get("bundle"),
            detached=bodies.detached_of(call.attachments),
            digests=bodies.digests_of(call.body["digests"]),
            where=self._where(call),
            accepted=bodies.accepted_of(call.body),
            key=key,
            options=bodies.options_of(call.body, managed=key is not None),
            predicate_type=call.body.get("predicate_type"),
        )
        verified = await self._house.verify.verify(request)
        attachments = {} if verified.statement is None else {"statement": verified.statement}
        return Outcome(bodies.verified_body(verified), attachments)

    async def inspect(self, call: Call) -> Outcome:
        """Show what is in a bundle, verified or not."""
        found = await self._house.verify.inspect(
            call.attachments.get("bundle"), bodies.detached_of(call.attachments)
        )
        body = {} if found.form is None else {"form": found.form}
        return Outcome(body, {"inspection": found.json})

    async def trust_status(self, call: Call) -> Outcome:
        """Say which trust roots are in force."""
        return self._trust_outcome(call.body.get("instance"))

    async def trust_refresh(self, call: Call) -> Outcome:
        """Renew a trust root now."""
        name = call.body.get("instance") or self._trust.default
        await self._trust.refresh(name)
        return self._trust_outcome(name)

    def _trust_outcome(self, name: str | None) -> Outcome:
        statuses = self._trust.status()
        if name is not None:
            statuses = [one for one in statuses if one.name == name]
            if not statuses:
                raise UnknownInstanceError(f"no instance is called {name!r}")
        return Outcome({"instances": fitting(_instance_body(one) for one in statuses)})

    async def ledger(self, call: Call) -> Outcome:
        """Return the last records."""
        records = self._house.ledger.read(call.body.get("limit", LEDGER_RECORDS))
        kept: list[bytes] = []
        size = 0
        for record in reversed(records):
            size += len(record) + 1
            if size > MAX_LEDGER_BYTES:
                break
            kept.append(record)
        lines = b"".join(record.rstrip(b"\n") + b"\n" for record in reversed(kept))
        return Outcome({"records": len(kept)}, {"records": lines})

    async def reload(self, call: Call) -> Outcome:
        """Read the settings again."""
        del call
        await self._daemon.reload()
        return Outcome()

    def _where(self, call: Call) -> Where:
        return bodies.where_of(call.body, call.attachments, self._files)

    def _reuse(self, call: Call) -> str:
        reuse: str = call.body.get("reuse", self._daemon.settings.reuse)
        return reuse


def _signed(result: SignResult, **more: object) -> Outcome:
    return Outcome({**bodies.signed_body(result), **more}, {"bundle": result.bundle})


def _slot_body(slot: SlotStatus) -> dict[str, object]:
    return {
        "identity": slot.identity[:SHOWN],
        "issuer": slot.issuer[:SHOWN],
        "instance": slot.instance,
        "not_after": bodies.epoch(slot.not_after),
        "signatures": slot.signatures,
    }


def _instance_body(status: InstanceStatus) -> dict[str, object]:
    body: dict[str, object] = {
        "name": status.name,
        "source": status.source,
        "url": status.url[:SHOWN],
        "state": status.state,
    }
    if status.version is not None:
        body["version"] = status.version
    if status.fetched is not None:
        body["fetched"] = bodies.epoch(status.fetched)
    if status.expires is not None:
        body["expires"] = bodies.epoch(status.expires)
    if status.error is not None:
        body["error"] = status.error[:SHOWN]
    return body
