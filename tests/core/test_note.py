"""Signed notes and checkpoints."""

from __future__ import annotations

import base64
import hashlib
import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from hypothesis import given, settings
from hypothesis import strategies as st

from keylessd.core.bundle import parse_bundle
from keylessd.core.keys import spki
from keylessd.core.note import (
    MAX_SIGNATURES,
    Checkpoint,
    NoteSignature,
    checkpoint_body,
    format_note,
    host_of,
    note_key_id,
    parse_checkpoint,
    verify_checkpoint,
)
from keylessd.core.trusted_root import parse_trusted_root
from keylessd.errors import VerificationError

NAME = "log.example.com:8080/path"
ROOT = hashlib.sha256(b"root").digest()
ROOT_TEXT = base64.b64encode(ROOT).decode()
BODY = checkpoint_body(NAME, 7, ROOT)
KEY = ed25519.Ed25519PrivateKey.from_private_bytes(b"\x01" * 32)
OTHER_KEY = ed25519.Ed25519PrivateKey.from_private_bytes(b"\x02" * 32)
HINT = note_key_id(NAME, KEY.public_key())[:4]
GOOD = NoteSignature(NAME, HINT, KEY.sign(BODY))
BAD = NoteSignature(NAME, HINT, OTHER_KEY.sign(BODY))
OTHER = NoteSignature(NAME, b"abcd", OTHER_KEY.sign(BODY))
WITNESS = NoteSignature("witness.example.org/a+b".replace("+", "-"), b"wxyz", b"\x00" * 72)
SIGNATURE_LINE = f"— {NAME} {base64.b64encode(b'1234' + b's' * 64).decode()}\n"
HEAD = BODY.decode()


def _verify(note: str, *, name: str = NAME, hint: bytes = HINT, v2: bool = True) -> None:
    verify_checkpoint(
        parse_checkpoint(note), log_name=name, key=KEY.public_key(), key_hint=hint, v2=v2
    )


@pytest.mark.parametrize(
    "note",
    [
        "",
        "\n",
        "\n\n",
        HEAD,
        f"{HEAD}\n",
        f"{HEAD}{SIGNATURE_LINE}",
        f"{HEAD}\n{SIGNATURE_LINE.rstrip()}",
        f"{HEAD}\n{SIGNATURE_LINE.rstrip()}=",
        f"{HEAD}\n{SIGNATURE_LINE.rstrip()} ",
        f"{HEAD}\n{SIGNATURE_LINE}\n",
        f"{HEAD}\n{SIGNATURE_LINE}\n{SIGNATURE_LINE}",
        f"{HEAD}\n\n{SIGNATURE_LINE}",
        f"\n{HEAD}\n{SIGNATURE_LINE}",
        f"{HEAD}\n{SIGNATURE_LINE}".replace("\n", "\r\n"),
        f"{HEAD}\n{SIGNATURE_LINE}".replace("\n7\n", "\r\n7\n"),
        f"{HEAD}\x00\n{SIGNATURE_LINE}",
        f"\ud800{HEAD}\n{SIGNATURE_LINE}",
        f"{NAME}\n7\n\n{SIGNATURE_LINE}",
        f"\n7\n{ROOT_TEXT}\n\n{SIGNATURE_LINE}",
        *(
            f"{NAME}\n{size}\n{ROOT_TEXT}\n\n{SIGNATURE_LINE}"
            for size in ("01", "+1", "-1", "", " 7", "7 ", "0x7", "٧", str(1 << 63), "9" * 40)
        ),
        *(
            f"{NAME}\n7\n{root}\n\n{SIGNATURE_LINE}"
            for root in (
                base64.b64encode(ROOT[:31]).decode(),
                base64.b64encode(ROOT + b"x").decode(),
                ROOT_TEXT.rstrip("="),
                ROOT_TEXT + " ",
                "-" + ROOT_TEXT[1:],
                ROOT.hex(),
            )
        ),
        *(
            f"{HEAD}\n{line}\n"
            for line in (
                "— name",
                "—  name YWJjZGVm",
                "— name YWJjZGVm ",
                " — name YWJjZGVm",
                "- name YWJjZGVm",
                "–– name YWJjZGVm",
                "—name YWJjZGVm",
                "— na+me YWJjZGVm",
                "— na\u00a0me YWJjZGVm",
                "— na\u2028me YWJjZGVm",
                "— name YWJjZA==",
                "— name YWJj",
                "— name YWJjZGV",
                "— name YWJjZGVm!",
                "— name ",
                "—  YWJjZGVm",
                "YWJjZGVm",
            )
        ),
        f"{HEAD}\n{SIGNATURE_LINE}junk\n",
        f"{HEAD}\n{SIGNATURE_LINE * (MAX_SIGNATURES + 1)}",
        f"{HEAD}{'a' * (1 << 20)}\n\n{SIGNATURE_LINE}",
    ],
)
def test_malformed_note_is_refused(note: str) -> None:
    with pytest.raises(VerificationError) as caught:
        parse_checkpoint(note)
    assert caught.value.check == "checkpoint-format"


