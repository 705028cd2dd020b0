"""Finds the line on which each key of a TOML document stands. Judges nothing.

The standard parser gives values without places. This scanner walks over a text which that
parser has already accepted, so it may take validity for granted: on any other text it ends, but
its answer means nothing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Final

KeyPath = tuple[str, ...]

_OPENING: Final = "[{"
_CLOSING: Final = "]}"
_QUOTES: Final = ('"""', "'''", '"', "'")


def key_lines(text: str) -> dict[KeyPath, int]:
    """Map the path of each key and table header in *text* to its line, counted from 1.

    Keys inside an inline table have no entry of their own; line_of() falls back to the key that
    holds it. A path that occurs again (an array of tables) keeps its first line.
    """
    lines: dict[KeyPath, int] = {}
    implied: dict[KeyPath, int] = {}  # [a.b] is where a stands, if it stands nowhere itself
    table: KeyPath = ()
    position, end = 0, len(text)
    while (position := _skip_blank(text, position)) < end:
        line = text.count("\n", 0, position) + 1
        if text[position] == "[":
            while position < end and text[position] == "[":
                position += 1
            table, position = _read_key(text, position)
            lines.setdefault(table, line)
            for length in range(1, len(table)):
                implied.setdefault(table[:length], line)
            position = _skip_value(text, position, in_header=True)
            continue
        key, after = _read_key(text, position)
        path = table + key
        # a.b = 1 also is where a stands, if it stands nowhere before.
        for length in range(len(table) + 1, len(path) + 1):
            lines.setdefault(path[:length], line)
        # At least one character is consumed, so that no text can hold the loop.
        position = _skip_value(text, max(after, position + 1))
    return implied | lines


def line_of(lines: Mapping[KeyPath, int], path: KeyPath) -> int | None:
    """Return the line of *path*, or of the nearest enclosing key or table that has one."""
    for length in range(len(path), 0, -1):
        if (line := lines.get(path[:length])) is not None:
            return line
    return None


def _skip_blank(text: str, position: int) -> int:
    """Pass white space, line ends and comments."""
    while position < len(text):
        if text[position] == "#":
            position = _end_of_line(text, position)
        elif text[position] in " \t\r\n":
            position += 1
        else:
            break
    return position


def _end_of_line(text: str, position: int) -> int:
    end = text.find("\n", position)
    return len(text) if end < 0 else end


def _read_key(text: str, position: int) -> tuple[KeyPath, int]:
    """Read a dotted key; return its parts and the place of the first character after it."""
    parts: list[str] = []
    while position < len(text):
        character = text[position]
        if character in " \t.":
            position += 1
        elif character in "\"'":
            end = _end_of_string(text, position)
            raw = text[position:end]
            parts.append(_unescape(raw) if character == '"' else raw[1:-1])
            position = end
        elif character.isalnum() or character in "_-":
            end = position
            while end < len(text) and (text[end].isalnum() or text[end] in "_-"):
                end += 1
            parts.append(text[position:end])
            position = end
        else:
            break
    return tuple(parts), position


def _unescape(quoted: str) -> str:
    """Undo the escapes of a quoted key: TOML has those of JSON, and a long one nobody uses."""
    try:
        value = json.loads(quoted)
    except ValueError:
        return quoted[1:-1]
    return value if isinstance(value, str) else quoted[1:-1]


def _end_of_string(text: str, position: int) -> int:
    """Return the place after the string that starts at *position*."""
    quote = next(quote for quote in _QUOTES if text.startswith(quote, position))
    position += len(quote)
    while position < len(text) and not text.startswith(quote, position):
        position += 2 if text[position] == "\\" and quote[0] == '"' else 1
    position += len(quote)
    # A multi-line string may end in up to two quotes of its own.
    if len(quote) == len('"""'):
        for _ in range(2):
            if text.startswith(quote[0], position):
                position += 1
    return min(position, len(text))


def _skip_value(text: str, position: int, *, in_header: bool = False) -> int:
    """Pass the rest of a statement: up to the line end that lies outside strings and brackets."""
    depth = 0
    while position < len(text):
        character = text[position]
        if character in "\"'":
            position = _end_of_string(text, position)
            continue
        if character == "#":
            position = _end_of_line(text, position)
            continue
        if character == "\n" and depth <= 0:
            break
        if not in_header:
            depth += (character in _OPENING) - (character in _CLOSING)
        position += 1
    return position
