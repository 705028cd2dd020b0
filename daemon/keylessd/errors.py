"""The daemon's error tree. Each class names the code that the client gets for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar


class DaemonError(Exception):
    """A failure that is reported to the client as it stands.

    The message is one sentence for people: lower case, no full stop, both values in it, and
    never a secret. Text from outside is put into it only through ``!r`` or after escaping.

    Attributes:
        code: Stable code, one of ``keyless.errors.CODES``.
        retryable: Whether the same request may succeed later unchanged.
        retry_after_seconds: How long to wait before that, or None if unknown.
        hint: What the caller can do next, or None.
        details: Facts by name.
    """

    code: str = "internal"
    retryable: bool = False
    default_hint: ClassVar[str | None] = None

    def __init__(
        self,
        message: str,
        *,
        hint: str | None = None,
        retry_after_seconds: float | None = None,
        details: Mapping[str, str | int] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint if hint is not None else self.default_hint
        self.retry_after_seconds = retry_after_seconds
        self.details: dict[str, str | int] = dict(details) if details is not None else {}


class InvalidInputError(DaemonError):
    """A value or a file the caller gave cannot be used."""

    code = "invalid_input"


class IdempotencyConflictError(DaemonError):
    """The idempotency key was used before for another request."""

    code = "idempotency_conflict"


class UnknownFileError(DaemonError):
    """A file was named by hash only, and its bytes are not known; details["name"] says which."""

    code = "unknown_file"
    retryable = True


# --- verification --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class StepReport:
    """A step of a verification that passed.

    Attributes:
        name: The step's.
        facts: What it found, one clause each, for people. May hold any text of the bundle.
    """

    name: str
    facts: tuple[str, ...]


class VerificationError(DaemonError):
    """One check of the verification failed.

    Attributes:
        check: Stable name of the check, for example ``"inclusion-proof"``. Tests and callers
            match it; nobody matches the message.
        step: Name of the step it belongs to, once core.verify has seen it; else None.
        passed: Reports of the steps that passed before, if they were asked for.
    """

    code = "verification_failed"
    step: str | None = None
    passed: tuple[StepReport, ...] = ()

    def __init__(
        self,
        check: str,
        message: str,
        *,
        found: str | None = None,
        wanted: str | None = None,
        hint: str | None = None,
    ) -> None:
        details: dict[str, str | int] = {"check": check}
        if found is not None:
            details["found"] = found
        if wanted is not None:
            details["wanted"] = wanted
        super().__init__(message, hint=hint, details=details)
        self.check = check
        self.found = found
        self.wanted = wanted


# --- identity ------------------------------------------------------------------------------


class LoginRequiredError(DaemonError):
    """There is no identity to sign as."""

    code = "login_required"


class TokenError(DaemonError):
    """The identity token cannot be used; the code says why (``token_...``)."""

    def __init__(self, code: str, message: str, *, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.code = code


class IdentityError(DaemonError):
    """A source of identities, or a login, ended without one; the code says how.

    ``identity_unavailable``: a source that was detected, named or configured failed. It is final
    for the request: nobody falls through to another identity. ``login_failed``,
    ``login_denied``: a login ended without an identity. ``locked``: the daemon is locked.
    """

    def __init__(
        self,
        code: str,
        message: str,
        *,
        retryable: bool = False,
        hint: str | None = None,
        retry_after_seconds: float | None = None,
        details: Mapping[str, str | int] | None = None,
    ) -> None:
        super().__init__(
            message, hint=hint, retry_after_seconds=retry_after_seconds, details=details
        )
        self.code = code
        self.retryable = retryable


# --- trust ---------------------------------------------------------------------------------


class UnknownInstanceError(DaemonError):
    """No instance of that name is configured."""

    code = "unknown_instance"


class TrustUnavailableError(DaemonError):
    """The trust root could not be obtained, and none is held."""

    code = "trust_unavailable"
    retryable = True


class TrustExpiredError(DaemonError):
    """The held trust root is past its own expiry and could not be renewed."""

    code = "trust_expired"
    retryable = True


class TrustInvalidError(DaemonError):
    """A trust root or signing configuration that was obtained is not valid."""

    code = "trust_invalid"


class NoServiceError(DaemonError):
    """The signing configuration selects no usable service."""

    code = "no_service"


# --- services ------------------------------------------------------------------------------


class ServiceError(DaemonError):
    """A service upstream; details["service"] names it, details["url"] where it was asked."""

    code = "service_invalid_reply"

    def __init__(
        self,
        service: str,
        message: str,
        *,
        url: str | None = None,
        status: int | None = None,
        hint: str | None = None,
        retry_after_seconds: float | None = None,
    ) -> None:
        details: dict[str, str | int] = {"service": service}
        if url is not None:
            details["url"] = url
        if status is not None:
            details["status"] = status
        super().__init__(
            message, hint=hint, retry_after_seconds=retry_after_seconds, details=details
        )
        self.service = service
        self.url = url
        self.status = status


class ServiceUnavailableError(ServiceError):
    """No answer, or one that says: not now."""

    code = "service_unavailable"
    retryable = True


class ServiceSilentError(ServiceUnavailableError):
    """No answer within the time that it has."""


class ServiceRefusedError(ServiceError):
    """The service understood and said no; asking again unchanged is pointless."""

    code = "service_refused"


class ServiceReplyError(ServiceError):
    """The answer is not what the service's interface promises."""

    code = "service_invalid_reply"


class RateLimitedError(DaemonError):
    """A rate limit, ours or upstream, was reached."""

    code = "rate_limited"
    retryable = True


# --- access and life cycle -----------------------------------------------------------------


class NotAllowedError(DaemonError):
    """Policy refuses this caller."""

    code = "not_allowed"


class BusyError(DaemonError):
    """Too much at once on this connection, for this peer, or in all."""

    code = "busy"
    retryable = True


class DeadlineExceededError(DaemonError):
    """The request as a whole took longer than it may."""

    code = "deadline_exceeded"
    retryable = True


class ShuttingDownError(DaemonError):
    """The daemon is draining and takes no new work."""

    code = "shutting_down"
    retryable = True
