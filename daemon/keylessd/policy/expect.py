"""Whose signature is accepted: identity, issuer and certificate extensions. Verifies no signature.

An expectation names the whole identity and the whole issuer, each exactly or by a regular
expression that must match all of it. Expressions are RE2, which runs in linear time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import re2  # type: ignore[import-untyped]  # the package ships no types

from keylessd.core.certificate import EXTENSIONS, Signer
from keylessd.errors import InvalidInputError, VerificationError

MAX_PATTERN_CHARACTERS = 4096
MAX_PATTERN_MEMORY = 1 << 20  # bytes that RE2 may spend on one compiled expression
MAX_ACCEPTED = 64
_SHOWN_CHARACTERS = 500

_KINDS = ("email", "uri", "othername")


class _Pattern(Protocol):
    """The part of a compiled expression that is used."""

    def fullmatch(self, text: str) -> object | None: ...

    def search(self, text: str) -> object | None: ...


@dataclass(frozen=True, slots=True)
class ExpectedSigner:
    """One accepted signer; every part given must match.

    Attributes:
        identity: The exact subject alternative name, or None if identity_regexp is given.
        identity_regexp: RE2 expression for the whole of it.
        issuer: The exact OIDC issuer, or None if issuer_regexp is given.
        issuer_regexp: RE2 expression for the whole of it.
        extensions: Certificate extensions by name (`keylessd.core.certificate.EXTENSIONS`) and
            their exact values. Fulcio's own spelling (``BuildSignerURI``) and the object
            identifier are names too.
        kind: ``"email"``, ``"uri"`` or ``"othername"``; None for the kinds that the exact
            identity can be written as.

    Raises:
        InvalidInputError: A part is missing, given twice or empty, an extension or kind is
            unknown, or an expression does not compile.
    """

    identity: str | None = None
    identity_regexp: str | None = None
    issuer: str | None = None
    issuer_regexp: str | None = None
    extensions: Mapping[str, str] = field(default_factory=dict)
    kind: str | None = None
    _identity_pattern: _Pattern | None = field(init=False, repr=False, compare=False, default=None)
    _issuer_pattern: _Pattern | None = field(init=False, repr=False, compare=False, default=None)

    def __post_init__(self) -> None:
        identity = _pattern_of("identity", self.identity, self.identity_regexp)
        issuer = _pattern_of("issuer", self.issuer, self.issuer_regexp)
        if self.kind is not None and self.kind not in _KINDS:
            raise InvalidInputError(f"unknown kind of identity {self.kind!r}")
        # A frozen class has no other way to set what it computes once.
        object.__setattr__(self, "extensions", _named(self.extensions))
        object.__setattr__(self, "_identity_pattern", identity)
        object.__setattr__(self, "_issuer_pattern", issuer)

    def check(self, signer: Signer) -> None:
        """Check that a verified signer is this one.

        Raises:
            VerificationError: ``identity``, ``identity-kind``, ``issuer`` or
                ``certificate-extension-value``.
        """
        self._check_kind(signer)
        if self._identity_pattern is None:
            _check_exact("identity", signer.identity, self.identity)
        else:
            _check_pattern(
                "identity", signer.identity, self._identity_pattern, self.identity_regexp
            )
        if self._issuer_pattern is None:
            _check_exact("issuer", signer.issuer, self.issuer)
        else:
            _check_pattern("issuer", signer.issuer, self._issuer_pattern, self.issuer_regexp)
        for name, wanted in self.extensions.items():
            found = signer.extensions.get(name)
            if found == wanted:
                continue
            shown = "absent" if found is None else repr(found[:_SHOWN_CHARACTERS])
            raise VerificationError(
                "certificate-extension-value",
                f"the certificate's {name} is {shown}, not {wanted!r}",
                found=None if found is None else found[:_SHOWN_CHARACTERS],
                wanted=wanted,
            )

    def __str__(self) -> str:
        """Return it in a few words, for messages."""
        identity = self.identity or f"/{self.identity_regexp}/"
        return f"{identity} ({self.issuer or f'/{self.issuer_regexp}/'})"

    def _check_kind(self, signer: Signer) -> None:
        allowed: tuple[str, ...] = _KINDS if self.kind is None else (self.kind,)
        if self.kind is None and self.identity is not None:
            # A URI has a colon after its scheme and an address has none; a user name, which
            # Fulcio writes as an otherName, has its domain after an exclamation mark. So text
            # of one kind never names a certificate of another.
            allowed = ("uri" if ":" in self.identity else "email",)
            if "!" in self.identity:
                allowed = (*allowed, "othername")
        if signer.kind not in allowed:
            raise VerificationError(
                "identity-kind",
                f"the certificate names {signer.identity[:_SHOWN_CHARACTERS]!r} as {signer.kind}; "
                f"expected was {' or '.join(allowed)}",
                found=signer.kind,
                wanted=" or ".join(allowed),
            )


@dataclass(frozen=True, slots=True)
class AnySigner:
    """Several accepted signers, one of which must match in full. None at all accepts nobody."""

    accepted: tuple[ExpectedSigner, ...]

    def __post_init__(self) -> None:
        if len(self.accepted) > MAX_ACCEPTED:
            raise InvalidInputError(
                f"{len(self.accepted)} accepted signers; at most {MAX_ACCEPTED} may be given"
            )

    def check(self, signer: Signer) -> None:
        """Check that a verified signer is one of the accepted.

        Raises:
            VerificationError: As the only one's check, or ``identity`` if there are several or
                none.
        """
        failures = []
        for expected in self.accepted:
            try:
                expected.check(signer)
            except VerificationError as failure:
                failures.append(failure)
            else:
                return
        if len(failures) == 1:
            raise failures[0]
        raise VerificationError(
            "identity",
            f"{signer.identity[:_SHOWN_CHARACTERS]!r} from "
            f"{signer.issuer[:_SHOWN_CHARACTERS]!r} is none of the {len(failures)} accepted "
            "signers",
            found=f"{signer.identity} ({signer.issuer})"[:_SHOWN_CHARACTERS],
            wanted=" or ".join(map(str, self.accepted))[:_SHOWN_CHARACTERS] or "nobody",
            hint=next((failure.hint for failure in failures if failure.hint is not None), None),
        )


def _named(extensions: Mapping[str, str]) -> Mapping[str, str]:
    """Return the extensions by the names they have here.

    Raises:
        InvalidInputError: There is none of that name, or one is named twice.
    """
    named: dict[str, str] = {}
    for name, value in extensions.items():
        known = _EXTENSION_NAMES.get(_plain(name))
        if known is None:
            raise InvalidInputError(
                f"unknown certificate extension {name[:_SHOWN_CHARACTERS]!r}",
                hint=f"known are {', '.join(EXTENSIONS)}",
            )
        if known in named:
            raise InvalidInputError(f"the certificate extension {known} is expected twice")
        named[known] = value
    return named


def _plain(name: str) -> str:
    """Return what all spellings of an extension's name have in common."""
    return name.replace("_", "").replace("-", "").lower()


