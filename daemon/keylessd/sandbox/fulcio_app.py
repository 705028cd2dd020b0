"""Fulcio's HTTP interface (version 2, JSON) over the sandbox's certificate authority."""

from __future__ import annotations

import base64
import binascii
import json
import logging
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

from keylessd.core.keys import BadSignatureError, verify_message
from keylessd.sandbox.bodies import BodyTooLargeError, read_body
from keylessd.sandbox.ca import CertificateAuthority, InsecureKeyError, PublicKey, check_key
from keylessd.sandbox.ctlog import SHA256_ECDSA, SignedCertificateTimestamp
from keylessd.sandbox.issuers import PrincipalError, principal_of
from keylessd.sandbox.store import StoreError
from keylessd.sandbox.tokens import TokenRejectedError, TokenVerifier

if TYPE_CHECKING:
    from starlette.requests import Request

    from keylessd.sandbox.ca import Issued, Principal
    from keylessd.sandbox.oidc import JsonValue

BODY_MAX = 4 << 20  # bytes

# google.rpc.Code
INVALID_ARGUMENT = 3
RESOURCE_EXHAUSTED = 8
INTERNAL = 13

BAD_TOKEN = "There was an error processing the identity token"  # noqa: S105  # an error text
BAD_CSR = "The certificate signing request could not be parsed"
BAD_KEY = "The public key supplied in the request could not be parsed"
INSECURE_KEY = "The public key supplied in the request is insecure"
BAD_SIGNATURE = "The signature supplied in the request could not be verified"
LOG_FAILED = "Error entering certificate in CTL"

_logger = logging.getLogger(__name__)


class RefusedError(Exception):
    """The answer is an error; ``code`` is a google.rpc.Code."""

    def __init__(self, message: str, *, status: int = 400, code: int = INVALID_ARGUMENT) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.code = code


def _object(value: JsonValue, *names: str) -> dict[str, JsonValue]:
    """Return the object under the first of *names* that is there, or an empty one."""
    if isinstance(value, dict):
        for name in names:
            found = value.get(name)
            if isinstance(found, dict):
                return found
    return {}


def _text(value: dict[str, JsonValue], *names: str) -> str:
    for name in names:
        found = value.get(name)
        if isinstance(found, str):
            return found
    return ""


def _decoded(text: str) -> bytes:
    """Return the bytes of a proto3-JSON bytes field: base64, either alphabet.

    Raises:
        RefusedError: It is not that.
    """
    try:
        return base64.b64decode(text.replace("-", "+").replace("_", "/"), validate=True)
    except (binascii.Error, ValueError) as exc:
        raise RefusedError("proto: syntax error: invalid value for bytes field") from exc


def _token(request: Request, body: dict[str, JsonValue]) -> str:
    credentials = _object(body, "credentials")
    token = _text(credentials, "oidcIdentityToken", "oidc_identity_token")
    return token or request.headers.get("authorization", "").replace("Bearer ", "", 1)


def _key_of_csr(raw: bytes) -> PublicKey:
    try:
        csr = x509.load_pem_x509_csr(raw)
        key = csr.public_key()
    except (ValueError, UnsupportedAlgorithm) as exc:
        raise RefusedError(BAD_CSR) from exc
    try:
        checked = check_key(key)
    except InsecureKeyError as exc:
        raise RefusedError(INSECURE_KEY) from exc
    try:
        valid = csr.is_signature_valid
    except (ValueError, UnsupportedAlgorithm):
        valid = False
    if not valid:
        raise RefusedError(BAD_SIGNATURE)
    return checked


def _key_with_proof(request: dict[str, JsonValue], principal: Principal) -> PublicKey:
    content = _text(_object(request, "publicKey", "public_key"), "content")
    try:
        key = serialization.load_pem_public_key(content.encode())
    except (ValueError, UnsupportedAlgorithm) as exc:
        raise RefusedError(BAD_KEY) from exc
    try:
        checked = check_key(key)
    except InsecureKeyError as exc:
        raise RefusedError(INSECURE_KEY) from exc
    proof = _decoded(_text(request, "proofOfPossession", "proof_of_possession"))
    try:
        verify_message(checked, proof, principal.name.encode())
    except BadSignatureError as exc:
        raise RefusedError(BAD_SIGNATURE) from exc
    return checked


