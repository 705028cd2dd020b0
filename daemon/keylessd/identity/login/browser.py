"""A login by a browser on this machine: authorization code, proof key, loopback listener.

RFC 8252, 6 and 7.3. The client opens the browser, we only listen for the answer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from keylessd.errors import DaemonError, IdentityError
from keylessd.identity.login import page
from keylessd.identity.login.answer import PATH, Asked, Code, Refusal
from keylessd.identity.login.flows import LOGIN_SECONDS, login_error, nobody_came
from keylessd.identity.login.listener import Listener, open_loopback
from keylessd.identity.moment import Moment
from keylessd.identity.token_endpoint import GrantError, Verdict

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Sequence

    from keylessd.identity.login.flows import Desk, LoginRequest, Tell
    from keylessd.identity.login.page import Page
    from keylessd.identity.login.proof import Proof
    from keylessd.identity.provider import Provider
    from keylessd.identity.session_facts import Login

Listeners = tuple[int, "Sequence[trio.abc.Listener[trio.abc.Stream]]"]


def loopback() -> Listeners:
    """Return a free port and what listens on it.

    Raises:
        IdentityError: ``login_failed``: there is none.
    """
    port, sockets = open_loopback()
    return port, [_listener(one) for one in sockets]


def _listener(one: socket.socket) -> trio.abc.Listener[trio.abc.Stream]:
    return trio.SocketListener(trio.socket.from_stdlib_socket(one))


class BrowserLogin:
    """Makes such logins.

    Args:
        desk: What all logins need.
        listen: Opens the listeners.
    """

    def __init__(self, desk: Desk, listen: Callable[[], Listeners] = loopback) -> None:
        self._desk = desk
        self._listen = listen

    async def login(self, request: LoginRequest, tell: Tell) -> Login:
        """Wait for a person to log in.

        Tells ``open_url`` with ``url``.

        Raises:
            IdentityError: ``login_denied``, ``login_failed``.
            DaemonError: the issuer cannot be asked.
        """
        provider = await self._desk.provider(request)
        proof = self._desk.proof()
        port, listeners = self._listen()
        try:
            # The name that issuers have registered for Sigstore's tools; we listen wherever it
            # may lead.
            redirect_uri = f"http://localhost:{port}{PATH}"
            url = self._desk.authorization_url(provider, request, proof, redirect_uri)
            ending = _Ending(self._desk, provider, request, proof, redirect_uri)
            asked = Asked(port, proof.state, provider.issuer, provider.names_itself)
            tell("open_url", {"url": url})
            with trio.move_on_after(LOGIN_SECONDS):
                await Listener(asked, ending.settle).run(listeners)
        finally:
            with trio.CancelScope(shield=True):
                for listener in listeners:
                    await listener.aclose()
        if ending.error is not None:
            raise ending.error
        if ending.login is None:
            raise nobody_came()
        return ending.login


class _Ending:
    """Turns the browser's answer into a login or an error, and into the page that says so."""

    def __init__(
        self,
        desk: Desk,
        provider: Provider,
        request: LoginRequest,
        proof: Proof,
        redirect_uri: str,
    ) -> None:
        self._desk = desk
        self._provider = provider
        self._request = request
        self._proof = proof
        self._redirect_uri = redirect_uri
        self.login: Login | None = None
        self.error: DaemonError | None = None

    async def settle(self, answer: Code | Refusal) -> tuple[Page, bool]:
        try:
            if isinstance(answer, Refusal):
                raise _refused(answer)
            self.login = await self._redeem(answer)
        except DaemonError as exc:
            self.error = login_error(exc)
            # A code that the issuer does not know says nothing about the one that will come.
            is_unknown = isinstance(exc, GrantError) and exc.verdict is Verdict.DEAD
            return page.failed(self.error.message), not is_unknown
        self.error = None
        token = self.login.held.token
        return page.signed_in(token.identity_hint, token.federated_issuer or token.issuer), True

    async def _redeem(self, answer: Code) -> Login:
        sent = Moment.now(self._desk.clock)
        reply = await self._desk.endpoint(self._provider, self._request).redeem_code(
            answer.code, verifier=self._proof.verifier, redirect_uri=self._redirect_uri
        )
        return await self._desk.login_of(
            self._provider, self._request, reply, sent=sent, nonce=self._proof.nonce
        )


def _refused(answer: Refusal) -> IdentityError:
    if answer.is_denial:
        return IdentityError("login_denied", f"the login was declined: {answer.message}")
    return IdentityError("login_failed", f"the issuer ended the login: {answer.message}")
