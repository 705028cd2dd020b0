"""The blocking client: one method per operation. How bytes move is `_line`'s business."""

import os

from keyless import _calls
from keyless._client_daemon import DaemonMethods
from keyless._connect import open_daemon
from keyless._exchange import WINDOW
from keyless._hash import digest_of, digests_of
from keyless._line import Line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from typing import Any, Self

    from keyless._calls import Call, Notice
    from keyless._connect import Socket
    from keyless._hash import Artifact
    from keyless._identities import Ambient
    from keyless.errors import KeylessError
    from keyless.values import (
        AcceptedSigner,
        Detached,
        Inspection,
        SignResult,
        Thresholds,
        VerifyResult,
        Where,
    )


class Client(DaemonMethods):
    """A connection to the daemon, made when it is first needed and again if it was lost.

    Every method raises KeylessError: what the daemon said, ``daemon_unreachable`` or
    ``daemon_failed``. A KeyboardInterrupt cancels what was asked for and passes through.
    Not for several threads at once: a thread takes a client of its own.

    A method that is given no *where* means the Sigstore instance that the environment names by
    ``KEYLESS_INSTANCE``, or by the file of ``KEYLESS_TRUST_CONFIG``, else the daemon's default
    (``Where()`` in any case). One that signs and is given nobody means whom ``KEYLESS_IDENTITY``
    names of those that the daemon has, else its default. Tokens are not looked for: gather()
    does that, for whoever asks.

    Args:
        socket_path: The daemon's socket; None for the place that the environment names.
        environ: The environment; that of the process if None.
        autostart: Whether to start a daemon if none listens; None leaves it to
            ``KEYLESS_AUTOSTART``.
        notice: Told in one sentence when a daemon is being started.
        window: How many requests may be unanswered at once.
    """

    __slots__ = ()

    def __init__(
        self,
        *,
        socket_path: "str | None" = None,
        environ: "Mapping[str, str] | None" = None,
        autostart: "bool | None" = None,
        notice: "Callable[[str], None] | None" = None,
        window: int = WINDOW,
    ) -> None:
        self._environ = os.environ if environ is None else environ

        def dial() -> "Socket":
            return open_daemon(socket_path, self._environ, autostart=autostart, notice=notice)

        self._line = Line(dial, window=window)

    def __enter__(self) -> "Self":
        self.connect()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def connect(self) -> None:
        """Connect now, if that is not done."""
        self._line.connect()

    def close(self) -> None:
        """Hang up. What is still in flight is cancelled by the daemon."""
        self._line.close()

    # --- signing ------------------------------------------------------------------------------

    def sign(
        self,
        artifact: "Artifact",
        *,
        where: "Where | None" = None,
        identity_token: "str | None" = None,
        identity: "str | None" = None,
        ambient: "Ambient | None" = None,
        reuse: "str | None" = None,
        idempotency_key: "str | None" = None,
        name: "str | None" = None,
        algorithm: str = "sha256",
        on_event: "Notice | None" = None,
    ) -> "SignResult":
        """Sign one artifact.

        Args:
            artifact: A Digest, or the path of a file; the file itself stays here.
            where: Which Sigstore instance; None leaves it to the environment.
            identity_token: OIDC token to sign as, used for this request only.
            identity: Whom to sign as, of those that the daemon has; None leaves it to the
                environment.
            ambient: What the environment grants, for this request only.
            reuse: ``"window"`` or ``"never"`` for the certificate; None for the daemon's setting.
            idempotency_key: The same key with the same artifact gives the same bundle.
            name: What the artifact is called, for the daemon's ledger.
            algorithm: To hash a file with.
            on_event: Called with the name of each step and its facts.
        """
        options = self._options(
            where, (identity_token, identity, ambient), reuse, on_event, idempotency_key
        )
        result: SignResult = self._line.run(
            _calls.sign(digest_of(artifact, algorithm), options, name=name)
        )
        return result

    def sign_many(
        self,
        artifacts: "Iterable[Artifact | KeylessError]",
        *,
        where: "Where | None" = None,
        identity_token: "str | None" = None,
        identity: "str | None" = None,
        ambient: "Ambient | None" = None,
        reuse: "str | None" = None,
        algorithm: str = "sha256",
        on_event: "Notice | None" = None,
    ) -> "Iterator[tuple[int, SignResult | KeylessError]]":
        """Sign many artifacts, each on its own, many at a time.

        Files are hashed while earlier ones are being signed. An artifact may be a KeylessError
        (a file that could not be opened, say), which is then its result.

        Yields:
            The position of an artifact and its result or why there is none, as they come.
        """
        options = self._options(where, (identity_token, identity, ambient), reuse, on_event)

        def call_of(artifact: "Any") -> "Call":  # noqa: ANN401
            return _calls.sign(
                digest_of(artifact, algorithm), options, name=_calls.name_of(artifact)
            )

        return self._line.stream(artifacts, call_of)

    def sign_batch(
        self,
        subjects: "Iterable[tuple[str, Artifact]]",
        *,
        where: "Where | None" = None,
        identity_token: "str | None" = None,
        identity: "str | None" = None,
        ambient: "Ambient | None" = None,
        reuse: "str | None" = None,
        idempotency_key: "str | None" = None,
        on_event: "Notice | None" = None,
    ) -> "SignResult":
        """Sign up to 1,024 artifacts with one signature; the bundle verifies for each of them.

        Args:
            subjects: The name that the statement gives each artifact, and the artifact.
            where: See sign(), as for the rest.
            identity_token: See sign().
            identity: See sign().
            ambient: See sign().
            reuse: See sign().
            idempotency_key: See sign().
            on_event: See sign().
        """
        options = self._options(
            where, (identity_token, identity, ambient), reuse, on_event, idempotency_key
        )
        hashed = ((name, digest_of(artifact).value) for name, artifact in subjects)
        result: SignResult = self._line.run(_calls.sign_batch(hashed, options))
        return result

    def attest(
        self,
        *,
        statement: "bytes | None" = None,
        predicate: "bytes | None" = None,
        predicate_type: "str | None" = None,
        subjects: "Sequence[tuple[str, Artifact]]" = (),
        where: "Where | None" = None,
        identity_token: "str | None" = None,
        identity: "str | None" = None,
        ambient: "Ambient | None" = None,
        reuse: "str | None" = None,
        idempotency_key: "str | None" = None,
        on_event: "Notice | None" = None,
    ) -> "SignResult":
        """Sign an in-toto statement: given whole, or as a predicate, its type and its subjects.

        Args:
            statement: The exact bytes to sign.
            predicate: JSON bytes of the predicate instead; needs the two below.
            predicate_type: Its type URI.
            subjects: Name and artifact of 1 to 64 subjects.
            where: See sign(), as for the rest.
            identity_token: See sign().
            identity: See sign().
            ambient: See sign().
            reuse: See sign().
            idempotency_key: See sign().
            on_event: See sign().
        """
        options = self._options(
            where, (identity_token, identity, ambient), reuse, on_event, idempotency_key
        )
        result: SignResult = self._line.run(
            _calls.attest(
                options,
                statement=statement,
                predicate=predicate,
                predicate_type=predicate_type,
                subjects=[(name, digest_of(artifact)) for name, artifact in subjects],
            )
        )
        return result

    def _options(
        self,
        where: "Where | None",
        whose: "tuple[str | None, str | None, Ambient | None]",
        reuse: "str | None",
        on_event: "Notice | None",
        idempotency_key: "str | None" = None,
    ) -> _calls.SignOptions:
        from keyless._surroundings import identity_named  # noqa: PLC0415  # not to ask for a status

        return _calls.SignOptions(
            self._place(where),
            identity_token=whose[0],
            identity=identity_named(self._environ, whose),
            ambient=whose[2],
            reuse=reuse,
            idempotency_key=idempotency_key,
            on_event=on_event,
        )

    # --- verifying ----------------------------------------------------------------------------

    def verify(
        self,
        artifact: "Artifact",
        bundle: "bytes | Detached",
        *,
        accepted: "Sequence[AcceptedSigner]" = (),
        key: "bytes | None" = None,
        where: "Where | None" = None,
        predicate_type: "str | None" = None,
        thresholds: "Thresholds | None" = None,
        explain: bool = False,
    ) -> "VerifyResult":
        """Verify that *bundle* proves what is asked about the artifact.

        Args:
            artifact: A Digest, or the path of a file. A file is hashed again if the bundle is
                about a digest of another algorithm.
            bundle: JSON bytes, or a signature in files of its own.
            accepted: Signers of whom one must have signed.
            key: A managed public key (PEM) instead.
            where: Whose trust root; None leaves it to the environment.
            predicate_type: What an attestation must be about.
            thresholds: How many logs, times and SCTs there must be.
            explain: Report what each step found, also in the error.

        Raises:
            VerificationError: it does not; ``details["check"]`` names what failed.
            KeylessError: it could not be found out.
        """
        from keyless import _verifying  # noqa: PLC0415  # not for whoever signs

        result: VerifyResult = self._line.run(
            _verifying.verify(
                digests_of(artifact),
                bundle,
                place=self._place(where),
                accepted=accepted,
                key=key,
                predicate_type=predicate_type,
                thresholds=thresholds,
                artifact=artifact,
                explain=explain,
            )
        )
        return result

    def verify_many(
        self,
        items: "Iterable[tuple[Artifact, bytes | Detached] | KeylessError]",
        *,
        accepted: "Sequence[AcceptedSigner]" = (),
        key: "bytes | None" = None,
        where: "Where | None" = None,
        predicate_type: "str | None" = None,
        thresholds: "Thresholds | None" = None,
        explain: bool = False,
    ) -> "Iterator[tuple[int, VerifyResult | KeylessError]]":
        """Verify many artifacts, each against its bundle, many at a time; see verify().

        Yields:
            The position of an item and its result or why there is none, as they come.
        """
        from keyless import _verifying  # noqa: PLC0415  # not for whoever signs

        place = self._place(where)

        def call_of(item: "tuple[Artifact, bytes | Detached]") -> "Call":
            artifact, bundle = item
            return _verifying.verify(
                digests_of(artifact),
                bundle,
                place=place,
                accepted=accepted,
                key=key,
                predicate_type=predicate_type,
                thresholds=thresholds,
                artifact=artifact,
                explain=explain,
            )

        return self._line.stream(items, call_of)

    def inspect(self, bundle: "bytes | Detached") -> "Inspection":
        """Return what is in a bundle of any form. Nothing of it is verified.

        Raises:
            KeylessError: there is no signature, or the daemon could not answer.
        """
        from keyless import _verifying  # noqa: PLC0415  # not for whoever signs

        found: Inspection = self._line.run(_verifying.inspect(bundle))
        return found
