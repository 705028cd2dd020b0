"""What can be signed, with either log and with both: read by us and by an independent client."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509 import load_der_x509_certificate

from standing import Independent, Standing, bundle_of, certificates, standing

pytestmark = pytest.mark.system


@pytest.fixture(scope="module", params=["v1", "v2", "both"])
def logs(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def house(tmp_path_factory, logs: str) -> Iterator[Standing]:
    yield from standing(tmp_path_factory.mktemp("variants"), "--rekor", logs)


@pytest.fixture(scope="module")
def independent(house: Standing) -> Independent:
    pytest.importorskip("sigstore")
    return Independent(house)


def test_signing_configuration_chooses_the_log(
    house: Standing, independent: Independent, logs: str
) -> None:
    (path,) = house.files(1)
    before = house.counts()

    signed = house.keyless("sign", path)

    assert signed.returncode == 0, signed.stderr
    new = house.counts().since(before)
    # Logs of both versions: the newer one is taken, as the other clients do.
    wanted = {"v1": (1, 0), "v2": (0, 1), "both": (0, 1)}[logs]
    assert (new.v1, new.v2) == wanted
    assert house.verify(path).returncode == 0
    independent.verify(path)
    path.write_bytes(path.read_bytes() + b"!")
    assert house.verify(path).returncode == 1
    with pytest.raises(Exception, match=r"."):
        independent.verify(path)


def test_both_logs_by_stated_signing_configuration(
    house: Standing, independent: Independent
) -> None:
    for version in ("v1", "v2"):
        (path,) = house.files(1, stem=f"stated-{version}-")
        before = house.counts()

        signed = house.keyless("sign", *house.where(version), path)

        assert signed.returncode == 0, signed.stderr
        new = house.counts().since(before)
        assert (new.v1, new.v2) == ((1, 0) if version == "v1" else (0, 1))
        assert house.verify(*house.where(version)[:2], path).returncode == 0
        independent.verify(path)


def test_statement_is_signed_byte_for_byte(house: Standing, independent: Independent) -> None:
    (path,) = house.files(1, stem="subject")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    # Odd spaces, escapes and order: whoever writes it anew would write something else.
    raw = (
        b'{ "predicateType":"https://slsa.dev/provenance/v1",\n'
        b'\t"subject" : [{"digest":{"sha256":"DIGEST"}, "name":"\\u0073ubject"}],'
        b'"_type":"https://in-toto.io/Statement/v1", "predicate": {"b":1.0,"a":[ ]} }\n'
    ).replace(b"DIGEST", digest.encode())
    statement = house.work / "statement.json"
    statement.write_bytes(raw)
    before = house.counts()

    done = house.keyless("attest", "--statement", statement, "--bundle", bundle_of(path))

    assert done.returncode == 0, done.stderr
    assert house.counts().since(before).entries == 1
    assert house.verify("--type", "slsaprovenance1", path).returncode == 0
    assert house.verify("--type", "spdx", path).returncode == 1
    assert independent.payload(bundle_of(path)) == ("application/vnd.in-toto+json", raw)


def test_predicate_about_files(house: Standing, independent: Independent) -> None:
    files = house.files(3, stem="about")
    predicate = house.work / "predicate.json"
    predicate.write_text('{"builder": {"id": "https://b.example/ä"}}')
    out = house.work / "attestation.json"

    done = house.keyless(
        *("attest", "--predicate", predicate, "--type", "slsaprovenance1"),
        *("--bundle", out, *files),
    )

    assert done.returncode == 0, done.stderr
    for path in files:
        assert house.verify("--bundle", out, path).returncode == 0
    kind, payload = independent.payload(out)
    assert kind == "application/vnd.in-toto+json"
    statement = json.loads(payload)
    assert statement["predicate"] == json.loads(predicate.read_text())
    assert [one["name"] for one in statement["subject"]] == [path.name for path in files]
    for path in files:
        independent.verify(path, bundle=out)
    (other,) = house.files(1, stem="other")
    assert house.verify("--bundle", out, other).returncode == 1


def test_batch_is_one_entry_that_verifies_for_every_file(
    house: Standing, independent: Independent
) -> None:
    files = house.files(20, stem="batch")
    out = house.work / "batch.sigstore.json"
    before = house.counts()

    done = house.keyless("sign", "--batch", "--bundle", out, *files)

    assert done.returncode == 0, done.stderr
    assert house.counts().since(before).entries == 1
    for path in files:
        assert house.verify("--bundle", out, path).returncode == 0
    for path in files[:3]:
        independent.verify(path, bundle=out)
    (other,) = house.files(1, stem="unbatched")
    assert house.verify("--bundle", out, other).returncode == 1


def test_digest_instead_of_a_file(house: Standing, independent: Independent) -> None:
    (path,) = house.files(1, stem="digest")
    named = f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"

    done = house.keyless("sign", "--bundle", bundle_of(path), named)

    assert done.returncode == 0, done.stderr
    assert house.verify(path).returncode == 0
    assert house.verify("--bundle", bundle_of(path), named).returncode == 0
    independent.verify(path)
    wrong = named[:-1] + ("0" if named[-1] != "0" else "1")
    assert house.verify("--bundle", bundle_of(path), wrong).returncode == 1


def test_managed_key_is_no_way_around_the_identity(house: Standing) -> None:
    (path,) = house.files(1, stem="managed")
    assert house.keyless("sign", path).returncode == 0
    (leaf,) = certificates([bundle_of(path)])
    keys = [ec.generate_private_key(ec.SECP256R1()).public_key()]
    # Even the right key: a bundle with a certificate says who signed, and that is asked for.
    keys.append(load_der_x509_certificate(leaf).public_key())  # type: ignore[arg-type]
    for key in keys:
        pem = house.work / "key.pem"
        pem.write_bytes(key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
        done = house.keyless("verify", "--key", pem, "--json", path)
        assert done.returncode == 1
        assert json.loads(done.stdout)["error"]["code"] == "verification_failed"
