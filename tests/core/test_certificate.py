"""The signing certificate: what is read from it, and what is refused."""

import warnings

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from hypothesis import given, settings
from hypothesis import strategies as st

from keylessd.core import asn1
from keylessd.core.certificate import (
    EXTENSIONS,
    Signer,
    check_leaf_profile,
    key_of,
    parse_leaf,
    signer_of,
)
from keylessd.errors import VerificationError
from sigsim.pki import (
    CODE_SIGNING,
    LIFETIME,
    SERVER_AUTH,
    START,
    Ca,
    Leaf,
    certificate_builder,
    der,
    ec_key,
    mint_ca,
    mint_leaf,
    utf8,
    with_negative_serial,
)

KEY = ec_key()
CA: Ca = mint_ca("ca")
PLAIN = der(mint_leaf(KEY, CA))
ISSUER = (8, utf8("https://issuer.example"))


def signer_from(**changes: object) -> Signer:
    leaf = Leaf(**changes)  # type: ignore[arg-type]
    return signer_of(parse_leaf(der(mint_leaf(KEY, CA, leaf=leaf))))


def refusal(**changes: object) -> str:
    with pytest.raises(VerificationError) as error:
        signer_from(**changes)
    return error.value.check


def other_name(value: bytes, oid: x509.ObjectIdentifier = asn1.OID_OTHER_NAME) -> x509.OtherName:
    return x509.OtherName(oid, value)


# --- form ----------------------------------------------------------------------------------


# Its key is for RSASSA-PSS alone.
PSS_CERTIFICATE = b"""\
-----BEGIN CERTIFICATE-----
MIIDlTCCAkmgAwIBAgIUA4tBrksJ9RDmS2oirYcTfY+lJj8wQQYJKoZIhvcNAQEK
MDSgDzANBglghkgBZQMEAgEFAKEcMBoGCSqGSIb3DQEBCDANBglghkgBZQMEAgEF
AKIDAgEgMAwxCjAIBgNVBAMMAXgwHhcNMjYxMTI3MDUxNjQ4WhcNMzYxMTI0MDUx
NjQ4WjAMMQowCAYDVQQDDAF4MIIBVjBBBgkqhkiG9w0BAQowNKAPMA0GCWCGSAFl
AwQCAQUAoRwwGgYJKoZIhvcNAQEIMA0GCWCGSAFlAwQCAQUAogMCASADggEPADCC
AQoCggEBAJne6Bmphk2APPLBVVKd/nuPDG2GRBJ2YVwOe9JJykNqcWnb3uSw1/7i
mwc2x6zNSjoKy+VSsX4xrqMTDqPnrpxMPs8rQtNkTq6qV2fvlkiOnLuBP/vDORe9
Ssu7LmWFg7idJ7ueZV3glmPLnnz98oMgwlvQtn3N9G7i2qLsPkcasLfuvaB5xq7B
+TI+znU3BbckmtGYTcLa3nZbTEAb1l4nM/S1oykDFzUjK+K02JNQNOP/EA2ofsYr
qnSJjH+PZheEM+24eXgvQ6JvPRXeTVtiv4ZD2T4U5akFVNedVsGuZDwywE+QC1Wo
9n4neVWlci6DhkW04pSW9cyiKb4yXHcCAwEAAaNTMFEwHQYDVR0OBBYEFGcInNe7
RTL4JlNVcJS5tniydhN1MB8GA1UdIwQYMBaAFGcInNe7RTL4JlNVcJS5tniydhN1
MA8GA1UdEwEB/wQFMAMBAf8wQQYJKoZIhvcNAQEKMDSgDzANBglghkgBZQMEAgEF
AKEcMBoGCSqGSIb3DQEBCDANBglghkgBZQMEAgEFAKIDAgEgA4IBAQBhjvVS6yCc
ptKILCCyA9PJn2j5wxqZ6QuIpQJfcK7f39OiBhvrBUHGW0LxUKPLQ7u+iA17hSJ8
FYQrG0zt/yXCYcLg5USBYW4HT8Et83l2WINufZZjZ1znJe2EViSd2d7e96K17JHV
b8EJy50jBLXoH4DnSfgaZoz7ECRQ/jPwiYPd2JsQlYiYB/NTZlWHzo8NcuV+UJAu
blGlcq5U7qjoYYNsVQGzoZl3azv4/5vPIjQCvYgWja/gN2MTHXXQBqaje0Lxevf+
hzlL5p2UyC1nWIe7lEEg7VKbJ3MfBs4xKArMQMQCosKmJD/Qu7q1NdikRzdp3YD+
CHtrzRsoh8MB
-----END CERTIFICATE-----
"""


