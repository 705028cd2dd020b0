"""From a token to a key with a certificate: asks the CA, and believes nothing in the answer."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from keylessd.core.certificate import check_leaf_profile, key_of, parse_leaf, signer_of
from keylessd.core.chain import verify_chain
from keylessd.core.keys import spki
from keylessd.core.sct import verify_scts
from keylessd.errors import ServiceReplyError, VerificationError
from keylessd.identity.expectation import mismatch
from keylessd.identity.fetch import skew_text
from keylessd.keys.rules import THE_CA, CaRules, check_against, explain_refusal
from keylessd.keys.slot import EphemeralKey, KeySlot
from keylessd.services import fulcio
from keylessd.services.urls import shown_url

if TYPE_CHECKING:
    from datetime import datetime

    from keylessd.clock import Clock
    from keylessd.core.digests import HashAlgorithm
    from keylessd.core.trusted_root import TrustedRoot
    from keylessd.identity.token import IdentityToken
    from keylessd.services.http import HttpClient

# A CA whose clock is a little ahead of ours issues from a moment that is not here yet. What
# counts in the end is the time of the log or the timestamp, not ours.
MAX_SKEW = timedelta(seconds=60)


@dataclass(frozen=True, slots=True)
class IssueRequest:
    """What a certificate is wanted for.

    Attributes:
        ca_url: Base URL of the CA.
        trusted_root: Whom the certificate must lead to.
        token: Whom it must name; used for this one call.
        algorithm: Hash of what will be signed.
    """

    ca_url: str
    trusted_root: TrustedRoot
    token: IdentityToken
    algorithm: HashAlgorithm


class CertificateIssuer:
    """Obtains certificates over fresh keys."""

    def __init__(self, http: HttpClient, rules: CaRules, clock: Clock) -> None:
        """Store the parts."""
        self._http = http
        self._rules = rules
        self._clock = clock

    async def check_token(self, ca_url: str, token: IdentityToken) -> None:
        """Check a token's claims by the CA's own rules, without showing it the token.

        Raises:
            TokenError: ``token_expired``, ``token_audience`` or ``token_unverified_email``.
        """
        issuer = await self._rules.issuer(ca_url, token)
        check_against(token, issuer, now=self._clock.now(), ahead=self._rules.ahead(ca_url))

    async def issue(self, request: IssueRequest) -> KeySlot:
        """Return a fresh key with its checked certificate.

        Raises:
            TokenError: as check_token(), before the CA is asked; ``token_rejected``, with the most
                likely reason, after it.
            ServiceReplyError: the certificate is not the one that was asked for.
            ServiceRefusedError, RateLimitedError, ServiceUnavailableError: no certificate.
        """
        await self.check_token(request.ca_url, request.token)
        key = EphemeralKey(request.algorithm)
        try:
            chain = await fulcio.issue(self._http, request.ca_url, key.csr(), request.token.raw)
        except fulcio.TokenRefusedError as exc:
            self._rules.forget(request.ca_url)
            configuration = await self._rules.configuration(request.ca_url)
            raise explain_refusal(
                request.token,
                configuration,
                now=self._clock.now(),
                server_time=exc.server_time,
            ) from exc
        issuer = await self._rules.issuer(request.ca_url, request.token)
        try:
            return self._checked(
                request, key, chain[0], issuer.issuer_type if issuer is not None else ""
            )
        except VerificationError as exc:
            raise _bad(request, f"{exc.message} ({exc.check})") from exc

    def _checked(
        self, request: IssueRequest, key: EphemeralKey, der: bytes, issuer_type: str
    ) -> KeySlot:
        """Return the slot if the certificate is ours, for this token, valid, and logged."""
        leaf = parse_leaf(der)
        check_leaf_profile(leaf)
        if spki(key_of(leaf)) != spki(key.public_key):
            raise _bad(request, "the certificate is over another key than ours")
        signer = signer_of(leaf)
        wrong = mismatch(request.token, signer, issuer_type)
        if wrong is not None:
            raise _bad(request, wrong)
        now = self._clock.now()
        if not leaf.not_valid_before_utc - MAX_SKEW <= now <= leaf.not_valid_after_utc:
            ahead = self._rules.ahead(request.ca_url)
            raise _bad(
                request,
                f"the certificate is valid from {_shown(leaf.not_valid_before_utc)} to"
                f" {_shown(leaf.not_valid_after_utc)}, and it is {_shown(now)} here"
                + ("" if ahead is None else skew_text(now, now - ahead, THE_CA)),
                hint="look at this machine's clock; certificates are judged by it",
            )
        # The rest of the chain comes from the trust root; what the CA sent along is not used.
        path = verify_chain(
            leaf,
            request.trusted_root.certificate_authorities,
            max(now, leaf.not_valid_before_utc),
        )
        verify_scts(path, request.trusted_root.ctlogs, threshold=1)
        return KeySlot(key, leaf, signer)


def _shown(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"


def _bad(request: IssueRequest, message: str, *, hint: str | None = None) -> ServiceReplyError:
    return ServiceReplyError(
        fulcio.SERVICE,
        f"Fulcio's certificate cannot be used: {message}",
        url=shown_url(request.ca_url),
        hint=hint,
    )
