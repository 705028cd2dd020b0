"""The login flows of the sandbox's issuer: authorization code with PKCE, and device. No HTTP.

Anybody may log in as anybody: the sandbox believes what is typed. All the rest is as strict as
the standards want it, so that a client that is careless with them fails here.
"""

from __future__ import annotations

import base64
import hashlib
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlencode, urlsplit

from keylessd.sandbox.grants import Grant, Grants, OAuthError, Person, RandomBytes, random_text
from keylessd.sandbox.pkce import check_verifier

if TYPE_CHECKING:
    from keylessd.clock import Clock
    from keylessd.sandbox.oidc import JsonValue, OidcIssuer
    from keylessd.sandbox.vault import Vault

CODE_LIFETIME = timedelta(minutes=5)
REQUEST_LIFETIME = timedelta(minutes=15)
DEVICE_LIFETIME = timedelta(minutes=5)
DEVICE_INTERVAL_SECONDS = 5
# RFC 8628, 3.5: each slow_down adds five seconds for good.
SLOW_DOWN_SECONDS = 5
PENDING_MAX = 1000
OUT_OF_BAND = "urn:ietf:wg:oauth:2.0:oob"
LOOPBACK_HOSTS = frozenset({"localhost", "127.0.0.1", "::1"})
# No vowels, so that no words come out; no look-alikes (RFC 8628, 6.1).
USER_CODE_LETTERS = "BCDFGHJKLMNPQRSTVWXZ"

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class AuthRequest:
    """A valid authorization request that waits for somebody to log in."""

    client_id: str
    redirect_uri: str
    scopes: tuple[str, ...]
    state: str
    nonce: str
    challenge: str
    connector: str
    login_hint: str
    expires: datetime


@dataclass(slots=True)
class Code:
    """An authorization code; it is kept after use, to notice a second one."""

    request: AuthRequest
    person: Person
    expires: datetime
    used: bool = False
    grant: Grant | None = None


@dataclass(slots=True)
class Device:
    """A device authorization; ``person`` is None until somebody approved."""

    client_id: str
    scopes: tuple[str, ...]
    challenge: str
    user_code: str
    expires: datetime
    interval_seconds: int
    next_poll: datetime
    person: Person | None = None
    denied: bool = False


class BadRedirectError(ValueError):
    """The request must not be answered by a redirect: its client or its target is not known."""


def _is_loopback(redirect_uri: str) -> bool:
    try:
        parts = urlsplit(redirect_uri)
        host = parts.hostname
    except ValueError:
        return False
    return parts.scheme == "http" and host in LOOPBACK_HOSTS and not parts.fragment


def _insert(pending: dict[str, T], key: str, value: T) -> None:
    """Put *value* under *key*; the oldest goes when there are too many."""
    if len(pending) >= PENDING_MAX:
        del pending[next(iter(pending))]
    pending[key] = value


