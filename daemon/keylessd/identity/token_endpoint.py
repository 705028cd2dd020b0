"""The token endpoint: one function per grant.

RFC 6749 (codes, refresh, client credentials), 7636 (proof key), 8628 (devices), 8693 (exchange),
7009 (revocation). What a refusal means is in ``token_refusal``.
"""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from keylessd.identity.provider import SERVICE
from keylessd.identity.token_refusal import MAX_REPLY, GrantError, Verdict, classify, refused
from keylessd.secret import Secret
from keylessd.services.reply import date_of, json_object

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import timedelta

    from keylessd.clock import Clock
    from keylessd.core.strict_json import JsonValue
    from keylessd.services.http import HttpClient, HttpReply

__all__ = [
    "ACCESS_TOKEN_TYPE",
    "DEVICE_GRANT",
    "EXCHANGE_GRANT",
    "ID_TOKEN_TYPE",
    "DeviceReply",
    "GrantError",
    "TokenEndpoint",
    "TokenReply",
    "Verdict",
    "begin_device",
    "classify",
    "refused",
    "revoke",
]

DEADLINE_SECONDS = 20.0
REVOKE_SECONDS = 10.0
# Another attempt is made only if no connection could be opened: no grant may be used twice.
ATTEMPTS = 3
MAX_LIFETIME = 30 * 24 * 3600.0  # seconds; a longer expires_in is cut
MAX_DEVICE_SECONDS = 1800.0
DEFAULT_INTERVAL = 5.0  # RFC 8628, 3.2: where the issuer names none
MAX_INTERVAL = 60.0

DEVICE_GRANT = "urn:ietf:params:oauth:grant-type:device_code"
EXCHANGE_GRANT = "urn:ietf:params:oauth:grant-type:token-exchange"
ID_TOKEN_TYPE = "urn:ietf:params:oauth:token-type:id_token"  # noqa: S105  # the name of a type
ACCESS_TOKEN_TYPE = "urn:ietf:params:oauth:token-type:access_token"  # noqa: S105


@dataclass(frozen=True, slots=True)
class TokenReply:
    """What a grant gave.

    Attributes:
        id_token: The ID token, or None if the issuer sent none.
        access_token: The access token, for ``at_hash`` only, or None.
        refresh_token: A refresh token, or None.
        expires_in: Seconds that the issuer says it is good for, or None.
        sent: When the request was sent, on the clock that counts suspend.
        ahead: How far this machine's clock is ahead of the issuer's (negative: behind), as far
            as whole seconds tell, or None if the issuer did not say the time.
    """

    id_token: Secret | None
    access_token: Secret | None
    refresh_token: Secret | None
    expires_in: float | None
    sent: float
    ahead: timedelta | None


@dataclass(frozen=True, slots=True)
class DeviceReply:
    """A device flow that has begun (RFC 8628, 3.2).

    Attributes:
        device_code: What we ask with.
        user_code: What the person enters.
        verification_uri: Where.
        verification_uri_complete: The same with the code in it, or None.
        expires_in: Seconds until it is over.
        interval: Seconds between two questions.
    """

    device_code: Secret
    user_code: str
    verification_uri: str
    verification_uri_complete: str | None
    expires_in: float
    interval: float


