"""Fulcio's API v2: asks for a certificate, and for the list of accepted issuers.

It reads the answer's form only. Whether the certificate is the right one is checked in
``keys.issue``, which knows the key, the token and the trust root.
"""

from __future__ import annotations

import base64
import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from keylessd.errors import (
    DaemonError,
    ServiceRefusedError,
    ServiceReplyError,
    ServiceSilentError,
    ServiceUnavailableError,
)
from keylessd.services.http import refusal
from keylessd.services.reply import date_of, json_object, message_of

if TYPE_CHECKING:
    from datetime import datetime

    from keylessd.core.strict_json import JsonValue
    from keylessd.secret import Secret
    from keylessd.services.http import HttpClient, HttpReply

SERVICE = "fulcio"
# An answer takes a second or two. While Fulcio cannot reach its CT log it gives none, and tries the
# log again 1, 3, 7, 15 and 31 s after the first time: who waits longer than this for the fourth
# only waits for the fifth.
ISSUE_DEADLINE_SECONDS = 22.0
PROBE_SECONDS = 2.0
CONFIGURATION_DEADLINE_SECONDS = 10.0
ISSUE_ATTEMPTS = 3
# A repeated call is safe: at worst an unused certificate exists. 500 is the CA or its CT log.
RETRY_STATUSES = frozenset({429, 500, 502, 503, 504})
MAX_CHAIN = 10
MAX_ISSUERS = 1000
MAX_PATTERN = 512  # characters; longer wildcard patterns are ignored
MAX_STARS = 8  # of one pattern; keeps matching cheap
CT_LOG_FAILURE = "entering certificate in CTL"  # part of its sentence for that
_CT_LOG_HINT = "whoever runs it sees in its log why the certificate transparency log fails"
TOKEN_REFUSAL = "identity token"  # noqa: S105  # part of Fulcio's one sentence for every bad token


class TokenRefusedError(ServiceRefusedError):
    """Fulcio's 400 for a token; it never says why.

    Attributes:
        server_time: Fulcio's clock when it answered, or None.
    """

    def __init__(self, message: str, *, url: str, server_time: datetime | None) -> None:
        super().__init__(SERVICE, message, url=url, status=400)
        self.server_time = server_time


@dataclass(frozen=True, slots=True)
class FulcioIssuer:
    """One issuer Fulcio takes tokens from.

    Attributes:
        pattern: The issuer URL, or a pattern in which ``*`` stands for ``[-_a-zA-Z0-9]+``.
        wildcard: Whether *pattern* is a pattern.
        audience: The ``aud`` its tokens must contain; empty if not stated.
        challenge_claim: The claim that names the subject; empty if not stated.
        issuer_type: For example ``"email"`` or ``"ci-provider"``; empty if not stated.
        subject_domain: Domain of ``username`` subjects; empty if not stated.
        skip_email_verification: Whether ``email_verified`` is not asked for.
    """

    pattern: str
    wildcard: bool
    audience: str
    challenge_claim: str
    issuer_type: str
    subject_domain: str
    skip_email_verification: bool = False

    def matches(self, issuer: str) -> bool:
        """Tell whether a token of *issuer* falls under this entry (whole string)."""
        if not self.wildcard:
            return self.pattern == issuer
        if len(self.pattern) > MAX_PATTERN or self.pattern.count("*") > MAX_STARS:
            return False
        expression = "[-_a-zA-Z0-9]+".join(re.escape(part) for part in self.pattern.split("*"))
        return re.fullmatch(expression, issuer) is not None


@dataclass(frozen=True, slots=True)
class FulcioConfiguration:
    """What ``GET /api/v2/configuration`` said.

    Attributes:
        issuers: Those whose tokens it takes.
        server_time: Fulcio's clock when it answered, or None.
    """

    issuers: tuple[FulcioIssuer, ...]
    server_time: datetime | None = None

    def find(self, issuer: str) -> FulcioIssuer | None:
        """Return the entry for *issuer*: an exact one before a pattern, as Fulcio does."""
        exact = (entry for entry in self.issuers if not entry.wildcard and entry.matches(issuer))
        wild = (entry for entry in self.issuers if entry.wildcard and entry.matches(issuer))
        return next(exact, None) or next(wild, None)


async def issue(
    http: HttpClient, base_url: str, csr_pem: bytes, token: Secret
) -> tuple[bytes, ...]:
    """Ask for a certificate over the key that signed *csr_pem*.

    Args:
        http: Sends it.
        base_url: The CA's URL from the signing configuration; it may have a path.
        csr_pem: PEM text of a PKCS#10 request. Fulcio takes only its key and self-signature.
        token: The identity token.

    Returns:
        DER certificates, leaf first. Nothing in them has been checked.

    Raises:
        TokenRefusedError: Fulcio refused the token.
        ServiceRefusedError, RateLimitedError, ServiceUnavailableError: it refused otherwise.
        ServiceReplyError: the answer is no certificate chain with an embedded SCT.
    """
    url = base_url.rstrip("/") + "/api/v2/signingCert"
    body = {
        "credentials": {"oidcIdentityToken": token.reveal()},
        # Double armour is what the interface wants: base64 of the PEM text.
        "certificateSigningRequest": base64.b64encode(csr_pem).decode(),
    }
    try:
        reply = await http.send(
            "POST",
            url,
            service=SERVICE,
            content=json.dumps(body).encode(),
            headers={"Content-Type": "application/json", "Accept": "application/json"},
            deadline_seconds=ISSUE_DEADLINE_SECONDS,
            attempts=ISSUE_ATTEMPTS,
            retry_statuses=RETRY_STATUSES,
            idempotent=True,
        )
    except ServiceSilentError as exc:
        if not await _answers(http, base_url):
            raise
        raise _waits_for_its_log(exc) from exc
    if reply.status == 400 and TOKEN_REFUSAL in message_of(reply):  # noqa: PLR2004
        raise TokenRefusedError(
            "Fulcio refused the identity token without a reason",
            url=reply.url,
            server_time=date_of(reply),
        )
    if reply.status not in (200, 201):
        raise _refusal(reply)
    return parse_chain(reply)


