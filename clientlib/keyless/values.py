"""What the client takes and gives as values: small, slotted, without behaviour or imports."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any


class Value:
    """Equality and repr over the slots; byte strings are shown by their length only."""

    __slots__: "tuple[str, ...]" = ()

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and all(
            getattr(self, name) == getattr(other, name) for name in self.__slots__
        )

    __hash__ = None  # type: ignore[assignment]  # some hold maps

    def __repr__(self) -> str:
        shown = []
        for name in self.__slots__:
            value = getattr(self, name)
            text = f"<{len(value)} bytes>" if isinstance(value, bytes) else repr(value)
            shown.append(f"{name}={text}")
        return f"{type(self).__name__}({', '.join(shown)})"


class Digest(Value):
    """The digest of an artifact.

    Attributes:
        algorithm: ``"sha256"``, ``"sha384"`` or ``"sha512"``.
        value: 32, 48 or 64 bytes.
    """

    __slots__ = ("algorithm", "value")

    def __init__(self, algorithm: str, value: bytes) -> None:
        self.algorithm = algorithm
        self.value = value

    def __str__(self) -> str:
        return f"{self.algorithm}:{self.value.hex()}"


class Where(Value):
    """Which deployment of Sigstore a request is about; all None means the daemon's default.

    Attributes:
        instance: A name the daemon knows.
        trusted_root: Bytes of a TrustedRoot JSON file.
        signing_config: Bytes of a SigningConfig JSON file.
        trust_config: Bytes of a ClientTrustConfig JSON file, which holds both.
        fulcio_url: Certificate authority in place of the selected one.
        rekor_url: Transparency log in place of the selected one.
        oidc_issuer: Issuer in place of the selected one.
        timestamp_server_url: Timestamp authority in place of the selected one.
    """

    __slots__ = (
        "fulcio_url",
        "instance",
        "oidc_issuer",
        "rekor_url",
        "signing_config",
        "timestamp_server_url",
        "trust_config",
        "trusted_root",
    )

    def __init__(
        self,
        *,
        instance: "str | None" = None,
        trusted_root: "bytes | None" = None,
        signing_config: "bytes | None" = None,
        trust_config: "bytes | None" = None,
        fulcio_url: "str | None" = None,
        rekor_url: "str | None" = None,
        oidc_issuer: "str | None" = None,
        timestamp_server_url: "str | None" = None,
    ) -> None:
        self.instance = instance
        self.trusted_root = trusted_root
        self.signing_config = signing_config
        self.trust_config = trust_config
        self.fulcio_url = fulcio_url
        self.rekor_url = rekor_url
        self.oidc_issuer = oidc_issuer
        self.timestamp_server_url = timestamp_server_url


class AcceptedSigner(Value):
    """One signer that a verification accepts; every part given must match.

    Attributes:
        identity: The whole identity, exactly.
        identity_regexp: RE2 expression that must match the whole identity.
        issuer: The whole issuer URL, exactly.
        issuer_regexp: RE2 expression that must match the whole issuer URL.
        extensions: Certificate extensions by name and their exact values.
    """

    __slots__ = ("extensions", "identity", "identity_regexp", "issuer", "issuer_regexp")

    def __init__(
        self,
        *,
        identity: "str | None" = None,
        issuer: "str | None" = None,
        identity_regexp: "str | None" = None,
        issuer_regexp: "str | None" = None,
        extensions: "Mapping[str, str] | None" = None,
    ) -> None:
        self.identity = identity
        self.identity_regexp = identity_regexp
        self.issuer = issuer
        self.issuer_regexp = issuer_regexp
        self.extensions = dict(extensions) if extensions is not None else {}


class Thresholds(Value):
    """How much a verification asks for; None leaves it to the daemon (one of each).

    Attributes:
        tlogs: How many logs must have the signature; 0 accepts one that is in none.
        times: How many times must be proven.
        scts: How many certificate logs must have the certificate; 0 asks for none.
        promise_only: Whether old bundles (v0.1) may have the log's signed promise to take the
            entry in place of the proof that it did; False refuses that in every form.
    """

    __slots__ = ("promise_only", "scts", "times", "tlogs")

    def __init__(
        self,
        *,
        tlogs: "int | None" = None,
        times: "int | None" = None,
        scts: "int | None" = None,
        promise_only: "bool | None" = None,
    ) -> None:
        self.tlogs = tlogs
        self.times = times
        self.scts = scts
        self.promise_only = promise_only


class Detached(Value):
    """A signature in files of its own, as tools wrote it before there were bundles.

    Attributes:
        signature: Base64 text or raw bytes; or a DSSE envelope.
        certificate: The signer's, in PEM, base64 of PEM, or DER; None with a managed key.
        certificate_chain: Its authorities in PEM; read, and not trusted.
        timestamp: RFC 3161 response, in DER, base64, or cosign's JSON.
        bundle: cosign's JSON of old, to which the others add what it lacks.
    """

    __slots__ = ("bundle", "certificate", "certificate_chain", "signature", "timestamp")

    def __init__(
        self,
        *,
        signature: "bytes | None" = None,
        certificate: "bytes | None" = None,
        certificate_chain: "bytes | None" = None,
        timestamp: "bytes | None" = None,
        bundle: "bytes | None" = None,
    ) -> None:
        self.signature = signature
        self.certificate = certificate
        self.certificate_chain = certificate_chain
        self.timestamp = timestamp
        self.bundle = bundle


class Told(Value):
    """What a reply tells: each slot from the field of the same name, None where it is silent."""

    __slots__: "tuple[str, ...]" = ()

    def __init__(self, **facts: "Any") -> None:  # noqa: ANN401  # checked by the wire's table
        for name in self.__slots__:
            setattr(self, name, facts.get(name))

    def as_dict(self) -> "dict[str, Any]":
        """Return the facts as JSON has them: no None, bytes in hex, nested values as maps."""
        plain: dict[str, Any] = {}
        for name in self.__slots__:
            value = getattr(self, name)
            if value is not None:
                plain[name] = _plain(value)
        return plain


def _plain(value: "Any") -> "Any":  # noqa: ANN401
    if isinstance(value, Told):
        return value.as_dict()
    if isinstance(value, Digest):
        return str(value)
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    return value


class LogEntry(Told):
    """Where a signature stands in a transparency log."""

    __slots__ = ("integrated_time", "kind", "log", "log_index", "version")
    log: str
    log_index: int
    kind: str
    version: str
    integrated_time: "int | None"  # seconds since the epoch


class SignatureTime(Told):
    """A time at which the signature existed, and who says so."""

    __slots__ = ("authority", "source", "time")
    time: int  # seconds since the epoch
    source: str  # "tsa" or "rekor"
    authority: str


class Certificate(Told):
    """The certificate a signature was made with."""

    __slots__ = ("not_after", "not_before", "reused", "serial")
    serial: str
    not_before: int  # seconds since the epoch
    not_after: int
    reused: bool  # whether it served an earlier signature too


class SignResult(Told):
    """A signature.

    Attributes:
        bundle: Sigstore bundle v0.3, the JSON bytes to be written to a file.
        subjects: How many artifacts it signs (a batch), or None.
        predicate_type: Of an attestation, or None.
    """

    __slots__ = (
        "bundle",
        "certificate",
        "entries",
        "identity",
        "identity_kind",
        "instance",
        "issuer",
        "predicate_type",
        "subjects",
        "times",
    )
    bundle: bytes
    identity: str
    identity_kind: str
    issuer: str
    entries: "list[LogEntry]"
    times: "list[SignatureTime]"
    certificate: Certificate
    instance: str
    subjects: "int | None"
    predicate_type: "str | None"


class VerifyResult(Told):
    """What a bundle proves. There is one only if it proves all that was asked.

    Attributes:
        identity: Who signed, or None for a managed key.
        extensions: What the certificate says about the build, by name.
        key_sha256: Hex SHA-256 of the managed key (SubjectPublicKeyInfo), or None.
        scts: ``{"log", "time"}`` of each signed certificate timestamp.
        statement: The in-toto statement that was signed, or None.
        steps: The checks that were made, in order.
        form: The bundle's format: ``"0.1"`` to ``"0.3"``, ``"cosign"``, ``"detached"``.
        omitted: What was left out as the caller allowed: ``"log-entries"``,
            ``"inclusion-proof"``, ``"certificate-transparency"``.
        trusted_root: Hex SHA-256 of the trust root it was verified by.
        report: What each step found, ``{"step", "facts"}``, if asked for.
    """

    __slots__ = (
        "digest",
        "entries",
        "extensions",
        "form",
        "identity",
        "identity_kind",
        "issuer",
        "key_sha256",
        "omitted",
        "predicate_type",
        "report",
        "scts",
        "statement",
        "steps",
        "times",
        "trusted_root",
    )
    identity: "str | None"
    identity_kind: "str | None"
    issuer: "str | None"
    extensions: "dict[str, str] | None"
    key_sha256: "str | None"
    entries: "list[LogEntry]"
    times: "list[SignatureTime]"
    scts: "list[dict[str, Any]]"
    digest: "Digest | None"
    predicate_type: "str | None"
    statement: "bytes | None"
    steps: "list[str]"
    form: "str | None"
    omitted: "list[str] | None"
    trusted_root: "str | None"
    report: "list[dict[str, Any]] | None"


class Inspection(Told):
    """What is in a bundle, unverified; form is None if it cannot be read as a whole."""

    __slots__ = ("facts", "form")
    form: "str | None"
    facts: "dict[str, Any]"  # protocol.md, 8.6