def test_checkpoint_is_read() -> None:
    checkpoint = parse_checkpoint(format_note(BODY, [WITNESS, GOOD]))
    assert (checkpoint.origin, checkpoint.size, checkpoint.root_hash) == (NAME, 7, ROOT)
    assert checkpoint.signed == BODY
    assert checkpoint.signatures == (WITNESS, GOOD)


@pytest.mark.parametrize("size", [0, 1, (1 << 63) - 1])
def test_sizes_of_63_bits_are_read(size: int) -> None:
    note = format_note(checkpoint_body(NAME, size, ROOT), [GOOD])
    assert parse_checkpoint(note).size == size


def test_extension_lines_are_signed_and_otherwise_ignored() -> None:
    body = BODY + "Timestamp: 1675209600\n— log frozen — use the next one\n".encode()
    signed = NoteSignature(NAME, HINT, KEY.sign(body))
    _verify(format_note(body, [signed]))
    with pytest.raises(VerificationError):
        _verify(format_note(body, [GOOD]))


def test_hundred_signatures_are_read() -> None:
    _verify(format_note(BODY, [*[WITNESS] * (MAX_SIGNATURES - 1), GOOD]))


@pytest.mark.parametrize("position", range(4))
def test_signature_of_the_log_counts_at_any_position(position: int) -> None:
    lines = [WITNESS, OTHER, GOOD]
    lines.insert(position, GOOD)
    _verify(format_note(BODY, lines))


@pytest.mark.parametrize("lines", [[BAD, GOOD], [GOOD, BAD], [GOOD, WITNESS, BAD, GOOD]])
@pytest.mark.parametrize("v2", [True, False])
def test_signature_of_the_log_that_is_wrong_spoils_the_note(
    lines: list[NoteSignature], *, v2: bool
) -> None:
    """C2SP signed-note: other lines are ignored, those of the log's key are not."""
    with pytest.raises(VerificationError) as caught:
        _verify(format_note(BODY, lines), v2=v2)
    assert caught.value.check == "checkpoint-signature"


@pytest.mark.parametrize(
    "lines",
    [
        [WITNESS],
        [OTHER],
        [BAD],
        [WITNESS, OTHER, BAD],
        [NoteSignature(NAME, b"\0\0\0\0", GOOD.signature)],
        [NoteSignature("log.example.com", HINT, GOOD.signature)],
        [NoteSignature(NAME.upper(), HINT, GOOD.signature)],
        [NoteSignature(NAME, HINT, GOOD.signature[:-1])],
        [NoteSignature(NAME, HINT, b"x")],
    ],
    ids=["witness", "other-key", "bad", "all-wrong", "hint", "name", "case", "cut", "short"],
)
def test_note_without_good_signature_of_the_log_is_refused(lines: list[NoteSignature]) -> None:
    with pytest.raises(VerificationError) as caught:
        _verify(format_note(BODY, lines))
    assert caught.value.check == "checkpoint-signature"


def test_right_signature_under_another_hint_than_expected_is_refused() -> None:
    with pytest.raises(VerificationError) as caught:
        _verify(format_note(BODY, [GOOD]), hint=b"abcd")
    assert caught.value.check == "checkpoint-signature"


