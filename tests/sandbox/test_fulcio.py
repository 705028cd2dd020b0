"""The sandbox's Fulcio over HTTP: who gets a certificate, who does not, and what it says then."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime, timedelta

import httpx
import jwt
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from keylessd.sandbox import fulcio_app, workloads
from keylessd.sandbox.ca import CertificateAuthority
from keylessd.sandbox.ctlog import CtLog
from keylessd.sandbox.identities import Identities
from keylessd.sandbox.issuers import (
    IssuerRule,
    IssuerType,
    PrincipalError,
    parse_rule,
    principal_of,
)
from keylessd.sandbox.oidc import OidcIssuer
from keylessd.sandbox.store import LogStore, StoreError
from keylessd.sandbox.tokens import TokenRejectedError, TokenVerifier
from keylessd.sandbox.vault import MemoryVault, SandboxError, ecdsa_key

NOW = datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)
ISSUER = "http://oidc.sandbox.test"
KEY = ec.generate_private_key(ec.SECP256R1())
BAD_TOKEN = "There was an error processing the identity token"


class FixedClock:
    def __init__(self) -> None:
        self.time = NOW

    def now(self) -> datetime:
        return self.time


class Fulcio:
    """One authority with its issuers, mounted in a client."""

    def __init__(self, *rules: IssuerRule, detached: bool = False) -> None:
        vault = MemoryVault()
        self.clock = FixedClock()
        self.log = CtLog(ecdsa_key(vault, "ctlog"), LogStore.in_memory(), clock=self.clock)
        self.authority = CertificateAuthority.open(vault, log=self.log, clock=self.clock)
        self.authority.detached = detached
        self.identities = Identities(ISSUER, vault=vault, clock=self.clock)
        self.fetched: list[str] = []
        self.verifier = TokenVerifier(
            [*workloads.rules(ISSUER), *rules], clock=self.clock, fetch=self.fetch
        )
        app = fulcio_app.make_app(self.authority, self.verifier)
        self.client = httpx.AsyncClient(
            transport=httpx.ASGITransport(app), base_url="http://fulcio.sandbox.test"
        )

    async def fetch(self, issuer: str):
        self.fetched.append(issuer)
        found = self.identities.by_url(issuer)
        if found is None:
            raise httpx.ConnectError("nobody there")
        return found.jwks()

    async def post(self, body: object, **options) -> httpx.Response:
        return await self.client.post("/api/v2/signingCert", json=body, **options)

    async def certify(self, token: str, key=KEY) -> x509.Certificate:
        reply = await self.post(csr_request(token, key))
        assert reply.status_code == 200, reply.text
        chain = reply.json()["signedCertificateEmbeddedSct"]["chain"]["certificates"]
        assert len(chain) == 3
        return x509.load_pem_x509_certificate(chain[0].encode())


def csr_pem(key=KEY) -> bytes:
    algorithm = None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    return request.sign(key, algorithm).public_bytes(serialization.Encoding.PEM)


def csr_request(token: str, key=KEY) -> dict[str, object]:
    return {
        "credentials": {"oidcIdentityToken": token},
        "certificateSigningRequest": base64.b64encode(csr_pem(key)).decode(),
    }


def key_request(token: str, proof: bytes, key=KEY) -> dict[str, object]:
    pem = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return {
        "credentials": {"oidcIdentityToken": token},
        "publicKeyRequest": {
            "publicKey": {"algorithm": "ECDSA", "content": pem.decode()},
            "proofOfPossession": base64.b64encode(proof).decode(),
        },
    }


def proof_over(text: str) -> bytes:
    return KEY.sign(text.encode(), ec.ECDSA(hashes.SHA256()))


def san_of(certificate: x509.Certificate) -> x509.GeneralName:
    found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    (name,) = found.value
    return name


def extension(certificate: x509.Certificate, arc: int) -> bytes | None:
    oid = x509.ObjectIdentifier(f"1.3.6.1.4.1.57264.1.{arc}")
    try:
        found = certificate.extensions.get_extension_for_oid(oid)
    except x509.ExtensionNotFound:
        return None
    return found.value.value


# --- tokens -----------------------------------------------------------------------------------


def resigned(token: str, **changes: object) -> str:
    """The same claims with changes, under a signature of somebody else's key."""
    payload = jwt.decode(token, options={"verify_signature": False}) | changes
    header = jwt.get_unverified_header(token)
    other = ec.generate_private_key(ec.SECP256R1())
    return jwt.encode(payload, other, algorithm="ES256", headers={"kid": header["kid"]})


