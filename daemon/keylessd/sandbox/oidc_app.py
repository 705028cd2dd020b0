"""The HTTP interface of the sandbox's issuers: discovery, keys, login pages, token endpoint."""

from __future__ import annotations

import html
from collections.abc import Mapping
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlsplit

from starlette.applications import Starlette
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from keylessd.sandbox.bodies import BodyTooLargeError, read_body
from keylessd.sandbox.grants import OAuthError
from keylessd.sandbox.login import OUT_OF_BAND, AuthRequest, BadRedirectError, LoginFlows

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from starlette.requests import Request

    from keylessd.sandbox.oidc import JsonValue, OidcIssuer

FORM_MAX = 64 << 10  # bytes
NO_STORE = {"cache-control": "no-store", "pragma": "no-cache"}

_PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>Sandbox login</title>
<style>body{{font:1rem sans-serif;max-width:28rem;margin:4rem auto}}
input,button{{font:inherit;padding:.4rem;margin:.2rem 0}}input{{width:100%}}</style></head>
<body><h1>Sandbox login</h1>{body}</body></html>
"""
_WHO = """<p>This is a sandbox: it believes whatever you type.</p>
<label>Who are you? <input name="identity" value="{hint}" placeholder="you@example.com"
autofocus></label><button name="answer" value="yes">Log in</button>
<button name="answer" value="no">Decline</button>"""


def _page(body: str, status: int = 200) -> HTMLResponse:
    # No scripts, no frames: the page is the sandbox's only one that a browser shows.
    headers = {
        "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'; "
        "frame-ancestors 'none'",
        **NO_STORE,
    }
    return HTMLResponse(_PAGE.format(body=body), status_code=status, headers=headers)


def _notice(text: str, status: int = 200) -> HTMLResponse:
    return _page(f"<p>{html.escape(text)}</p>", status)


async def _form(request: Request) -> dict[str, str]:
    """Return the fields of a form; of several with one name the last.

    Raises:
        OAuthError: ``invalid_request``.
    """
    try:
        raw = await read_body(request, FORM_MAX)
        return dict(parse_qsl(raw.decode(), keep_blank_values=True, max_num_fields=100))
    except (BodyTooLargeError, ValueError) as exc:
        raise OAuthError("invalid_request", "the form cannot be read") from exc


def _oauth_error(error: OAuthError) -> JSONResponse:
    answer = {"error": error.error, "error_description": error.description}
    return JSONResponse(answer, status_code=error.status, headers=NO_STORE)


class _Login:
    """The pages and endpoints of the issuer that people log in at."""

    def __init__(self, flows: LoginFlows) -> None:
        self._flows = flows

    async def authorize(self, request: Request) -> Response:
        parameters = dict(request.query_params)
        flows = self._flows
        try:
            handle, asked = flows.begin(parameters)
        except BadRedirectError as exc:
            return _notice(str(exc), 400)
        except OAuthError as exc:
            return self._refuse(parameters, exc)
        if flows.auto_login is not None:
            return self._send_code(*flows.finish(handle, flows.auto_login))
        form = (
            f'<form method="post" action="{html.escape(flows.issuer.url)}/auth/answer">'
            f'<input type="hidden" name="request" value="{html.escape(handle)}">'
            f"{_WHO.format(hint=html.escape(asked.login_hint))}</form>"
        )
        return _page(form)

    async def answer(self, request: Request) -> Response:
        try:
            form = await _form(request)
        except OAuthError as exc:
            return _notice(exc.description, 400)
        handle = form.get("request", "")
        asked = self._flows.request_of(handle)
        identity = form.get("identity", "").strip()
        declined = form.get("answer") == "no"
        if not identity and not declined:
            return _notice("Go back and say who you are.", 400)
        try:
            finished = self._flows.finish(handle, None if declined else identity)
        except BadRedirectError as exc:
            return _notice(str(exc), 400)
        except OAuthError as exc:
            assert asked is not None  # noqa: S101  # finish() would have said so
            return self._refuse({"redirect_uri": asked.redirect_uri, "state": asked.state}, exc)
        return self._send_code(*finished)

    def _send_code(self, asked: AuthRequest, code: str) -> Response:
        if asked.redirect_uri == OUT_OF_BAND:
            return _page(f"<p>Your code:</p><p><code>{html.escape(code)}</code></p>")
        return _redirect(self._flows.code_url(asked, code))

    def _refuse(self, parameters: Mapping[str, str], error: OAuthError) -> Response:
        if parameters.get("redirect_uri") == OUT_OF_BAND:
            return _notice(error.description, 400)
        return _redirect(self._flows.refusal_url(parameters, error))

    async def token(self, request: Request) -> Response:
        try:
            return JSONResponse(self._flows.token(await _form(request)), headers=NO_STORE)
        except OAuthError as exc:
            return _oauth_error(exc)

    async def revoke(self, request: Request) -> Response:
        try:
            self._flows.revoke(await _form(request))
        except OAuthError as exc:
            return _oauth_error(exc)
        return Response(headers=NO_STORE)

    async def device_code(self, request: Request) -> Response:
        try:
            answer = self._flows.begin_device(await _form(request))
        except OAuthError as exc:
            return _oauth_error(exc)
        if self._flows.auto_login is not None:
            self._flows.finish_device(str(answer["user_code"]), self._flows.auto_login)
        return JSONResponse(answer, headers=NO_STORE)

    async def device_page(self, request: Request) -> Response:
        user_code = html.escape(request.query_params.get("user_code", ""))
        return _page(
            f'<form method="post" action="{html.escape(self._flows.issuer.url)}/device">'
            f'<label>Code of the device <input name="user_code" value="{user_code}"></label>'
            f"{_WHO.format(hint='')}</form>"
        )

    async def device_answer(self, request: Request) -> Response:
        try:
            form = await _form(request)
        except OAuthError as exc:
            return _notice(exc.description, 400)
        identity = form.get("identity", "").strip()
        declined = form.get("answer") == "no"
        if not identity and not declined:
            return _notice("Go back and say who you are.", 400)
        if not self._flows.finish_device(form.get("user_code", ""), None if declined else identity):
            return _notice("No device waits with that code.", 400)
        return _notice("Declined." if declined else "Done. You may close this page.")

    def routes(self) -> list[Route]:
        return [
            Route("/auth", self.authorize),
            Route("/auth/answer", self.answer, methods=["POST"]),
            Route("/token", self.token, methods=["POST"]),
            Route("/revoke", self.revoke, methods=["POST"]),
            Route("/device/code", self.device_code, methods=["POST"]),
            Route("/device", self.device_page),
            Route("/device", self.device_answer, methods=["POST"]),
        ]


def _redirect(url: str) -> Response:
    return RedirectResponse(url, status_code=303, headers=NO_STORE)


def _document(make: Callable[[], JsonValue]) -> Callable[[Request], Awaitable[Response]]:
    async def answer(request: Request) -> Response:
        del request
        return JSONResponse(make())

    return answer


def make_app(flows: LoginFlows, others: Sequence[OidcIssuer] = ()) -> Starlette:
    """Return the application of the issuer that *flows* serves, and of *others*.

    The others have no login: they only publish what their tokens are checked with, below the
    path of their URLs.
    """
    routes = _Login(flows).routes()
    for issuer in (flows.issuer, *others):
        path = urlsplit(issuer.url).path
        routes += [
            Route(f"{path}/.well-known/openid-configuration", _document(issuer.discovery)),
            Route(f"{path}/keys", _document(issuer.jwks)),
        ]
    return Starlette(routes=routes)
