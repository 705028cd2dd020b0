"""Opens a page in the user's browser, if there is a display to open it on."""

import shlex
import subprocess
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

# Those that know the user's choice come first.
OPENERS = ("xdg-open", "wslview", "gio open", "sensible-browser", "x-www-browser")
BROWSERS = ("firefox", "chromium", "chromium-browser", "google-chrome")
SETTLE_SECONDS = 1.0  # a launcher that fails does so within this
LOOK_SECONDS = 0.02
SECRETIVE = ("TOKEN", "SECRET", "PASSWORD", "PASSPHRASE")  # variables that no browser needs


def has_display(environ: "Mapping[str, str]") -> bool:
    """Return whether a browser could show something to the user."""
    wanted = ("BROWSER", "WAYLAND_DISPLAY", "DISPLAY", "WSL_DISTRO_NAME")
    return sys.platform == "darwin" or any(environ.get(name) for name in wanted)


def open_browser(url: str, environ: "Mapping[str, str]") -> bool:
    """Open *url*; return whether a browser seems to have taken it.

    ``BROWSER`` names commands between colons, with ``%s`` where the URL goes (at the end if it
    is not there), as xdg-open and others read it.
    """
    if not url.startswith(("https://", "http://")):
        return False
    return any(_start(words, environ) for words in _commands(url, environ))


def _commands(url: str, environ: "Mapping[str, str]") -> "list[list[str]]":
    commands = []
    for command in environ.get("BROWSER", "").split(":"):
        try:
            words = shlex.split(command.removesuffix("&"))
        except ValueError:
            continue
        if words:
            placed = [word.replace("%s", url) for word in words]
            commands.append(placed if placed != words else [*words, url])
    if sys.platform == "darwin":
        commands.append(["open", url])
    return commands + [[*opener.split(), url] for opener in OPENERS + BROWSERS]


def _start(words: "list[str]", environ: "Mapping[str, str]") -> bool:
    """Start a command and return whether it runs on, or has ended well."""
    kept = {
        name: value
        for name, value in environ.items()
        if not any(part in name.upper() for part in SECRETIVE)
    }
    try:
        process = subprocess.Popen(  # noqa: S603  # what the user's environment names
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            env=kept,
        )
    except OSError:
        return False
    until = time.monotonic() + SETTLE_SECONDS
    while (code := process.poll()) is None and time.monotonic() < until:
        time.sleep(LOOK_SECONDS)
    # One that runs on is left alone; this process ends before it does.
    process.returncode = 0 if code is None else code
    return code in (None, 0)