def unsigned(token: str) -> str:
    payload = jwt.decode(token, options={"verify_signature": False})
    return jwt.encode(payload, None, algorithm="none")


BAD_TOKENS = {
    "garbage": lambda ids: "not.a.token",
    "empty": lambda ids: "",
    "other key": lambda ids: resigned(ids.token()),
    "no signature": lambda ids: unsigned(ids.token()),
    "unknown issuer": lambda ids: OidcIssuer(
        "http://elsewhere.test", vault=MemoryVault(), clock=FixedClock()
    ).mint(email="a@b.test"),
    "audience": lambda ids: ids.token(audience="other"),
    "audience list": lambda ids: ids.token(audience=["other", "third"]),
    "expired one second ago": lambda ids: ids.token(lifetime=timedelta(seconds=-1)),
    "no exp": lambda ids: ids.token(claims={"exp": None}),
    "exp as text": lambda ids: ids.token(claims={"exp": "4000000000"}),
    "not yet": lambda ids: ids.token(claims={"nbf": int(NOW.timestamp()) + 61}),
    "email not verified": lambda ids: ids.token(email="a@b.test", email_verified=False),
    "no email": lambda ids: ids.token(subject="somebody"),
    "not an email": lambda ids: ids.token(email="a@b"),
    "email outside ASCII": lambda ids: ids.token(email="ä@b.test"),
}


@pytest.mark.parametrize("make", BAD_TOKENS.values(), ids=BAD_TOKENS)
async def test_bad_token_is_refused_with_one_text(make):
    fulcio = Fulcio()
    reply = await fulcio.post(csr_request(make(fulcio.identities)))
    assert (reply.status_code, reply.json()) == (
        400,
        {"code": 3, "message": BAD_TOKEN, "details": []},
    )
    assert fulcio.log.size == 0


async def test_token_is_good_up_to_its_last_second():
    fulcio = Fulcio()
    token = fulcio.identities.token(lifetime=timedelta(seconds=10))
    fulcio.clock.time += timedelta(seconds=10)
    await fulcio.certify(token)
    fulcio.clock.time += timedelta(microseconds=1)
    assert (await fulcio.post(csr_request(token))).status_code == 400


@pytest.mark.parametrize(
    "token",
    [
        {"audience": ["x", "sigstore"]},
        {"claims": {"email_verified": "true"}},
        {"claims": {"nbf": int(NOW.timestamp()) + 59}},
        {"claims": {"iat": int(NOW.timestamp()) + 3600}},
    ],
    ids=["audience in a list", "verified as text", "nbf within the leeway", "iat ahead"],
)
async def test_unusual_token_is_accepted(token):
    fulcio = Fulcio()
    leaf = await fulcio.certify(fulcio.identities.token(email="a@b.test", **token))
    assert san_of(leaf) == x509.RFC822Name("a@b.test")


async def test_token_may_come_in_the_header():
    fulcio = Fulcio()
    body = csr_request("")
    headers = {"authorization": f"Bearer {fulcio.identities.token()}"}
    assert (await fulcio.post(body, headers=headers)).status_code == 200


async def test_token_in_the_body_goes_before_the_header():
    fulcio = Fulcio()
    headers = {"authorization": f"Bearer {fulcio.identities.token()}"}
    assert (await fulcio.post(csr_request("bad"), headers=headers)).status_code == 400


