"""What each operation sends and what its reply becomes. Pure: no sockets, no files, no clock.

Both clients, the blocking one and the one for trio, make their calls here. Those on signatures
that exist are in `_verifying`.
"""

from keyless.errors import KeylessError
from keyless.values import (
    Certificate,
    Digest,
    LogEntry,
    SignatureTime,
    SignResult,
)
from keyless.wire import MAX_NAME, is_clean

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import Any

    from keyless._hash import Artifact
    from keyless._identities import Ambient
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
        identity: Whom to sign as, of those that the daemon has; None for the default.
        ambient: What the environment grants, or None.
        reuse: ``"window"``, ``"never"``, or None for the daemon's setting.
        idempotency_key: The same key with the same input gives the same bundle.
        on_event: Told of progress.
    """

    __slots__ = (
        "ambient",
        "idempotency_key",
        "identity",
        "identity_token",
        "on_event",
        "place",
        "reuse",
    )

    def __init__(
        self,
        place: Place,
        *,
        identity_token: "str | None" = None,
        identity: "str | None" = None,
        ambient: "Ambient | None" = None,
        reuse: "str | None" = None,
        idempotency_key: "str | None" = None,
        on_event: "Notice | None" = None,
    ) -> None:
        self.place = place
        self.identity_token = identity_token
        self.identity = identity
        self.ambient = ambient
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
    content = bytearray()
    for name, value in subjects:
        content += f"{value.hex()}  ".encode() + _line_of(name)
    return _signing("sign_batch", {}, {"subjects": bytes(content)}, options)


def _line_of(name: str) -> bytes:
    try:
        line = f"{name}\n".encode()
    except UnicodeEncodeError:
        problem = "its name is not UTF-8"
    else:
        if name and is_clean(name):
            return line
        problem = "its name has a control character" if name else "it has no name"
    raise KeylessError(
        "invalid_input",
        f"{name!r} cannot stand in a batch: {problem}",
        hint="rename it, or sign it by itself, without --batch",
    )


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
    put_whose(body, attachments, options.identity_token, options.identity, options.ambient)
    return Call(
        op,
        body,
        read=_read_signed,
        attachments=attachments,
        files=options.place.files,
        on_event=options.on_event,
    )


def put_whose(
    body: "dict[str, Any]",
    attachments: "dict[str, bytes]",
    identity_token: "str | None",
    identity: "str | None",
    ambient: "Ambient | None",
) -> None:
    """Say whose identity is meant; secrets are attachments."""
    if identity_token is not None:
        attachments["identity_token"] = secret_bytes(identity_token, "the identity token")
    if identity is not None:
        body["identity"] = identity
    if ambient is not None:
        names = ("kind", "url", "job", "audience")
        found = {name: getattr(ambient, name) for name in names}
        body["ambient"] = {name: value for name, value in found.items() if value is not None}
        attachments["ambient_token"] = secret_bytes(ambient.token, "the request token")


def secret_bytes(text: str, what: str) -> bytes:
    """Return what a person typed or an environment has, as the bytes that it was.

    Raises:
        KeylessError: ``invalid_input``; what the text is does not show in it.
    """
    try:
        # How the interpreter holds bytes that were not UTF-8.
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raise KeylessError("invalid_input", f"{what} is no text") from None


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
