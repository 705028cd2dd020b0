"""A real Chromium without a window, driven by its own driver over WebDriver (W3C, level 2).

Asks nobody but loopback: what a fresh browser would look up by itself is switched off.
"""

from __future__ import annotations

import base64
import json
import os
import signal
from pathlib import Path
from typing import Any

import httpx
from tests.real.process import Program, answers, free_ports, plain_environ
from tests.real.versions import system_program

# WebDriver's own key for "this is an element" (12.1).
_ELEMENT = "element-6066-11e4-a52e-4f735466cecf"
_QUIET = (
    *("--headless=new", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    # A page that wants something from elsewhere does not get it.
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE localhost, EXCLUDE 127.0.0.1",
    *("--disable-extensions", "--disable-dev-shm-usage", "--hide-scrollbars"),
)
PATIENCE = 30  # seconds for one command


class Chromium:
    """One browser with one tab and a profile of its own."""

    def __init__(self, folder: Path, *, dark: bool = False, size: str = "900,700") -> None:
        port = free_ports(1)[0]
        # The profile has sockets in it, whose paths must be short.
        self._folder = folder
        self._arguments = [*_QUIET, f"--window-size={size}", f"--user-data-dir={folder / 'p'}"]
        if os.geteuid() == 0:
            self._arguments.append("--no-sandbox")
        if dark:
            self._arguments.append("--force-dark-mode")
        self._url = f"http://127.0.0.1:{port}"
        self._driver = Program(
            "chromedriver",
            [_program("chromedriver"), f"--port={port}"],
            log=folder / "chromedriver.log",
            ready=answers(f"{self._url}/status"),
            environ={**plain_environ(folder), "TMPDIR": str(folder)},
        )
        self._http = httpx.Client(trust_env=False, timeout=PATIENCE)
        self._session = ""

    def start(self) -> None:
        """Open the browser."""
        self._driver.start()
        self._driver.wait_until_ready()
        options = {"args": self._arguments, "binary": _program("chromium")}
        wanted = {
            "browserName": "chrome",
            "goog:chromeOptions": options,
            "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"},
        }
        found = self._ask("POST", "", {"capabilities": {"alwaysMatch": wanted}})
        self._session = "/" + found["sessionId"]

    def close(self) -> None:
        """Close it."""
        try:
            if self._session:
                self._ask("DELETE", "")
        finally:
            self._http.close()
            self._driver.stop(signal.SIGKILL)

    # --- what a person does -------------------------------------------------------------------

    def open(self, url: str) -> None:
        """Load a page; it is there when this returns."""
        self._ask("POST", "/url", {"url": url})

    def type(self, selector: str, text: str) -> None:
        """Type into the first element that a CSS selector finds."""
        self._ask("POST", f"/element/{self._find(selector)}/clear", {})
        self._ask("POST", f"/element/{self._find(selector)}/value", {"text": text})

    def click(self, selector: str) -> None:
        """Click the first element that a CSS selector finds; waits for a page that it loads."""
        self._ask("POST", f"/element/{self._find(selector)}/click", {})

    # --- what a person sees -------------------------------------------------------------------

    @property
    def url(self) -> str:
        """The address of the page."""
        return str(self._ask("GET", "/url"))

    @property
    def text(self) -> str:
        """The text of the page as it is shown."""
        return str(self.run("return document.body.innerText"))

    def screenshot(self) -> bytes:
        """Return the page as a PNG."""
        return base64.b64decode(self._ask("GET", "/screenshot"))

    # --- what a person does not see -----------------------------------------------------------

    def run(self, script: str) -> Any:
        """Return what a script returns. The driver's own: no policy of the page stops it."""
        return self._ask("POST", "/execute/sync", {"script": script, "args": []})

    def console(self) -> list[str]:
        """Return what the console shows since the last call: errors, violations of a policy."""
        return [entry["message"] for entry in self._ask("POST", "/se/log", {"type": "browser"})]

    def traffic(self) -> tuple[list[str], list[dict[str, Any]]]:
        """Return what was asked for over HTTP since the last call, and the answers that came."""
        asked, answered = [], []
        for entry in self._ask("POST", "/se/log", {"type": "performance"}):
            message = json.loads(entry["message"])["message"]
            if message["method"] == "Network.requestWillBeSent":
                asked.append(str(message["params"]["request"]["url"]))
            elif message["method"] == "Network.responseReceived":
                answered.append(message["params"]["response"])
        return (
            [url for url in asked if url.startswith("http")],
            [one for one in answered if one["url"].startswith("http")],
        )

    def _find(self, selector: str) -> str:
        found = self._ask("POST", "/element", {"using": "css selector", "value": selector})
        return str(found[_ELEMENT])

    def _ask(self, method: str, path: str, body: object = None) -> Any:
        url = f"{self._url}/session{self._session}{path}"
        reply = self._http.request(method, url, json=body)
        value = reply.json()["value"]
        if reply.status_code != httpx.codes.OK:
            raise AssertionError(f"{method} {path}: {value['error']}: {value['message'][:500]}")
        return value


def _program(name: str) -> str:
    found = system_program(name)
    assert found is not None, f"{name} is not installed"
    return found