@pytest.mark.parametrize(
    ("origin", "v2", "accepted"),
    [
        (NAME, True, True),
        (NAME, False, True),
        (f"{NAME} - 2605736670972794746", False, True),
        (f"{NAME} - 2605736670972794746", True, False),
        (f"{NAME}-1", False, False),
        (f"{NAME}x - 1", False, False),
        (f"{NAME} -1", False, False),
        ("other.example.com", False, False),
        (f"x{NAME}", False, False),
        (f"{NAME}.evil.example", True, False),
        (NAME.upper(), True, False),
    ],
)
def test_origin_is_the_logs_name(*, origin: str, v2: bool, accepted: bool) -> None:
    body = checkpoint_body(origin, 7, ROOT)
    note = format_note(body, [NoteSignature(NAME, HINT, KEY.sign(body))])
    if accepted:
        _verify(note, v2=v2)
        return
    with pytest.raises(VerificationError) as caught:
        _verify(note, v2=v2)
    assert caught.value.check == "checkpoint-origin"


@pytest.mark.parametrize("v2", [True, False])
@pytest.mark.parametrize(
    ("curve", "algorithm", "good"),
    [
        (ec.SECP256R1(), hashes.SHA256(), True),
        (ec.SECP256R1(), hashes.SHA384(), False),
        (ec.SECP384R1(), hashes.SHA256(), True),
        (ec.SECP384R1(), hashes.SHA384(), True),
        (ec.SECP384R1(), hashes.SHA512(), False),
        (ec.SECP521R1(), hashes.SHA256(), True),
        (ec.SECP521R1(), hashes.SHA512(), True),
        (ec.SECP521R1(), hashes.SHA384(), False),
    ],
    ids=lambda value: getattr(value, "name", str(value)),
)
def test_ecdsa_logs_sign_sha256_or_the_curves_own_hash(
    curve: ec.EllipticCurve, algorithm: hashes.HashAlgorithm, *, good: bool, v2: bool
) -> None:
    key = ec.generate_private_key(curve)
    hint = note_key_id(NAME, key.public_key())[:4]
    line = NoteSignature(NAME, hint, key.sign(BODY, ec.ECDSA(algorithm)))
    checkpoint = parse_checkpoint(format_note(BODY, [line]))

    def verify() -> None:
        verify_checkpoint(checkpoint, log_name=NAME, key=key.public_key(), key_hint=hint, v2=v2)

    if good:
        verify()
        return
    with pytest.raises(VerificationError) as caught:
        verify()
    assert caught.value.check == "checkpoint-signature"


def test_rsa_log_is_verified() -> None:
    key = rsa.generate_private_key(65537, 2048)
    hint = note_key_id(NAME, key.public_key())[:4]
    line = NoteSignature(NAME, hint, key.sign(BODY, padding.PKCS1v15(), hashes.SHA256()))
    checkpoint = parse_checkpoint(format_note(BODY, [line]))
    verify_checkpoint(checkpoint, log_name=NAME, key=key.public_key(), key_hint=hint, v2=False)


def test_key_id_depends_on_the_kind_of_key() -> None:
    def der(key: object) -> bytes:
        return key.public_bytes(  # type: ignore[attr-defined]
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )

    ecdsa_key = ec.generate_private_key(ec.SECP256R1()).public_key()
    rsa_key = rsa.generate_private_key(65537, 2048).public_key()
    raw = KEY.public_key().public_bytes_raw()
    assert note_key_id("n", ecdsa_key) == hashlib.sha256(der(ecdsa_key)).digest()
    assert note_key_id("n", KEY.public_key()) == hashlib.sha256(b"n\n\x01" + raw).digest()
    expected = hashlib.sha256(b"n\n\xffPKIX-RSA-PKCS#1v1.5" + der(rsa_key)).digest()
    assert note_key_id("n", rsa_key) == expected


@settings(deadline=None)
@given(st.text(st.characters(exclude_categories=[])) | st.text("— \nab=0Aé+/", max_size=60))
def test_only_verification_error_escapes(note: str) -> None:
    with suppress(VerificationError):
        parse_checkpoint(note)


@settings(deadline=None)
@given(st.data())
def test_changed_note_does_not_verify_as_another_text(data: st.DataObject) -> None:
    note = format_note(BODY, [WITNESS, GOOD])
    position = data.draw(st.integers(0, len(note) - 1))
    changed = note[:position] + data.draw(st.characters()) + note[position + 1 :]
    try:
        _verify(changed)
    except VerificationError:
        return
    assert parse_checkpoint(changed).signed == BODY


