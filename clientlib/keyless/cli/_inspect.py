"""`keyless inspect`: shows what is in a bundle. Verifies nothing, and says so first and last."""

import os

from keyless._surroundings import read_file
from keyless.cli._detached import detached_of
from keyless.cli._options import Option, UsageError
from keyless.cli._output import FILE_ERROR, OK, err, json_line, out, shown
from keyless.cli._session import client_of, read_options

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from keyless.values import Detached, Inspection

ABOUT = """
Show what is in a bundle, of any form and of anybody. NOTHING of it is verified: whoever made the
file wrote what is shown. `keyless verify` says what a bundle proves.
"""

OPTIONS = (
    Option("--signature", "FILE", "a signature alone, in place of BUNDLE"),
    Option("--certificate --cert", "FILE", "the certificate beside it"),
    Option("--certificate-chain", "FILE", "its chain"),
    Option("--rfc3161-timestamp", "FILE", "the timestamp beside it"),
)
UNVERIFIED = "UNVERIFIED: whoever made this file wrote what follows; nothing of it was checked"
_INDENT = "  "


def run(command: str, argv: "list[str]") -> int:
    """Show the bundles that the command line names; return the exit code."""
    options = read_options(command, argv, "BUNDLE ...", ABOUT, (("showing", OPTIONS),))
    if options is None:
        return OK
    if not options.words and options.text("signature") is None:
        raise UsageError("name a bundle to show")
    if options.words and any(options.text(name) for name in ("signature", "certificate")):
        raise UsageError("a bundle has its own parts; name the one or the others")
    with client_of(options) as client:
        items: list[tuple[str, bytes | Detached]] = [
            (word, read_file(word, what="the bundle")) for word in options.words
        ]
        if not items:
            parts = detached_of(options)
            assert parts is not None  # noqa: S101  # a signature was named
            items = [(options.text("signature") or "", parts)]
        code = OK
        for name, bundle in items:
            found = client.inspect(bundle)
            if found.form is None:
                code = FILE_ERROR
            if options.flag("json"):
                json_line({"bundle": name, **found.facts})
                continue
            _hint(name, found)
            out(f"{shown(name)}: {UNVERIFIED}")
            facts = {key: value for key, value in found.facts.items() if key not in _SAID}
            for line in _lines(facts, _INDENT):
                out(line)
            out(f"{shown(name)}: UNVERIFIED; `keyless verify` says what it proves")
    return code


_SAID = ("verified", "note")


def _hint(name: str, found: "Inspection") -> None:
    """Point to the bundle, if the artifact beside it was named."""
    for ending in (".sigstore.json", ".sigstore"):
        if found.form is None and os.path.exists(name + ending):
            err(f"keyless: there is a bundle beside it: {shown(name + ending)}")
            return


def _lines(value: "Any", indent: str) -> "list[str]":  # noqa: ANN401  # whatever JSON has
    """Return a JSON value for people: one fact a line, what is inside further to the right."""
    lines: list[str] = []
    pairs = value.items() if isinstance(value, dict) else enumerate(value, 1)
    for name, item in pairs:
        label = f"{indent}{shown(str(name).replace('_', ' '))}:"
        if isinstance(item, (dict, list)):
            inner = _lines(item, indent + _INDENT)
            lines += [label, *inner] if inner else [f"{label} none"]
        else:
            lines.append(f"{label} {shown(_word(item))}")
    return lines


def _word(item: "Any") -> str:  # noqa: ANN401  # a JSON scalar
    if isinstance(item, bool):
        return "yes" if item else "no"
    return "none" if item is None else str(item)
