"""Corners of core: exact limits, the first of several failures, refusals that share a name.

Where two refusals have one name, the sentence tells which of them it was; only here it is matched.
"""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from fuzzing import build_der, parse_der
from keylessd.core import asn1, ed25519ph
from keylessd.core.bundle import Bundle, BundleVersion, MessageSignature
from keylessd.core.certificate import (
    MAX_CERTIFICATE_BYTES,
    parse_leaf,
    read_certificate,
    signer_of,
)
from keylessd.core.chain import verify_chain
from keylessd.core.digests import Digest, HashAlgorithm, digest_of
from keylessd.core.entry import check_entry, hashedrekord_v2_body
from keylessd.core.inclusion import verify_logged
from keylessd.core.keys import (
    MAX_KEY_BYTES,
    MAX_RSA_BITS,
    load_public_key,
    spki,
    supported_key,
)
from keylessd.core.merkle import leaf_hash, node_hash, verify_consistency
from keylessd.core.note import MAX_NOTE_BYTES, host_of, parse_checkpoint, verify_checkpoint
from keylessd.core.sct import (
    MAX_SCTS,
    encode_sct,
    encode_sct_list,
    parse_sct_list,
    verify_scts,
)
from keylessd.core.signing_config import MAX_UINT32, parse_signing_config
from keylessd.core.strict_json import StrictJsonError, decode_base64
from keylessd.core.timestamp import verify_timestamp
from keylessd.core.timestamp_token import MAX_RESPONSE_BYTES
from keylessd.core.trusted_root import parse_trusted_root, serialize_trusted_root
from keylessd.core.verify import ManagedKey, Verified, VerifyOptions, verify_bundle
from keylessd.errors import InvalidInputError, VerificationError
from keylessd.policy.expect import MAX_PATTERN_CHARACTERS, AnySigner, ExpectedSigner
from sigsim.pki import (
    START,
    YEAR,
    CtLog,
    Leaf,
    authority,
    certificate_builder,
    der,
    ec_key,
    mint_ca,
    mint_leaf,
    utf8,
)
from sigsim.stamps import Tsa, attribute, mint_tsa, rejection, stamp
from sigsim.worlds import ARTIFACT, SIGNED, World, digests, tampered, v1_log

ANYONE = AnySigner((ExpectedSigner(identity_regexp=".*", issuer_regexp=".*"),))
SECOND = timedelta(seconds=1)
CA = mint_ca("ca")
KEY = ec_key()


def refusal(action: Callable[[], object]) -> tuple[str, str]:
    """Return the name of the check and the sentence."""
    with pytest.raises(VerificationError) as caught:
        action()
    return caught.value.check, caught.value.message


# --- base64 --------------------------------------------------------------------------------


@pytest.mark.parametrize("length", range(8))
def test_base64_is_what_is_encoded_and_nothing_else(length: int) -> None:
    """By its definition: the text is the encoding of what it decodes to."""
    for characters in itertools.product("AQg= ", repeat=length):
        text = "".join(characters)
        try:
            wanted = base64.b64decode(text, validate=True)
            good = base64.b64encode(wanted).decode() == text
        except ValueError:
            wanted, good = b"", False
        if good:
            assert decode_base64(text) == wanted
        else:
            with pytest.raises(StrictJsonError):
                decode_base64(text)


@pytest.mark.parametrize(
    "text",
    ["AAAA====", "AAAA========", "=", "====", "-_-_", "é", "AA\N{EM DASH}=", "A\0==", "\ud800AAA"],
)
def test_base64_of_other_characters(text: str) -> None:
    with pytest.raises(StrictJsonError):
        decode_base64(text)


@pytest.mark.parametrize("raw", [b"", b"a", b"ab", b"abc", bytes(range(256)), b"\xff" * 1000])
def test_base64_of_any_bytes_is_decoded(raw: bytes) -> None:
    assert decode_base64(base64.b64encode(raw).decode()) == raw


# --- certificates --------------------------------------------------------------------------


def padded_certificate(size: int) -> bytes:
    """A certificate of exactly *size* bytes."""
    filler = size - 700
    while True:
        oid = x509.ObjectIdentifier("1.2.3.4")
        extensions = [(x509.UnrecognizedExtension(oid, b"x" * filler), False)]
        name = x509.Name([])
        builder = certificate_builder((name, name), KEY, START, START + YEAR, extensions)
        raw = der(builder.sign(ed25519.Ed25519PrivateKey.generate(), None))
        if len(raw) == size:
            return raw
        filler += size - len(raw)