async def test_issuers_new_key_is_fetched_once():
    fulcio = Fulcio()
    await fulcio.certify(fulcio.identities.token())
    fulcio.identities.login.rotate_key()
    await fulcio.certify(fulcio.identities.token())
    await fulcio.certify(fulcio.identities.token())
    assert fulcio.fetched == [ISSUER, ISSUER]


async def test_issuer_that_cannot_be_reached_is_a_token_error():
    fulcio = Fulcio(IssuerRule("http://down.test"))
    other = OidcIssuer("http://down.test", vault=MemoryVault(), clock=fulcio.clock)
    reply = await fulcio.post(csr_request(other.mint(email="a@b.test")))
    assert (reply.status_code, reply.json()["message"]) == (400, BAD_TOKEN)


async def test_rsa_issuer_with_given_keys_is_accepted():
    key = rsa.generate_private_key(65537, 2048)
    jwk = jwt.algorithms.RSAAlgorithm.to_jwk(key.public_key(), as_dict=True)
    jwks = {"keys": [{"kty": "unknown"}, 7, jwk | {"kid": "r", "alg": "RS256"}]}
    fulcio = Fulcio(IssuerRule("https://rsa.test", jwks=jwks))
    claims = {
        "iss": "https://rsa.test",
        "aud": "sigstore",
        "sub": "x",
        "exp": int(NOW.timestamp()) + 60,
        "email": "a@b.test",
        "email_verified": True,
    }
    leaf = await fulcio.certify(jwt.encode(claims, key, algorithm="RS256", headers={"kid": "r"}))
    assert extension(leaf, 8) == b"\x0c\x10https://rsa.test"
    assert fulcio.fetched == []


async def test_shared_secret_in_a_jwks_is_no_key():
    secret = base64.urlsafe_b64encode(b"s" * 32).decode()
    rule = IssuerRule("https://h.test", jwks={"keys": [{"kty": "oct", "k": secret}]})
    verifier = TokenVerifier([rule], clock=FixedClock())
    claims = {"iss": "https://h.test", "aud": "sigstore", "exp": 4000000000}
    with pytest.raises(TokenRejectedError):
        await verifier.verify(jwt.encode(claims, b"s" * 32, algorithm="HS256"))


# --- what is certified ------------------------------------------------------------------------


async def test_email_issuer():
    fulcio = Fulcio()
    leaf = await fulcio.certify(fulcio.identities.token(email="a@b.test"))
    assert san_of(leaf) == x509.RFC822Name("a@b.test")
    assert extension(leaf, 1) == ISSUER.encode()
    assert extension(leaf, 8) == b"\x0c\x18" + ISSUER.encode()
    assert extension(leaf, 24) is None


async def test_federated_issuer_is_certified_in_place_of_the_tokens():
    fulcio = Fulcio()
    claims = {"federated_claims": {"connector_id": "https://github.com/login/oauth"}}
    leaf = await fulcio.certify(fulcio.identities.token(email="a@b.test", claims=claims))
    assert extension(leaf, 1) == b"https://github.com/login/oauth"


@pytest.mark.parametrize(
    ("issuer", "san"),
    [
        ("uri", "https://sandbox.test/builder"),
        ("spiffe", "spiffe://sandbox.test/builder"),
        ("kubernetes", "https://kubernetes.io/namespaces/default/serviceaccounts/builder"),
        (
            "github",
            "https://github.com/example/project/.github/workflows/release.yml@refs/heads/main",
        ),
        ("gitlab", "https://gitlab.com/example/project//.gitlab-ci.yml@refs/heads/main"),
        ("buildkite", "https://buildkite.com/example/project"),
        (
            "circleci",
            (
                "https://circleci.com/api/v2/projects/b7d0a7a4-6a6e-4e5f-8f55-0c9d1f1c2b22"
                "/pipeline-definitions/7c0f3b1e-1a2b-4c3d-8e4f-5a6b7c8d9e44"
            ),
        ),
    ],
)
async def test_issuers_with_uris(issuer, san):
    fulcio = Fulcio()
    leaf = await fulcio.certify(fulcio.identities.token(issuer=issuer))
    assert san_of(leaf) == x509.UniformResourceIdentifier(san)
    url = fulcio.identities.issuer(issuer).url
    assert extension(leaf, 1) == url.encode()


