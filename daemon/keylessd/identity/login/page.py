"""The page on which a login in a browser ends. Pure.

No script, nothing from elsewhere, nothing but text that is escaped; its one style sheet is allowed
by its hash. Whatever a page of this process could do, it must not be able to.
"""

from __future__ import annotations

import base64
import hashlib
import html
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

STYLE = """
:root{color-scheme:light dark;--back:#f4f5f7;--card:#fff;--text:#16181d;--soft:#5b6270;
--line:#e3e5ea;--mark:#16794c;--tint:#e2f3ea}
@media(prefers-color-scheme:dark){:root{--back:#101216;--card:#191c22;--text:#eceef2;
--soft:#9aa2b1;--line:#2a2f38;--mark:#5fd39a;--tint:#17352a}}
.bad{--mark:#b3261e;--tint:#fbe6e4}
@media(prefers-color-scheme:dark){.bad{--mark:#ff9d94;--tint:#40201e}}
*{box-sizing:border-box;margin:0}
body{background:var(--back);color:var(--text);font:1rem/1.55 system-ui,-apple-system,"Segoe UI",
Roboto,Cantarell,sans-serif;min-height:100vh;display:grid;place-items:center;padding:1.5rem}
main{background:var(--card);border:1px solid var(--line);border-radius:1rem;max-width:30rem;
width:100%;padding:2.5rem;text-align:center;box-shadow:0 1px 2px #0001,0 12px 32px #0001}
.mark{width:4rem;height:4rem;margin:0 auto 1.5rem;border-radius:50%;background:var(--tint);
color:var(--mark);display:grid;place-items:center;font-size:2rem;line-height:1}
h1{font-size:1.375rem;line-height:1.3;font-weight:650;margin-bottom:.5rem}
.who{font-size:1.0625rem;font-weight:600;overflow-wrap:anywhere;background:var(--tint);
color:var(--mark);border-radius:.5rem;padding:.625rem .875rem;margin:1.25rem 0 .5rem}
p{color:var(--soft);overflow-wrap:anywhere}p+p{margin-top:.75rem}
footer{margin-top:2rem;padding-top:1.25rem;border-top:1px solid var(--line);font-size:.875rem;
color:var(--soft)}
"""
_HASH = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
HEADERS: Mapping[str, str] = {
    "Content-Type": "text/html; charset=utf-8",
    "Content-Security-Policy": (
        f"default-src 'none'; style-src 'sha256-{_HASH}'; base-uri 'none'; form-action 'none';"
        " frame-ancestors 'none'"
    ),
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}

_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<main class="{kind}">
<div class="mark" aria-hidden="true">{mark}</div>
<h1>{title}</h1>
{body}
<footer>keyless</footer>
</main>
</body>
</html>
"""


@dataclass(frozen=True, slots=True)
class Page:
    """An answer to a browser.

    Attributes:
        status: HTTP status.
        text: HTML.
    """

    status: int
    text: str


def signed_in(identity: str, issuer: str) -> Page:
    """Return the page of a login that succeeded."""
    body = (
        f'<p class="who">{html.escape(identity)}</p>\n'
        f"<p>signed in with {html.escape(issuer)}</p>\n"
        "<p>You can close this tab and go back to your terminal.</p>"
    )
    return Page(200, _page("You are signed in", body, good=True))


def failed(reason: str) -> Page:
    """Return the page of a login that ended without an identity."""
    body = (
        f"<p>{html.escape(_sentence(reason))}</p>\n"
        "<p>Nobody was signed in. You can close this tab; your terminal says what to do.</p>"
    )
    return Page(200, _page("The sign-in did not succeed", body, good=False))


def refused(status: int, reason: str) -> Page:
    """Return the page for a request that is not the answer that is waited for."""
    body = f"<p>{html.escape(_sentence(reason))}</p>"
    return Page(status, _page("This is not the answer that is waited for", body, good=False))


def _sentence(reason: str) -> str:
    """Return the text of an error as it stands on a page."""
    return f"{reason[:1].upper()}{reason[1:]}."


def _page(title: str, body: str, *, good: bool) -> str:
    return _PAGE.format(
        title=title,
        style=STYLE,
        kind="good" if good else "bad",
        mark="&#10003;" if good else "!",
        body=body,
    )
