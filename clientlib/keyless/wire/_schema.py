"""What the bodies of the protocol look like, as data, and the one function that checks them.

Pure data and rules: no frames, no I/O. A *shape* is a tuple whose first element names the rule:

    ("text", n)           str of 1 to n characters, none of them a control character
    ("any_text", n)       str of 0 to n characters, any of them
    ("one_of", a, b, ..)  one of these strings
    ("int", low, high)    int, not bool, bounds included
    ("bool",)
    ("bin", a, b, ..)     bytes of one of these lengths
    ("list", shape, n)    1 to n elements
    ("maybe_list", shape, n)  0 to n elements
    ("dict", keys, values, n)  map of 0 to n entries, any keys of a shape
    ("closed", fields)    map; a name ending in "?" may be absent; other names are refused
    ("open", fields)      the same, other names are passed over (see `_extra`)
    ("digest",)           {"alg", "value"}, the length right for the algorithm
    ("digests",)          map of algorithm -> value, at least one
    ("subject",)          {"name", "alg", "value"} of one in-toto subject
    ("signer",)           one accepted signer of `verify`
    ("fact",)             a string or an integer

Requests are closed: a constraint that this daemon does not know must not be passed over in
silence. Replies are open: an older client reads what it knows.
"""

from keyless.wire._limits import (
    MAX_ARRAY,
    MAX_DEPTH,
    MAX_DETAILS,
    MAX_INT,
    MAX_MAP,
    MAX_NAME,
    MAX_PATTERN,
    MAX_STR,
    MAX_TEXT,
    MIN_INT,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Shape = tuple[Any, ...]
    # A checked body. Its shape is in OPERATIONS, which no type expresses, hence Any.
    Body = dict[str, Any]

DIGEST_BYTES = {"sha256": 32, "sha384": 48, "sha512": 64}

# The body of an event by its name, and what an error frame tells.
_LINK = ("text", MAX_STR)
EVENTS = {
    "progress": ("open", {"step": ("text", MAX_NAME)}),
    "open_url": ("open", {"url": _LINK}),
    "enter_code": ("open", {"url": _LINK, "login": ("text", MAX_NAME)}),
    "device_code": (
        "open",
        {
            "user_code": ("text", MAX_NAME),
            "verification_uri": _LINK,
            "verification_uri_complete?": _LINK,
            "expires_in": ("int", 0, MAX_INT),
        },
    ),
}
ANY_EVENT: "Shape" = ("open", {})
# Steps of a verification, each with what it found in words.
REPORT = (
    "maybe_list",
    (
        "open",
        {
            "step": ("any_text", MAX_NAME),
            "facts": ("maybe_list", ("any_text", MAX_STR), MAX_ARRAY),
        },
    ),
    MAX_ARRAY,
)
ERROR = (
    "open",
    {
        "code": ("text", MAX_NAME),
        "message": ("any_text", MAX_STR),
        "retryable": ("bool",),
        "retry_after_ms?": ("int", 0, MAX_INT),
        "hint?": ("any_text", MAX_STR),
        "details?": ("dict", ("any_text", MAX_NAME), ("fact",), MAX_DETAILS),
        "report?": REPORT,
    },
)


def problem(shape: "Shape", value: object, where: str) -> "str | None":
    """Return what is wrong with *value* in words that hold none of it, or None.

    Args:
        shape: See the module's docstring.
        value: As decoded, or as the caller wants to send it.
        where: Path of the value for the message, for example ``"body.digest"``.
    """
    return _RULES[shape[0]](shape, value, where)


# --- the rules -------------------------------------------------------------------------------


def _text(shape: "Shape", value: object, where: str) -> "str | None":
    if not isinstance(value, str):
        return f"{where} is not a string"
    if not 0 < len(value) <= shape[1]:
        return f"{where} is empty or longer than {shape[1]} characters"
    if not is_clean(value):
        return f"{where} holds a control character"
    return None


def _any_text(shape: "Shape", value: object, where: str) -> "str | None":
    if not isinstance(value, str):
        return f"{where} is not a string"
    return None if len(value) <= shape[1] else f"{where} is longer than {shape[1]} characters"


def _one_of(shape: "Shape", value: object, where: str) -> "str | None":
    if isinstance(value, str) and value in shape[1:]:
        return None
    return f"{where} is not one of {', '.join(shape[1:])}"


def _int(shape: "Shape", value: object, where: str) -> "str | None":
    if isinstance(value, int) and not isinstance(value, bool) and shape[1] <= value <= shape[2]:
        return None
    return f"{where} is not an integer from {shape[1]} to {shape[2]}"


def _bool(shape: "Shape", value: object, where: str) -> "str | None":
    del shape
    return None if isinstance(value, bool) else f"{where} is not a boolean"


def _bin(shape: "Shape", value: object, where: str) -> "str | None":
    if isinstance(value, bytes) and len(value) in shape[1:]:
        return None
    return f"{where} is not a binary of {' or '.join(map(str, shape[1:]))} bytes"


def _list(shape: "Shape", value: object, where: str) -> "str | None":
    if not isinstance(value, (list, tuple)) or len(value) > shape[2]:
        return f"{where} is not an array of at most {shape[2]} elements"
    if shape[0] == "list" and not value:
        return f"{where} is empty"
    for item in value:
        if found := problem(shape[1], item, f"{where}[]"):
            return found
    return None


def _dict(shape: "Shape", value: object, where: str) -> "str | None":
    if not isinstance(value, dict) or len(value) > shape[3]:
        return f"{where} is not a map of at most {shape[3]} entries"
    for key, item in value.items():
        found = problem(shape[1], key, f"a key of {where}") or problem(shape[2], item, f"{where}.*")
        if found:
            return found
    return None


def _map(shape: "Shape", value: object, where: str) -> "str | None":
    if not isinstance(value, dict):
        return f"{where} is not a map"
    known = 0
    for field, inner in shape[1].items():
        name = field.removesuffix("?")
        if name in value:
            known += 1
            if found := problem(inner, value[name], f"{where}.{name}"):
                return found
        elif name == field:
            return f"{where}.{name} is missing"
    if known == len(value):
        return None
    if shape[0] == "closed":
        return f"{where} has a field that is not known here"
    return None if _extra(value, 0) else f"{where} has a field that is not admitted"


def _extra(value: object, depth: int) -> bool:
    """Whether a value nobody looks at is one that a head may hold; see `_limits`."""
    if isinstance(value, str):
        return len(value) <= MAX_STR
    if isinstance(value, int):
        return MIN_INT <= value <= MAX_INT
    if isinstance(value, (list, tuple)):
        items, limit = list(value), MAX_ARRAY
    elif isinstance(value, dict):
        items, limit = [*value, *value.values()], 2 * MAX_MAP
    else:
        return value is None or isinstance(value, bytes)
    return depth <= MAX_DEPTH and len(items) <= limit and all(_extra(i, depth + 1) for i in items)


def _digest(shape: "Shape", value: "Any", where: str) -> "str | None":  # noqa: ANN401  # checked first
    del shape
    fields = {"alg": ("one_of", *DIGEST_BYTES), "value": ("bin", *DIGEST_BYTES.values())}
    return problem(("closed", fields), value, where) or _digest_length(value, where)


def _digest_length(value: "Body", where: str) -> "str | None":
    if len(value["value"]) != DIGEST_BYTES[value["alg"]]:
        return f"{where}.value has not the length of its algorithm"
    return None


def _digests(shape: "Shape", value: object, where: str) -> "str | None":
    del shape
    if not isinstance(value, dict) or not value:
        return f"{where} is not a map with at least one digest"
    for name, digest in value.items():
        if name not in DIGEST_BYTES:
            return f"{where} names an algorithm that is not known"
        if found := problem(("bin", DIGEST_BYTES[name]), digest, f"{where}.{name}"):
            return found
    return None


_SUBJECT = (
    "closed",
    {
        "name": ("text", MAX_NAME),
        "alg": ("one_of", *DIGEST_BYTES),
        "value": ("bin", *DIGEST_BYTES.values()),
    },
)


def _subject(shape: "Shape", value: "Any", where: str) -> "str | None":  # noqa: ANN401  # checked first
    del shape
    return problem(_SUBJECT, value, where) or _digest_length(value, where)


_SIGNER_FIELDS = {
    "identity?": ("text", MAX_NAME),
    "identity_regexp?": ("text", MAX_PATTERN),
    "issuer?": ("text", MAX_TEXT),
    "issuer_regexp?": ("text", MAX_PATTERN),
    "extensions?": ("dict", ("text", MAX_NAME), ("text", MAX_TEXT), MAX_MAP),
}


def _signer(shape: "Shape", value: "Any", where: str) -> "str | None":  # noqa: ANN401  # checked first
    del shape
    if found := problem(("closed", _SIGNER_FIELDS), value, where):
        return found
    if not value:
        return f"{where} accepts anybody"
    for name in ("identity", "issuer"):
        if name in value and f"{name}_regexp" in value:
            return f"{where} has both {name} and {name}_regexp"
    return None


def _fact(shape: "Shape", value: object, where: str) -> "str | None":
    del shape
    if isinstance(value, str):
        return problem(("any_text", MAX_STR), value, where)
    return problem(("int", MIN_INT, MAX_INT), value, where)


_RULES = {
    "text": _text,
    "any_text": _any_text,
    "one_of": _one_of,
    "int": _int,
    "bool": _bool,
    "bin": _bin,
    "list": _list,
    "maybe_list": _list,
    "dict": _dict,
    "closed": _map,
    "open": _map,
    "digest": _digest,
    "digests": _digests,
    "subject": _subject,
    "signer": _signer,
    "fact": _fact,
}


# --- text for people -------------------------------------------------------------------------


def is_clean(text: str) -> bool:
    """Whether *text* holds no control character: C0, DEL, C1, line separators, bidi controls."""
    # isprintable() is the quick answer; what it also refuses (no-break spaces, joiners of
    # emoji, characters newer than this Python) is fine in a file name.
    return text.isprintable() or not any(_is_control(character) for character in text)


def printable(text: str, limit: int = MAX_TEXT) -> str:
    """Return *text* fit for a terminal or a log line: control characters escaped, cut to *limit*.

    Args:
        text: Anything, also what a stranger wrote.
        limit: Characters to keep.
    """
    if len(text) > limit:
        text = text[: limit - 3] + "..."
    if is_clean(text):
        return text
    shown = "".join(f"\\u{ord(c):04x}" if _is_control(c) else c for c in text)
    return shown if len(shown) <= limit else shown[: limit - 3] + "..."


def _is_control(character: str) -> bool:
    point = ord(character)
    return any(first <= point <= last for first, last in _CONTROLS)


# C0; DEL and C1; the bidi marks and controls with the line separators between them; lone
# surrogates, which UTF-8 cannot express.
_CONTROLS = (
    (0x00, 0x1F),
    (0x7F, 0x9F),
    (0x061C, 0x061C),
    (0x200E, 0x200F),
    (0x2028, 0x202E),
    (0x2066, 0x2069),
    (0xD800, 0xDFFF),
)