@pytest.mark.parametrize(
    ("issuer", "arc", "text"),
    [
        ("gitlab", 14, "refs/heads/main"),
        ("gitlab", 21, "https://gitlab.com/example/project/-/jobs/3003"),
        (
            "buildkite",
            21,
            "https://buildkite.com/example/project/builds/7#0190046e-e199-453b-a302-a21a4d649d31",
        ),
        ("circleci", 12, "github.com/example/project"),
    ],
)
async def test_extensions_of_other_ci_systems(issuer, arc, text):
    fulcio = Fulcio()
    leaf = await fulcio.certify(fulcio.identities.token(issuer=issuer))
    assert extension(leaf, arc).endswith(text.encode())


async def test_username_issuer():
    fulcio = Fulcio()
    leaf = await fulcio.certify(fulcio.identities.token(issuer="username", subject="foo"))
    name = san_of(leaf)
    assert isinstance(name, x509.OtherName)
    assert name.type_id.dotted_string == "1.3.6.1.4.1.57264.1.7"
    assert name.value == b"\x0c\x10foo!sandbox.test"


async def test_github_token_fills_all_extensions():
    fulcio = Fulcio()
    claims = {"environment": "production", "event_name": "release"}
    leaf = await fulcio.certify(fulcio.identities.token(issuer="github", claims=claims))
    values = {arc: extension(leaf, arc) for arc in range(1, 25) if arc != 7}
    assert all(values.values())
    assert values[2] == b"release"
    assert values[6] == b"refs/heads/main"
    assert values[20] == b"\x0c\x07release"
    run = b"https://github.com/example/project/actions/runs/3003/attempts/1"
    assert values[21] == bytes([0x0C, len(run)]) + run
    assert values[23] == b"\x0c\x0aproduction"
    subject = b"repo:example/project:ref:refs/heads/main"
    assert values[24] == bytes([0x0C, len(subject)]) + subject


RULES = {rule.kind: rule for rule in workloads.rules(ISSUER)}
REFUSED = [
    (IssuerType.URI, {"sub": "https://other.test/x"}),
    (IssuerType.URI, {"sub": "http://sandbox.test/x"}),
    (IssuerType.URI, {"sub": "a@sandbox.test"}),
    (IssuerType.URI, {"sub": "https://[bad"}),
    (IssuerType.URI, {"sub": ""}),
    (IssuerType.USERNAME, {"sub": "a!b"}),
    (IssuerType.USERNAME, {"sub": "a@b.test"}),
    (IssuerType.SPIFFE, {"sub": "spiffe://other.test/x"}),
    (IssuerType.SPIFFE, {"sub": "spiffe://sandbox.test/a/../b"}),
    (IssuerType.SPIFFE, {"sub": "spiffe://sandbox.test/a/"}),
    (IssuerType.SPIFFE, {"sub": "https://sandbox.test/x"}),
    (IssuerType.KUBERNETES, {"sub": "x"}),
    (IssuerType.KUBERNETES, {"sub": "x", "kubernetes.io": {"namespace": "n"}}),
    (IssuerType.CI_PROVIDER, {"sub": "x", "repository": "only this"}),
    (IssuerType.EMAIL, {"email": 7, "email_verified": True}),
]


@pytest.mark.parametrize(("kind", "claims"), REFUSED, ids=[str(case) for case in REFUSED])
def test_claims_that_name_nobody(kind, claims):
    with pytest.raises(PrincipalError):
        principal_of(RULES[kind], {"iss": ISSUER, **claims})


def test_unverified_address_is_certified_where_the_rule_says_so():
    rule = IssuerRule(ISSUER, skip_email_verification=True)
    assert principal_of(rule, {"iss": ISSUER, "email": "a@b.test"}).name == "a@b.test"


# --- keys and proofs --------------------------------------------------------------------------


