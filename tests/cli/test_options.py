"""The command-line reader: what it takes, and that a mistake is named."""

import pytest

from keyless.cli._options import Option, UsageError, parse, usage_text

TABLE = (
    Option("--bundle -b", "FILE", "where the bundle goes"),
    Option("--json", "", "print JSON"),
    Option("--certificate-identity --cert-identity", "I", key="identity", many=True),
    Option("--yes -y", "", hidden=True),
)


def test_values_follow_or_are_joined() -> None:
    for argv in (["--bundle", "x"], ["--bundle=x"], ["-b", "x"], ["-bx"]):
        assert parse(argv, TABLE).text("bundle") == "x"


def test_words_and_options_mix_and_keep_their_order() -> None:
    options = parse(["a", "--json", "b", "-", "--", "--json", "-x"], TABLE)
    assert options.words == ["a", "b", "-", "--json", "-x"]
    assert options.flag("json")


def test_an_alias_fills_the_same_key() -> None:
    options = parse(["--cert-identity=a", "--certificate-identity", "b"], TABLE)
    assert options.texts("identity") == ["a", "b"]


def test_a_value_may_be_empty_or_begin_with_a_dash() -> None:
    assert parse(["--bundle="], TABLE).text("bundle") == ""
    assert parse(["--bundle", "--json"], TABLE).text("bundle") == "--json"


def test_switches_take_true_and_false() -> None:
    assert parse(["--yes=true"], TABLE).flag("yes")
    assert not parse(["--yes=false"], TABLE).flag("yes")


def test_absent_options_are_absent() -> None:
    options = parse([], TABLE)
    assert options.text("bundle") is None
    assert options.texts("identity") == []
    assert not options.flag("json")


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["--bundel", "x"], "did you mean --bundle?"),
        (["-q"], "there is no option -q"),
        (["--bundle"], "--bundle needs a value: FILE"),
        (["--json=maybe"], "--json takes no value"),
        (["--bundle", "a", "--bundle", "b"], "--bundle is given twice"),
        (["--jsn"], "did you mean --json?"),
    ],
)
def test_mistakes_are_named(argv: list[str], says: str) -> None:
    with pytest.raises(UsageError, match=r"option|value|twice") as caught:
        parse(argv, TABLE)
    assert says in str(caught.value)


def test_a_file_that_is_named_like_an_option(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "-dash").write_bytes(b"x")
    with pytest.raises(UsageError) as caught:
        parse(["-dash"], TABLE)
    assert str(caught.value) == "there is no option -d; the file is named by ./-dash"
    assert parse(["--", "-dash"], TABLE).words == ["-dash"]


def test_the_help_shows_every_option_but_hidden_ones() -> None:
    text = usage_text("keyless sign", "FILE ...", "Sign files.", (("options", TABLE),))
    assert "usage: keyless sign [options] FILE ..." in text
    assert "--certificate-identity, --cert-identity I" in text
    assert "--yes" not in text
    assert max(map(len, text.splitlines())) <= 100