class LoginFlows:
    """Turns requests of clients and answers of people into tokens.

    Args:
        issuer: Mints the tokens.
        vault: Keeps the logins that can be refreshed.
        clock: Tells what has expired.
        client_ids: The public clients.
        auto_login: Everybody is this person, and no page is shown; for machines.
        device_interval_seconds: Between two polls.
        reuse_interval: See Grants.
        random_bytes: Source of codes and tokens.
    """

    def __init__(
        self,
        issuer: OidcIssuer,
        *,
        vault: Vault,
        clock: Clock,
        client_ids: frozenset[str] = frozenset({"sigstore"}),
        auto_login: str | None = None,
        device_interval_seconds: int = DEVICE_INTERVAL_SECONDS,
        reuse_interval: timedelta = timedelta(0),
        random_bytes: RandomBytes = secrets.token_bytes,
    ) -> None:
        self.issuer = issuer
        self.auto_login = auto_login
        self.grants = Grants(
            vault, clock=clock, reuse_interval=reuse_interval, random_bytes=random_bytes
        )
        self._clock = clock
        self._client_ids = client_ids
        self._interval_seconds = device_interval_seconds
        self._random_bytes = random_bytes
        self._requests: dict[str, AuthRequest] = {}
        self._codes: dict[str, Code] = {}
        self._devices: dict[str, Device] = {}

    # --- authorization code ---------------------------------------------------------------

    def begin(self, parameters: Mapping[str, str]) -> tuple[str, AuthRequest]:
        """Take an authorization request; return a handle for finish(), and the request.

        Raises:
            BadRedirectError: Show it to the person; send the browser nowhere.
            OAuthError: Redirect with it; see refusal_url().
        """
        redirect_uri = parameters.get("redirect_uri", "")
        if parameters.get("client_id") not in self._client_ids:
            raise BadRedirectError("the client is not known here")
        if redirect_uri != OUT_OF_BAND and not _is_loopback(redirect_uri):
            raise BadRedirectError("the redirect URI is not one of this machine's own")
        scopes = tuple(parameters.get("scope", "").split())
        if parameters.get("response_type") != "code":
            raise OAuthError("unsupported_response_type", "only response_type=code is supported")
        if "openid" not in scopes:
            raise OAuthError("invalid_scope", "the scope lacks openid")
        if parameters.get("code_challenge_method") != "S256":
            raise OAuthError("invalid_request", "PKCE with code_challenge_method=S256 is required")
        if not parameters.get("code_challenge"):
            raise OAuthError("invalid_request", "the code_challenge is missing")
        request = AuthRequest(
            client_id=parameters["client_id"],
            redirect_uri=redirect_uri,
            scopes=scopes,
            state=parameters.get("state", ""),
            nonce=parameters.get("nonce", ""),
            challenge=parameters["code_challenge"],
            connector=parameters.get("connector_id", ""),
            login_hint=parameters.get("login_hint", ""),
            expires=self._clock.now() + REQUEST_LIFETIME,
        )
        handle = random_text(self._random_bytes)
        _insert(self._requests, handle, request)
        return handle, request

    def finish(self, handle: str, identity: str | None) -> tuple[AuthRequest, str]:
        """Let the person of *handle* log in as *identity*, or decline with None.

        Returns:
            The request, and the authorization code.

        Raises:
            BadRedirectError: There is no such request, or it has expired.
            OAuthError: ``access_denied``: redirect with it.
        """
        request = self._requests.get(handle)
        if request is None or request.expires < self._clock.now():
            raise BadRedirectError("this login has expired; start again")
        if identity is None:
            raise OAuthError("access_denied", "the person declined")
        del self._requests[handle]
        code = random_text(self._random_bytes)
        person = Person(identity, request.connector)
        _insert(self._codes, code, Code(request, person, self._clock.now() + CODE_LIFETIME))
        return request, code

    def request_of(self, handle: str) -> AuthRequest | None:
        """Return the request that waits under *handle*."""
        return self._requests.get(handle)

    def code_url(self, request: AuthRequest, code: str) -> str:
        """Return where the browser goes with *code*."""
        return self._answer_url(request.redirect_uri, {"code": code, "state": request.state})

    def refusal_url(self, parameters: Mapping[str, str], error: OAuthError) -> str:
        """Return where the browser goes with *error*; *parameters* are those of the request."""
        answer = {
            "error": error.error,
            "error_description": error.description,
            "state": parameters.get("state", ""),
        }
        return self._answer_url(parameters["redirect_uri"], answer)

    def _answer_url(self, redirect_uri: str, answer: Mapping[str, str]) -> str:
        # RFC 9207: the issuer goes along, with errors too.
        query = urlencode({k: v for k, v in {**answer, "iss": self.issuer.url}.items() if v})
        return f"{redirect_uri}{'&' if urlsplit(redirect_uri).query else '?'}{query}"

    # --- device -----------------------------------------------------------------------------

    def begin_device(self, form: Mapping[str, str]) -> dict[str, JsonValue]:
        """Take a device authorization request; return the answer (RFC 8628, 3.2).

        Raises:
            OAuthError: The client is unknown, or the request is not right.
        """
        client_id = self._client(form)
        scopes = tuple(form.get("scope", "").split())
        if "openid" not in scopes:
            raise OAuthError("invalid_scope", "the scope lacks openid")
        challenge = form.get("code_challenge", "")
        if challenge and form.get("code_challenge_method") != "S256":
            raise OAuthError("invalid_request", "only code_challenge_method=S256 is supported")
        now = self._clock.now()
        letters = "".join(
            USER_CODE_LETTERS[byte % len(USER_CODE_LETTERS)] for byte in self._random_bytes(8)
        )
        device = Device(
            client_id=client_id,
            scopes=scopes,
            challenge=challenge,
            user_code=f"{letters[:4]}-{letters[4:]}",
            expires=now + DEVICE_LIFETIME,
            interval_seconds=self._interval_seconds,
            next_poll=now,
        )
        device_code = random_text(self._random_bytes)
        _insert(self._devices, device_code, device)
        page = f"{self.issuer.url}/device"
        return {
            "device_code": device_code,
            "user_code": device.user_code,
            "verification_uri": page,
            "verification_uri_complete": f"{page}?{urlencode({'user_code': device.user_code})}",
            "expires_in": int(DEVICE_LIFETIME.total_seconds()),
            "interval": device.interval_seconds,
        }

    def finish_device(self, user_code: str, identity: str | None) -> bool:
        """Approve the device with that code as *identity*, or decline with None.

        Returns:
            Whether such a device waits.
        """
        wanted = "".join(letter for letter in user_code.upper() if letter in USER_CODE_LETTERS)
        for device in self._devices.values():
            if device.user_code.replace("-", "") == wanted and self._waits(device):
                device.denied = identity is None
                device.person = None if identity is None else Person(identity)
                return True
        return False

    def _waits(self, device: Device) -> bool:
        undecided = device.person is None and not device.denied
        return undecided and self._clock.now() <= device.expires

    # --- token endpoint ---------------------------------------------------------------------

    def token(self, form: Mapping[str, str]) -> dict[str, JsonValue]:
        """Answer a token request.

        Raises:
            OAuthError: As RFC 6749, 5.2 and RFC 8628, 3.5 have them.
        """
        client_id = self._client(form)
        match form.get("grant_type"):
            case "authorization_code":
                return self._redeem_code(client_id, form)
            case "refresh_token":
                grant, refresh_token = self.grants.refresh(
                    form.get("refresh_token", ""), client_id=client_id
                )
                return self._tokens(grant, refresh_token)
            case "urn:ietf:params:oauth:grant-type:device_code":
                return self._redeem_device(client_id, form)
            case other:
                raise OAuthError("unsupported_grant_type", f"no grant of type {other!r}")

    def revoke(self, form: Mapping[str, str]) -> None:
        """Answer a revocation request (RFC 7009).

        Raises:
            OAuthError: ``invalid_client``.
        """
        client_id = self._client(form)
        self.grants.revoke(form.get("token", ""), client_id=client_id)

    def _client(self, form: Mapping[str, str]) -> str:
        client_id = form.get("client_id", "")
        if client_id not in self._client_ids:
            raise OAuthError("invalid_client", "the client is not known here", status=401)
        return client_id

    def _redeem_code(self, client_id: str, form: Mapping[str, str]) -> dict[str, JsonValue]:
        code = self._codes.get(form.get("code", ""))
        if code is None or code.request.client_id != client_id:
            raise OAuthError("invalid_grant", "the code is not known")
        if code.used:
            # RFC 6749, 4.1.2: what the first use gave is taken back.
            if code.grant is not None:
                self.grants.end(code.grant)
            raise OAuthError("invalid_grant", "the code was used before")
        if code.expires < self._clock.now():
            raise OAuthError("invalid_grant", "the code has expired")
        if form.get("redirect_uri") != code.request.redirect_uri:
            raise OAuthError("invalid_grant", "the redirect URI is not that of the request")
        check_verifier(code.request.challenge, form.get("code_verifier", ""))
        code.used = True
        request = code.request
        answer, code.grant = self._open(client_id, request.scopes, code.person, request.nonce)
        return answer

    def _redeem_device(self, client_id: str, form: Mapping[str, str]) -> dict[str, JsonValue]:
        device_code = form.get("device_code", "")
        device = self._devices.get(device_code)
        if device is None or device.client_id != client_id:
            raise OAuthError("invalid_grant", "the device code is not known")
        now = self._clock.now()
        if device.expires < now:
            raise OAuthError("expired_token", "the device code has expired")
        if now < device.next_poll:
            device.interval_seconds += SLOW_DOWN_SECONDS
            device.next_poll = now + timedelta(seconds=device.interval_seconds)
            raise OAuthError("slow_down", f"poll every {device.interval_seconds} seconds")
        device.next_poll = now + timedelta(seconds=device.interval_seconds)
        if device.denied:
            raise OAuthError("access_denied", "the person declined")
        if device.person is None:
            raise OAuthError("authorization_pending", "nobody has entered the code yet")
        if device.challenge:
            check_verifier(device.challenge, form.get("code_verifier", ""))
        del self._devices[device_code]
        return self._open(client_id, device.scopes, device.person, "")[0]

    def _open(
        self, client_id: str, scopes: tuple[str, ...], person: Person, nonce: str
    ) -> tuple[dict[str, JsonValue], Grant | None]:
        if "offline_access" not in scopes:
            grant = Grant(client_id, scopes, person, nonce, self._clock.now())
            return self._tokens(grant, None), None
        opened, token = self.grants.open(
            client_id=client_id, scopes=scopes, person=person, nonce=nonce
        )
        return self._tokens(opened, token), opened

    def _tokens(self, grant: Grant, refresh_token: str | None) -> dict[str, JsonValue]:
        access_token = random_text(self._random_bytes)
        digest = hashlib.sha256(access_token.encode()).digest()
        claims: dict[str, JsonValue] = {
            "nonce": grant.nonce or None,
            "at_hash": base64.urlsafe_b64encode(digest[:16]).rstrip(b"=").decode(),
        }
        identity = grant.person.identity
        if grant.person.connector:
            claims["federated_claims"] = {
                "connector_id": grant.person.connector,
                "user_id": identity,
            }
        is_address = "@" in identity
        id_token = self.issuer.mint(
            email=identity if is_address and "email" in grant.scopes else None,
            subject=None if is_address and "email" in grant.scopes else identity,
            audience=grant.client_id,
            claims=claims,
        )
        answer: dict[str, JsonValue] = {
            "access_token": access_token,
            "token_type": "bearer",
            "expires_in": int(self.issuer.token_lifetime.total_seconds()),
            "id_token": id_token,
        }
        return answer if refresh_token is None else answer | {"refresh_token": refresh_token}
