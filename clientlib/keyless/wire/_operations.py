"""The table of operations: the shape of every request and reply, as data. Pure.

clientlib/doc/protocol.md, section 8, is the text of it. Both ends check by it. The rules that
concern more than one field stand at the end.
"""

from keyless.wire._limits import (
    MAX_ACCEPTED,
    MAX_ARRAY,
    MAX_BATCH,
    MAX_INT,
    MAX_KEY,
    MAX_LEDGER,
    MAX_MAP,
    MAX_NAME,
    MAX_STR,
    MAX_SUBJECTS,
    MAX_TEXT,
    MAX_THRESHOLD,
)
from keyless.wire._schema import REPORT, problem

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from keyless.wire._schema import Body, Shape

# Attachments that `where` may name; the body holds their SHA-256.
WHERE_FILES = ("trusted_root", "signing_config", "trust_config")


def _rows(fields: "dict[str, Any]", limit: int = MAX_SUBJECTS) -> "Shape":
    """Return the shape of an array of maps that may hold more than is known here."""
    return ("maybe_list", ("open", fields), limit)


_NAME = ("text", MAX_NAME)
_URL = ("text", MAX_TEXT)
_UINT = ("int", 0, MAX_INT)
_BOOL = ("bool",)
_SHA256 = ("bin", 32)
_COUNT = ("int", 1, MAX_THRESHOLD)
_COUNT_OR_NONE = ("int", 0, MAX_THRESHOLD)
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
# What the caller found in its environment; the secret that goes with it is `ambient_token`.
AMBIENT_KINDS = ("github", "buildkite")
_AMBIENT = (
    "closed",
    {
        "kind": ("one_of", *AMBIENT_KINDS),
        "url?": _URL,
        "job?": ("text", MAX_NAME),
        "audience?": ("text", MAX_NAME),
    },
)
_WHOSE = {"identity?": ("text", MAX_NAME), "ambient?": _AMBIENT}
_TOKENS = {"identity_token": False, "ambient_token": False}
_SIGN_OPTIONS = {
    "where?": _WHERE,
    **_WHOSE,
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
        "instances": _rows(
            {
                "name": _FOUND,
                "source": _FOUND,
                "url?": _FOUND,
                "state": _FOUND,
                "version?": _FOUND,
                "fetched?": _UINT,
                "expires?": _UINT,
                "error?": _FOUND,
            }
        )
    },
)
# A session, a held identity, or the token of this request.
_IDENTITY = (
    "open",
    {
        "identity": _FOUND,
        "issuer": _FOUND,
        "source": _FOUND,
        "expires?": _UINT,
        "instance?": _FOUND,
        "state?": _FOUND,
        "ends?": _UINT,
        "prompt_due?": _UINT,
        "last_used?": _UINT,
        "renewable?": _BOOL,
        "reason?": _FOUND,
        "default?": _BOOL,
        "name?": _FOUND,
    },
)
_EMPTY: "Shape" = ("closed", {})
_WHERE_MAY = dict.fromkeys(WHERE_FILES, False)
# A signature that exists: a bundle in any form, or its parts in files of their own.
_SIGNED_MAY = dict.fromkeys(
    ("bundle", "signature", "certificate", "certificate_chain", "timestamp"), False
)


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
                "instances": _rows({"name": _FOUND, "state": _FOUND}),
                "slots": _rows(
                    {
                        "identity": _FOUND,
                        "issuer": _FOUND,
                        "instance": _FOUND,
                        "not_after": _UINT,
                        "signatures": _UINT,
                    },
                    MAX_ARRAY,
                ),
                "queued?": _UINT,
                "ledger_failures?": _UINT,
                "sessions?": ("maybe_list", _IDENTITY, MAX_SUBJECTS),
                "locked?": _BOOL,
            },
        ),
        {},
    ),
    "sign": Operation(
        ("closed", {"digest": ("digest",), "name?": _NAME, **_SIGN_OPTIONS}),
        {**_TOKENS, **_WHERE_MAY},
        ("open", _SIGNED),
        {"bundle": True},
    ),
    "sign_batch": Operation(
        ("closed", _SIGN_OPTIONS),
        {**_TOKENS, "subjects": True, **_WHERE_MAY},
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
        {**_TOKENS, "statement": False, "predicate": False, **_WHERE_MAY},
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
                        "tlog_threshold?": _COUNT_OR_NONE,
                        "time_threshold?": _COUNT,
                        "sct_threshold?": _COUNT_OR_NONE,
                        "promise_only?": _BOOL,
                    },
                ),
                "explain?": _BOOL,
            },
        ),
        {**_SIGNED_MAY, "key": False, **_WHERE_MAY},
        (
            "open",
            {
                "identity?": _FOUND,
                "identity_kind?": _FOUND,
                "issuer?": _FOUND,
                "extensions?": ("dict", _NAME, _FOUND, MAX_MAP),
                "key_sha256?": _FOUND,
                "entries": ("maybe_list", _ENTRY, MAX_THRESHOLD),
                # Of 32 timestamps and of 32 log entries.
                "times": ("maybe_list", _TIME, 2 * MAX_THRESHOLD),
                "scts": _rows({"log": _FOUND, "time": _UINT}, MAX_THRESHOLD),
                "digest?": ("digest",),
                "predicate_type?": _FOUND,
                "steps": ("maybe_list", _FOUND, MAX_ARRAY),
                "form?": _FOUND,
                "omitted?": ("maybe_list", _FOUND, MAX_ARRAY),
                "trusted_root?": _FOUND,
                "report?": REPORT,
            },
        ),
        {"statement": False},
    ),
    "inspect": Operation(_EMPTY, _SIGNED_MAY, ("open", {"form?": _FOUND}), {"inspection": True}),
    "whoami": Operation(
        ("closed", {"where?": _WHERE, **_WHOSE}),
        {**_TOKENS, **_WHERE_MAY},
        ("open", {"identities": ("maybe_list", _IDENTITY, MAX_SUBJECTS)}),
        {},
    ),
    "login": Operation(
        (
            "closed",
            {
                "where?": _WHERE,
                "flow?": ("one_of", "browser", "device", "oob"),
                "connector?": ("text", MAX_TEXT),
                "identity?": ("text", MAX_NAME),
                "client_id?": ("text", MAX_NAME),
                "default?": _BOOL,
            },
        ),
        _WHERE_MAY,
        _IDENTITY,
        {},
    ),
    "login_code": Operation(
        ("closed", {"login": ("text", MAX_NAME)}), {"code": True}, ("open", {}), {}
    ),
    "logout": Operation(
        ("closed", {"instance?": _NAME, "identity?": ("text", MAX_NAME), "all?": _BOOL}),
        {},
        (
            "open",
            {
                "ended": _rows(
                    {
                        "identity": _FOUND,
                        "issuer": _FOUND,
                        "instance": _FOUND,
                        "revoked": _BOOL,
                        "reason?": _FOUND,
                    }
                )
            },
        ),
        {},
    ),
    "lock": Operation(_EMPTY, {"passphrase": True}, ("open", {}), {}),
    "unlock": Operation(_EMPTY, {"passphrase": True}, ("open", {}), {}),
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
        or _ambient(body, attachments)
        or (_existing(attachments) if op in ("verify", "inspect") else None)
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


def _ambient(body: "Body", attachments: "dict[str, int]") -> "str | None":
    if ("ambient" in body) != ("ambient_token" in attachments):
        return "body.ambient and the attachment ambient_token go together"
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


def _existing(attachments: "dict[str, int]") -> "str | None":
    if "bundle" not in attachments and "signature" not in attachments:
        return "an attachment is missing: bundle, or signature"
    return None
