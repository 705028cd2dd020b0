"""Which issuers the sandbox's Fulcio accepts, and whom their tokens name. Pure: no keys, no HTTP.

The rules are those of Fulcio's configuration: an issuer has a type, and the type says which claim
is the principal, which alternative name it becomes, and which extensions go beside it.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from cryptography import x509

from keylessd.sandbox.ca import Principal, other_name
from keylessd.sandbox.ci_providers import PROVIDERS, fields_of
from keylessd.sandbox.vault import SandboxError

if TYPE_CHECKING:
    from keylessd.sandbox.oidc import JsonValue

# What ``*`` in the URL of a meta-issuer stands for.
WILDCARD = "[-_a-zA-Z0-9]+"
EMAIL = re.compile(r".+@.+\..+")
# SPIFFE ID, 2.1 and 2.2.
SPIFFE_ID = re.compile(r"spiffe://([a-z0-9._-]{1,255})((?:/[a-zA-Z0-9._-]+)*)")

ISSUER_V1 = 1
ISSUER_V2 = 8
TOKEN_SUBJECT = 24


class IssuerType(enum.StrEnum):
    """How an issuer's tokens are read."""

    EMAIL = "email"
    URI = "uri"
    USERNAME = "username"
    SPIFFE = "spiffe"
    KUBERNETES = "kubernetes"
    CI_PROVIDER = "ci-provider"


class PrincipalError(ValueError):
    """The token's claims name nobody that may be certified."""


@dataclass(frozen=True, slots=True)
class IssuerRule:
    """One accepted issuer.

    Attributes:
        issuer: The ``iss`` claim; may hold ``*`` in place of parts.
        kind: How its tokens are read.
        audience: What ``aud`` must contain.
        subject_domain: For URIs the scheme and host of the subject, for user names what follows
            the ``!``.
        trust_domain: Of SPIFFE IDs.
        ci_provider: Whose claims they are, of CI systems.
        skip_email_verification: Take an address although the issuer does not vouch for it.
        federated: Certify ``federated_claims.connector_id`` as the issuer where a token has it.
        jwks: The issuer's keys, if they are not to be fetched.
    """

    issuer: str
    kind: IssuerType = IssuerType.EMAIL
    audience: str = "sigstore"
    subject_domain: str = ""
    trust_domain: str = ""
    ci_provider: str = "github"
    skip_email_verification: bool = False
    federated: bool = False
    jwks: Mapping[str, JsonValue] | None = None

    def matches(self, issuer: str) -> bool:
        """Say whether this rule is for the issuer with that exact identifier."""
        if "*" not in self.issuer:
            return self.issuer == issuer
        pattern = WILDCARD.join(re.escape(part) for part in self.issuer.split("*"))
        return re.fullmatch(pattern, issuer) is not None

    def configuration(self) -> dict[str, JsonValue]:
        """Return the rule as ``/api/v2/configuration`` shows it."""
        wildcard = "*" in self.issuer
        return {
            **({"wildcardIssuerUrl": self.issuer} if wildcard else {"issuerUrl": self.issuer}),
            "audience": self.audience,
            "challengeClaim": "email" if self.kind is IssuerType.EMAIL else "sub",
            "spiffeTrustDomain": self.trust_domain,
            "issuerType": str(self.kind),
            "subjectDomain": self.subject_domain,
            "skipEmailVerification": self.skip_email_verification,
        }


def _kind(text: str) -> IssuerType:
    try:
        return IssuerType(text)
    except ValueError as exc:
        raise SandboxError(f"there are no issuers of type {text!r}") from exc


def parse_rule(value: Mapping[str, JsonValue]) -> IssuerRule:
    """Return the rule that a configuration file describes, with IssuerRule's names as keys.

    ``type`` stands for ``kind``.

    Raises:
        SandboxError: A key or a value is not known, or the issuer is missing.
    """
    known = {"issuer", "audience", "subject_domain", "trust_domain", "type", "ci_provider"}
    flags = {"skip_email_verification", "federated"}
    unknown = sorted(set(value) - known - flags - {"jwks"})
    if unknown:
        raise SandboxError(f"an issuer has no setting {unknown[0]!r}")
    texts = {}
    for name in known & set(value):
        text = value[name]
        if not isinstance(text, str):
            raise SandboxError(f"the issuer's {name} is not text")
        texts[name] = text
    if not texts.get("issuer"):
        raise SandboxError("an issuer has no URL under the key 'issuer'")
    if texts.setdefault("ci_provider", "github") not in PROVIDERS:
        raise SandboxError(f"there is no CI provider {texts['ci_provider']!r}")
    jwks = value.get("jwks")
    if jwks is not None and not isinstance(jwks, dict):
        raise SandboxError("the issuer's jwks is not an object")
    return IssuerRule(
        issuer=texts["issuer"],
        kind=_kind(texts.get("type", "email")),
        audience=texts.get("audience", "sigstore"),
        subject_domain=texts.get("subject_domain", ""),
        trust_domain=texts.get("trust_domain", ""),
        ci_provider=texts["ci_provider"],
        skip_email_verification=value.get("skip_email_verification") is True,
        federated=value.get("federated") is True,
        jwks=jwks,
    )


# --- from claims to a principal -------------------------------------------------------------


