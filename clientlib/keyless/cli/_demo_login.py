"""Logs in at the demonstration's own issuer, as a browser would. Only for a loopback issuer."""

import base64
import hashlib
import http.client
import json
import secrets
from urllib.parse import parse_qsl, urlencode, urlsplit

from keyless.errors import KeylessError

REDIRECT = "http://localhost:1/auth/callback"  # nobody listens there: we read it from the redirect
SECONDS = 10  # for each answer
MAX_ANSWER = 1 << 20  # bytes


def log_in(issuer: str) -> str:
    """Return an ID token of *issuer*: authorization code with PKCE (RFC 6749, RFC 7636).

    Args:
        issuer: An http URL on loopback.

    Raises:
        KeylessError: ``service_invalid_reply`` if the issuer answers with anything else.
    """
    verifier = secrets.token_urlsafe(48)
    state = secrets.token_urlsafe(24)
    challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=")
    try:
        discovery = _json(f"{issuer}/.well-known/openid-configuration", None)
        asked = {
            "response_type": "code",
            "client_id": "sigstore",
            "redirect_uri": REDIRECT,
            "scope": "openid email",
            "state": state,
            "nonce": secrets.token_urlsafe(24),
            "code_challenge": challenge.decode(),
            "code_challenge_method": "S256",
        }
        location = _ask(f"{discovery['authorization_endpoint']}?{urlencode(asked)}", None)[1]
        answer = dict(parse_qsl(urlsplit(location).query))
        if not secrets.compare_digest(answer["state"], state):
            raise KeylessError("service_invalid_reply", "the issuer answered somebody else")
        redeemed = {
            "grant_type": "authorization_code",
            "code": answer["code"],
            "redirect_uri": REDIRECT,
            "client_id": "sigstore",
            "code_verifier": verifier,
        }
        return _json(discovery["token_endpoint"], redeemed)["id_token"]
    except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError) as exc:
        raise KeylessError(
            "service_invalid_reply", f"the demonstration could not log in: {type(exc).__name__}"
        ) from exc


def _json(url: str, form: "dict[str, str] | None") -> "dict[str, str]":
    value: dict[str, str] = json.loads(_ask(url, form)[0])
    return value


def _ask(url: str, form: "dict[str, str] | None") -> "tuple[bytes, str]":
    """Return the body of the answer, and where it redirects to or ``""``."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=SECONDS)
    try:
        target = f"{parts.path}?{parts.query}" if parts.query else parts.path
        if form is None:
            connection.request("GET", target)
        else:
            kind = {"Content-Type": "application/x-www-form-urlencoded"}
            connection.request("POST", target, urlencode(form), kind)
        response = connection.getresponse()
        return response.read(MAX_ANSWER), response.headers.get("Location", "")
    finally:
        connection.close()