def _sct_json(sct: SignedCertificateTimestamp) -> bytes:
    signature = SHA256_ECDSA + len(sct.signature).to_bytes(2, "big") + sct.signature
    return json.dumps(
        {
            "sct_version": 0,
            "id": base64.b64encode(sct.log_id).decode(),
            "timestamp": sct.timestamp,
            "extensions": base64.b64encode(sct.extensions).decode(),
            "signature": base64.b64encode(signature).decode(),
        }
    ).encode()


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


class _Fulcio:
    def __init__(self, authority: CertificateAuthority, verifier: TokenVerifier) -> None:
        self._authority = authority
        self._verifier = verifier
        self._chain_pem = [_pem(certificate) for certificate in authority.chain]

    async def signing_certificate(self, request: Request) -> JSONResponse:
        try:
            return JSONResponse(await self._issue(request))
        except RefusedError as exc:
            answer = {"code": exc.code, "message": exc.message, "details": []}
            return JSONResponse(answer, status_code=exc.status)

    async def _issue(self, request: Request) -> JsonValue:
        body = await _json_body(request)
        try:
            rule, claims = await self._verifier.verify(_token(request, body))
            principal = principal_of(rule, claims)
        except (TokenRejectedError, PrincipalError) as exc:
            _logger.info("token refused: %s", exc)
            raise RefusedError(BAD_TOKEN) from exc
        csr = _text(body, "certificateSigningRequest", "certificate_signing_request")
        if csr:
            key = _key_of_csr(_decoded(csr))
        else:
            key = _key_with_proof(
                _object(body, "publicKeyRequest", "public_key_request"), principal
            )
        try:
            issued = self._authority.issue(principal, key)
        except StoreError as exc:
            raise RefusedError(LOG_FAILED, status=500, code=INTERNAL) from exc
        return self._answer(issued)

    def _answer(self, issued: Issued) -> JsonValue:
        certificates: list[JsonValue] = [_pem(issued.chain[0]), *self._chain_pem]
        chain: JsonValue = {"certificates": certificates}
        if issued.detached_sct is not None:
            sct = base64.b64encode(_sct_json(issued.detached_sct)).decode()
            return {
                "signedCertificateDetachedSct": {"chain": chain, "signedCertificateTimestamp": sct}
            }
        if self._authority.log is None:
            return {"signedCertificateDetachedSct": {"chain": chain}}
        return {"signedCertificateEmbeddedSct": {"chain": chain}}

    async def configuration(self, request: Request) -> JSONResponse:
        del request
        return JSONResponse({"issuers": [rule.configuration() for rule in self._verifier.rules]})

    async def trust_bundle(self, request: Request) -> JSONResponse:
        del request
        return JSONResponse({"chains": [{"certificates": self._chain_pem}]})


async def _json_body(request: Request) -> dict[str, JsonValue]:
    try:
        raw = await read_body(request, BODY_MAX)
    except BodyTooLargeError as exc:
        raise RefusedError("http: request body too large") from exc
    try:
        body = json.loads(raw)
    except (ValueError, RecursionError) as exc:
        raise RefusedError("the body is not JSON") from exc
    if not isinstance(body, dict):
        raise RefusedError("the body is not a JSON object")
    return body


def make_app(authority: CertificateAuthority, verifier: TokenVerifier) -> Starlette:
    """Return the application that certifies for whom *verifier* finds genuine."""
    fulcio = _Fulcio(authority, verifier)
    return Starlette(
        routes=[
            Route("/api/v2/signingCert", fulcio.signing_certificate, methods=["POST"]),
            Route("/api/v2/configuration", fulcio.configuration),
            Route("/api/v2/trustBundle", fulcio.trust_bundle),
        ]
    )
