"""A login by a code that the issuer's page shows and the person pastes (out of band).

Only for issuers that still have it (Dex). The proof key makes a code that somebody else sees
useless to them; that the person pastes the code of a page they did not open themselves is what
the client warns of.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import trio

from keylessd.errors import DaemonError, InvalidInputError
from keylessd.identity.login.flows import LOGIN_SECONDS, login_error, nobody_came
from keylessd.identity.moment import Moment

if TYPE_CHECKING:
    from keylessd.identity.login.flows import Desk, LoginRequest, Tell
    from keylessd.identity.session_facts import Login
    from keylessd.secret import Secret

OUT_OF_BAND = "urn:ietf:wg:oauth:2.0:oob"
NAME_BYTES = 16


@dataclass(slots=True)
class _Waiting:
    owner_uid: int
    code: Secret | None = None
    came: trio.Event = field(default_factory=trio.Event)


class PastedLogin:
    """Makes such logins.

    Args:
        desk: What all logins need.
    """

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._waiting: dict[str, _Waiting] = {}

    async def login(self, request: LoginRequest, tell: Tell) -> Login:
        """Wait for give().

        Tells ``enter_code`` with ``url`` and ``login``, the name for give().

        Raises:
            IdentityError: ``login_denied``, ``login_failed``.
            DaemonError: the issuer cannot be asked.
        """
        provider = await self._desk.provider(request)
        proof = self._desk.proof()
        url = self._desk.authorization_url(provider, request, proof, OUT_OF_BAND)
        name = self._desk.random_bytes(NAME_BYTES).hex()
        waiting = self._waiting[name] = _Waiting(request.owner_uid)
        try:
            tell("enter_code", {"url": url, "login": name})
            with trio.move_on_after(LOGIN_SECONDS):
                await waiting.came.wait()
        finally:
            del self._waiting[name]
        if waiting.code is None:
            raise nobody_came()
        sent = Moment.now(self._desk.clock)
        try:
            reply = await self._desk.endpoint(provider, request).redeem_code(
                waiting.code, verifier=proof.verifier, redirect_uri=OUT_OF_BAND
            )
        except DaemonError as exc:
            raise login_error(exc) from exc
        return await self._desk.login_of(provider, request, reply, sent=sent, nonce=proof.nonce)

    def give(self, owner_uid: int, name: str, code: Secret) -> None:
        """Take the code that the page showed, from the user that began the login.

        Raises:
            InvalidInputError: no such login of this user waits for a code.
        """
        for known, waiting in self._waiting.items():
            is_it = secrets.compare_digest(known.encode(), name.encode())
            if is_it and waiting.owner_uid == owner_uid and waiting.code is None:
                waiting.code = code
                waiting.came.set()
                return
        raise InvalidInputError("no login waits for that code")
