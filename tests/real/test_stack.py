"""The stack itself: Dex's flows, the tiles over HTTP, what the TUF repository serves."""

from __future__ import annotations

from urllib.parse import parse_qs, urlsplit

import httpx
import jwt
import pytest
from tests.real.services import EMAIL, REKOR2_NAMES
from tests.real.trust import TRUSTED_ROOT

from keylessd.core.note import note_key_id, parse_checkpoint, verify_checkpoint
from keylessd.core.trusted_root import parse_trusted_root

CALLBACK = "http://localhost:54321/auth/callback"


def _claims(token: object) -> dict[str, object]:
    return jwt.decode(str(token), options={"verify_signature": False})


def test_password_grant_and_refresh(stack) -> None:
    first = stack.dex_login()
    claims = _claims(first["id_token"])
    assert claims["aud"] == "sigstore"
    assert (claims["email"], claims["email_verified"]) == (EMAIL, True)
    assert claims["exp"] - claims["iat"] == 300

    form = {"grant_type": "refresh_token", "client_id": "sigstore"}
    form["refresh_token"] = str(first["refresh_token"])
    second = httpx.post(f"{stack.urls.dex}/token", data=form)

    assert second.status_code == 200
    # It rotates them, but not within the reuse interval.
    assert second.json()["refresh_token"]
    assert _claims(second.json()["id_token"])["email"] == EMAIL
    form["refresh_token"] = "nobody's"
    refused = httpx.post(f"{stack.urls.dex}/token", data=form)
    assert refused.status_code == 400
    assert refused.json()["error"] == "invalid_request"


def test_device_flow_waits(stack) -> None:
    form = {"client_id": "sigstore", "scope": "openid email offline_access"}
    begun = httpx.post(f"{stack.urls.dex}/device/code", data=form).json()
    assert begun["verification_uri_complete"]
    assert begun["interval"] == 5

    asked = {
        "grant_type": "urn:ietf:params:oauth:grant-type:device_code",
        "device_code": begun["device_code"],
        "client_id": "sigstore",
    }
    answer = httpx.post(f"{stack.urls.dex}/token", data=asked)
    assert (answer.status_code, answer.json()["error"]) == (400, "authorization_pending")


def test_browser_flow_of_the_mock_connector(stack) -> None:
    query = {
        "client_id": "sigstore",
        "redirect_uri": CALLBACK,
        "response_type": "code",
        "scope": "openid email",
        "state": "of the test",
        "connector_id": "mock",
    }
    url = f"{stack.urls.dex}/auth/mock?{httpx.QueryParams(query)}"
    with httpx.Client(base_url=stack.urls.dex) as browser:
        for _ in range(10):
            reply = browser.get(url)
            assert reply.status_code in {302, 303}, reply.text
            url = reply.headers["location"]
            if url.startswith(CALLBACK):
                break
    given = parse_qs(urlsplit(url).query)
    assert given["state"] == ["of the test"]

    form = {"grant_type": "authorization_code", "client_id": "sigstore", "redirect_uri": CALLBACK}
    answer = httpx.post(f"{stack.urls.dex}/token", data={**form, "code": given["code"][0]})

    assert _claims(answer.json()["id_token"])["email_verified"] is True


@pytest.mark.parametrize("name", ["rekor2-a", "rekor2-b"])
def test_tiles_over_http(stack, primed, name: str) -> None:
    base = f"{stack.urls.files}/{name}"
    checkpoint = parse_checkpoint(httpx.get(f"{base}/checkpoint").text)
    key, log = stack.keys.public[name], REKOR2_NAMES[name]

    hint = note_key_id(log, key)[:4]
    verify_checkpoint(checkpoint, log_name=log, key=key, key_hint=hint, v2=True)

    assert checkpoint.size == stack.entries(name) > 0
    width = "" if checkpoint.size >= 256 else f".p/{checkpoint.size}"
    tile = httpx.get(f"{base}/tile/0/000{width}")
    assert tile.status_code == 200
    assert len(tile.content) == 32 * min(checkpoint.size, 256)


def test_trusted_root_says_what_was_written(stack) -> None:
    root = parse_trusted_root((stack.trust / TRUSTED_ROOT).read_bytes())

    assert root.disabled == ()
    assert {log.name for log in root.tlogs} >= set(REKOR2_NAMES.values())
    assert root.certificate_authorities[0].chain[-1] == stack.keys.ca
    assert root.timestamp_authorities[0].chain == stack.keys.tsa_chain
