"""A person who logs in at the sandbox's issuer, with a browser of a few lines."""

from __future__ import annotations

import html
import re
import subprocess
from typing import Self
from urllib.parse import parse_qs, urlsplit

import httpx

from standing import Standing

ADA = "ada@example.org"


class Browser:
    """Follows a login to its end and notes what passes by."""

    def __init__(self) -> None:
        self.seen: set[str] = set()
        self._web = httpx.Client(trust_env=False, timeout=30)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._web.close()

    def consent(self, url: str, identity: str = ADA) -> str:
        """Answer the issuer's page; return where it sends the browser."""
        form = self._web.get(url).text
        handle = re.search(r'name="request" value="([^"]+)"', form)
        assert handle is not None
        parts = urlsplit(url)
        answer = {"request": html.unescape(handle[1]), "identity": identity}
        found = self._web.post(f"{parts.scheme}://{parts.netloc}/auth/answer", data=answer)
        location = found.headers["location"]
        self.seen.add(parse_qs(urlsplit(location).query)["code"][0])
        return location

    def visit(self, location: str) -> httpx.Response:
        """Open any page."""
        return self._web.get(location)


def read_url(process: subprocess.Popen[str]) -> str:
    """Return the address that a command shows on standard error."""
    assert process.stderr is not None
    for line in process.stderr:
        if line.strip().startswith("http"):
            return line.strip()
    raise AssertionError("no address was shown")


def log_in(house: Standing, *words: str) -> tuple[Browser, httpx.Response, str]:
    """Log in, with a stray answer before the right one; return the last page and what was said."""
    process = house.start("login", "--no-browser", *words)
    with Browser() as browser:
        url = read_url(process)
        browser.seen.add(parse_qs(urlsplit(url).query)["state"][0])
        location = browser.consent(url)
        stray = browser.visit(location.replace("state=", "state=x"))
        assert stray.status_code == 400
        page = browser.visit(location)
    (done,) = house.finish([process])
    assert done.returncode == 0, done.stderr
    return browser, page, done.stdout + done.stderr
