"""A browser without a window: follows redirects, keeps cookies, fills in forms. Runs no script.

For the login pages of the real issuers. It does what it is told with a page and knows none of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from html.parser import HTMLParser
from urllib.parse import urljoin

import httpx

MOST_PAGES = 20


class LostError(Exception):
    """A page has nothing to go on with; the message shows where, and what it says."""


@dataclass(slots=True)
class Form:
    """One form: where it goes, and what it holds already."""

    action: str
    method: str
    fields: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Page:
    """A page that was loaded.

    Attributes:
        url: Where it is, after all redirects.
        status: Its HTTP status.
        headers: Its headers.
        text: Its source.
    """

    url: str
    status: int
    headers: Mapping[str, str]
    text: str

    @property
    def forms(self) -> list[Form]:
        """Its forms, with the values of hidden and filled-in fields."""
        return _parsed(self).forms

    @property
    def links(self) -> list[str]:
        """Where its links lead, absolute."""
        return [urljoin(self.url, link) for link in _parsed(self).links]


class Browser:
    """Loads pages as one person's browser does; close() ends it.

    Attributes:
        seen: Every URL that was loaded, redirects too, in order.
    """

    def __init__(self) -> None:
        self._client = httpx.Client(trust_env=False, follow_redirects=False, timeout=30)
        self.seen: list[str] = []

    def close(self) -> None:
        """Forget the cookies."""
        self._client.close()

    def get(self, url: str, *, until: str | None = None) -> Page:
        """Load a page, through all redirects or up to the first to an address under *until*."""
        return self._follow(self._client.build_request("GET", url), until)

    def submit(
        self, page: Page, form: Form, *, until: str | None = None, **fields: str | None
    ) -> Page:
        """Send one of the page's forms with further *fields*; None takes one away."""
        values = {**form.fields, **fields}
        data = {name: value for name, value in values.items() if value is not None}
        url = urljoin(page.url, form.action)
        if form.method == "post":
            return self._follow(self._client.build_request("POST", url, data=data), until)
        return self._follow(self._client.build_request("GET", url, params=data), until)

    def sign_in(
        self, url: str, *, until: str | None = None, link: str = "", **answers: str
    ) -> Page:
        """Answer form after form, beginning at *url*, until a page has none that is to be answered.

        Args:
            url: Where the person was sent.
            until: Stop at a redirect to below this address, without loading it.
            link: Part of the address of the link to take where a page has no form: the choice of
                a connector.
            **answers: Names of fields and what a person types into them.

        Raises:
            LostError: It goes on for ever.
        """
        page = self.get(url, until=until)
        for _ in range(MOST_PAGES):
            if until is not None and page.url.startswith(until):
                return page
            forms = page.forms
            if forms:
                known = {name: answers[name] for name in answers if name in forms[0].fields}
                page = self.submit(page, forms[0], until=until, **known)
                continue
            chosen = [one for one in page.links if link and link in one]
            if not chosen:
                return page
            page = self.get(chosen[0], until=until)
        raise LostError(f"no end of pages: {self.seen[-MOST_PAGES:]}")

    def _follow(self, request: httpx.Request, until: str | None) -> Page:
        for _ in range(MOST_PAGES):
            self.seen.append(str(request.url))
            reply = self._client.send(request)
            if reply.next_request is None:
                return Page(str(reply.url), reply.status_code, reply.headers, reply.text)
            request = reply.next_request
            url = str(request.url)
            if until is not None and url.startswith(until):
                return Page(url, reply.status_code, reply.headers, "")
        raise LostError(f"no end of redirects: {self.seen[-MOST_PAGES:]}")


class _Reader(HTMLParser):
    """Collects forms and links."""

    def __init__(self) -> None:
        super().__init__()
        self.forms: list[Form] = []
        self.links: list[str] = []
        self._open: Form | None = None
        self._named: dict[str, Form] = {}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        if tag == "a" and "href" in found:
            self.links.append(found["href"])
        elif tag == "form":
            self._open = Form(found.get("action", ""), found.get("method", "get").lower())
            self.forms.append(self._open)
            self._named[found.get("id", "")] = self._open
        elif tag in {"input", "select", "textarea"} and found.get("name"):
            form = self._named.get(found["form"]) if "form" in found else self._open
            if form is not None and found.get("type") != "submit":
                form.fields[found["name"]] = found.get("value", "")

    def handle_endtag(self, tag: str) -> None:
        if tag == "form":
            self._open = None


def _parsed(page: Page) -> _Reader:
    reader = _Reader()
    if "html" in page.headers.get("content-type", ""):
        reader.feed(page.text)
    return reader
