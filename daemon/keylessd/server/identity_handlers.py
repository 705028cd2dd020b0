"""The operations on identities: who, logging in and out, locking. Words requests and replies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from keylessd.errors import TokenError
from keylessd.identity.source import AmbientGrant
from keylessd.ops.login import LoginOrder
from keylessd.ops.owner import Owner
from keylessd.secret import Secret
from keylessd.server import bodies
from keylessd.server.dispatch import Call, Handler, Outcome
from keylessd.server.rows import SHOWN, fitting

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from keylessd.identity.session_facts import Ended, SessionStatus
    from keylessd.ops.house import House
    from keylessd.ops.status import WhoAmI
    from keylessd.server.files import FileCache
    from keylessd.trust.where import Where

MAX_CODE = 16 << 10  # bytes of a pasted code


@dataclass(frozen=True, slots=True)
class Asked:
    """Whose identity a request means; see ops.identity.Asking."""

    owner: Owner
    where: Where
    token: Secret | None
    identity: str | None
    ambient: AmbientGrant | None


class IdentityHandlers:
    """Those operations.

    Args:
        house: Does the work.
        files: What clients sent before.
    """

    def __init__(self, house: House, *, files: FileCache) -> None:
        self._house = house
        self._files = files

    def table(self) -> Mapping[str, Handler]:
        """Return the handler of each operation."""
        return {
            "whoami": self.whoami,
            "login": self.login,
            "login_code": self.login_code,
            "logout": self.logout,
            "lock": self.lock,
            "unlock": self.unlock,
        }

    def asked(self, call: Call) -> Asked:
        """Return whose identity the request means.

        Raises:
            TokenError: what was sent cannot be a token.
            UnknownFileError: a file is named by a hash that nobody sent yet.
        """
        return Asked(
            owner=owner_of(call),
            where=bodies.where_of(call.body, call.attachments, self._files),
            token=bodies.token_of(call.attachments),
            identity=call.body.get("identity"),
            ambient=ambient_of(call),
        )

    async def whoami(self, call: Call) -> Outcome:
        """Say whom the caller could sign as."""
        found = await self._house.status.whoami(self.asked(call))
        return Outcome({"identities": identity_rows(found)})

    async def login(self, call: Call) -> Outcome:
        """Let a person log in."""
        order = LoginOrder(
            owner=owner_of(call),
            where=bodies.where_of(call.body, call.attachments, self._files),
            flow=call.body.get("flow", "browser"),
            connector=call.body.get("connector"),
            identity=call.body.get("identity"),
            client_id=call.body.get("client_id"),
            as_default=call.body.get("default", False),
        )
        status = await self._house.login.login(order, call.progress)
        return Outcome(self._session_row(status))

    def _session_row(self, status: SessionStatus) -> dict[str, object]:
        return identity_row(self._house.status.session(status))

    async def login_code(self, call: Call) -> Outcome:
        """Take the code that a page showed."""
        code = _text(call.attachments["code"], "code", MAX_CODE)
        self._house.login.login_code(owner_of(call), call.body["login"], Secret(code))
        return Outcome()

    async def logout(self, call: Call) -> Outcome:
        """End sessions."""
        ended = await self._house.login.logout(
            owner_of(call),
            instance=call.body.get("instance"),
            identity=call.body.get("identity"),
            everyone=call.body.get("all", False),
        )
        return Outcome({"ended": fitting(_ended_row(one) for one in ended)})

    async def lock(self, call: Call) -> Outcome:
        """Refuse to sign."""
        await self._house.login.lock(owner_of(call), call.attachments["passphrase"])
        return Outcome()

    async def unlock(self, call: Call) -> Outcome:
        """Sign again."""
        await self._house.login.unlock(
            owner_of(call),
            call.attachments["passphrase"],
            connection=call.peer.connection,
        )
        return Outcome()


def owner_of(call: Call) -> Owner:
    """Return on whose behalf a request runs."""
    peer = call.peer
    return Owner(peer.uid, frozenset({peer.gid, *peer.groups}))


def ambient_of(call: Call) -> AmbientGrant | None:
    """Return what the caller's environment grants, if it sent anything.

    Raises:
        TokenError: ``token_malformed``: the secret beside it cannot be one.
    """
    told = call.body.get("ambient")
    if told is None:
        return None
    secret = _text(call.attachments["ambient_token"], "ambient token", bodies.MAX_TOKEN)
    return AmbientGrant(
        told["kind"],
        Secret(secret),
        url=told.get("url"),
        job=told.get("job"),
        audience=told.get("audience"),
    )


def identity_rows(found: Iterable[WhoAmI]) -> list[dict[str, object]]:
    """Return identities as the protocol has them, as many as surely fit."""
    return fitting(identity_row(one) for one in found)


def identity_row(one: WhoAmI) -> dict[str, object]:
    """Return one identity; what is not known is left out."""
    times = {
        "expires": one.expires,
        "ends": one.ends,
        "prompt_due": one.prompt_due,
        "last_used": one.last_used,
    }
    texts = {
        "instance": one.instance or None,
        "state": one.state,
        "reason": one.reason,
        "name": one.name,
    }
    row: dict[str, object] = {
        "identity": one.identity[:SHOWN],
        "issuer": one.issuer[:SHOWN],
        "source": one.source,
    }
    row |= {name: bodies.epoch(time) for name, time in times.items() if time is not None}
    row |= {name: text[:SHOWN] for name, text in texts.items() if text is not None}
    if one.is_renewable is not None:
        row["renewable"] = one.is_renewable
    if one.is_default:
        row["default"] = True
    return row


def _ended_row(ended: Ended) -> dict[str, object]:
    row: dict[str, object] = {
        "identity": ended.key.identity[:SHOWN],
        "issuer": ended.key.issuer[:SHOWN],
        "instance": ended.key.instance,
        "revoked": ended.revoked,
    }
    if ended.reason is not None:
        row["reason"] = ended.reason[:SHOWN]
    return row


def _text(raw: bytes, what: str, limit: int) -> str:
    text = raw.strip()
    if not text or len(text) > limit or not text.isascii() or not text.decode().isprintable():
        raise TokenError("token_malformed", f"a {what} of {len(text)} bytes is none")
    return text.decode()