def test_a_key_for_pss_alone_is_not_taken_for_another():
    certificate = x509.load_pem_x509_certificate(PSS_CERTIFICATE)
    with pytest.raises(VerificationError, match="RSASSA-PSS") as caught:
        key_of(certificate)
    assert caught.value.check == "certificate-key"


@pytest.mark.parametrize(
    "key",
    [
        ec_key(),
        ec_key(ec.SECP384R1()),
        ec_key(ec.SECP521R1()),
        rsa.generate_private_key(65537, 2048),
        ed25519.Ed25519PrivateKey.generate(),
    ],
    ids=["p256", "p384", "p521", "rsa", "ed25519"],
)
def test_certificate_with_a_supported_key_is_read(key: ec.EllipticCurvePrivateKey) -> None:
    assert key_of(parse_leaf(der(mint_leaf(key, CA)))) == key.public_key()


def test_certificate_with_another_curve_is_refused() -> None:
    leaf = mint_leaf(ec_key(ec.SECP256K1()), CA)
    with pytest.raises(VerificationError) as error:
        parse_leaf(der(leaf))
    assert error.value.check == "certificate-key"


@pytest.mark.parametrize(
    "raw",
    [b"", b"\x30\x00", b"not a certificate", der(CA.certificate) + b"\x00", b"0" * (64 << 10 | 1)],
    ids=["empty", "empty-sequence", "text", "trailing-byte", "too-long"],
)
def test_what_is_no_certificate_is_refused(raw: bytes) -> None:
    with pytest.raises(VerificationError) as error:
        parse_leaf(raw)
    assert error.value.check == "certificate-format"


def test_large_certificate_is_refused() -> None:
    for size, good in ((60 << 10, True), (64 << 10, False)):
        raw = der(mint_leaf(KEY, CA, leaf=Leaf(extensions=((9, utf8("x" * size)),))))
        if good:
            assert parse_leaf(raw)
        else:
            with pytest.raises(VerificationError) as error:
                parse_leaf(raw)
            assert error.value.check == "certificate-format"


@pytest.mark.parametrize("version", [0, 1, 3])
def test_certificate_of_another_version_is_refused(version: int) -> None:
    raw = PLAIN.replace(bytes.fromhex("a003020102"), bytes.fromhex("a0030201") + bytes([version]))
    with pytest.raises(VerificationError) as error:
        parse_leaf(raw)
    assert error.value.check == "certificate-format"


def test_certificate_without_extensions_is_refused() -> None:
    name = x509.Name([])
    bare = certificate_builder((name, name), KEY, START, START + LIFETIME, [])
    with pytest.raises(VerificationError) as error:
        parse_leaf(der(bare.sign(KEY, hashes.SHA256())))
    assert error.value.check == "certificate-format"


@pytest.mark.parametrize("action", ["error", "ignore"])
def test_serial_number_below_one_is_refused(action: str) -> None:
    raw = with_negative_serial(PLAIN)
    with warnings.catch_warnings():
        warnings.simplefilter(action)  # type: ignore[arg-type]
        with pytest.raises(VerificationError) as error:
            parse_leaf(raw)
    assert error.value.check == "certificate-format"


