"""The certified OpenID provider under Node, and a person who logs in at it."""

from __future__ import annotations

import shutil
import signal
from pathlib import Path

import httpx
from tests.real.browser import Browser, Page
from tests.real.process import Program, answers, free_ports, plain_environ
from tests.real.versions import HERE, node_modules

EMAIL = "dev@keyless.test"
UNVERIFIED = "dev@unverified.test"
CALLBACK = "/auth/callback"
ROBOT_SECRET = "secret-of-the-robot"
SIGNING = "urn:keyless:signing"  # what a client asks a token for that is to be for Sigstore
OPAQUE = "urn:keyless:opaque"


class OidcProvider:
    """``oidc-provider`` on loopback. Whatever name is entered is let in.

    Attributes:
        url: The issuer.
        robot: A client that has an identity of its own.
    """

    def __init__(self, folder: Path, port: int | None = None) -> None:
        port = port or free_ports(1)[0]
        self.url = f"http://127.0.0.1:{port}"
        self.robot = f"{self.url}/robot"
        script = HERE / "js-oidc" / "issuer.mjs"
        self.program = Program(
            "oidc-provider",
            [shutil.which("node") or "node", script, node_modules("js-oidc"), str(port)],
            log=folder / "oidc-provider.log",
            ready=answers(f"{self.url}/.well-known/openid-configuration"),
            environ=plain_environ(folder),
        )

    def start(self) -> None:
        """Start it; it answers when this returns."""
        self.program.start()
        self.program.wait_until_ready()

    def close(self) -> None:
        """End it."""
        self.program.stop(signal.SIGKILL)


def sign_in(url: str, *, until: str | None = None, email: str = EMAIL) -> Page:
    """Do what a person does at *url*: log in, and agree to all that is asked.

    Returns:
        The redirect to below *until*, not followed; without *until* the last page.
    """
    browser = Browser()
    try:
        return browser.sign_in(url, until=until, login=email, password="any")
    finally:
        browser.close()


def decline(url: str) -> Page:
    """Log in, and then not agree."""
    browser = Browser()
    try:
        page = browser.get(url)
        page = browser.submit(page, page.forms[0], login=EMAIL, password="any")
        (link,) = [link for link in page.links if link.endswith("/abort")]
        return browser.get(link)
    finally:
        browser.close()


def decline_device(url: str) -> Page:
    """Say that the code is not of a device of one's own."""
    browser = Browser()
    try:
        # The page with the code sends itself; the next one asks whether it is the device's.
        page = browser.get(url)
        page = browser.submit(page, page.forms[0])
        return browser.submit(page, page.forms[0], abort="yes")
    finally:
        browser.close()


def revoke(issuer: str, refresh_token: str) -> None:
    """Take a refresh token back, as another program of the same person may."""
    httpx.post(
        f"{issuer}/token/revocation",
        data={"client_id": "sigstore", "token": refresh_token},
        trust_env=False,
    ).raise_for_status()