def test_size_of_a_certificate() -> None:
    assert parse_leaf(padded_certificate(MAX_CERTIFICATE_BYTES))
    large = padded_certificate(MAX_CERTIFICATE_BYTES + 1)
    assert refusal(lambda: parse_leaf(large))[0] == "certificate-format"


def test_version_of_a_certificate_with_extensions() -> None:
    elements = parse_der(der(mint_leaf(KEY, CA)))
    body = elements[0].content[0].content  # type: ignore[union-attr]
    del body[0]  # type: ignore[union-attr]  # the version; absent means 1
    assert refusal(lambda: parse_leaf(build_der(elements)))[0] == "certificate-format"


@pytest.mark.parametrize(("tag", "content"), [(0x0C, b""), (0x03, b"\0a"), (0x02, b"\1")])
def test_name_that_is_no_text_is_no_name_whatever_the_library_says(
    tag: int, content: bytes
) -> None:
    elements = parse_der(der(mint_leaf(KEY, CA)))
    issuer = elements[0].content[0].content[3]  # type: ignore[union-attr]
    value = issuer.content[0].content[0].content[1]  # type: ignore[union-attr]
    value.tag, value.content = tag, content
    raw = build_der(elements)
    with pytest.raises(ValueError, match=r"\S"):
        read_certificate(raw)
    assert refusal(lambda: parse_leaf(raw))[0] == "certificate-format"


def test_other_name_in_another_encoding_says_so() -> None:
    name = x509.OtherName(asn1.OID_OTHER_NAME, b"\x13\x01a")
    leaf = mint_leaf(KEY, CA, leaf=Leaf(names=(name,)))
    check, sentence = refusal(lambda: signer_of(parse_leaf(der(leaf))))
    assert check == "certificate-san"
    assert "UTF8String" in sentence


@pytest.mark.parametrize(("number", "encoding"), [(6, "is not UTF-8"), (9, "is not a DER")])
def test_extension_in_another_encoding_says_which(number: int, encoding: str) -> None:
    issuer = (8, utf8("https://issuer.example"))
    leaf = mint_leaf(KEY, CA, leaf=Leaf(extensions=(issuer, (number, b"\xff"))))
    check, sentence = refusal(lambda: signer_of(parse_leaf(der(leaf))))
    assert check == "certificate-extension"
    assert encoding in sentence


# --- paths ---------------------------------------------------------------------------------


def names_limited(*permitted: str) -> tuple[x509.ExtensionType, bool]:
    trees = [x509.UniformResourceIdentifier(name) for name in permitted]
    return x509.NameConstraints(trees, None), True


def limited_root(permitted: str) -> object:
    """A root that lets authorities below it name hosts of one domain only."""
    made = mint_ca("limited")
    name = made.certificate.subject
    extensions = [(item.value, item.critical) for item in made.certificate.extensions]
    extensions.append((x509.NameConstraints([x509.DNSName(permitted)], None), True))
    builder = certificate_builder(
        (name, name),
        made.key,
        START - YEAR,
        START + YEAR,
        extensions,  # type: ignore[arg-type]
    )
    return replace(made, certificate=builder.sign(made.key, hashes.SHA256()))