@pytest.mark.parametrize("instance", ["production", "staging"])
def test_ids_of_the_real_logs_are_computed(vectors: Path, instance: str) -> None:
    root = parse_trusted_root((vectors / f"trust/{instance}.trusted_root.json").read_bytes())
    for log in root.tlogs:
        assert note_key_id(log.name, log.key) == log.log_id
    for log in root.ctlogs:
        if isinstance(log.key, ec.EllipticCurvePublicKey):
            assert note_key_id("", log.key) == log.log_id


@pytest.mark.parametrize(
    ("case", "lines"),
    [("rekor2-checkpoint-cosigned", 2), ("rekor2-dsse-happy-path", 4), ("rekor2-happy-path", 1)],
)
def test_real_checkpoint_of_rekor_v2_verifies(vectors: Path, case: str, lines: int) -> None:
    folder = vectors / "conformance" / case
    root = parse_trusted_root((folder / "trusted_root.json").read_bytes())
    entry = parse_bundle((folder / "bundle.sigstore.json").read_bytes()).entries[0]
    (log,) = (log for log in root.tlogs if log.log_id == entry.log_id)
    assert entry.proof is not None
    assert entry.proof.checkpoint is not None
    checkpoint = parse_checkpoint(entry.proof.checkpoint)
    assert len(checkpoint.signatures) >= lines
    hint = log.checkpoint_hint
    verify_checkpoint(checkpoint, log_name=log.name, key=log.key, key_hint=hint, v2=True)
    assert checkpoint.root_hash == entry.proof.root_hash


def test_real_checkpoint_of_rekor_v1_verifies(vectors: Path) -> None:
    raw = (vectors / "conformance/happy-path-v0.3/bundle.sigstore.json").read_bytes()
    proof = json.loads(raw)["verificationMaterial"]["tlogEntries"][0]["inclusionProof"]
    checkpoint = parse_checkpoint(proof["checkpoint"]["envelope"])
    root = parse_trusted_root((vectors / "trust/production.trusted_root.json").read_bytes())
    log = root.tlogs[0]
    hint = log.checkpoint_hint
    verify_checkpoint(checkpoint, log_name=log.name, key=log.key, key_hint=hint, v2=False)
    with pytest.raises(VerificationError) as caught:
        verify_checkpoint(checkpoint, log_name=log.name, key=log.key, key_hint=hint, v2=True)
    assert caught.value.check == "checkpoint-origin"


# --- names ---------------------------------------------------------------------------------


def signed_by(
    key: ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey,
    origin: str,
    name: str,
    hint: bytes,
) -> Checkpoint:
    body = checkpoint_body(origin, 7, ROOT)
    if isinstance(key, ec.EllipticCurvePrivateKey):
        signature = key.sign(body, ec.ECDSA(hashes.SHA256()))
    else:
        signature = key.sign(body)
    return parse_checkpoint(format_note(body, [NoteSignature(name, hint, signature)]))


@pytest.mark.parametrize(
    ("origin", "name", "check"),
    [
        ("rekor.sigstore.dev - 42", "rekor.sigstore.dev", None),
        ("rekor.sigstore.dev", "rekor.sigstore.dev", None),
        ("rekor.sigstore.dev - 42", "log.example", "checkpoint-origin"),
        ("log.example - 42", "rekor.sigstore.dev", "checkpoint-origin"),
        ("rekor.sigstore.dev-42", "rekor.sigstore.dev", "checkpoint-origin"),
        ("rekor.sigstore.device - 42", "rekor.sigstore.dev", "checkpoint-origin"),
    ],
)
def test_rekor_v1_is_known_by_its_key_and_bears_one_name(
    origin: str, name: str, check: str | None
) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    public = key.public_key()
    hint = note_key_id(name, public)[:4]
    note = signed_by(key, origin, name, hint)
    expected: dict[str, Any] = {"log_name": "log.example", "key": public, "key_hint": hint}
    if check is None:
        verify_checkpoint(note, **expected, v2=False)
    else:
        with pytest.raises(VerificationError) as caught:
            verify_checkpoint(note, **expected, v2=False)
        assert caught.value.check == check
    # By another key of that name it is nothing.
    stranger = ec.generate_private_key(ec.SECP256R1()).public_key()
    with pytest.raises(VerificationError) as caught:
        verify_checkpoint(note, **(expected | {"key": stranger}), v2=False)