def test_certificate_in_a_bundle_is_der() -> None:
    with pytest.raises(VerificationError) as error:
        parse_leaf(mint_leaf(KEY, CA).public_bytes(serialization.Encoding.PEM))
    assert error.value.check == "certificate-format"


def test_duplicate_extension_is_refused() -> None:
    # The builder refuses to make it, so two different extensions are made and the second one's
    # identifier is overwritten with the first one's.
    raw = der(mint_leaf(KEY, CA, leaf=Leaf(extensions=((8, utf8("one")), (9, utf8("two"))))))
    arc = bytes.fromhex("2b0601040183bf3001")
    assert raw.count(arc + b"\x09") == 1
    with pytest.raises(VerificationError) as error:
        parse_leaf(raw.replace(arc + b"\x09", arc + b"\x08"))
    assert error.value.check == "certificate-format"


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 1 << 16), st.integers(0, 255)), min_size=1, max_size=3))
def test_damaged_certificate_raises_nothing_else(changes: list[tuple[int, int]]) -> None:
    raw = bytearray(PLAIN)
    for place, value in changes:
        raw[place % len(raw)] = value
    try:
        certificate = parse_leaf(bytes(raw))
        check_leaf_profile(certificate)
        signer_of(certificate)
    except VerificationError:
        pass


# --- profile -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("leaf", "check"),
    [
        (Leaf(), None),
        (Leaf(ca=False), None),
        (Leaf(usages=(SERVER_AUTH, CODE_SIGNING)), None),
        (Leaf(key_usages=("digital_signature", "content_commitment")), None),
        (Leaf(ca=True), "certificate-ca"),
        (Leaf(key_usages=None), "certificate-key-usage"),
        (Leaf(key_usages=("content_commitment",)), "certificate-key-usage"),
        (Leaf(usages=None), "certificate-extended-key-usage"),
        (Leaf(usages=(SERVER_AUTH,)), "certificate-extended-key-usage"),
    ],
    ids=[
        "plain",
        "said-not-to-be-a-ca",
        "code-signing-among-others",
        "more-key-usages",
        "ca",
        "no-key-usage",
        "other-key-usage",
        "no-extended-key-usage",
        "server-only",
    ],
)
def test_profile_of_a_signing_certificate(leaf: Leaf, check: str | None) -> None:
    certificate = parse_leaf(der(mint_leaf(KEY, CA, leaf=leaf)))
    if check is None:
        check_leaf_profile(certificate)
        return
    with pytest.raises(VerificationError) as error:
        check_leaf_profile(certificate)
    assert error.value.check == check


# --- names ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "identity", "kind"),
    [
        (x509.RFC822Name("a@example.com"), "a@example.com", "email"),
        (x509.UniformResourceIdentifier("https://x.example/A"), "https://x.example/A", "uri"),
        (other_name(utf8("foo!oidc.local")), "foo!oidc.local", "othername"),
        (other_name(utf8("ü!oidc.local")), "ü!oidc.local", "othername"),
    ],
    ids=["email", "uri", "othername", "othername-utf8"],
)
def test_name_is_read(name: x509.GeneralName, identity: str, kind: str) -> None:
    signer = signer_from(names=(name,))
    assert (signer.identity, signer.kind) == (identity, kind)


@pytest.mark.parametrize(
    "names",
    [
        (),
        (x509.RFC822Name("a@example.com"), x509.RFC822Name("b@example.com")),
        (x509.RFC822Name("a@example.com"), x509.UniformResourceIdentifier("https://x.example")),
        (x509.RFC822Name("a@example.com"), x509.DNSName("x.example")),
        (x509.DNSName("x.example"),),
        (x509.DirectoryName(x509.Name([])),),
        (other_name(utf8("foo"), x509.ObjectIdentifier("1.3.6.1.4.1.57264.1.8")),),
        (other_name(b"\x13\x03foo"),),
        (other_name(b"\x0c\x02\xff\xfe"),),
        (other_name(utf8("")),),
    ],
    ids=[
        "none",
        "two-addresses",
        "address-and-uri",
        "address-and-host",
        "host",
        "directory-name",
        "other-othername",
        "othername-printable",
        "othername-not-utf8",
        "othername-empty",
    ],
)
def test_other_names_are_refused(names: tuple[x509.GeneralName, ...]) -> None:
    assert refusal(names=names) == "certificate-san"


