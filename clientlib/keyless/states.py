"""What the daemon tells of itself, as values: who can sign, its instances, its keys."""

from keyless.values import Told


class Identity(Told):
    """Somebody a signature could be made as: a session, a held identity, a request's token.

    Attributes:
        source: ``"request"``, ``"session"``, or the kind of a held identity.
        name: What a held identity is called in the settings.
        state: ``"active"``, ``"degraded"`` or ``"login_required"``.
        expires: End of the token at hand, seconds since the epoch; as are the next three.
        ends: When the session ends, whatever is renewed.
        prompt_due: When a person must log in again.
        last_used: When a token was last taken from it.
        renewable: Whether the daemon can get another token by itself.
        reason: Why it is not active.
        default: Whether it is meant where a request names nobody.
    """

    __slots__ = (
        "default",
        "ends",
        "expires",
        "identity",
        "instance",
        "issuer",
        "last_used",
        "name",
        "prompt_due",
        "reason",
        "renewable",
        "source",
        "state",
    )
    identity: str
    issuer: str
    source: str
    name: "str | None"
    instance: "str | None"
    state: "str | None"
    expires: "int | None"
    ends: "int | None"
    prompt_due: "int | None"
    last_used: "int | None"
    renewable: "bool | None"
    reason: "str | None"
    default: "bool | None"


class InstanceState(Told):
    """One Sigstore instance and the trust root in force for it."""

    __slots__ = ("error", "expires", "fetched", "name", "source", "state", "url", "version")
    name: str
    source: "str | None"
    url: "str | None"
    state: str
    version: "str | None"
    fetched: "int | None"  # seconds since the epoch
    expires: "int | None"
    error: "str | None"


class Slot(Told):
    """One signing key the daemon holds."""

    __slots__ = ("identity", "instance", "issuer", "not_after", "signatures")
    identity: str
    issuer: str
    instance: str
    not_after: int  # seconds since the epoch
    signatures: int


class Status(Told):
    """How the daemon is."""

    __slots__ = (
        "connections",
        "default_instance",
        "instances",
        "ledger_failures",
        "locked",
        "pid",
        "queued",
        "requests",
        "reuse",
        "sessions",
        "slots",
        "socket",
        "started",
        "uptime_seconds",
        "version",
    )
    version: str
    pid: int
    started: int  # seconds since the epoch
    uptime_seconds: int
    socket: str
    requests: "dict[str, dict[str, int]]"  # operation -> ok, failed
    connections: int
    default_instance: str
    reuse: str
    instances: "list[InstanceState]"
    slots: "list[Slot]"
    sessions: "list[Identity] | None"  # of the caller
    locked: "bool | None"
    queued: "int | None"  # requests that wait for their turn at a service
    ledger_failures: "int | None"  # records that could not be written