def test_line_of_rekor_v1_under_another_hint_is_not_the_logs() -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    hint = note_key_id(NAME, key.public_key())[:4]
    note = signed_by(key, f"{NAME} - 1", NAME, b"wxyz")
    with pytest.raises(VerificationError) as caught:
        verify_checkpoint(note, log_name=NAME, key=key.public_key(), key_hint=hint, v2=False)
    assert caught.value.check == "checkpoint-signature"


def test_rekor_v1_hints_at_any_key_by_its_hash() -> None:
    public = KEY.public_key()
    hint = hashlib.sha256(spki(public)).digest()[:4]
    note = signed_by(KEY, f"{NAME} - 1", NAME, hint)
    usual = note_key_id(NAME, public)[:4]
    assert hint != usual
    verify_checkpoint(note, log_name=NAME, key=public, key_hint=usual, v2=False)
    named = signed_by(KEY, NAME, NAME, hint)
    with pytest.raises(VerificationError):
        verify_checkpoint(named, log_name=NAME, key=public, key_hint=usual, v2=True)


@pytest.mark.parametrize(
    ("name", "check"),
    [
        ("log.example:3003/path", None),
        ("log.example", None),
        ("log.example:3003", "checkpoint-origin"),
        ("log.example:3004/path", "checkpoint-origin"),
        ("log.exampl", "checkpoint-origin"),
        ("xlog.example", "checkpoint-origin"),
    ],
)
def test_rekor_v2_bears_its_whole_name_or_its_hosts(name: str, check: str | None) -> None:
    public = KEY.public_key()
    whole = "log.example:3003/path"
    note = signed_by(KEY, name, name, note_key_id(name, public)[:4])
    expected: dict[str, Any] = {
        "log_name": whole,
        "key": public,
        "key_hint": note_key_id(whole, public)[:4],
    }
    if check is None:
        verify_checkpoint(note, **expected, v2=True)
        return
    with pytest.raises(VerificationError) as caught:
        verify_checkpoint(note, **expected, v2=True)
    assert caught.value.check == check


def test_rekor_v2_signs_in_the_name_that_is_its_origin() -> None:
    public = KEY.public_key()
    whole = "log.example:3003"
    note = signed_by(KEY, whole, "log.example", note_key_id("log.example", public)[:4])
    with pytest.raises(VerificationError) as caught:
        verify_checkpoint(
            note,
            log_name=whole,
            key=public,
            key_hint=note_key_id(whole, public)[:4],
            v2=True,
        )
    assert caught.value.check == "checkpoint-signature"


@pytest.mark.parametrize(
    ("name", "host"),
    [
        ("log.example", "log.example"),
        ("log.example:80", "log.example"),
        ("log.example:80/a/b", "log.example"),
        ("log.example/a:80", "log.example"),
        ("[::1]:80", "[::1]"),
        ("log.example:", "log.example:"),
        ("log.example:http", "log.example:http"),
        ("log.example:\u0663", "log.example:\u0663"),
        (":80", ":80"),
        ("", ""),
    ],
)
def test_host_of_a_name(name: str, host: str) -> None:
    assert host_of(name) == host


@pytest.mark.parametrize("character", [chr(number) for number in range(0x20) if number != 0x0A])
def test_control_characters_spoil_a_note(character: str) -> None:
    with pytest.raises(VerificationError, match="control character"):
        parse_checkpoint(f"{HEAD}x{character}y\n\n{SIGNATURE_LINE}")


@pytest.mark.parametrize("character", [" ", "\x7f", "\x85", "\u202e"])
def test_other_characters_are_the_logs_affair(character: str) -> None:
    """C2SP signed-note forbids those below U+0020 alone."""
    checkpoint = parse_checkpoint(f"{HEAD}x{character}y\n\n{SIGNATURE_LINE}")
    assert checkpoint.signed == f"{HEAD}x{character}y\n".encode()