async def refusal(fulcio: Fulcio, body: object) -> str:
    reply = await fulcio.post(body)
    assert reply.status_code == 400
    assert reply.json()["code"] == 3
    return reply.json()["message"]


@pytest.mark.parametrize(
    ("issuer", "principal"),
    [
        ("login", "you@sandbox.test"),
        ("uri", "https://sandbox.test/builder"),
        ("username", "builder"),
        ("spiffe", "spiffe://sandbox.test/builder"),
        ("kubernetes", "system:serviceaccount:default:builder"),
        ("github", "repo:example/project:ref:refs/heads/main"),
    ],
)
async def test_proof_is_over_the_issuers_challenge_claim(issuer, principal):
    fulcio = Fulcio()
    token = fulcio.identities.token(issuer=issuer)
    assert (await fulcio.post(key_request(token, proof_over(principal)))).status_code == 200
    wrong = key_request(token, proof_over(principal + "x"))
    assert "signature supplied" in await refusal(fulcio, wrong)


async def test_proof_over_the_subject_is_refused_for_email_issuers():
    fulcio = Fulcio()
    token = fulcio.identities.token(email="a@b.test", subject="the-subject")
    body = key_request(token, proof_over("the-subject"))
    assert "signature supplied" in await refusal(fulcio, body)


async def test_csr_with_a_false_signature():
    fulcio = Fulcio()
    der = bytearray(x509.load_pem_x509_csr(csr_pem()).public_bytes(serialization.Encoding.DER))
    der[-1] ^= 1
    pem = b"-----BEGIN CERTIFICATE REQUEST-----\n" + base64.b64encode(der)
    pem += b"\n-----END CERTIFICATE REQUEST-----\n"
    body = csr_request(fulcio.identities.token())
    body["certificateSigningRequest"] = base64.b64encode(pem).decode()
    assert "signature supplied" in await refusal(fulcio, body)


async def test_csr_that_is_none():
    fulcio = Fulcio()
    body = csr_request(fulcio.identities.token())
    body["certificateSigningRequest"] = base64.b64encode(b"nothing").decode()
    message = "The certificate signing request could not be parsed"
    assert await refusal(fulcio, body) == message


async def test_weak_key_in_a_csr():
    fulcio = Fulcio()
    body = csr_request(fulcio.identities.token(), ec.generate_private_key(ec.SECP256K1()))
    message = "The public key supplied in the request is insecure"
    assert await refusal(fulcio, body) == message


@pytest.mark.parametrize("content", ["", "nothing", None])
async def test_key_that_is_none(content):
    fulcio = Fulcio()
    body = key_request(fulcio.identities.token(), b"")
    body["publicKeyRequest"]["publicKey"]["content"] = content
    message = "The public key supplied in the request could not be parsed"
    assert await refusal(fulcio, body) == message


async def test_request_without_key_or_csr():
    fulcio = Fulcio()
    body = {"credentials": {"oidcIdentityToken": fulcio.identities.token()}}
    assert "public key supplied" in await refusal(fulcio, body)


@pytest.mark.parametrize("raw", [b"", b"[]", b"{", b"\xff", b"[" * 100_000])
async def test_body_that_is_no_object(raw):
    fulcio = Fulcio()
    reply = await fulcio.client.post("/api/v2/signingCert", content=raw)
    assert (reply.status_code, reply.json()["code"]) == (400, 3)


async def test_body_over_the_limit():
    fulcio = Fulcio()
    reply = await fulcio.client.post("/api/v2/signingCert", content=b" " * (4 << 20) + b"{}")
    assert reply.status_code == 400
    assert "too large" in reply.json()["message"]


@pytest.mark.parametrize(
    "key",
    [ec.generate_private_key(ec.SECP384R1()), ed25519.Ed25519PrivateKey.generate()],
    ids=["P-384", "Ed25519"],
)
async def test_other_keys_prove_with_their_own_scheme(key):
    fulcio = Fulcio()
    token = fulcio.identities.token(email="a@b.test")
    if isinstance(key, ec.EllipticCurvePrivateKey):
        proof = key.sign(b"a@b.test", ec.ECDSA(hashes.SHA384()))
    else:
        proof = key.sign(b"a@b.test")
    assert (await fulcio.post(key_request(token, proof, key))).status_code == 200
    assert (await fulcio.certify(token, key)).public_key() == key.public_key()


