"""What can go wrong, as the client sees it: one tree, and the stable codes of the protocol.

Nothing here imports anything, since every short-lived process loads it.
"""

# Every code that may stand in an error frame, with what it means. Codes are stable: a program
# may match them, people read the message beside them. clientlib/doc/protocol.md lists them too.
CODES = {
    # The connection or the request itself.
    "bad_frame": "the bytes are not a frame of this protocol",
    "bad_request": "the request does not have the form of its operation",
    "unknown_operation": "this daemon does not know the operation",
    "unsupported_version": "the two ends share no protocol version",
    "too_large": "the request is larger than the daemon accepts",
    "unknown_file": "a file was named by its hash only, and the daemon does not know it",
    "need_digest": "the signature is over a digest of another algorithm than was sent",
    # Who may, and how much.
    "not_allowed": "the daemon's policy refuses this caller",
    "busy": "too many connections or requests at once",
    "rate_limited": "a rate limit was reached, here or upstream",
    # How a request ended early.
    "cancelled": "the client cancelled the request",
    "deadline_exceeded": "the request took longer than it may",
    "shutting_down": "the daemon is stopping",
    "internal": "a fault in the daemon; its log holds the details",
    "ledger_unavailable": "the daemon cannot write or read its record of what it signs",
    # Input.
    "invalid_input": "a value or a file that was given cannot be used",
    "idempotency_conflict": "the idempotency key was used for something else before",
    # Identity.
    "login_required": "there is no identity to sign as",
    "token_malformed": "the identity token cannot be read",
    "token_expired": "the identity token has ended",
    "token_audience": "the identity token is meant for somebody else",
    "token_unverified_email": "the issuer did not verify the token's email address",
    "token_rejected": "the certificate authority refused the identity token",
    "identity_unavailable": "the identity that was meant cannot be had; no other takes its place",
    "login_failed": "the login ended without an identity",
    "login_denied": "the person or the issuer said no to the login",
    "locked": "the daemon is locked",
    # Trust and services.
    "unknown_instance": "no Sigstore instance of that name is configured",
    "trust_unavailable": "the trust root could not be obtained",
    "trust_expired": "the trust root is older than its own rules allow",
    "trust_invalid": "the trust root or signing configuration is not valid",
    "no_service": "the signing configuration names no usable service",
    "service_unavailable": "a service did not answer, or answered that it cannot now",
    "service_refused": "a service refused the request",
    "service_invalid_reply": "a service's answer is not what it must be",
    # Verification.
    "verification_failed": "the bundle does not prove what was asked",
    # Made by the client itself.
    "daemon_unreachable": "no daemon listens on the socket",
    "daemon_failed": "the daemon ended or broke the protocol",
    "file_error": "a file could not be read or written",
    "usage": "the command line cannot be understood",
}


class KeylessError(Exception):
    """Any failure a caller of the client meets.

    Attributes:
        code: One of CODES.
        message: One sentence for people.
        retryable: Whether the same request may succeed later without a change.
        retry_after_ms: How long to wait before that, in milliseconds, or None.
        hint: What to do next, or None.
        details: Facts by name, str or int; for ``verification_failed`` the keys
            ``check``, ``step``, ``found`` and ``wanted``; and ``identity`` and ``issuer`` of
            who did sign, if only that is not as wanted.
        report: For ``verification_failed``, if asked for: the steps that passed, each
            ``{"step", "facts"}``.
    """

    def __init__(
        self,
        code: str,
        message: str,
        *,
        retryable: bool = False,
        retry_after_ms: "int | None" = None,
        hint: "str | None" = None,
        details: "dict[str, str | int] | None" = None,
        report: "list[dict[str, object]] | None" = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.retryable = retryable
        self.retry_after_ms = retry_after_ms
        self.hint = hint
        if hint is not None:
            self.add_note(hint)  # so that a traceback shows it too
        self.details = details if details is not None else {}
        self.report = report if report is not None else []


class VerificationError(KeylessError):
    """The bundle does not prove what was asked; ``details["check"]`` names the check."""


class DaemonUnreachableError(KeylessError):
    """No daemon listens, and none was started."""
