"""A person who logs in at Dex, by its pages or, without a browser, by a password alone."""

from __future__ import annotations

from collections.abc import Mapping

import httpx
from tests.real.browser import Browser, Page
from tests.real.services import EMAIL, PASSWORD

MOCK_EMAIL = "kilgore@kilgore.trout"  # of the connector that lets everybody in

__all__ = ["EMAIL", "MOCK_EMAIL", "code_of", "follow", "password_grant", "sign_in"]


def sign_in(url: str, *, until: str | None = None, connector: str = "local") -> Page:
    """Choose a connector where there is a choice, and log in.

    Returns:
        The redirect to below *until*, not followed; without *until* the last page.
    """
    browser = Browser()
    try:
        return browser.sign_in(
            url, until=until, link=f"/auth/{connector}", login=EMAIL, password=PASSWORD
        )
    finally:
        browser.close()


def follow(url: str) -> Page:
    """Do nothing but follow redirects."""
    browser = Browser()
    try:
        return browser.get(url)
    finally:
        browser.close()


def code_of(page: Page) -> str:
    """Return the code that Dex shows on its page, in a field to be copied."""
    head, found, rest = page.text.partition('value="')
    assert found, head
    return rest.partition('"')[0]


def password_grant(url: str) -> Mapping[str, object]:
    """Return Dex's answer: an identity token for EMAIL, a refresh token, an access token.

    Args:
        url: Dex's own, as an issuer.
    """
    reply = httpx.post(
        f"{url}/token",
        data={
            "grant_type": "password",
            "client_id": "sigstore",
            "username": EMAIL,
            "password": PASSWORD,
            "scope": "openid email offline_access",
        },
        trust_env=False,
    )
    reply.raise_for_status()
    found = reply.json()
    assert isinstance(found, dict)
    return found