class TokenEndpoint:
    """Asks one token endpoint, as one client.

    Args:
        http: Asks.
        clock: Tells when it was asked, and how far off the clocks are.
        url: The endpoint.
        client_id: Whom the issuer knows us as.
        client_secret: For a confidential client; a public one has none.
    """

    def __init__(
        self,
        http: HttpClient,
        clock: Clock,
        url: str,
        *,
        client_id: str,
        client_secret: Secret | None = None,
    ) -> None:
        self._http = http
        self._clock = clock
        self._url = url
        self._client_id = client_id
        self._client_secret = client_secret

    async def redeem_code(self, code: Secret, *, verifier: Secret, redirect_uri: str) -> TokenReply:
        """Redeem an authorization code (RFC 6749, 4.1.3; RFC 7636, 4.5).

        Raises:
            GrantError: the issuer refused.
            ServiceError: it did not answer, or not as it must.
        """
        return await self._grant(
            "authorization_code",
            {
                "code": code.reveal(),
                "redirect_uri": redirect_uri,
                "code_verifier": verifier.reveal(),
            },
        )

    async def redeem_device(self, device_code: Secret, *, verifier: Secret) -> TokenReply:
        """Ask once whether the person has answered (RFC 8628, 3.4).

        Raises:
            GrantError: not yet, or no; the verdict says which.
            ServiceError: the issuer did not answer, or not as it must.
        """
        return await self._grant(
            DEVICE_GRANT,
            {"device_code": device_code.reveal(), "code_verifier": verifier.reveal()},
        )

    async def refresh(self, refresh_token: Secret) -> TokenReply:
        """Get another ID token (RFC 6749, 6). The reply's refresh token, if any, replaces this one.

        Raises:
            GrantError: the issuer refused.
            ServiceError: it did not answer, or not as it must; the token may have been used up.
        """
        return await self._grant("refresh_token", {"refresh_token": refresh_token.reveal()})

    async def client_credentials(
        self, *, scope: str = "openid email", resource: str | None = None
    ) -> TokenReply:
        """Get a token for the client itself (RFC 6749, 4.4).

        Args:
            scope: What is asked for; nothing if empty.
            resource: What the token is to be for (RFC 8707, 2), or None.

        Raises:
            GrantError: the issuer refused.
            ServiceError: it did not answer, or not as it must.
        """
        fields = {"scope": scope, "resource": resource or ""}
        return await self._grant(
            "client_credentials", {name: value for name, value in fields.items() if value}
        )

    async def exchange(
        self,
        subject_token: Secret,
        *,
        subject_token_type: str,
        more: Mapping[str, str] | None = None,
    ) -> TokenReply:
        """Exchange another issuer's token for an ID token of this one (RFC 8693, 2.1).

        Args:
            subject_token: What is exchanged.
            subject_token_type: ID_TOKEN_TYPE or ACCESS_TOKEN_TYPE.
            more: What the issuer wants besides, for example Dex's ``connector_id``.

        Returns:
            The reply; the token that was issued is its ``id_token``, whatever field it came in
            (2.2.1: always ``access_token``).

        Raises:
            GrantError: the issuer refused.
            ServiceError: it did not answer, or not as it must.
        """
        reply = await self._grant(
            EXCHANGE_GRANT,
            {
                "subject_token": subject_token.reveal(),
                "subject_token_type": subject_token_type,
                "requested_token_type": ID_TOKEN_TYPE,
                "scope": "openid email",
                **(more or {}),
            },
        )
        return TokenReply(
            id_token=reply.access_token or reply.id_token,
            access_token=None,
            refresh_token=None,
            expires_in=reply.expires_in,
            sent=reply.sent,
            ahead=reply.ahead,
        )

    async def _grant(self, grant_type: str, fields: Mapping[str, str]) -> TokenReply:
        form = {"grant_type": grant_type, "client_id": self._client_id, **fields}
        if self._client_secret is not None:
            form["client_secret"] = self._client_secret.reveal()
        before, sent = self._clock.now(), self._clock.boottime()
        reply = await _post(self._http, self._url, form, DEADLINE_SECONDS)
        if reply.status != HTTPStatus.OK:
            raise refused(reply, grant_type=grant_type, form=form)
        value = json_object(reply, SERVICE)
        date = date_of(reply)
        middle = before + (self._clock.now() - before) / 2
        return TokenReply(
            id_token=_secret(value, "id_token"),
            access_token=_secret(value, "access_token"),
            refresh_token=_secret(value, "refresh_token"),
            expires_in=_seconds(value, "expires_in"),
            sent=sent,
            ahead=None if date is None else middle - date,
        )


async def begin_device(
    http: HttpClient, url: str, *, client_id: str, scope: str, challenge: str
) -> DeviceReply:
    """Begin a device flow (RFC 8628, 3.1), bound to a proof key.

    Raises:
        GrantError: the issuer refused.
        ServiceError: it did not answer, or not as it must.
    """
    form = {
        "client_id": client_id,
        "scope": scope,
        "code_challenge": challenge,
        "code_challenge_method": "S256",
    }
    reply = await _post(http, url, form, DEADLINE_SECONDS)
    if reply.status != HTTPStatus.OK:
        raise refused(reply, grant_type=DEVICE_GRANT, form=form)
    value = json_object(reply, SERVICE)
    device_code, user_code = _secret(value, "device_code"), value.get("user_code")
    page = value.get("verification_uri", value.get("verification_url"))
    is_told = isinstance(user_code, str) and user_code and isinstance(page, str) and page
    if device_code is None or not is_told:
        raise GrantError(
            Verdict.CONFIGURATION, f"the answer of {reply.url} is no device authorization"
        )
    whole = value.get("verification_uri_complete")
    interval = _seconds(value, "interval")
    return DeviceReply(
        device_code=device_code,
        user_code=str(user_code),
        verification_uri=str(page),
        verification_uri_complete=whole if isinstance(whole, str) and whole else None,
        expires_in=min(_seconds(value, "expires_in") or MAX_DEVICE_SECONDS, MAX_DEVICE_SECONDS),
        interval=min(DEFAULT_INTERVAL if interval is None else interval, MAX_INTERVAL),
    )


async def revoke(http: HttpClient, url: str, *, client_id: str, refresh_token: Secret) -> None:
    """Take a refresh token back (RFC 7009, 2.1).

    Raises:
        GrantError: the issuer refused.
        ServiceError: it did not answer.
    """
    form = {
        "client_id": client_id,
        "token": refresh_token.reveal(),
        "token_type_hint": "refresh_token",
    }
    reply = await _post(http, url, form, REVOKE_SECONDS)
    if reply.status != HTTPStatus.OK:
        raise refused(reply, grant_type="revocation", form=form)


async def _post(
    http: HttpClient, url: str, form: Mapping[str, str], deadline_seconds: float
) -> HttpReply:
    return await http.send(
        "POST",
        url,
        service=SERVICE,
        content=urlencode(form).encode(),
        headers={
            "Content-Type": "application/x-www-form-urlencoded",
            "Accept": "application/json",
        },
        deadline_seconds=deadline_seconds,
        attempts=ATTEMPTS,
        max_body=MAX_REPLY,
    )


def _secret(value: Mapping[str, JsonValue], name: str) -> Secret | None:
    text = value.get(name)
    return Secret(text) if isinstance(text, str) and text else None


def _seconds(value: Mapping[str, JsonValue], name: str) -> float | None:
    found = value.get(name)
    # Some issuers write the number as text.
    if isinstance(found, str) and found.isascii() and found.isdigit():
        found = int(found[:9])
    if isinstance(found, bool) or not isinstance(found, int | float) or found <= 0:
        return None
    return min(float(found), MAX_LIFETIME)
