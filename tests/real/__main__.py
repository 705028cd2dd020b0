"""`python -m tests.real install|up|token|status|down`: the real Sigstore services, for a person."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

from tests.real import versions
from tests.real.install import InstallError, install

STATE = "stack.json"  # in the cache folder, while a stack is up
PATIENCE = 30.0  # seconds until what was told to end has ended
_SUPPORT = Path(__file__).parents[1] / "support"


def main() -> int:
    """Do what the command line says; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.real", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("install", help="build and install what is missing")
    one.add_argument("-p", "--jobs", type=int, help="compilers at once (default: all cores)")
    commands.add_parser("up", help="start everything and stay; print what points clients there")
    commands.add_parser("token", help="print a fresh identity token of Dex; they end after minutes")
    commands.add_parser("status", help="say what is installed and what is up")
    commands.add_parser("down", help="end what `up` started")
    arguments = parser.parse_args()
    if arguments.command == "install":
        return _install(arguments.jobs)
    return {"up": _up, "token": _token, "status": _status, "down": _down}[arguments.command]()


def _install(jobs: int | None) -> int:
    try:
        install(jobs=jobs)
    except InstallError as exc:
        sys.stderr.write(f"{exc}\n")
        return 1
    return 0


def _up() -> int:
    missing = versions.missing()
    if missing:
        sys.stderr.write(
            f"not installed: {', '.join(missing)}; run: python -m tests.real install\n"
        )
        return 1
    sys.path.insert(0, str(_SUPPORT))
    from tests.real.process import end_in_order_when_told
    from tests.real.recipes import shown
    from tests.real.stack import Stack, StackError

    end_in_order_when_told()
    stack = Stack()
    try:
        stack.up()
        environment = stack.environment()
        _state().write_text(json.dumps({"pid": os.getpid(), "environment": environment}))
        for name, value in environment.items():
            print(_export(name, value))
        print("\n".join(shown()))
        sys.stderr.write(f"up in {stack.seconds:.1f} s; Ctrl-C ends it\n")
        sys.stdout.flush()
        while True:
            signal.pause()
    except KeyboardInterrupt:
        return 0
    except StackError as exc:
        sys.stderr.write(f"{exc}\n")
        return 1
    finally:
        stack.down()
        if _running() == os.getpid():
            _state().unlink()


def _export(name: str, value: str) -> str:
    if name == "PATH":
        # Before whatever that person's is.
        first, _, _ = value.partition(os.pathsep)
        return f'export PATH={shlex.quote(first)}:"$PATH"'
    return f"export {name}={shlex.quote(value)}"


def _token() -> int:
    if _running() is None:
        sys.stderr.write("not up; run: python -m tests.real up\n")
        return 1
    sys.path.insert(0, str(_SUPPORT))
    from tests.real.dex import password_grant

    print(password_grant(json.loads(_state().read_text())["environment"]["URL_DEX"])["id_token"])
    return 0


def _status() -> int:
    for module in versions.GO:
        mark = "built" if module.place.is_dir() else "missing"
        print(f"{module.name:12} {module.version:40} {mark}")
    for folder, name in versions.NPM.items():
        print(f"{name:53} {'installed' if versions.node_modules(folder).is_dir() else 'missing'}")
    absent = versions.missing_debian()
    for package in versions.DEBIAN:
        print(f"{package:53} {'missing' if package in absent else 'installed'}")
    pid = _running()
    print("up, process " + str(pid) if pid else "not up")
    return 0 if pid else 1


def _down() -> int:
    pid = _running()
    if pid is None:
        print("not up")
        return 0
    os.kill(pid, signal.SIGTERM)
    end = time.monotonic() + PATIENCE
    while _running() is not None:
        if time.monotonic() > end:
            sys.stderr.write(f"process {pid} does not end\n")
            return 1
        time.sleep(0.1)
    return 0


def _state() -> Path:
    return versions.cache() / STATE


def _running() -> int | None:
    """Return the process of the stack that `up` keeps, if it lives."""
    with suppress(OSError, ValueError, KeyError):
        pid = int(json.loads(_state().read_text())["pid"])
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
        if b"tests.real" in command:
            return pid
    return None


if __name__ == "__main__":
    sys.exit(main())