def _text(claims: Mapping[str, JsonValue], name: str) -> str:
    value = claims.get(name)
    if not isinstance(value, str) or not value:
        raise PrincipalError(f"the token has no claim {name}")
    return value


def _uri(text: str) -> x509.UniformResourceIdentifier:
    try:
        return x509.UniformResourceIdentifier(text)
    except ValueError as exc:
        raise PrincipalError(f"{text!r} cannot stand in a certificate") from exc


def _issued_by(issuer: str) -> dict[int, str]:
    return {ISSUER_V1: issuer, ISSUER_V2: issuer}


def _federated_issuer(rule: IssuerRule, claims: Mapping[str, JsonValue], issuer: str) -> str:
    federated = claims.get("federated_claims")
    if rule.federated and isinstance(federated, dict):
        connector = federated.get("connector_id")
        if isinstance(connector, str) and connector:
            return connector
    return issuer


def _email(rule: IssuerRule, claims: Mapping[str, JsonValue]) -> Principal:
    address = _text(claims, "email")
    verified = claims.get("email_verified")
    if verified not in (True, "true", "True") and not rule.skip_email_verification:
        raise PrincipalError("the issuer does not vouch for the email address")
    if EMAIL.fullmatch(address) is None:
        raise PrincipalError("the email address is not one")
    issuer = _federated_issuer(rule, claims, _text(claims, "iss"))
    try:
        name = x509.RFC822Name(address)
    except ValueError as exc:
        raise PrincipalError("the email address cannot stand in a certificate") from exc
    return Principal(address, name, _issued_by(issuer))


def _same_host(rule: IssuerRule, claims: Mapping[str, JsonValue]) -> Principal:
    subject = _text(claims, "sub")
    if EMAIL.fullmatch(subject) is not None and "://" not in subject:
        raise PrincipalError("the subject is an email address")
    try:
        found, wanted = urlsplit(subject), urlsplit(rule.subject_domain)
    except ValueError as exc:
        raise PrincipalError("the subject is not a URI") from exc
    if (found.scheme, found.hostname) != (wanted.scheme, wanted.hostname):
        raise PrincipalError(f"the subject is not below {rule.subject_domain}")
    return Principal(subject, _uri(subject), _issued_by(_text(claims, "iss")))


def _username(rule: IssuerRule, claims: Mapping[str, JsonValue]) -> Principal:
    subject = _text(claims, "sub")
    if "!" in subject or EMAIL.fullmatch(subject) is not None:
        raise PrincipalError("the subject is not a user name")
    san = other_name(f"{subject}!{rule.subject_domain}")
    return Principal(subject, san, _issued_by(_text(claims, "iss")))


def _spiffe(rule: IssuerRule, claims: Mapping[str, JsonValue]) -> Principal:
    subject = _text(claims, "sub")
    match = SPIFFE_ID.fullmatch(subject)
    if match is None or {".", ".."} & set(match.group(2).split("/")):
        raise PrincipalError("the subject is not a SPIFFE ID")
    if match.group(1) != rule.trust_domain:
        raise PrincipalError(f"the SPIFFE ID is not of the trust domain {rule.trust_domain}")
    return Principal(subject, _uri(subject), _issued_by(_text(claims, "iss")))


def _kubernetes(rule: IssuerRule, claims: Mapping[str, JsonValue]) -> Principal:
    del rule
    facts = claims.get("kubernetes.io")
    account = facts.get("serviceaccount") if isinstance(facts, dict) else None
    if not isinstance(facts, dict) or not isinstance(account, dict):
        raise PrincipalError("the token names no service account")
    uri = (
        f"https://kubernetes.io/namespaces/{_text(facts, 'namespace')}"
        f"/serviceaccounts/{_text(account, 'name')}"
    )
    return Principal(_text(claims, "sub"), _uri(uri), _issued_by(_text(claims, "iss")))


def _ci_provider(rule: IssuerRule, claims: Mapping[str, JsonValue]) -> Principal:
    issuer, subject = _text(claims, "iss"), _text(claims, "sub")
    provider = PROVIDERS[rule.ci_provider]
    fields = fields_of(provider, claims)
    try:
        san = provider.san.format_map(fields)
        extensions = {arc: form.format_map(fields) for arc, form in provider.extensions.items()}
    except KeyError as exc:
        raise PrincipalError(
            f"value <{exc.args[0]}> not present in either claims or defaults. Issuer: {issuer}"
        ) from exc
    for arc, form in provider.optional.items():
        with suppress(KeyError):
            extensions[arc] = form.format_map(fields)
    extensions |= _issued_by(issuer) | {TOKEN_SUBJECT: subject}
    return Principal(subject, _uri(san), extensions)


_READERS: Mapping[IssuerType, Callable[[IssuerRule, Mapping[str, JsonValue]], Principal]] = {
    IssuerType.EMAIL: _email,
    IssuerType.URI: _same_host,
    IssuerType.USERNAME: _username,
    IssuerType.SPIFFE: _spiffe,
    IssuerType.KUBERNETES: _kubernetes,
    IssuerType.CI_PROVIDER: _ci_provider,
}


def principal_of(rule: IssuerRule, claims: Mapping[str, JsonValue]) -> Principal:
    """Return whom *claims*, whose signature was checked, name under *rule*.

    Raises:
        PrincipalError: Nobody that may be certified.
    """
    return _READERS[rule.kind](rule, claims)
