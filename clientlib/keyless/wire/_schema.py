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
    ("signer",)           one accepted signer of `verify`

Requests are closed: a constraint that this daemon does not know must not be passed over in
silence. Replies are open: an older client reads what it knows.
"""

from keyless.wire._limits import (
    MAX_ACCEPTED,
    MAX_ARRAY,
    MAX_BATCH,
    MAX_DEPTH,
    MAX_DETAILS,
    MAX_INT,
    MAX_KEY,
    MAX_LEDGER,
    MAX_MAP,
    MAX_NAME,
    MAX_PATTERN,
    MAX_STR,
    MAX_SUBJECTS,
    MAX_TEXT,
    MAX_THRESHOLD,
    MIN_INT,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Shape = tuple[Any, ...]
    # A checked body. Its shape is in OPERATIONS, which no type expresses, hence Any.
    Body = dict[str, Any]

DIGEST_BYTES = {"sha256": 32, "sha384": 48, "sha512": 64}

# Attachments that `where` may name; the body holds their SHA-256.
WHERE_FILES = ("trusted_root", "signing_config", "trust_config")

_NAME = ("text", MAX_NAME)
_URL = ("text", MAX_TEXT)
_UINT = ("int", 0, MAX_INT)
_BOOL = ("bool",)
_SHA256 = ("bin", 32)
_COUNT = ("int", 1, MAX_THRESHOLD)
_FOUND = ("any_text", MAX_STR)

_WHERE = (
    "closed",
    {
        "instance?": _NAME,
        "trusted_root?": _SHA256,
        "signing_config?": _SHA256,
        "trust_config?": _SHA256,
        "fulcio_url?": _URL,
        "rekor_url?": _URL,
        "oidc_issuer?": _URL,
        "timestamp_server_url?": _URL,
    },
)
_SUBJECT = (
    "closed",
    {"name": _NAME, "alg": ("one_of", *DIGEST_BYTES), "value": ("bin", *DIGEST_BYTES.values())},
)
_SIGN_OPTIONS = {
    "where?": _WHERE,
    "reuse?": ("one_of", "window", "never"),
    "idempotency_key?": ("text", MAX_KEY),
    "progress?": _BOOL,
}
_ENTRY = (
    "open",
    {
        "log": _FOUND,
        "log_index": _UINT,
        "kind": _FOUND,
        "version": _FOUND,
        "integrated_time?": _UINT,
    },
)
_TIME = ("open", {"time": _UINT, "source": ("one_of", "tsa", "rekor"), "authority": _FOUND})
_SIGNED = {
    "identity": _FOUND,
    "identity_kind": _FOUND,
    "issuer": _FOUND,
    "entries": ("maybe_list", _ENTRY, MAX_THRESHOLD),
    "times": ("maybe_list", _TIME, MAX_THRESHOLD),
    "certificate": (
        "open",
        {"serial": _FOUND, "not_before": _UINT, "not_after": _UINT, "reused": _BOOL},
    ),
    "instance": _FOUND,
}
_TRUST = (
    "open",
    {
        "instances": (
            "maybe_list",
            (
                "open",
                {
                    "name": _FOUND,
                    "source": _FOUND,
                    "url?": _FOUND,
                    "state": _FOUND,
                    "version?": _FOUND,
                    "fetched?": _UINT,
                    "expires?": _UINT,
                    "error?": _FOUND,
                },
            ),
            MAX_SUBJECTS,
        )
    },
)
_EMPTY = ("closed", {})
_WHERE_MAY = dict.fromkeys(WHERE_FILES, False)


class Operation:
    """One row of the operation table.

    Attributes:
        request: Shape of the request's body.
        takes: Attachments a request may carry, by name; True where it must.
        reply: Shape of the reply's body.
        gives: Attachments of the reply, in the same form.
    """

    __slots__ = ("gives", "reply", "request", "takes")

    def __init__(
        self, request: "Shape", takes: dict[str, bool], reply: "Shape", gives: dict[str, bool]
    ) -> None:
        self.request = request
        self.takes = takes
        self.reply = reply
        self.gives = gives


OPERATIONS = {
    "status": Operation(
        _EMPTY,
        {},
        (
            "open",
            {
                "version": _FOUND,
                "pid": _UINT,
                "started": _UINT,
                "uptime_seconds": _UINT,
                "socket": _FOUND,
                "requests": ("dict", _NAME, ("open", {"ok": _UINT, "failed": _UINT}), MAX_MAP),
                "connections": _UINT,
                "default_instance": _FOUND,
                "reuse": _FOUND,
                "instances": (
                    "maybe_list",
                    ("open", {"name": _FOUND, "state": _FOUND}),
                    MAX_SUBJECTS,
                ),
                "slots": (
                    "maybe_list",
                    (
                        "open",
                        {
                            "identity": _FOUND,
                            "issuer": _FOUND,
                            "instance": _FOUND,
                            "not_after": _UINT,
                            "signatures": _UINT,
                        },
                    ),
                    MAX_ARRAY,
                ),
            },
        ),
        {},
    ),
    "sign": Operation(
        ("closed", {"digest": ("digest",), "name?": _NAME, **_SIGN_OPTIONS}),
        {"identity_token": False, **_WHERE_MAY},
        ("open", _SIGNED),
        {"bundle": True},
    ),
    "sign_batch": Operation(
        ("closed", _SIGN_OPTIONS),
        {"identity_token": False, "subjects": True, **_WHERE_MAY},
        ("open", {"subjects": ("int", 1, MAX_BATCH), **_SIGNED}),
        {"bundle": True},
    ),
    "attest": Operation(
        (
            "closed",
            {
                "predicate_type?": ("text", MAX_TEXT),
                "subjects?": ("list", ("subject",), MAX_SUBJECTS),
                **_SIGN_OPTIONS,
            },
        ),
        {"identity_token": False, "statement": False, "predicate": False, **_WHERE_MAY},
        ("open", {"predicate_type": _FOUND, **_SIGNED}),
        {"bundle": True},
    ),
    "verify": Operation(
        (
            "closed",
            {
                "digests": ("digests",),
                "where?": _WHERE,
                "accepted?": ("list", ("signer",), MAX_ACCEPTED),
                "predicate_type?": ("text", MAX_TEXT),
                "options?": (
                    "closed",
                    {
                        "tlog_threshold?": _COUNT,
                        "time_threshold?": _COUNT,
                        "sct_threshold?": _COUNT,
                    },
                ),
            },
        ),
        {"bundle": True, "key": False, **_WHERE_MAY},
        (
            "open",
            {
                "identity?": _FOUND,
                "identity_kind?": _FOUND,
                "issuer?": _FOUND,
                "extensions?": ("dict", _NAME, _FOUND, MAX_MAP),
                "key_sha256?": _FOUND,
                "entries": ("maybe_list", _ENTRY, MAX_THRESHOLD),
                "times": ("maybe_list", _TIME, MAX_THRESHOLD),
                "scts": (
                    "maybe_list",
                    ("open", {"log": _FOUND, "time": _UINT}),
                    MAX_THRESHOLD,
                ),
                "digest?": ("digest",),
                "predicate_type?": _FOUND,
                "steps": ("maybe_list", _FOUND, MAX_ARRAY),
            },
        ),
        {"statement": False},
    ),
    "whoami": Operation(
        ("closed", {"where?": _WHERE}),
        {"identity_token": False, **_WHERE_MAY},
        (
            "open",
            {
                "identities": (
                    "maybe_list",
                    (
                        "open",
                        {
                            "identity": _FOUND,
                            "issuer": _FOUND,
                            "source": _FOUND,
                            "expires?": _UINT,
                            "instance?": _FOUND,
                        },
                    ),
                    MAX_SUBJECTS,
                )
            },
        ),
        {},
    ),
    "trust_status": Operation(("closed", {"instance?": _NAME}), {}, _TRUST, {}),
    "trust_refresh": Operation(("closed", {"instance?": _NAME}), {}, _TRUST, {}),
    "ledger": Operation(
        ("closed", {"limit?": ("int", 1, MAX_LEDGER)}),
        {},
        ("open", {"records": _UINT}),
        {"records": True},
    ),
    "reload": Operation(_EMPTY, {}, ("open", {}), {}),
}

# The body of a `progress` event, and the facts of an error.
FACT = ("fact",)
PROGRESS = ("open", {"step": _NAME})
DETAILS = ("dict", _NAME, FACT, MAX_DETAILS)


def problem(shape: "Shape", value: object, where: str) -> "str | None":
    """Return what is wrong with *value* in words that hold none of it, or None.

    Args:
        shape: See the module's docstring.
        value: As decoded, or as the caller wants to send it.
        where: Path of the value for the message, for example ``"body.digest"``.
    """
    return _RULES[shape[0]](shape, value, where)


def request_problem(op: str, body: "Body", attachments: "dict[str, int]") -> "str | None":
    """Return what is wrong with a request of operation *op*, which must exist, or None.

    Args:
        op: A key of OPERATIONS.
        body: The decoded body.
        attachments: Length in bytes of each attachment, by name.
    """
    operation = OPERATIONS[op]
    return (
        problem(operation.request, body, "body")
        or _attachments(operation.takes, attachments)
        or _where_files(body.get("where") or {}, attachments)
        or (_attest(body, attachments) if op == "attest" else None)
        or (_verify(body, attachments) if op == "verify" else None)
    )


def reply_problem(op: str, body: "Body", attachments: "dict[str, int]") -> "str | None":
    """The same for a reply."""
    operation = OPERATIONS[op]
    return problem(operation.reply, body, "body") or _attachments(operation.gives, attachments)


def _attachments(table: "dict[str, bool]", present: "dict[str, int]") -> "str | None":
    for name in present:
        if name not in table:
            return "an attachment that this operation does not have"
    for name, needed in table.items():
        if needed and name not in present:
            return f"attachment {name} is missing"
    return None


def _where_files(where: "Body", attachments: "dict[str, int]") -> "str | None":
    for name in WHERE_FILES:
        if name in attachments and name not in where:
            return f"attachment {name} without body.where.{name}"
    return None


def _attest(body: "Body", attachments: "dict[str, int]") -> "str | None":
    if ("statement" in attachments) == ("predicate" in attachments):
        return "exactly one of the attachments statement and predicate is needed"
    described = "predicate_type" in body and "subjects" in body
    if "predicate" in attachments and not described:
        return "a predicate needs body.predicate_type and body.subjects"
    if "statement" in attachments and ("predicate_type" in body or "subjects" in body):
        return "a statement names its predicate_type and subjects itself"
    return None


def _verify(body: "Body", attachments: "dict[str, int]") -> "str | None":
    if ("key" in attachments) == ("accepted" in body):
        return "exactly one of body.accepted and the attachment key is needed"
    return None


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
    if not isinstance(value, list | tuple) or len(value) > shape[2]:
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
    if value is None or isinstance(value, bytes):
        return True
    if depth > MAX_DEPTH:
        return False
    if isinstance(value, list | tuple):
        return len(value) <= MAX_ARRAY and all(_extra(item, depth + 1) for item in value)
    if not isinstance(value, dict) or len(value) > MAX_MAP:
        return False
    return all(isinstance(key, str) and _extra(item, depth + 1) for key, item in value.items())


def _digest(shape: "Shape", value: object, where: str) -> "str | None":
    del shape
    fields = {"alg": ("one_of", *DIGEST_BYTES), "value": ("bin", *DIGEST_BYTES.values())}
    if found := problem(("closed", fields), value, where):
        return found
    return _digest_length(value, where)


def _digest_length(value: "Any", where: str) -> "str | None":
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


def _subject(shape: "Shape", value: object, where: str) -> "str | None":
    del shape
    return problem(_SUBJECT, value, where) or _digest_length(value, where)


_SIGNER_FIELDS = {
    "identity?": _NAME,
    "identity_regexp?": ("text", MAX_PATTERN),
    "issuer?": _URL,
    "issuer_regexp?": ("text", MAX_PATTERN),
    "extensions?": ("dict", _NAME, ("text", MAX_TEXT), MAX_MAP),
}


def _signer(shape: "Shape", value: object, where: str) -> "str | None":
    del shape
    if found := problem(("closed", _SIGNER_FIELDS), value, where):
        return found
    signer: Any = value
    if not signer:
        return f"{where} accepts anybody"
    for name in ("identity", "issuer"):
        if name in signer and f"{name}_regexp" in signer:
            return f"{where} has both {name} and {name}_regexp"
    return None


def _fact(shape: "Shape", value: object, where: str) -> "str | None":
    del shape
    if isinstance(value, str):
        return problem(_FOUND, value, where)
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
    return (
        point < 0x20
        or 0x7F <= point < 0xA0
        or 0xD800 <= point < 0xE000  # a lone surrogate, which UTF-8 cannot express
        or 0x202A <= point < 0x202F
        or 0x2066 <= point < 0x206A
        or point in {0x061C, 0x200E, 0x200F, 0x2028, 0x2029}
    )