# --- extensions ----------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 20, 127, 128, 148, 255, 256, 300])
def test_issuer_of_any_length_is_decoded(size: int) -> None:
    if size == 0:
        assert refusal(extensions=((8, utf8("")),)) == "certificate-issuer"
    else:
        assert signer_from(extensions=((8, utf8("i" * size)),)).issuer == "i" * size


@pytest.mark.parametrize(
    "value",
    [
        b"https://issuer.example",
        utf8("https://issuer.example") + b"\x00",
        b"\x13\x04text",
        b"\x16\x04text",
        b"\x0c\x81\x04text",
        b"\x0c\x04\xff\xfe\xfd\xfc",
        b"\x2c\x06\x0c\x04text",
        b"",
    ],
    ids=["raw", "trailing", "printable", "ia5", "long-form", "not-utf8", "constructed", "empty"],
)
def test_issuer_that_is_no_der_utf8string_is_refused(value: bytes) -> None:
    assert refusal(extensions=((8, value),)) == "certificate-extension"


def test_deprecated_issuer_is_raw_text() -> None:
    assert signer_from(extensions=((1, b"https://old.example"),)).issuer == "https://old.example"


def test_deprecated_issuer_is_not_decoded() -> None:
    assert signer_from(extensions=((1, utf8("x" * 12)),)).issuer == "\x0c\x0c" + "x" * 12


def test_deprecated_issuer_must_be_utf8() -> None:
    assert refusal(extensions=((1, b"\xff"),)) == "certificate-extension"


def test_two_issuers_that_agree_are_one() -> None:
    both = ((1, b"https://issuer.example"), ISSUER)
    assert signer_from(extensions=both).issuer == "https://issuer.example"


@pytest.mark.parametrize("order", [1, -1])
def test_two_issuers_that_differ_are_refused(order: int) -> None:
    both = ((1, b"https://other.example"), ISSUER)[::order]
    assert refusal(extensions=both) == "certificate-issuer"


def test_certificate_without_issuer_extension_is_refused() -> None:
    assert refusal(extensions=()) == "certificate-issuer"


@pytest.mark.parametrize("name", sorted(EXTENSIONS))
def test_each_extension_is_decoded_in_its_own_encoding(name: str) -> None:
    number = int(EXTENSIONS[name].dotted_string.rpartition(".")[2])
    text = "välue" if number != 8 else "https://issuer.example"
    raw = text.encode() if number <= 6 else utf8(text)
    pairs = ((number, raw),) if number == 8 else (ISSUER, (number, raw))
    assert signer_from(extensions=pairs).extensions[name] == text


@pytest.mark.parametrize("number", [2, 6, 9, 24])
def test_extension_that_is_not_text_is_refused(number: int) -> None:
    assert refusal(extensions=(ISSUER, (number, b"\xff\xfe"))) == "certificate-extension"


def test_extension_that_is_absent_is_not_empty() -> None:
    signer = signer_from(extensions=(ISSUER, (15, utf8(""))))
    assert signer.extensions["source_repository_identifier"] == ""
    assert "build_trigger" not in signer.extensions


def test_extension_of_a_later_number_is_left_out() -> None:
    assert dict(signer_from(extensions=(ISSUER, (99, b"\xff"))).extensions) == {
        "issuer": "https://issuer.example"
    }


def test_extensions_cannot_be_changed() -> None:
    with pytest.raises(TypeError):
        signer_from().extensions["issuer"] = "x"  # type: ignore[index]


def test_names_cover_the_whole_arc_but_othername() -> None:
    numbers = {int(oid.dotted_string.rpartition(".")[2]) for oid in EXTENSIONS.values()}
    assert numbers == set(range(2, 25)) - {7}
