"""Reads a command line by a table of options, and writes the help text from the same table.

Why not argparse: importing it (with re, gettext and shutil behind it) takes as long as a bare
interpreter needs to start, and the client's whole point is to be a small multiple of that.
The numbers are in daemon/doc/decisions/0002-client-start.md. Pure: no I/O, no exit.
"""

HELP_COLUMN = 34  # where the explanation of an option begins


class UsageError(Exception):
    """The command line cannot be understood; the text says which word and why."""


class Option:
    """One option: its names, whether it takes a value, and how often it may stand.

    Attributes:
        names: All spellings, the one shown in the help first (``--bundle``).
        key: Name under which Options holds the value.
        metavar: What the value is called in the help; "" for a switch.
        help: One line for the help text.
        many: The option may be repeated; its value is then a list.
        hidden: Accepted for the sake of other tools' habits, and left out of the help.
    """

    __slots__ = ("help", "hidden", "key", "many", "metavar", "names")

    def __init__(
        self,
        names: str,
        metavar: str = "",
        help: str = "",  # noqa: A002  # the field's usual name
        *,
        key: str = "",
        many: bool = False,
        hidden: bool = False,
    ) -> None:
        self.names = names.split()
        self.key = key or self.names[0].lstrip("-").replace("-", "_")
        self.metavar = metavar
        self.help = help
        self.many = many
        self.hidden = hidden


class Options:
    """What a command line said: option values by key, and the remaining words in order."""

    __slots__ = ("_values", "words")

    def __init__(self) -> None:
        self._values: dict[str, str | list[str]] = {}
        self.words: list[str] = []

    def text(self, key: str) -> "str | None":
        """Return the value of an option that takes one, or None if it was not given."""
        value = self._values.get(key)
        return value if isinstance(value, str) else None

    def texts(self, key: str) -> "list[str]":
        """Return every value of a repeatable option, in order."""
        value = self._values.get(key)
        return value if isinstance(value, list) else []

    def flag(self, key: str) -> bool:
        """Return whether a switch was given."""
        return key in self._values

    def put(self, option: Option, value: str) -> None:
        """Record one occurrence of *option*."""
        if option.many:
            held = self._values.setdefault(option.key, [])
            if isinstance(held, list):
                held.append(value)
        elif option.metavar and option.key in self._values:
            raise UsageError(f"{option.names[0]} is given twice")
        else:
            self._values[option.key] = value


def parse(argv: "list[str]", table: "tuple[Option, ...]") -> Options:
    """Return what *argv* says by *table*.

    Long options take their value as the next word or after ``=``; a single dash with a letter
    may carry its value at once (``-oFILE``). ``--`` ends the options. ``-`` alone is a word.
    Options and words may be mixed.

    Raises:
        UsageError: an unknown option (with the nearest known one), a missing or unwanted value.
    """
    known = {name: option for option in table for name in option.names}
    options = Options()
    position = 0
    while position < len(argv):
        word = argv[position]
        position += 1
        if word == "--":
            options.words.extend(argv[position:])
            break
        if word == "-" or not word.startswith("-"):
            options.words.append(word)
            continue
        name, equals, value = _split(word)
        option = known.get(name)
        if option is None:
            raise UsageError(_unknown(name, word, known))
        if not option.metavar:
            _put_switch(options, option, value if equals else "true")
            continue
        if not equals:
            if position == len(argv):
                raise UsageError(f"{name} needs a value: {option.metavar}")
            value = argv[position]
            position += 1
        options.put(option, value)
    return options


def _split(word: str) -> "tuple[str, bool, str]":
    """Return the option's name, whether a value is joined to it, and that value."""
    if word.startswith("--"):
        name, equals, value = word.partition("=")
        return name, bool(equals), value
    return word[:2], len(word) > 2, word[2:]  # noqa: PLR2004  # a dash and a letter


def _put_switch(options: Options, option: Option, value: str) -> None:
    # A switch may be written --json=true, as other Sigstore tools allow.
    if value not in ("true", "false"):
        raise UsageError(f"{option.names[0]} takes no value")
    if value == "true":
        options.put(option, "")


def _unknown(name: str, word: str, known: "dict[str, Option]") -> str:
    import difflib  # only a mistake pays for this
    import os

    if os.path.lexists(word):
        return f"there is no option {name}; the file is named by ./{word}"
    shown = [word for word, option in known.items() if not option.hidden]
    near = difflib.get_close_matches(name, shown, 1)
    return f"there is no option {name}" + (f"; did you mean {near[0]}?" if near else "")


def usage_text(
    command: str, arguments: str, about: str, groups: "tuple[tuple[str, tuple[Option, ...]], ...]"
) -> str:
    """Return the help text of a command, at most 100 columns wide.

    Args:
        command: The words that name it, for example ``keyless sign``.
        arguments: What follows the options, for example ``FILE ...``.
        about: What the command does; may have several lines.
        groups: Headings with their options, in the order shown.
    """
    lines = [f"usage: {command} [options] {arguments}".rstrip(), "", about.strip()]
    for heading, options in groups:
        lines += ["", heading + ":"]
        for option in options:
            if option.hidden:
                continue
            names = ", ".join(option.names)
            left = f"  {names} {option.metavar}".rstrip()
            if len(left) > HELP_COLUMN - 2:
                lines.append(left)
                left = ""
            lines.append(f"{left:{HELP_COLUMN}}{option.help}".rstrip())
    return "\n".join(lines) + "\n"
