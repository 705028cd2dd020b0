"""What each operation sends and what its reply becomes. Pure: no sockets, no files, no clock.

Both clients, the blocking one and the one for trio, make their calls here. Those on signatures
that exist are in `_verifying`.
"""

from keyless.errors import KeylessError
from keyless.values import (
    Certificate,
    Digest,
    Identity,
    InstanceState,
    LogEntry,
    SignatureTime,
    SignResult,
    Slot,
    Status,
)
from keyless.wire import MAX_NAME, is_clean, printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import Any

    from keyless._hash import Artifact
    from keyless.values import Where
    from keyless.wire import Reply

    Notice = Callable[[str, dict[str, str | int]], None]


class Call:
    """One operation on its way: what is sent, and in the end its value or its error.

    Attributes:
        op: Operation.
        body: Body of the request.
        attachments: Attachments that are sent at once.
        files: Those that the daemon may know by their hash; sent when it says that it does not.
        read: Makes the value of the reply.
        on_event: Told of progress, or None.
        needs: Algorithm of the digest the daemon asks for (``need_digest``), or None.
        error: Why it failed, or None.
        value: What it gave; only once done.
        done: Whether it has ended.
        artifact: What is hashed again when another digest is needed, or None.
        tag: The caller's own.
    """

    __slots__ = (
        "artifact",
        "attachments",
        "body",
        "done",
        "error",
        "files",
        "needs",
        "on_event",
        "op",
        "read",
        "tag",
        "value",
    )

    def __init__(
        self,
        op: str,
        body: "dict[str, Any]",
        *,
        read: "Callable[[Reply], Any]",
        attachments: "dict[str, bytes] | None" = None,
        files: "dict[str, bytes] | None" = None,
        on_event: "Notice | None" = None,
    ) -> None:
        self.op = op
        self.body = body
        self.read = read
        self.attachments = attachments if attachments is not None else {}
        self.files = files if files is not None else {}
        self.on_event = on_event
        self.needs: str | None = None
        self.error: KeylessError | None = None
        self.value: Any = None
        self.done = False
        self.artifact: Artifact | None = None
        self.tag: Any = None

    def result(self) -> "Any":  # noqa: ANN401  # as `read` makes it; the clients' methods say what
        """Return the value, or raise the error."""
        if self.error is not None:
            raise self.error
        return self.value

    def fail(self, error: KeylessError) -> None:
        """End the call with *error*."""
        self.error = error
        self.needs = None
        self.done = True

    def again_with(self, digest: Digest) -> None:
        """Take the digest that the daemon asked for; the call may be submitted once more."""
        self.body["digests"][digest.algorithm] = digest.value
        self.again()

    def again(self) -> None:
        """Forget how the call ended; it may be submitted once more."""
        self.needs = self.error = None
        self.done = False


def failed(error: KeylessError) -> Call:
    """Return a call that has ended before it was made."""
    call = Call("", {}, read=lambda _: None)
    call.fail(error)
    return call


class Place:
    """Where a request goes, ready to be put into it: names, and files by hash and by content.

    Args:
        where: The caller's choice.
        sha256: Hashes the content of a file.
    """

    __slots__ = ("body", "files")

    def __init__(self, where: "Where | None", sha256: "Callable[[bytes], bytes]") -> None:
        self.body: dict[str, str | bytes] = {}
        self.files: dict[str, bytes] = {}
        for name in where.__slots__ if where is not None else ():
            value = getattr(where, name)
            if isinstance(value, bytes):
                self.body[name] = sha256(value)
                self.files[name] = value
            elif value is not None:
                self.body[name] = value


class SignOptions:
    """What all kinds of signing take beside what is signed.

    Attributes:
        place: Where to sign.
        identity_token: OIDC token to sign as, used for this request only; None for the session.
        reuse: ``"window"``, ``"never"``, or None for the daemon's setting.
        idempotency_key: The same key with the same input gives the same bundle.
        on_event: Told of progress.
    """

    __slots__ = ("idempotency_key", "identity_token", "on_event", "place", "reuse")

    def __init__(
        self,
        place: Place,
        *,
        identity_token: "str | None" = None,
        reuse: "str | None" = None,
        idempotency_key: "str | None" = None,
        on_event: "Notice | None" = None,
    ) -> None:
        self.place = place
        self.identity_token = identity_token
        self.reuse = reuse
        self.idempotency_key = idempotency_key
        self.on_event = on_event


def sign(digest: Digest, options: SignOptions, *, name: "str | None" = None) -> Call:
    """Sign one artifact. The value is a SignResult."""
    body: dict[str, Any] = {"digest": {"alg": digest.algorithm, "value": digest.value}}
    if name is not None:
        body["name"] = name
    return _signing("sign", body, {}, options)


def name_of(artifact: "Artifact") -> "str | None":
    """Return the path of an artifact as the name it is signed by, or None if it has none."""
    if isinstance(artifact, Digest):
        return None
    name = artifact if isinstance(artifact, str) else artifact.__fspath__()
    return name if 0 < len(name) <= MAX_NAME and is_clean(name) else None