_EXTENSION_NAMES = {
    **{_plain(name): name for name in EXTENSIONS},
    **{oid.dotted_string: name for name, oid in EXTENSIONS.items()},
    "issuerv2": "issuer",
    "sourcerepositoryvisibilityatsigning": "source_repository_visibility",
}


def _pattern_of(what: str, exact: str | None, expression: str | None) -> _Pattern | None:
    if (exact is None) == (expression is None):
        count = "both" if exact is not None else "neither"
        raise InvalidInputError(
            f"{count} of {what} and {what}_regexp are given; exactly one is needed",
            hint="a signer is accepted by identity and issuer together",
        )
    if exact is not None:
        if not exact:
            raise InvalidInputError(f"the expected {what} is empty")
        return None
    assert expression is not None  # noqa: S101  # exactly one of the two is None
    if not 1 <= len(expression) <= MAX_PATTERN_CHARACTERS:
        raise InvalidInputError(
            f"{what}_regexp has {len(expression)} characters; "
            f"1 to {MAX_PATTERN_CHARACTERS} are allowed"
        )
    options = re2.Options()
    options.log_errors = False  # the library would write to stderr
    options.max_mem = MAX_PATTERN_MEMORY
    try:
        pattern: _Pattern = re2.compile(expression, options)
    except (re2.error, ValueError) as exc:
        reason = exc.args[0] if exc.args else ""
        said = reason.decode("utf-8", "replace") if isinstance(reason, bytes) else str(reason)
        raise InvalidInputError(
            f"{what}_regexp {expression[:_SHOWN_CHARACTERS]!r} does not compile: {said}",
            hint="expressions are RE2: no look-around and no back-references",
        ) from exc
    return pattern


def _check_exact(what: str, found: str, wanted: str | None) -> None:
    if found != wanted:
        raise VerificationError(
            what,
            f"the certificate's {what} is {found[:_SHOWN_CHARACTERS]!r}, not {wanted!r}",
            found=found[:_SHOWN_CHARACTERS],
            wanted=wanted,
        )


def _check_pattern(what: str, found: str, pattern: _Pattern, expression: str | None) -> None:
    if pattern.fullmatch(found) is not None:
        return
    hint = None
    if pattern.search(found) is not None:
        hint = f"the expression matches a part of the {what}; it must match all of it"
    shown = (expression or "")[:_SHOWN_CHARACTERS]
    raise VerificationError(
        what,
        f"the certificate's {what} is {found[:_SHOWN_CHARACTERS]!r}, which {shown!r} does not "
        "match as a whole",
        found=found[:_SHOWN_CHARACTERS],
        wanted=shown,
        hint=hint,
    )