# --- the rest ---------------------------------------------------------------------------------


async def test_detached_sct_has_the_form_of_add_chain():
    fulcio = Fulcio(detached=True)
    reply = await fulcio.post(csr_request(fulcio.identities.token()))
    answer = reply.json()["signedCertificateDetachedSct"]
    sct = json.loads(base64.b64decode(answer["signedCertificateTimestamp"]))
    assert sct["sct_version"] == 0
    assert base64.b64decode(sct["id"]) == fulcio.log.log_id
    assert sct["timestamp"] == int(NOW.timestamp()) * 1000
    assert base64.b64decode(sct["signature"])[:2] == b"\x04\x03"


async def test_without_a_log_there_is_no_sct():
    fulcio = Fulcio()
    fulcio.authority.log = None
    reply = await fulcio.post(csr_request(fulcio.identities.token()))
    assert list(reply.json()["signedCertificateDetachedSct"]) == ["chain"]


async def test_log_that_cannot_store_is_a_server_error(monkeypatch):
    fulcio = Fulcio()

    def full(*args, **options):
        raise StoreError("disk full")

    monkeypatch.setattr(LogStore, "append", full)
    reply = await fulcio.post(csr_request(fulcio.identities.token()))
    assert (reply.status_code, reply.json()["code"]) == (500, 13)
    assert reply.json()["message"] == "Error entering certificate in CTL"


async def test_configuration_names_the_challenge_claims():
    fulcio = Fulcio(IssuerRule("https://oidc.test/*", IssuerType.SPIFFE, trust_domain="d.test"))
    issuers = (await fulcio.client.get("/api/v2/configuration")).json()["issuers"]
    by_url = {rule.get("issuerUrl", rule.get("wildcardIssuerUrl")): rule for rule in issuers}
    assert by_url[ISSUER]["challengeClaim"] == "email"
    assert by_url[f"{ISSUER}/uri"]["challengeClaim"] == "sub"
    wildcard = by_url["https://oidc.test/*"]
    assert (wildcard["spiffeTrustDomain"], "issuerUrl" in wildcard) == ("d.test", False)


async def test_trust_bundle_is_the_chain():
    fulcio = Fulcio()
    (chain,) = (await fulcio.client.get("/api/v2/trustBundle")).json()["chains"]
    found = [x509.load_pem_x509_certificate(pem.encode()) for pem in chain["certificates"]]
    assert tuple(found) == fulcio.authority.chain


@pytest.mark.parametrize(
    ("issuer", "matches"),
    [
        ("https://a.test/id/AbC-1_2", True),
        ("https://a.test/id/", False),
        ("https://a.test/id/x/y", False),
        ("https://a.test/id/x.y", False),
        ("https://aXtest/id/x", False),
        ("https://a.test/id/x\n", False),
    ],
)
def test_wildcard_stands_for_one_plain_word(issuer, matches):
    assert IssuerRule("https://a.test/id/*").matches(issuer) is matches


def test_rule_from_a_file():
    rule = parse_rule({"issuer": "https://a.test", "type": "uri", "subject_domain": "https://d"})
    assert (rule.kind, rule.subject_domain, rule.audience) == ("uri", "https://d", "sigstore")


@pytest.mark.parametrize(
    "value",
    [
        {},
        {"issuer": ""},
        {"issuer": 7},
        {"issuer": "https://a", "type": "x"},
        {"issuer": "https://a", "more": 1},
        {"issuer": "https://a", "jwks": []},
        {"issuer": "https://a", "type": "ci-provider", "ci_provider": "x"},
    ],
    ids=str,
)
def test_rule_that_is_none(value):
    with pytest.raises(SandboxError):
        parse_rule(value)