def sign_batch(subjects: "Iterable[tuple[str, bytes]]", options: SignOptions) -> Call:
    """Sign many artifacts with one signature over a statement that names them all.

    Args:
        subjects: Name and SHA-256 of each, at most 1,024.
        options: See SignOptions.

    Raises:
        KeylessError: ``invalid_input`` for a name that cannot stand on a line of its own.
    """
    lines = []
    for name, value in subjects:
        if "\n" in name or "\r" in name:
            raise KeylessError("invalid_input", f"{name!r} cannot be signed in a batch: its name")
        lines.append(f"{value.hex()}  {name}\n")
    try:
        content = "".join(lines).encode()
    except UnicodeEncodeError:
        raise KeylessError("invalid_input", "the name of a file is not UTF-8") from None
    return _signing("sign_batch", {}, {"subjects": content}, options)


def attest(
    options: SignOptions,
    *,
    statement: "bytes | None" = None,
    predicate: "bytes | None" = None,
    predicate_type: "str | None" = None,
    subjects: "Sequence[tuple[str, Digest]]" = (),
) -> Call:
    """Sign an in-toto statement. The value is a SignResult.

    Args:
        options: See SignOptions.
        statement: The exact bytes to sign; or None and the three below.
        predicate: JSON bytes.
        predicate_type: Its type URI.
        subjects: Name and digest of 1 to 64 subjects.
    """
    body: dict[str, Any] = {}
    attachments = {}
    if statement is not None:
        attachments["statement"] = statement
    if predicate is not None:
        attachments["predicate"] = predicate
    if predicate_type is not None:
        body["predicate_type"] = predicate_type
    if subjects:
        body["subjects"] = [
            {"name": name, "alg": digest.algorithm, "value": digest.value}
            for name, digest in subjects
        ]
    return _signing("attest", body, attachments, options)


def _signing(
    op: str, body: "dict[str, Any]", attachments: "dict[str, bytes]", options: SignOptions
) -> Call:
    if options.place.body:
        body["where"] = options.place.body
    if options.reuse is not None:
        body["reuse"] = options.reuse
    if options.idempotency_key is not None:
        body["idempotency_key"] = options.idempotency_key
    if options.on_event is not None:
        body["progress"] = True
    if options.identity_token is not None:
        attachments["identity_token"] = options.identity_token.encode()
    return Call(
        op,
        body,
        read=_read_signed,
        attachments=attachments,
        files=options.place.files,
        on_event=options.on_event,
    )


def status() -> Call:
    """Ask how the daemon is. The value is a Status."""
    return Call("status", {}, read=_read_status)


def whoami(place: Place, *, identity_token: "str | None" = None) -> Call:
    """Ask as whom a signature could be made. The value is a list of Identity."""
    attachments = {}
    if identity_token is not None:
        attachments["identity_token"] = identity_token.encode()
    return Call(
        "whoami",
        {"where": place.body} if place.body else {},
        read=lambda reply: [Identity(**row) for row in reply.body["identities"]],
        attachments=attachments,
        files=place.files,
    )


def trust(op: str, instance: "str | None") -> Call:
    """``trust_status`` or ``trust_refresh``. The value is a list of InstanceState."""
    return Call(
        op,
        {"instance": instance} if instance is not None else {},
        read=lambda reply: [InstanceState(**row) for row in reply.body["instances"]],
    )


def ledger(limit: "int | None") -> Call:
    """Ask for the newest records of the ledger. The value is a list of objects."""
    return Call(
        "ledger",
        {"limit": limit} if limit is not None else {},
        read=lambda reply: [_record(line) for line in reply.attachments["records"].splitlines()],
    )


def _record(line: bytes) -> "dict[str, Any]":
    """Read one record; one that a crash of the machine has torn is evidence all the same."""
    import json  # noqa: PLC0415  # the one operation that needs it

    try:
        record = json.loads(line)
    except ValueError:
        record = None
    if isinstance(record, dict):
        return record
    return {"event": "torn", "text": printable(line.decode("utf-8", "replace"))}


def reload() -> Call:
    """Make the daemon read its settings again. The value is None."""
    return Call("reload", {}, read=lambda _: None)


# --- replies ---------------------------------------------------------------------------------


def _read_signed(reply: "Reply") -> SignResult:
    facts = {**reply.body, **evidence(reply)}
    facts["certificate"] = Certificate(**reply.body["certificate"])
    return SignResult(**facts, bundle=reply.attachments["bundle"])


def evidence(reply: "Reply") -> "dict[str, Any]":
    """Return where and when, as signing and verifying both tell it."""
    return {
        "entries": [LogEntry(**entry) for entry in reply.body["entries"]],
        "times": [SignatureTime(**time) for time in reply.body["times"]],
    }


def _read_status(reply: "Reply") -> Status:
    facts = dict(reply.body)
    facts["instances"] = [InstanceState(**row) for row in reply.body["instances"]]
    facts["slots"] = [Slot(**row) for row in reply.body["slots"]]
    return Status(**facts)
