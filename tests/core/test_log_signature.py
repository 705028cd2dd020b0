"""Signatures of logs: which hash, and what is remembered of them."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa

from keylessd.core import log_signature
from keylessd.core.keys import BadSignatureError, load_public_key, spki
from keylessd.core.log_signature import (
    verify_checkpoint_signature,
    verify_log_signature,
    verify_shared_signature,
)

MESSAGE = b"log\n1\nAAAA\n"


def ecdsa(curve):
    key = ec.generate_private_key(curve)
    return key.public_key(), key.sign(MESSAGE, ec.ECDSA(hashes.SHA256()))


def pkcs1():
    key = rsa.generate_private_key(65537, 2048)
    return key.public_key(), key.sign(MESSAGE, padding.PKCS1v15(), hashes.SHA256())


def edwards():
    key = ed25519.Ed25519PrivateKey.generate()
    return key.public_key(), key.sign(MESSAGE)


SIGNED = {
    "P-256": lambda: ecdsa(ec.SECP256R1()),
    "P-384 with SHA-256": lambda: ecdsa(ec.SECP384R1()),
    "RSA": pkcs1,
    "Ed25519": edwards,
}


@pytest.fixture(params=SIGNED.values(), ids=SIGNED)
def signed(request):
    log_signature.forget()
    return request.param()


@pytest.fixture(params=[verify_log_signature, verify_shared_signature, verify_checkpoint_signature])
def verify(request):
    return request.param


@pytest.fixture
def checked(monkeypatch):
    """What was really verified."""
    done = []

    def noted(*args):
        done.append(args)
        verify_log_signature(*args)

    monkeypatch.setattr(log_signature, "verify_log_signature", noted)
    return done


def test_signature_verifies(verify, signed):
    key, signature = signed
    verify(key, signature, MESSAGE)


def test_another_message_does_not_even_if_the_first_is_remembered(verify, signed):
    key, signature = signed
    verify(key, signature, MESSAGE)
    with pytest.raises(BadSignatureError):
        verify(key, signature, MESSAGE + b"x")


def test_another_signature_does_not_even_if_the_first_is_remembered(verify, signed):
    key, signature = signed
    verify(key, signature, MESSAGE)
    with pytest.raises(BadSignatureError):
        verify(key, signature[:-1] + bytes([signature[-1] ^ 1]), MESSAGE)


@pytest.mark.parametrize("make", SIGNED.values(), ids=SIGNED)
def test_another_key_does_not_even_if_the_first_is_remembered(verify, make):
    key, signature = make()
    verify(key, signature, MESSAGE)
    other, _ = make()
    with pytest.raises(BadSignatureError):
        verify(other, signature, MESSAGE)


def test_what_verified_is_not_verified_again(signed, checked):
    key, signature = signed
    for _ in range(3):
        verify_shared_signature(key, signature, MESSAGE)
    assert len(checked) == 1


def test_a_key_is_known_by_its_content(signed, checked):
    key, signature = signed
    verify_shared_signature(key, signature, MESSAGE)
    verify_shared_signature(load_public_key(spki(key)), signature, MESSAGE)
    assert len(checked) == 1


def test_what_did_not_verify_is_not_remembered(signed, checked):
    key, signature = signed
    for _ in range(2):
        with pytest.raises(BadSignatureError):
            verify_shared_signature(key, signature, b"another")
    assert len(checked) == 2
    assert not log_signature._VERIFIED


def test_after_forgetting_it_is_verified_again(signed, checked):
    key, signature = signed
    verify_shared_signature(key, signature, MESSAGE)
    log_signature.forget()
    verify_shared_signature(key, signature, MESSAGE)
    assert len(checked) == 2


@pytest.mark.parametrize("verify_other", [verify_log_signature, verify_shared_signature])
def test_only_checkpoints_may_be_signed_by_the_curves_own_hash(verify_other):
    key = ec.generate_private_key(ec.SECP384R1())
    signature = key.sign(MESSAGE, ec.ECDSA(hashes.SHA384()))
    verify_checkpoint_signature(key.public_key(), signature, MESSAGE)
    with pytest.raises(BadSignatureError):
        verify_other(key.public_key(), signature, MESSAGE)
    with pytest.raises(BadSignatureError):
        verify_checkpoint_signature(key.public_key(), signature, b"another")
