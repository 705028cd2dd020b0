"""What a certificate issued for a token must say, as far as that can be known beforehand. Pure.

Only the CA's configuration decides how a token becomes a name. Where the configuration or a
public convention tells, the name is predicted exactly; else only what must hold in any case.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from keylessd.core.certificate import Signer
    from keylessd.identity.token import IdentityToken

GITHUB = re.compile(r"https://token\.actions\.githubusercontent\.com(?:/[-_a-zA-Z0-9]+)?")
SERVICE_ACCOUNT = re.compile(r"system:serviceaccount:([^:/]+):([^:/]+)")


def expected_issuers(token: IdentityToken) -> frozenset[str]:
    """Return the issuers the certificate may name.

    A federating issuer (Dex) names the one behind it, and the CA may be set up to take that.
    """
    federated = () if token.federated_issuer is None else (token.federated_issuer,)
    return frozenset({token.issuer, *federated})


def expected_identity(token: IdentityToken, issuer_type: str) -> tuple[str, str] | None:
    """Return (kind, identity) of the certificate, or None where it cannot be predicted.

    Args:
        token: The token.
        issuer_type: The issuer's type by the CA's configuration; empty if unknown.
    """
    is_github = GITHUB.fullmatch(token.issuer) is not None
    if is_github and issuer_type in ("", "ci-provider"):
        return _claimed_url(token, "https://github.com/", "job_workflow_ref")
    match issuer_type:
        case "email" if token.email is not None:
            return "email", token.email
        case "uri" | "spiffe":
            return "uri", token.subject
        case "kubernetes":
            return _service_account(token)
        case _:
            return None


def mismatch(token: IdentityToken, signer: Signer, issuer_type: str) -> str | None:
    """Say in which way a certificate's signer is not who the token says, or return None."""
    if signer.issuer not in expected_issuers(token):
        return f"the certificate names issuer {signer.issuer!r}, the token {token.issuer!r}"
    expected = expected_identity(token, issuer_type)
    if expected is not None:
        if expected != (signer.kind, signer.identity):
            return (
                f"the certificate is for {signer.kind} {signer.identity!r}, the token for"
                f" {expected[0]} {expected[1]!r}"
            )
        return None
    if signer.kind == "email" and signer.identity != token.email:
        return f"the certificate is for {signer.identity!r}, the token for {token.email!r}"
    if signer.kind == "othername" and not signer.identity.startswith(token.subject + "!"):
        return f"the certificate is for {signer.identity!r}, the token for {token.subject!r}"
    return None


def _service_account(token: IdentityToken) -> tuple[str, str] | None:
    found = SERVICE_ACCOUNT.fullmatch(token.subject)
    if found is None:
        return None
    namespace, account = found.groups()
    return "uri", f"https://kubernetes.io/namespaces/{namespace}/serviceaccounts/{account}"


def _claimed_url(token: IdentityToken, prefix: str, claim: str) -> tuple[str, str] | None:
    value = token.claims.get(claim)
    return ("uri", prefix + value) if value is not None else None
