"""The man pages name every option and every setting, and nothing else."""

import dataclasses
import re
from pathlib import Path

import pytest

from keyless.cli import _attest, _demo, _inputs, _inspect, _login, _session, _sign, _verify
from keylessd.settings import (
    AmbientSettings,
    HttpSettings,
    InstanceSettings,
    Limits,
    SessionSettings,
    Settings,
    Timeouts,
)

ROOT = Path(__file__).parents[2]
TABLES = (
    *(_sign.OPTIONS, _attest.OPTIONS, _verify.OPTIONS, _inspect.OPTIONS),
    *(_demo.OPTIONS, _inputs.WHERE, _login.LOGIN, _login.LOGOUT),
    _inputs.IDENTITY,
)


def page(path: str) -> str:
    return (ROOT / path).read_text()


def options_of_the_commands() -> set[str]:
    tables = (*TABLES, _session.COMMON)
    return {
        name
        for table in tables
        for option in table
        if not option.hidden
        for name in option.names
        if name.startswith("--")
    } | {"--limit"}


def test_keyless_1_names_every_option_and_no_other() -> None:
    # In mdoc one dash is the macro's own.
    lines = [line for line in page("clientlib/doc/keyless.1").splitlines() if " Fl " in line]
    named = {name for line in lines for name in re.findall(r"(?<= )-[a-z][a-z0-9-]+", line)}
    assert {f"-{name}" for name in named} == options_of_the_commands()


def test_keyless_config_5_names_every_setting_and_no_other() -> None:
    classes = (
        *(Settings, AmbientSettings, InstanceSettings, HttpSettings, Limits),
        *(SessionSettings, Timeouts),
    )
    settings = {field.name for cls in classes for field in dataclasses.fields(cls)}
    settings -= {
        "limits",
        "timeouts",
        "http",
        "sessions",
        "instances",
        "name",
        "ambient",
        "identities",
        "system",
    }  # the tables themselves, and what the command line alone says
    # Those of held identities are read one by one.
    source = page("daemon/keylessd/held_settings.py")
    settings |= set(re.findall(r'\btable(?:\.\w+\(|, )"(\w+)"', source))
    lines = re.findall(r"^\.It Ic (.+)$", page("daemon/doc/keyless-config.5"), re.MULTILINE)
    assert {name.strip() for line in lines for name in line.split(",")} == settings


def test_keylessd_8_names_every_option() -> None:
    from keylessd import __main__ as daemon

    parser = daemon._parser()
    options = {name for action in parser._actions for name in action.option_strings}
    named = set(re.findall(r"^\.It Fl (-[a-z-]+)", page("daemon/doc/keylessd.8"), re.MULTILINE))
    assert {f"-{name}" for name in named} == {o for o in options if o.startswith("--")} - {"--help"}


@pytest.mark.parametrize("name", ["README.md", "daemon/doc/operations.md"])
def test_exit_statuses_of_the_guides_are_those_of_the_code(name: str) -> None:
    from keyless.cli import _output
    from keylessd import __main__ as daemon

    text = " ".join(page(name).split())
    if name == "README.md":
        assert f"{_output.TRY_LATER} try again later" in text
        assert f"{_output.NO_IDENTITY} no identity" in text
        assert f"{_output.NO_DAEMON} no daemon" in text
    else:
        assert f"{daemon.IN_USE} another daemon" in text
        assert f"{daemon.BAD_SETTINGS} settings" in text
