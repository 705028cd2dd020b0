"""The scanner finds the line of every key of any TOML that the parser accepts."""

from __future__ import annotations

import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keylessd.toml_lines import key_lines, line_of


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", {}),
        ("a = 1", {("a",): 1}),
        ("\r\n\r\na = 1\r\nb = 2\r\n", {("a",): 3, ("b",): 4}),
        ("# a = 1\n\n  a = 1 # b = 2\nb = 2", {("a",): 3, ("b",): 4}),
        ("[t]\nx = 1\n[u]\nx = 2", {("t",): 1, ("t", "x"): 2, ("u",): 3, ("u", "x"): 4}),
        ("a.b.c = 1", {("a",): 1, ("a", "b"): 1, ("a", "b", "c"): 1}),
        ("[a.\"b.c\"]\n'd e' = 1", {("a",): 1, ("a", "b.c"): 1, ("a", "b.c", "d e"): 2}),
        ('"a\\"b" = 1', {('a"b',): 1}),
        ('a = """\nb = 1\n"""\nc = 2', {("a",): 1, ("c",): 4}),
        ("a = '''\n[t]\n'''\nc = 2", {("a",): 1, ("c",): 4}),
        ('a = """x""""\nc = 2', {("a",): 1, ("c",): 2}),
        ('a = "\\"" # "\nc = 2', {("a",): 1, ("c",): 2}),
        ("a = '\\'\nc = 2", {("a",): 1, ("c",): 2}),
        ("a = [\n 1, # ]\n ']',\n]\nc = 2", {("a",): 1, ("c",): 5}),
        ("a = {b = 1, c = [2,\n3]}\nd = 1", {("a",): 1, ("d",): 3}),
        ("[[x]]\na = 1\n[[x]]\na = 2", {("x",): 1, ("x", "a"): 2}),
        ("[ a . b ]\nc = 1", {("a",): 1, ("a", "b"): 1, ("a", "b", "c"): 2}),
        ("[a.b]\n[a.c]\n[a]", {("a",): 3, ("a", "b"): 1, ("a", "c"): 2}),
        ("3.14 = 1", {("3",): 1, ("3", "14"): 1}),
    ],
)
def test_lines(text: str, expected: dict[tuple[str, ...], int]) -> None:
    assert key_lines(text) == expected


def test_nearest_line_stands_in() -> None:
    lines = key_lines("\n[a]\nb = {c = 1}")

    assert line_of(lines, ("a", "b", "c")) == 3
    assert line_of(lines, ("a", "x")) == 2
    assert line_of(lines, ("y",)) is None


@given(st.text(alphabet="ab.=[]{}\"'\\#\n ,1", max_size=80))
def test_any_text_ends_and_gives_lines_that_exist(text: str) -> None:
    lines = key_lines(text)

    assert all(1 <= line <= text.count("\n") + 1 for line in lines.values())
    try:
        document = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, ValueError):
        return
    assert set(document) <= {path[0] for path in lines}
