"""Logging in and out, locking, and what an environment grants: values and calls. Pure.

Apart from `_calls`, since no process that signs needs more of it than it needs.
"""

from keyless._calls import Call, put_whose, secret_bytes
from keyless.states import Identity
from keyless.values import Told, Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from keyless._calls import Notice, Place


class EndedSession(Told):
    """A session that was ended; ``revoked``: the issuer took its refresh token back."""

    __slots__ = ("identity", "instance", "issuer", "reason", "revoked")
    identity: str
    issuer: str
    instance: str
    revoked: bool
    reason: "str | None"


class Ambient(Value):
    """What a job finds in its environment: leave to fetch an identity token.

    Attributes:
        kind: ``"github"`` or ``"buildkite"``.
        token: What to authenticate with; it goes to the daemon as an attachment.
        url: Where to ask, or None.
        job: Which job is running, or None.
        audience: Whom the token is to be for; None for ``sigstore``.
    """

    __slots__ = ("audience", "job", "kind", "token", "url")

    def __init__(
        self,
        kind: str,
        token: str,
        *,
        url: "str | None" = None,
        job: "str | None" = None,
        audience: "str | None" = None,
    ) -> None:
        self.audience = audience
        self.kind = kind
        self.token = token
        self.url = url
        self.job = job

    def __repr__(self) -> str:
        return f"Ambient({self.kind!r})"


def whoami(
    place: "Place",
    *,
    identity_token: "str | None" = None,
    identity: "str | None" = None,
    ambient: "Ambient | None" = None,
) -> Call:
    """Ask as whom a signature could be made. The value is a list of Identity."""
    body: dict[str, Any] = {"where": place.body} if place.body else {}
    attachments: dict[str, bytes] = {}
    put_whose(body, attachments, identity_token, identity, ambient)
    return Call(
        "whoami",
        body,
        read=lambda reply: [Identity(**row) for row in reply.body["identities"]],
        attachments=attachments,
        files=place.files,
    )


def login(
    place: "Place",
    *,
    flow: str = "browser",
    connector: "str | None" = None,
    identity: "str | None" = None,
    client_id: "str | None" = None,
    default: bool = False,
    on_event: "Notice | None" = None,
) -> Call:
    """Let the person here log in. The value is an Identity; events say what to show."""
    body: dict[str, Any] = {"flow": flow}
    if place.body:
        body["where"] = place.body
    given = {"connector": connector, "identity": identity, "client_id": client_id}
    body.update((name, value) for name, value in given.items() if value is not None)
    if default:
        body["default"] = True
    return Call(
        "login",
        body,
        read=lambda reply: Identity(**reply.body),
        files=place.files,
        on_event=on_event,
    )


def login_code(login: str, code: str) -> Call:
    """Send the code that a page showed. The value is None; the login goes on."""
    return Call(
        "login_code",
        {"login": login},
        read=lambda _: None,
        attachments={"code": secret_bytes(code, "the code")},
    )


def logout(
    *, identity: "str | None" = None, instance: "str | None" = None, everyone: bool = False
) -> Call:
    """End sessions. The value is a list of EndedSession."""
    body: dict[str, Any] = {"identity": identity, "instance": instance, "all": everyone or None}
    return Call(
        "logout",
        {name: value for name, value in body.items() if value is not None},
        read=lambda reply: [EndedSession(**row) for row in reply.body["ended"]],
    )


def lock(op: str, passphrase: str) -> Call:
    """``lock`` or ``unlock``. The value is None."""
    return Call(
        op,
        {},
        read=lambda _: None,
        attachments={"passphrase": secret_bytes(passphrase, "the passphrase")},
    )
