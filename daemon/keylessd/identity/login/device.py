"""A login by a code that a person enters on any device (RFC 8628), bound to a proof key."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import trio

from keylessd.errors import DaemonError, ServiceUnavailableError
from keylessd.identity.login.flows import (
    LOGIN_SECONDS,
    could_not_ask,
    lacks,
    login_error,
    nobody_came,
    scope_of,
)
from keylessd.identity.moment import Moment
from keylessd.identity.token_endpoint import GrantError, Verdict, begin_device
from keylessd.services.urls import printable

if TYPE_CHECKING:
    from keylessd.identity.login.flows import Desk, LoginRequest, Tell
    from keylessd.identity.login.proof import Proof
    from keylessd.identity.provider import Provider
    from keylessd.identity.session_facts import Login
    from keylessd.identity.token_endpoint import DeviceReply, TokenReply

SLOW_DOWN_SECONDS = 5.0  # RFC 8628, 3.5: more for this and all later questions
MAX_INTERVAL = 60.0
MAX_CODE = 256  # characters shown of a user code
MAX_LINK = 2048


@dataclass(slots=True)
class Trouble:
    """What keeps a login from asking whether the person has answered.

    Attributes:
        last: The last question's failure; None if it was answered.
    """

    last: DaemonError | None = None


class DeviceLogin:
    """Makes such logins.

    Args:
        desk: What all logins need.
    """

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def login(self, request: LoginRequest, tell: Tell) -> Login:
        """Wait for a person to enter the code.

        Tells ``device_code`` with ``user_code``, ``verification_uri``, perhaps
        ``verification_uri_complete``, and ``expires_in``.

        Raises:
            IdentityError: ``login_denied``, ``login_failed``.
            DaemonError: the issuer cannot be asked.
        """
        provider = await self._desk.provider(request)
        if provider.device_endpoint is None:
            raise lacks(provider, "device flow; run `keyless login` where there is a browser")
        proof = self._desk.proof()
        trouble = Trouble()
        try:
            begun = await begin_device(
                self._desk.http,
                provider.device_endpoint,
                client_id=request.client_id,
                scope=scope_of(provider),
                challenge=proof.challenge,
            )
            patience = min(begun.expires_in, LOGIN_SECONDS)
            tell("device_code", _facts(begun, patience))
            with trio.move_on_after(patience):
                return await self._poll(provider, request, proof, begun, trouble)
        except DaemonError as exc:
            is_late = isinstance(exc, GrantError) and exc.verdict is Verdict.EXPIRED
            if is_late and trouble.last is not None:
                raise could_not_ask(trouble.last) from exc
            raise login_error(exc) from exc
        raise nobody_came() if trouble.last is None else could_not_ask(trouble.last)

    async def _poll(
        self,
        provider: Provider,
        request: LoginRequest,
        proof: Proof,
        begun: DeviceReply,
        trouble: Trouble,
    ) -> Login:
        endpoint = self._desk.endpoint(provider, request)
        interval = begun.interval
        pause = interval
        while True:
            await trio.sleep(pause)
            sent = Moment.now(self._desk.clock)
            try:
                reply: TokenReply = await endpoint.redeem_device(
                    begun.device_code, verifier=proof.verifier
                )
            except ServiceUnavailableError as exc:
                # 3.5: without an answer, ask less and less often.
                trouble.last = exc
                pause = min(MAX_INTERVAL, pause * 2)
            except GrantError as exc:
                if exc.verdict is Verdict.RETRY:
                    trouble.last = exc
                    pause = max(min(MAX_INTERVAL, pause * 2), exc.retry_after_seconds or 0.0)
                    continue
                if exc.verdict is Verdict.SLOW_DOWN:
                    interval += SLOW_DOWN_SECONDS
                elif exc.verdict is not Verdict.PENDING:
                    raise
                trouble.last = None
                pause = interval
            else:
                # There is no nonce in this flow; the proof key binds the answer to us.
                return await self._desk.login_of(provider, request, reply, sent=sent, nonce=None)


def _facts(begun: DeviceReply, patience: float) -> dict[str, str | int]:
    facts: dict[str, str | int] = {
        "user_code": printable(begun.user_code, MAX_CODE),
        "verification_uri": printable(begun.verification_uri, MAX_LINK),
        "expires_in": int(patience),
    }
    if begun.verification_uri_complete is not None:
        facts["verification_uri_complete"] = printable(begun.verification_uri_complete, MAX_LINK)
    return facts
