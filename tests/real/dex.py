"""A person who logs in at Dex."""

from __future__ import annotations

from tests.real.browser import Browser, Page
from tests.real.services import EMAIL, PASSWORD

MOCK_EMAIL = "kilgore@kilgore.trout"  # of the connector that lets everybody in

__all__ = ["EMAIL", "MOCK_EMAIL", "code_of", "follow", "sign_in"]


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
