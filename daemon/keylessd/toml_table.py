"""One TOML table being read: typed values out, errors that name the key and its line.

Knows no setting by name; ``keylessd.settings`` asks it for each one.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from ipaddress import IPv6Address
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from keylessd.errors import InvalidInputError
from keylessd.toml_lines import line_of

SHORTEST: Final = 0.001  # seconds
LONGEST: Final = 3600.0  # seconds
MAX_ID: Final = (1 << 32) - 2  # of users and groups; the last number means "none" to the kernel

_HOST: Final = re.compile(r"[0-9a-z](?:[0-9a-z.-]{0,251}[0-9a-z])?")
_RANGE: Final = re.compile(r"([0-9]{1,10})(?:-([0-9]{1,10}))?")
_NAME: Final = re.compile(r"[a-z_][a-z0-9_.-]{0,31}\$?")
_LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})


class SettingsError(InvalidInputError):
    """A settings file cannot be used; the settings in force stay in force.

    Attributes:
        file: Name of the file, as given.
        line: Line of the key or of the syntax error, from 1; None if the file has no such line.
        key: Dotted name of the key, or None for an error of syntax.
    """

    def __init__(self, file: str, line: int | None, key: str | None, problem: str) -> None:
        where = file if line is None else f"{file}:{line}"
        super().__init__(f"{where}: {problem}" if key is None else f"{where}: {key}: {problem}")
        self.file = file
        self.line = line
        self.key = key


class Table:
    """One TOML table while it is read: hands out checked values and knows what was asked for."""

    def __init__(
        self,
        values: Mapping[str, object],
        path: tuple[str, ...],
        *,
        file: str,
        lines: Mapping[tuple[str, ...], int],
    ) -> None:
        self._values = values
        self._path = path
        self._file = file
        self._lines = lines
        self._asked: set[str] = set()

    def error(self, key: str | None, problem: str) -> SettingsError:
        """Build the error for *key* of this table, or for the table itself."""
        path = self._path if key is None else (*self._path, key)
        return SettingsError(self._file, line_of(self._lines, path), ".".join(path), problem)

    def names(self) -> list[str]:
        """Return the keys of the table in the order of the text."""
        return list(self._values)

    def text(self, key: str) -> str | None:
        """Return a printable, non-empty string, or None if the key is absent."""
        value = self._take(key)
        if value is None:
            return None
        if not isinstance(value, str):
            raise self._type_error(key, "a string", value)
        if not value or not value.isprintable():
            raise self.error(key, "empty, or has characters that cannot be printed")
        return value

    def choice(self, key: str, choices: tuple[str, ...], default: str) -> str:
        """Return one of *choices*."""
        value = self.text(key)
        if value is not None and value not in choices:
            named = ", ".join(f'"{choice}"' for choice in choices)
            raise self.error(key, f"{value!r} is not one of {named}" + suggestion(value, choices))
        return default if value is None else value

    def boolean(self, key: str, *, default: bool) -> bool:
        """Return true or false."""
        value = self._take(key)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise self._type_error(key, "true or false", value)
        return value

    def hosts(self, key: str) -> frozenset[str]:
        """Return a list of host names or addresses, without scheme and port."""
        value = self._take(key)
        if value is None:
            return frozenset()
        if not isinstance(value, list):
            raise self._type_error(key, "a list of host names", value)
        for host in value:
            if not isinstance(host, str) or not _is_host(host):
                raise self.error(key, f"{host!r} is not a host name (lower case, no port)")
        return frozenset(value)

    def texts(self, key: str) -> tuple[str, ...] | None:
        """Return a list of printable, non-empty strings, or None if the key is absent."""
        value = self._take(key)
        if value is None:
            return None
        if not isinstance(value, list):
            raise self._type_error(key, "a list of strings", value)
        for entry in value:
            if not isinstance(entry, str) or not entry or not entry.isprintable():
                raise self.error(key, "holds something that is not a printable string")
        return tuple(value)

    def ids(self, key: str) -> tuple[range | str, ...] | None:
        """Return a list of users or groups: numbers, ranges such as ``"1000-1999"``, names.

        A range holds both of its ends. Names are returned as they are: looking them up is for
        whoever uses them.
        """
        value = self._take(key)
        if value is None:
            return None
        if not isinstance(value, list):
            raise self._type_error(key, "a list of numbers, ranges and names", value)
        return tuple(self._id(key, entry) for entry in value)

    def _id(self, key: str, entry: object) -> range | str:
        if isinstance(entry, int) and not isinstance(entry, bool):
            first = last = entry
        elif isinstance(entry, str) and (bounds := _RANGE.fullmatch(entry)) is not None:
            first, last = int(bounds[1]), int(bounds[2] or bounds[1])
        elif isinstance(entry, str) and _NAME.fullmatch(entry) is not None:
            return entry
        else:
            raise self.error(key, f"{entry!r} is not a number, a range or a name")
        if not 0 <= first <= last <= MAX_ID:
            raise self.error(key, f"{entry!r} is not a number or range from 0 to {MAX_ID}")
        return range(first, last + 1)

    def integer(self, key: str, default: int, low: int, high: int) -> int:
        """Return a whole number from *low* to *high*."""
        value = self._take(key)
        if value is None:
            return default
        if not isinstance(value, int) or isinstance(value, bool):
            raise self._type_error(key, "a whole number", value)
        if not low <= value <= high:
            raise self.error(key, f"{value} is not from {low} to {high}")
        return value

    def seconds(self, key: str, default: float, longest: float = LONGEST) -> float:
        """Return a number of seconds, whole or not."""
        value = self._take(key)
        if value is None:
            return default
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise self._type_error(key, "a number of seconds", value)
        if not SHORTEST <= value <= longest:  # also refuses nan
            raise self.error(key, f"{value} is not from {SHORTEST} to {longest:.0f} seconds")
        return float(value)

    def path(self, key: str) -> Path | None:
        """Return an absolute path; ``~`` is the home, other relative ones start at the file."""
        value = self.text(key)
        if value is None:
            return None
        try:
            expanded = Path(value).expanduser()
        except RuntimeError:
            raise self.error(key, "the home directory is not known") from None
        return (
            expanded if expanded.is_absolute() else (Path(self._file).parent / expanded).absolute()
        )

    def url(self, key: str, *, plain_http: bool = False) -> str | None:
        """Return an https URL without a trailing slash; plain http on the loopback only."""
        value = self.text(key)
        if value is None:
            return None
        try:
            parts = urlsplit(value)
            host, _ = parts.hostname, parts.port
        except ValueError:
            raise self.error(key, f"{value!r} is not a URL") from None
        if parts.scheme not in {"http", "https"} or not host or not value.isascii():
            raise self.error(key, f"{value!r} is not an http or https URL")
        if parts.scheme == "http" and not plain_http and host not in _LOOPBACK:
            raise self.error(key, f"{value!r} must be https; plain http is for the loopback only")
        if parts.query or parts.fragment or (parts.username and not plain_http):
            raise self.error(key, "must have no user name, query or fragment")
        return value.rstrip("/")

    def table(self, key: str) -> Table:
        """Return the table below *key*; an absent one is empty."""
        value = self._take(key)
        if value is None:
            value = {}
        if not isinstance(value, dict):
            raise self._type_error(key, "a table", value)
        return Table(value, (*self._path, key), file=self._file, lines=self._lines)

    def finish(self) -> None:
        """Refuse keys that nobody asked for.

        Raises:
            SettingsError: at the first such key, with the nearest known one.
        """
        for key in self._values:
            if key not in self._asked:
                raise self.error(key, "unknown key" + suggestion(key, sorted(self._asked)))

    def _take(self, key: str) -> object:
        self._asked.add(key)
        return self._values.get(key)

    def _type_error(self, key: str, wanted: str, value: object) -> SettingsError:
        return self.error(key, f"must be {wanted}, not {_TYPE_NAMES.get(type(value), 'a date')}")


def _is_host(text: str) -> bool:
    try:
        return _HOST.fullmatch(text) is not None or bool(IPv6Address(text))
    except ValueError:
        return False


_TYPE_NAMES: Final[Mapping[type, str]] = {
    str: "a string",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    list: "a list",
    dict: "a table",
}


def suggestion(name: str, known: Sequence[str]) -> str:
    """Return the end of a sentence that names the nearest known name, or nothing."""
    close = difflib.get_close_matches(name, known, n=1)
    return f'; did you mean "{close[0]}"?' if close else ""