async def _answers(http: HttpClient, base_url: str) -> bool:
    """Return whether the CA answers a request that needs nobody else."""
    try:
        await _configuration(http, base_url, PROBE_SECONDS)
    except DaemonError:
        return False
    return True


def _waits_for_its_log(exc: ServiceSilentError) -> ServiceUnavailableError:
    return ServiceUnavailableError(
        SERVICE,
        f"{exc.message}, though it answers other requests: most likely it cannot reach its"
        " certificate transparency log",
        url=exc.url,
        hint=_CT_LOG_HINT,
    )


def _refusal(reply: HttpReply) -> DaemonError:
    error = refusal(reply, service=SERVICE)
    if not isinstance(error, ServiceUnavailableError) or CT_LOG_FAILURE not in message_of(reply):
        return error
    return ServiceUnavailableError(
        SERVICE,
        f"fulcio cannot use its certificate transparency log: {error.message}",
        url=error.url,
        status=error.status,
        hint=_CT_LOG_HINT,
        retry_after_seconds=error.retry_after_seconds,
    )


def parse_chain(reply: HttpReply) -> tuple[bytes, ...]:
    """Return the DER certificates of a successful answer, leaf first."""
    value = json_object(reply, SERVICE)
    if value.get("signedCertificateDetachedSct") is not None:
        raise _bad(
            reply,
            "Fulcio sent a detached SCT (or none): a bundle has no place for it, so nobody could"
            " check the certificate later",
        )
    embedded = value.get("signedCertificateEmbeddedSct")
    chain = embedded.get("chain") if isinstance(embedded, dict) else None
    pems = chain.get("certificates") if isinstance(chain, dict) else None
    if not isinstance(pems, list) or not 1 <= len(pems) <= MAX_CHAIN:
        raise _bad(reply, f"Fulcio's answer holds no chain of 1 to {MAX_CHAIN} certificates")
    return tuple(_der(reply, pem) for pem in pems)


def _der(reply: HttpReply, pem: JsonValue) -> bytes:
    if not isinstance(pem, str):
        raise _bad(reply, "Fulcio's chain holds something that is not text")
    try:
        certificates = x509.load_pem_x509_certificates(pem.encode())
    except (ValueError, x509.InvalidVersion) as exc:
        raise _bad(reply, "Fulcio's chain holds a certificate that cannot be read") from exc
    if len(certificates) != 1:
        raise _bad(reply, "Fulcio's chain holds several certificates in one element")
    return certificates[0].public_bytes(Encoding.DER)


async def configuration(http: HttpClient, base_url: str) -> FulcioConfiguration:
    """Ask which issuers Fulcio accepts.

    Raises:
        ServiceRefusedError, RateLimitedError, ServiceUnavailableError: it does not say.
        ServiceReplyError: the answer is not what the interface promises.
    """
    return await _configuration(http, base_url, CONFIGURATION_DEADLINE_SECONDS)


async def _configuration(
    http: HttpClient, base_url: str, deadline_seconds: float
) -> FulcioConfiguration:
    reply = await http.send(
        "GET",
        base_url.rstrip("/") + "/api/v2/configuration",
        service=SERVICE,
        headers={"Accept": "application/json"},
        deadline_seconds=deadline_seconds,
    )
    if reply.status != 200:  # noqa: PLR2004
        raise refusal(reply, service=SERVICE)
    return parse_configuration(reply)


def parse_configuration(reply: HttpReply) -> FulcioConfiguration:
    """Read the configuration; entries of a form not known here are left out."""
    issuers = json_object(reply, SERVICE).get("issuers")
    if not isinstance(issuers, list) or len(issuers) > MAX_ISSUERS:
        raise _bad(reply, f"Fulcio's configuration is no list of at most {MAX_ISSUERS} issuers")
    found = tuple(entry for raw in issuers if (entry := _issuer(raw)))
    return FulcioConfiguration(found, server_time=date_of(reply))


def _issuer(raw: JsonValue) -> FulcioIssuer | None:
    if not isinstance(raw, dict):
        return None

    def text(name: str) -> str:
        value = raw.get(name)
        return value if isinstance(value, str) else ""

    exact, wild = text("issuerUrl"), text("wildcardIssuerUrl")
    if not exact and not wild:
        return None
    return FulcioIssuer(
        pattern=exact or wild,
        wildcard=not exact,
        audience=text("audience"),
        challenge_claim=text("challengeClaim"),
        issuer_type=text("issuerType"),
        subject_domain=text("subjectDomain"),
        skip_email_verification=raw.get("skipEmailVerification") is True,
    )


def _bad(reply: HttpReply, message: str) -> ServiceReplyError:
    return ServiceReplyError(SERVICE, message, url=reply.url, status=reply.status)
