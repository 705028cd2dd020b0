"""Brings up the real services once for all tests here; without them the tests skip."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.real import matrix, versions

HOW = "python -m tests.real install"
_absent: list[str] = []


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark everything in this folder."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.real)


def _is_asked_for(config: pytest.Config) -> bool:
    """Say whether these tests were chosen, by their marker or by their path."""
    if "real" in config.option.markexpr:
        return True
    here = Path(__file__).parent
    named = [Path(word.partition("::")[0]).resolve() for word in config.args]
    return any(one == here or here in one.parents for one in named)


def _obstacle(config: pytest.Config, missing: list[str]) -> str:
    if not _is_asked_for(config):
        return f"the real services and clients take minutes; run: {HOW} && pytest -m real"
    if missing:
        return f"not installed: {', '.join(missing)}; run: {HOW}"
    if "PYTEST_XDIST_WORKER" in os.environ:
        return "the real services are one stack for one process; run: pytest -m real, without -n"
    return ""


def _need(config: pytest.Config, missing: list[str]) -> None:
    """Skip where nobody chose these tests or something is missing, but fail in CI."""
    text = _obstacle(config, missing)
    if not text:
        return
    if os.environ.get("CI") and "real" in config.option.markexpr:
        pytest.fail(text, pytrace=False)
    if text not in _absent:
        _absent.append(text)
    pytest.skip(text)


@pytest.fixture(scope="session")
def stack(pytestconfig: pytest.Config) -> Iterator[object]:
    """The services of Sigstore, up."""
    _need(pytestconfig, versions.missing())
    from tests.real.process import end_in_order_when_told
    from tests.real.stack import Stack

    end_in_order_when_told()
    one = Stack()
    try:
        one.up()
        yield one
    finally:
        one.down()


@pytest.fixture(scope="session")
def clients_installed(pytestconfig: pytest.Config) -> None:
    """The other clients are there; no service need be up."""
    _need(pytestconfig, versions.missing())


@pytest.fixture(scope="session")
def oidc_provider(
    pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[object]:
    """A certified OpenID provider, up."""
    _need(pytestconfig, versions.missing_npm("js-oidc"))
    from tests.real.oidc import OidcProvider

    one = OidcProvider(tmp_path_factory.mktemp("oidc"))
    try:
        one.start()
        yield one
    finally:
        one.close()


@pytest.fixture(scope="session")
def known_provider(
    stack, pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[object]:
    """The same, where the stack's Fulcio knows it."""
    _need(pytestconfig, versions.missing_npm("js-oidc"))
    from tests.real.oidc import OidcProvider

    one = OidcProvider(tmp_path_factory.mktemp("known-provider"), stack.provider_port)
    try:
        one.start()
        yield one
    finally:
        one.close()


@pytest.fixture(scope="session")
def chromium_is_there(pytestconfig: pytest.Config) -> None:
    """A browser can be started."""
    _need(pytestconfig, versions.missing_debian("chromium", "chromium-driver"))


@pytest.fixture
def desktop(pytestconfig: pytest.Config) -> Iterator[object]:
    """A D-Bus session of its own, with a keyring to log in to."""
    _need(pytestconfig, versions.missing_debian("dbus", "gnome-keyring"))
    from tests.real.keyring import Desktop

    # Paths of sockets must be short.
    with tempfile.TemporaryDirectory(prefix="keyless-desktop-") as folder:
        one = Desktop(Path(folder))
        try:
            one.start()
            yield one
        finally:
            one.close()


@pytest.fixture(scope="session")
def spire(stack) -> Iterator[object]:
    """A SPIRE server and agent; the stack's Fulcio knows their issuer."""
    from tests.real.spire import Spire

    one = Spire(stack)
    try:
        one.start()
        yield one
    finally:
        one.close()


@pytest.fixture(scope="session")
def house(stack) -> Iterator[object]:
    """keyless in front of them."""
    from tests.real.house import RealHouse

    one = RealHouse(stack)
    yield one
    one.close()


@pytest.fixture(scope="session")
def cosign(stack):
    from tests.real.clients import Cosign

    one = Cosign(stack)
    matrix.TABLE.introduce(one.name, one.version)
    return one


@pytest.fixture(scope="session")
def sigstore_python(stack):
    from tests.real.clients import SigstorePython

    one = SigstorePython(stack)
    matrix.TABLE.introduce(one.name, one.version)
    return one


@pytest.fixture(scope="session")
def sigstore_js(stack) -> Iterator[object]:
    from tests.real.clients import SigstoreJs

    one = SigstoreJs(stack)
    matrix.TABLE.introduce(one.name, one.version)
    matrix.TABLE.introduce(f"{one.name} command", one.command_version)
    yield one
    one.close()


@pytest.fixture(scope="session")
def judges(cosign, sigstore_python, sigstore_js) -> dict[str, object]:
    """The other clients, by name."""
    return {one.name: one for one in (cosign, sigstore_python, sigstore_js)}


@pytest.fixture(scope="session")
def keyless(house):
    """keyless as a judge."""
    from tests.real.house import Keyless

    return Keyless(house)


@pytest.fixture(scope="session")
def primed(house) -> None:
    """Put something into every log, so that proofs have hashes."""
    for instance in ("v1", "v2-all"):
        house.sign(instance, *house.files(2, stem=f"primed-{instance}-"))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what was found, as a table."""
    for text in _absent:
        terminalreporter.write_line(f"skipped: {text}")
    lines = matrix.TABLE.lines()
    if lines:
        terminalreporter.section("real services and clients")
        for line in lines:
            terminalreporter.write_line(line)
        note = matrix.TABLE.keep()
        if note:
            terminalreporter.write_line(note)