def test_second_leaf_below_known_authorities_is_verified_too() -> None:
    """The upper part of its path is known; all that is its own is not."""
    root = mint_ca("root")
    ca = mint_ca("intermediate", parent=root)
    known = authority(ca, root)
    first, second = mint_leaf(KEY, ca), mint_leaf(ec_key(), ca)
    for leaf in (first, second):
        assert verify_chain(leaf, [known], SIGNED) == (leaf, ca.certificate, root.certificate)
    forger = mint_ca("intermediate", parent=mint_ca("another root"))
    critical = ((x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3"), b"\5\0"), True),)
    for wrong in (
        mint_leaf(KEY, forger),
        mint_leaf(KEY, ca, leaf=Leaf(others=critical)),
        mint_leaf(KEY, ca, leaf=Leaf(ca=True)),
    ):
        assert refusal(lambda leaf=wrong: verify_chain(leaf, [known], SIGNED))[0] == (
            "certificate-chain"
        )


def test_authorities_are_not_known_by_a_leaf_that_failed() -> None:
    """Whatever came before: an authority that nobody above it signed is refused."""
    root = mint_ca("root")
    forged = mint_ca("intermediate", parent=mint_ca("root"))
    broken = authority(forged, root)
    for _ in range(2):
        leaf = mint_leaf(ec_key(), forged)
        assert refusal(lambda leaf=leaf: verify_chain(leaf, [broken], SIGNED))[0] == (
            "certificate-chain"
        )


def test_every_certificate_above_counts_for_the_second_leaf_too() -> None:
    root = mint_ca("root", end=SIGNED)
    ca = mint_ca("intermediate", parent=root)
    known = authority(ca, root)
    verify_chain(mint_leaf(KEY, ca), [known], SIGNED)
    second = mint_leaf(ec_key(), ca)
    verify_chain(second, [known], SIGNED)
    check, _ = refusal(lambda: verify_chain(second, [known], SIGNED + SECOND))
    assert check == "certificate-chain"


def test_names_that_an_authority_limits_are_limited_for_every_leaf() -> None:
    root = limited_root("good.example")
    ca = mint_ca("intermediate", parent=root)  # type: ignore[arg-type]
    known = authority(ca, root)  # type: ignore[arg-type]
    for _ in range(2):
        good = Leaf(names=(x509.DNSName("a.good.example"),))
        verify_chain(mint_leaf(ec_key(), ca, leaf=good), [known], SIGNED)
        bad = mint_leaf(ec_key(), ca, leaf=Leaf(names=(x509.DNSName("a.evil.example"),)))
        check, _ = refusal(lambda leaf=bad: verify_chain(leaf, [known], SIGNED))
        assert check == "certificate-chain"


def test_certificate_of_an_authority_that_is_not_there_says_so() -> None:
    known = authority(mint_ca("somebody"))
    check, sentence = refusal(lambda: verify_chain(mint_leaf(KEY, CA), [known], SIGNED))
    assert check == "certificate-chain"
    assert "another authority" in sentence


# --- entries -------------------------------------------------------------------------------


def entry_refusal(
    key: object, *, digest: Digest | None, details: str = "PKIX_ED25519_PH", generation: int = 2
) -> tuple[str, str]:
    """What is said of an entry whose signer has an unusual key."""
    world = World() if generation == 2 else World(rekor=v1_log())
    made = world.message()
    public = spki(key)  # type: ignore[arg-type]
    usual = digest_of(HashAlgorithm.SHA256, ARTIFACT)
    assert isinstance(made.content, MessageSignature)
    if generation == 2:
        body = hashedrekord_v2_body(
            usual, made.content.signature, verifier=public, is_certificate=False, details=details
        )
    else:
        body = world.body(made.content, usual, public, managed=True)
    return refusal(
        lambda: check_entry(
            replace(made.entries[0], body=body),
            content=made.content,
            verifier=public,
            is_certificate=False,
            digest=digest,
        )
    )


USUAL = digest_of(HashAlgorithm.SHA256, ARTIFACT)


def test_digest_that_is_not_known_is_said_to_be_so() -> None:
    key = ed25519.Ed25519PrivateKey.generate().public_key()
    assert "not known" in entry_refusal(key, digest=None, generation=1)[1]
    check, sentence = entry_refusal(key, digest=None)
    assert check == "entry-digest"
    assert "without a digest" in sentence


def test_keys_without_a_name_are_said_to_be_so() -> None:
    odd = rsa.generate_private_key(65537, 2056).public_key()
    check, sentence = entry_refusal(odd, digest=USUAL)
    assert check == "entry-verifier"
    assert "2056" in sentence
    small = ec.generate_private_key(ec.SECP256K1()).public_key()
    check, sentence = entry_refusal(small, digest=USUAL)
    assert check == "entry-verifier"
    assert "not supported" in sentence


# --- keys ----------------------------------------------------------------------------------


def test_size_of_a_key() -> None:
    pem = KEY.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    largest = pem.rjust(MAX_KEY_BYTES, b"\n")
    assert spki(load_public_key(largest)) == spki(KEY.public_key())
    with pytest.raises(InvalidInputError, match="limit"):
        load_public_key(b"\n" + largest)


@pytest.mark.parametrize(("bits", "good"), [(MAX_RSA_BITS, True), (MAX_RSA_BITS + 8, False)])
def test_size_of_an_rsa_key(bits: int, good: bool) -> None:
    key = rsa.RSAPublicNumbers(65537, (1 << (bits - 1)) + 12345).public_key()
    if good:
        assert supported_key(key) is key
        return
    with pytest.raises(InvalidInputError, match=f"{bits} bits"):
        supported_key(key)


def test_curve_that_is_not_supported_is_named() -> None:
    with pytest.raises(InvalidInputError, match="secp256k1"):
        supported_key(ec.generate_private_key(ec.SECP256K1()).public_key())


def test_a_key_is_encoded_once() -> None:
    key = ed25519.Ed25519PrivateKey.generate().public_key()
    assert spki(key) is spki(key)


def encoded_point(y: int, *, sign: int = 0, size: int = 32) -> bytes:
    return (y | sign << 255).to_bytes(size, "little")


def test_encodings_of_points() -> None:
    """A point has one encoding: of 32 bytes, below the field's prime, without a sign of zero."""
    assert ed25519ph._decode(encoded_point(1)) is not None
    assert ed25519ph._decode(encoded_point(1, sign=1)) is None
    assert ed25519ph._decode(encoded_point(1, size=33)) is None
    assert ed25519ph._decode(encoded_point(0)) is not None
    assert ed25519ph._decode(encoded_point(ed25519ph._P)) is None


# --- trees and notes -----------------------------------------------------------------------


def test_consistency_proofs_that_end_elsewhere_say_how() -> None:
    leaves = [leaf_hash(b"%d" % number) for number in range(3)]
    old = node_hash(leaves[0], leaves[1])
    new = node_hash(old, leaves[2])
    sizes = {"old_size": 2, "old_root": old, "new_size": 3, "new_root": new}
    verify_consistency(**sizes, path=[leaves[2]])
    for path, sentence in (
        ([leaves[2], old], "too long"),
        ([leaves[2][1:]], "another length"),
    ):
        assert sentence in refusal(lambda path=path: verify_consistency(**sizes, path=path))[1]
    larger = sizes | {"new_size": 9, "new_root": new}
    assert "too short" in refusal(lambda: verify_consistency(**larger, path=[leaves[2]]))[1]


def note_of(size: int) -> str:
    world = World()
    body, _, lines = world.rekor.checkpoint().partition("\n\n")
    note = f"{body}\n\n\n{lines}"
    filler = size - len(note.encode())
    return f"{body}\n{'x' * filler}\n\n{lines}"


def test_size_of_a_note() -> None:
    largest = note_of(MAX_NOTE_BYTES)
    assert len(largest.encode()) == MAX_NOTE_BYTES
    assert parse_checkpoint(largest)
    check, sentence = refusal(lambda: parse_checkpoint(note_of(MAX_NOTE_BYTES + 1)))
    assert check == "checkpoint-format"
    assert "limit" in sentence


def test_note_without_a_blank_line_says_so() -> None:
    assert "blank line" in refusal(lambda: parse_checkpoint("a\n1\nb\n"))[1]


def test_note_without_a_line_of_the_log_says_so() -> None:
    world = World()
    checkpoint = parse_checkpoint(world.rekor.checkpoint())
    log = world.rekor.trusted()
    check, sentence = refusal(
        lambda: verify_checkpoint(
            checkpoint, log_name=log.name, key=log.key, key_hint=b"none", v2=True
        )
    )
    assert check == "checkpoint-signature"
    assert "has no signature" in sentence


@pytest.mark.parametrize("others", [0, 1])
def test_line_of_a_first_log_under_another_hint_is_not_its(others: int) -> None:
    """Whoever signed it well: the hint says whose the line is."""
    world = World(rekor=v1_log())
    checkpoint = parse_checkpoint(world.rekor.checkpoint())
    (line,) = checkpoint.signatures
    lines = [replace(line, key_hint=b"none")] * (1 + others)
    log = world.rekor.trusted()
    check, sentence = refusal(
        lambda: verify_checkpoint(
            replace(checkpoint, signatures=tuple(lines)),
            log_name=log.name,
            key=log.key,
            key_hint=log.checkpoint_hint,
            v2=False,
        )
    )
    assert check == "checkpoint-signature"
    assert "has no signature" in sentence


@pytest.mark.parametrize(
    ("name", "host"),
    [
        ("a.example:80/x", "a.example"),
        ("a.example:\u0663", "a.example:\u0663"),
        (":80", ":80"),
        ("a.example:x", "a.example:x"),
    ],
)
def test_host_of_a_log(name: str, host: str) -> None:
    assert host_of(name) == host


# --- promises of transparency --------------------------------------------------------------


def promised(world: World, count: int = 1) -> list[bytes]:
    return [
        encode_sct(world.ct.promise(b"tbs", world.ca.certificate, at=START)) for _ in range(count)
    ]


def vector(items: list[bytes]) -> bytes:
    body = b"".join(len(item).to_bytes(2) + item for item in items)
    return len(body).to_bytes(2) + body


def test_number_of_scts() -> None:
    items = promised(World(), MAX_SCTS)
    assert len(parse_sct_list(vector(items))) == MAX_SCTS
    with pytest.raises(ValueError, match=str(MAX_SCTS)):
        parse_sct_list(vector([*items, items[0]]))


def test_nothing_follows_an_sct() -> None:
    (item,) = promised(World())
    assert parse_sct_list(vector([item]))
    with pytest.raises(ValueError, match="follow"):
        parse_sct_list(vector([item + b"\0"]))


def leaf_with(world: World, raw: bytes) -> x509.Certificate:
    extension = x509.UnrecognizedExtension(
        x509.ObjectIdentifier("1.3.6.1.4.1.11129.2.4.2"), asn1.encode(raw)
    )
    return mint_leaf(world.key, world.ca, leaf=Leaf(others=((extension, False),)))


def test_first_of_several_bad_scts_is_the_reason() -> None:
    world, stranger = World(), CtLog(ec_key())
    issuer = world.ca.certificate
    good = world.ct.promise(b"another", issuer, at=START)
    unknown = stranger.promise(b"another", issuer, at=START)
    for order, check in (([good, unknown], "sct-signature"), ([unknown, good], "sct-log")):
        leaf = leaf_with(world, encode_sct_list(order))
        path = (leaf, issuer, world.ca_root.certificate)
        assert refusal(lambda path=path: verify_scts(path, [world.ct.trusted()]))[0] == check


# --- timestamps ----------------------------------------------------------------------------

STAMPED = b"a raw signature"
RSA = rsa.generate_private_key(65537, 2048)
ED25519 = ed25519.Ed25519PrivateKey.generate()


def stamp_refusal(tsa: Tsa, response: bytes) -> tuple[str, str]:
    return refusal(lambda: verify_timestamp(response, STAMPED, [tsa.trusted()]))


@pytest.mark.parametrize("key", [RSA, ED25519], ids=["RSA", "Ed25519"])
def test_signature_by_another_key_of_the_same_kind(
    key: rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey,
) -> None:
    other = (
        rsa.generate_private_key(65537, 2048)
        if isinstance(key, rsa.RSAPrivateKey)
        else ed25519.Ed25519PrivateKey.generate()
    )
    tsa = mint_tsa(key=key)
    assert verify_timestamp(stamp(tsa, STAMPED, at=SIGNED), STAMPED, [tsa.trusted()])
    check, sentence = stamp_refusal(tsa, stamp(tsa, STAMPED, at=SIGNED, signer_key=other))
    assert check == "timestamp-signature"
    assert "does not verify" in sentence


SHA256_RSA = asn1.OID_RSA_SHA256
SHA384_RSA = asn1.OID_RSA_SHA384


def test_rsa_signature_by_the_hash_that_its_algorithm_names() -> None:
    tsa = mint_tsa(key=RSA)
    good = stamp(tsa, STAMPED, at=SIGNED, signed_by=SHA256_RSA)
    assert verify_timestamp(good, STAMPED, [tsa.trusted()])
    wrong = stamp(tsa, STAMPED, at=SIGNED, signed_by=SHA384_RSA)
    assert stamp_refusal(tsa, wrong)[0] == "timestamp-signature"


@pytest.mark.parametrize(
    ("key", "oid"),
    [
        (RSA, asn1.OID_ECDSA_SHA256),
        (RSA, asn1.OID_ED25519),
        (ED25519, asn1.OID_RSA),
        (ED25519, asn1.OID_ECDSA_SHA256),
    ],
)
def test_signature_algorithm_of_another_kind_is_said_not_to_fit(
    key: rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey, oid: x509.ObjectIdentifier
) -> None:
    tsa = mint_tsa(key=key)
    check, sentence = stamp_refusal(tsa, stamp(tsa, STAMPED, at=SIGNED, signed_by=oid))
    assert check == "timestamp-signature"
    assert "does not fit" in sentence


def without_identifier(tsa: Tsa) -> Tsa:
    """The same authority, its certificate without a key identifier."""
    parent = mint_ca("tsa root")
    name = x509.Name([x509.NameAttribute(x509.oid.NameOID.COMMON_NAME, "tsa")])
    usage = x509.ExtendedKeyUsage([x509.oid.ExtendedKeyUsageOID.TIME_STAMPING])
    names = (name, parent.certificate.subject)
    builder = certificate_builder(names, tsa.key, START - YEAR, START + YEAR, [(usage, True)])
    certificate = builder.sign(parent.key, hashes.SHA256())
    return Tsa(tsa.key, (certificate, parent.certificate))


def test_signer_that_is_named_by_another_key_identifier() -> None:
    tsa, other = mint_tsa(), mint_tsa()
    response = stamp(tsa, STAMPED, at=SIGNED, by_key_identifier=True)
    assert stamp_refusal(other, response)[0] == "timestamp-authority"
    # Of the same key, but nothing in the certificate says so.
    assert stamp_refusal(without_identifier(tsa), response)[0] == "timestamp-authority"


@pytest.mark.parametrize("good", [True, False])
def test_certificate_that_was_signed_for_by_sha512(good: bool) -> None:
    tsa = mint_tsa()
    algorithm = asn1.AlgorithmIdentifier(algorithm=asn1.OID_SHA512, parameters=None)
    value = hashlib.sha512(der(tsa.chain[0])).digest()
    named = asn1.EssCertIdV2(
        hash_algorithm=algorithm,
        cert_hash=value if good else value[:32],
        issuer_serial=None,
    )
    wrapped = attribute(
        asn1.OID_ATTR_SIGNING_CERTIFICATE_V2,
        asn1.SigningCertificateV2(certs=[named], policies=None),
    )
    response = stamp(tsa, STAMPED, at=SIGNED, edit_attributes=lambda items: [*items[:2], wrapped])
    if good:
        assert verify_timestamp(response, STAMPED, [tsa.trusted()])
    else:
        assert stamp_refusal(tsa, response)[0] == "timestamp-certificate"


def test_size_of_a_timestamp() -> None:
    tsa = mint_tsa()
    good = asn1.decode(asn1.TimeStampResp, stamp(tsa, STAMPED, at=SIGNED))
    filler = MAX_RESPONSE_BYTES - 2000
    while True:
        said = asn1.PkiStatusInfo(status=0, status_string=["x" * filler], fail_info=None)
        response = asn1.encode(asn1.TimeStampResp(status=said, token=good.token))
        if len(response) == MAX_RESPONSE_BYTES:
            break
        filler += MAX_RESPONSE_BYTES - len(response)
    assert verify_timestamp(response, STAMPED, [tsa.trusted()])
    said = asn1.PkiStatusInfo(status=0, status_string=["x" * (filler + 1)], fail_info=None)
    larger = asn1.encode(asn1.TimeStampResp(status=said, token=good.token))
    check, sentence = stamp_refusal(tsa, larger)
    assert check == "timestamp-format"
    assert "limit" in sentence


def test_what_a_refusing_authority_says_is_repeated() -> None:
    assert "'no'" in stamp_refusal(mint_tsa(), rejection())[1]
    silent = asn1.PkiStatusInfo(status=2, status_string=None, fail_info=None)
    response = asn1.encode(asn1.TimeStampResp(status=silent, token=None))
    assert "said ''" in stamp_refusal(mint_tsa(), response)[1]


def test_timestamp_without_content_says_so() -> None:
    tsa = mint_tsa()
    check, sentence = stamp_refusal(tsa, stamp(tsa, STAMPED, at=SIGNED, detached=True))
    assert check == "timestamp-format"
    assert "does not hold a timestamp" in sentence


# --- trust roots and signing configurations ------------------------------------------------


def edited_root(edit: Callable[[dict[str, object]], None], world: World | None = None) -> bytes:
    value = json.loads(serialize_trusted_root((world or World(rekor=v1_log())).root()))
    edit(value)
    return json.dumps(value).encode()


def test_period_of_one_instant() -> None:
    time = "2026-03-01T12:00:00Z"

    def edit(value: dict[str, object]) -> None:
        value["tlogs"][0]["publicKey"]["validFor"] = {"start": time, "end": time}  # type: ignore[index]

    period = parse_trusted_root(edited_root(edit)).tlogs[0].valid_for
    assert period.start == period.end == datetime(2026, 3, 1, 12, tzinfo=UTC)


def test_id_that_the_root_states_counts() -> None:
    stated = b"i" * 32

    def edit(value: dict[str, object]) -> None:
        value["tlogs"][0]["logId"] = {"keyId": base64.b64encode(stated).decode()}  # type: ignore[index]

    assert parse_trusted_root(edited_root(edit)).tlogs[0].log_id == stated


def test_id_of_a_first_log_that_the_root_does_not_state() -> None:
    def edit(value: dict[str, object]) -> None:
        del value["tlogs"][0]["logId"]  # type: ignore[index]

    log = parse_trusted_root(edited_root(edit)).tlogs[0]
    assert log.log_id == hashlib.sha256(spki(log.key)).digest()
    second = parse_trusted_root(edited_root(edit, World())).tlogs[0]
    assert second.log_id != hashlib.sha256(spki(second.key)).digest()


def test_id_of_a_first_log_with_an_rsa_key() -> None:
    """Its checkpoints know the key by another hash, its entries by that of the key alone."""

    def edit(value: dict[str, object]) -> None:
        log = value["tlogs"][0]  # type: ignore[index]
        del log["logId"]
        log["publicKey"]["rawBytes"] = base64.b64encode(spki(RSA.public_key())).decode()
        log["publicKey"]["keyDetails"] = "PKIX_RSA_PKCS1V15_2048_SHA256"

    (log,) = parse_trusted_root(edited_root(edit)).tlogs
    assert log.log_id == hashlib.sha256(spki(log.key)).digest()


def test_authority_without_a_subject() -> None:
    def edit(value: dict[str, object]) -> None:
        del value["certificateAuthorities"][0]["subject"]  # type: ignore[index]

    (found,) = parse_trusted_root(edited_root(edit)).certificate_authorities
    assert (found.organization, found.common_name) == ("", "")


def test_unknown_kind_of_key_is_named() -> None:
    def edit(value: dict[str, object]) -> None:
        value["tlogs"][0]["publicKey"]["keyDetails"] = "ML_DSA_65"  # type: ignore[index]

    (why,) = parse_trusted_root(edited_root(edit)).disabled
    assert "unsupported key details 'ML_DSA_65'" in why


@pytest.mark.parametrize(("number", "good"), [(MAX_UINT32, True), (MAX_UINT32 + 1, False)])
def test_number_of_32_bits(number: int, good: bool) -> None:
    raw = json.dumps(
        {
            "mediaType": "application/vnd.dev.sigstore.signingconfig.v0.2+json",
            "tsaConfig": {"selector": "EXACT", "count": number},
        }
    ).encode()
    if good:
        assert parse_signing_config(raw).tsa_count == number
        return
    with pytest.raises(InvalidInputError):
        parse_signing_config(raw)


# --- whole bundles -------------------------------------------------------------------------


def test_first_of_several_unknown_logs_is_named() -> None:
    world = World()
    made = world.message()
    entries = tuple(replace(made.entries[0], log_id=name * 32) for name in (b"a", b"b"))
    bundle = replace(made, entries=entries)
    with pytest.raises(VerificationError) as caught:
        verify_bundle(bundle, digests(), world.root(), expected=ANYONE)
    assert (caught.value.check, caught.value.found) == ("log-unknown", "61" * 32)


def test_first_of_several_unverifiable_timestamps_is_the_reason() -> None:
    world = World()
    made = world.message()
    unknown = stamp(mint_tsa(), made.content.signature, at=SIGNED)
    for stamps, check in (
        ((b"junk", unknown), "timestamp-format"),
        ((unknown, b"junk"), "timestamp-authority"),
    ):
        bundle = replace(made, timestamps=stamps)
        found = refusal(
            lambda bundle=bundle: verify_bundle(bundle, digests(), world.root(), expected=ANYONE)
        )
        assert found[0] == check


@pytest.mark.parametrize(("early", "good"), [(300, True), (301, False)])
def test_clock_that_is_five_minutes_slow(early: int, good: bool) -> None:
    world = World()
    options = VerifyOptions(now=SIGNED - timedelta(seconds=early))
    bundle = world.message()

    def verify() -> object:
        return verify_bundle(bundle, digests(), world.root(), expected=ANYONE, options=options)

    if good:
        assert verify()
    else:
        assert refusal(verify)[0] == "time-future"


def first_version(world: World) -> Bundle:
    """A bundle of version 0.1, whose entry has a promise and no proof."""
    made = world.message()
    entries = (replace(made.entries[0], proof=None),)
    return replace(made, version=BundleVersion.V01, entries=entries)


def test_promise_alone_counts_by_option_and_is_reported() -> None:
    world = World(rekor=v1_log())
    bundle = first_version(world)

    def verify(**options: bool) -> Verified:
        chosen = VerifyOptions(**options)
        return verify_bundle(bundle, digests(), world.root(), expected=ANYONE, options=chosen)

    assert refusal(verify)[0] == "proof-missing"
    assert verify(promise_only=True).omitted == ("inclusion-proof",)
    usual = verify_bundle(world.message(), digests(), world.root(), expected=ANYONE)
    assert usual.omitted == ()


@pytest.mark.parametrize(
    ("operators", "promised", "omitted"),
    [
        (("", ""), 0, ()),
        (("", ""), 1, ("inclusion-proof",)),
        # Two logs of one operator count as one, and the other one only promised.
        (("one", "one", "two"), 1, ("inclusion-proof",)),
        (("one", "two", "two"), 1, ()),
    ],
)
def test_proofs_of_enough_distinct_logs_leave_nothing_out(
    operators: tuple[str, ...], promised: int, omitted: tuple[str, ...]
) -> None:
    """The last *promised* logs give no proof."""
    logs = [
        v1_log(base_url=f"https://{number}.example", operator=operator)
        for number, operator in enumerate(operators)
    ]
    world = World(rekor=logs[0])
    made = world.message()
    entries = [made.entries[0], *(log.add(made.entries[0].body) for log in logs[1:])]
    for number in range(len(logs) - promised, len(logs)):
        entries[number] = replace(entries[number], proof=None)
    found = verify_bundle(
        replace(made, entries=tuple(entries), version=BundleVersion.V01),
        digests(),
        world.root(tlogs=tuple(log.trusted() for log in logs)),
        expected=ANYONE,
        options=VerifyOptions(tlog_threshold=2, promise_only=True),
    )
    assert found.omitted == omitted


@pytest.mark.parametrize("promise", [True, False])
def test_option_for_a_promise_is_named_where_there_is_one(promise: bool) -> None:
    world = World(rekor=v1_log())
    entry = replace(world.message().entries[0], proof=None)
    if not promise:
        entry = replace(entry, promise=None, integrated_time=None)
    with pytest.raises(VerificationError) as caught:
        verify_logged(entry, world.root().tlogs)
    assert caught.value.check == "proof-missing"
    assert ("--promise-only" in (caught.value.hint or "")) == promise


def test_managed_key_leaves_out_no_transparency_that_it_never_had() -> None:
    world = World()
    bundle = world.message(managed=True)
    found = verify_bundle(
        bundle,
        digests(),
        world.root(),
        expected=ManagedKey(world.key.public_key()),
        options=VerifyOptions(sct_threshold=0),
    )
    assert found.omitted == ()
    keyless = verify_bundle(
        world.message(),
        digests(),
        world.root(),
        expected=ANYONE,
        options=VerifyOptions(sct_threshold=0),
    )
    assert keyless.omitted == ("certificate-transparency",)


@pytest.mark.parametrize("managed", [True, False])
@pytest.mark.parametrize("version", [BundleVersion.DETACHED, BundleVersion.V03])
def test_signature_without_log_entry_says_what_can_be_done(
    managed: bool, version: BundleVersion
) -> None:
    world = World()
    bundle = replace(world.message(managed=managed), entries=(), version=version)
    expected = ManagedKey(world.key.public_key()) if managed else ANYONE
    with pytest.raises(VerificationError) as caught:
        verify_bundle(bundle, digests(), world.root(), expected=expected)
    detached = version is BundleVersion.DETACHED
    hint = caught.value.hint or ""
    assert caught.value.check == "log-threshold"
    assert ("detached" in caught.value.message) == detached
    assert ("--bundle" in hint) == detached
    assert ("which needs a timestamp" in hint) == (not managed)
    assert ("--rfc3161-timestamp" in hint) == (detached and not managed)


def test_spoilt_promise_is_said_to_be_wrong() -> None:
    world = World(rekor=v1_log())
    made = world.message()
    entry = made.entries[0]
    bundle = replace(made, entries=(replace(entry, promise=tampered(entry.promise or b"")),))
    check, sentence = refusal(
        lambda: verify_bundle(bundle, digests(), world.root(), expected=ANYONE)
    )
    assert check == "inclusion-promise"
    assert "wrong" in sentence


# --- policy --------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [1, MAX_PATTERN_CHARACTERS])
def test_length_of_an_expression(length: int) -> None:
    assert ExpectedSigner(identity_regexp="a" * length, issuer="i")


@pytest.mark.parametrize("length", [0, MAX_PATTERN_CHARACTERS + 1])
def test_length_that_an_expression_has_not(length: int) -> None:
    with pytest.raises(InvalidInputError, match="characters"):
        ExpectedSigner(identity_regexp="a" * length, issuer="i")


@pytest.mark.parametrize(
    ("parts", "word"),
    [({"identity": "a", "identity_regexp": "a"}, "both"), ({}, "neither")],
)
def test_exactly_one_of_text_and_expression(parts: dict[str, str], word: str) -> None:
    with pytest.raises(InvalidInputError, match=f"^{word} "):
        ExpectedSigner(**parts, issuer="i")  # type: ignore[arg-type]


@pytest.mark.parametrize(("names", "found"), [((9,), "text"), ((), None)])
def test_extension_that_is_absent_is_not_said_to_be_empty(
    names: tuple[int, ...], found: str | None
) -> None:
    issuer = (8, utf8("https://issuer.example"))
    extensions = (issuer, *((number, utf8("text")) for number in names))
    signer = signer_of(parse_leaf(der(mint_leaf(KEY, CA, leaf=Leaf(extensions=extensions)))))
    expected = ExpectedSigner(
        identity="signer@example.com",
        issuer="https://issuer.example",
        extensions={"build_signer_uri": "other"},
    )
    with pytest.raises(VerificationError) as caught:
        expected.check(signer)
    assert caught.value.found == found
    assert ("absent" in caught.value.message) == (found is None)
