"""The page that a login ends on, in a real Chromium, by the embedded issuer and `keyless login`."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.real.people import Terminal, log_in

from standing import Standing, bundle_of, standing

IDENTITY = "ada@sandbox.test"
HOSTILE = (
    '"><script>document.title="owned"</script><img/src=x/onerror=document.title="owned">@x.test'
)
# Where screenshots are left for people to look at, if anywhere.
PICTURES = os.environ.get("KEYLESS_REAL_PICTURES")


@pytest.fixture(scope="module")
def home(chromium_is_there, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Standing]:
    for house in standing(tmp_path_factory.mktemp("page")):
        del house.environ["SIGSTORE_ID_TOKEN"]
        yield house


@pytest.fixture(scope="module")
def browse(chromium_is_there) -> Iterator[Callable]:
    from tests.real.chromium import Chromium

    opened = []

    def browse(**options: object) -> Chromium:
        folder = tempfile.TemporaryDirectory(prefix="keyless-chromium-")
        one = Chromium(Path(folder.name), **options)
        opened.append((one, folder))
        one.start()
        return one

    yield browse
    for one, folder in opened:
        one.close()
        folder.cleanup()


@pytest.fixture(scope="module")
def one_browser(browse):
    return browse()


@pytest.fixture
def browser(one_browser):
    one_browser.open("about:blank")
    one_browser.console()
    one_browser.traffic()
    return one_browser


def signing_in(browser, identity: str = IDENTITY, *, agrees: bool = True) -> Callable[[str], None]:
    """Return what a person does with the page of the issuer."""

    def person(url: str) -> None:
        browser.open(url)
        if agrees:
            browser.type("input[name=identity]", identity)
            browser.click("button[value=yes], button:not([value=no])")
        else:
            browser.click("button[value=no]")

    return person


def picture(browser, name: str) -> None:
    png = browser.screenshot()
    assert png.startswith(b"\x89PNG")
    if PICTURES:
        (Path(PICTURES) / f"{name}.png").write_bytes(png)


def test_a_whole_login(home, browser) -> None:
    done = log_in(home, signing_in(browser))
    picture(browser, "signed-in")
    (path,) = home.files(1, stem="by-browser-")
    signed = home.keyless("sign", path)

    assert f"signed in as {IDENTITY}" in done.stdout
    assert "You are signed in" in browser.text
    assert IDENTITY in browser.text
    assert home.urls["oidc_issuer"] in browser.text
    assert "close this tab" in browser.text
    assert browser.url.startswith("http://localhost:")
    assert signed.returncode == 0, signed.stderr
    words = ("--certificate-identity", IDENTITY)
    words = (*words, "--certificate-oidc-issuer", home.urls["oidc_issuer"])
    assert home.keyless("verify", *words, path).returncode == 0
    assert bundle_of(path).exists()


def test_the_page_has_no_script_and_loads_nothing(home, browser) -> None:
    log_in(home, signing_in(browser))
    asked, answered = browser.traffic()
    ours = [one for one in answered if one["url"].startswith("http://localhost:")]
    headers = {name.lower(): value for name, value in ours[0]["headers"].items()}
    policy = [part.strip() for part in headers["content-security-policy"].split(";")]

    assert browser.run("return document.scripts.length") == 0
    assert browser.run("return document.querySelectorAll('[onload],[onclick],[src]').length") == 0
    assert [url for url in asked if url.startswith("http://localhost:")] == [ours[0]["url"]]
    assert ours[0]["status"] == 200
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert not any(part.startswith("script-src") for part in policy)
    assert "unsafe-inline" not in headers["content-security-policy"]
    assert headers["cache-control"] == "no-store"
    assert headers["referrer-policy"] == "no-referrer"


def test_the_policy_is_in_force(home, browser) -> None:
    log_in(home, signing_in(browser))
    browser.console()
    # What an attacker would put into the page, put there by somebody who can.
    browser.run(
        "const s = document.createElement('script'); s.textContent = 'document.title = \"owned\"';"
        "document.body.append(s);"
        "const i = document.createElement('img'); i.src = 'http://127.0.0.1:9/x.png';"
        "document.body.append(i);"
        "const t = document.createElement('style'); t.textContent = 'main { display: none }';"
        "document.body.append(t)"
    )
    complaints = " ".join(browser.console())

    assert browser.run("return document.title") == "You are signed in"
    assert browser.run("return getComputedStyle(document.querySelector('main')).display") != "none"
    for kind in ("script", "image", "style"):
        assert kind in complaints.lower()
    assert "Content Security Policy" in complaints


def test_our_own_style_is_not_stopped(home, browser) -> None:
    log_in(home, signing_in(browser))
    complaints = browser.console()
    style = "return getComputedStyle(document.querySelector('main')).borderRadius"

    assert browser.run(style) == "16px"
    assert not [one for one in complaints if "Content Security Policy" in one]


def test_an_identity_that_is_a_script_is_text(home, browser) -> None:
    terminal = Terminal(home)
    signing_in(browser, HOSTILE)(terminal.opened())
    terminal.finish()
    picture(browser, "hostile")

    assert browser.run("return document.title") != "owned"
    assert browser.run("return document.scripts.length") == 0
    assert browser.run("return document.images.length") == 0


def test_a_login_that_is_declined(home, browser) -> None:
    terminal = Terminal(home)
    signing_in(browser, agrees=False)(terminal.opened())
    done = terminal.finish()
    picture(browser, "declined")

    assert done.returncode != 0
    assert "declined" in done.stderr
    assert "did not succeed" in browser.text
    assert "close this tab" in browser.text


def test_a_hostile_page_in_the_same_browser_ends_nothing(home, browse) -> None:
    terminal = Terminal(home)
    url = terminal.opened()
    stranger, person = browse(), browse()
    port = _port_of(url)
    for path in ("/", "/auth/callback", "/auth/callback?code=x&state=y", "/auth/callback?error=x"):
        stranger.open(f"http://localhost:{port}{path}")
        assert "You are signed in" not in stranger.text
    picture(stranger, "refused")
    signing_in(person)(url)
    done = terminal.finish()

    assert done.returncode == 0, done.stderr
    assert "You are signed in" in person.text


@pytest.mark.parametrize(("size", "dark"), [("500,640", True), ("1400,900", False)])
def test_the_page_fits(home, browse, dark: bool, size: str) -> None:
    browser = browse(dark=dark, size=size)
    log_in(home, signing_in(browser))
    picture(browser, f"signed-in-{'dark' if dark else 'light'}")
    back = browser.run("return getComputedStyle(document.body).backgroundColor")
    red = int(back.removeprefix("rgb(").partition(",")[0])

    assert browser.run("return document.documentElement.scrollWidth <= window.innerWidth")
    assert (red < 128) is dark


def _port_of(url: str) -> int:
    from urllib.parse import parse_qs, urlsplit

    redirect = parse_qs(urlsplit(url).query)["redirect_uri"][0]
    port = urlsplit(redirect).port
    assert port is not None
    return port
