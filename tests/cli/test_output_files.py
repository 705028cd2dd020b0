"""Writing a result's file: whole or not at all, whatever an earlier command left there."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from keyless.cli._inputs import write_file
from keyless.errors import KeylessError


def test_replaces_what_was_there(tmp_path: Path) -> None:
    out = tmp_path / "a.sigstore.json"
    out.write_bytes(b"before")

    write_file(str(out), b"after")

    assert out.read_bytes() == b"after"
    assert list(tmp_path.iterdir()) == [out]


def test_what_a_killed_command_left_does_not_hinder(tmp_path: Path, monkeypatch) -> None:
    # In a container every command has the same process id.
    out = tmp_path / "a.sigstore.json"
    real = os.replace

    def die(*_: object) -> None:
        raise SystemExit

    monkeypatch.setattr(os, "replace", die)
    monkeypatch.setattr(os, "unlink", die)
    with pytest.raises(SystemExit):
        write_file(str(out), b"half")
    assert len(list(tmp_path.iterdir())) == 1
    monkeypatch.undo()
    assert os.replace is real

    write_file(str(out), b"whole")

    assert out.read_bytes() == b"whole"


def test_nothing_is_left_when_it_fails(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "file").write_bytes(b"")

    with pytest.raises(KeylessError, match="cannot write") as caught:
        write_file(str(tmp_path / "out"), b"x")

    assert caught.value.code == "file_error"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
