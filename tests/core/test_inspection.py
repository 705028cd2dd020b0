"""What is in a bundle is shown, whatever it is; nothing but JSON comes out, marked unverified."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from hypothesis import given, settings
from hypothesis import strategies as st

from keylessd.core import inspection
from keylessd.core.bundle import Bundle, serialize_bundle
from keylessd.core.inspection import inspect_bundle
from keylessd.core.legacy import Detached
from keylessd.errors import InvalidInputError
from sigsim.pki import Leaf, utf8
from sigsim.worlds import ARTIFACT, World, digests, statement, tampered, v1_log

NOTHING = Detached()


def shown(bundle: Bundle | bytes, detached: Detached = NOTHING) -> dict[str, Any]:
    raw = bundle if isinstance(bundle, bytes) else serialize_bundle(bundle)
    found = inspect_bundle(raw, detached)
    value: dict[str, Any] = json.loads(found.json)
    assert value["verified"] is False
    assert value.get("form") == found.form
    return value


def test_all_of_a_bundle_is_shown() -> None:
    leaf = Leaf(extensions=((8, utf8("https://issuer.example")), (20, utf8("push"))))
    world = World(leaf=leaf, rekor=v1_log())
    bundle = world.message()
    value = shown(bundle)
    (certificate,) = value["certificates"]
    assert certificate["signer"] == {
        "identity": "signer@example.com",
        "identity_kind": "email",
        "issuer": "https://issuer.example",
        "extensions": {"build_trigger": "push"},
    }
    assert len(certificate["scts"]) == 1
    (entry,) = value["entries"]
    assert (entry["kind"], entry["promise"]) == ("hashedrekord", True)
    assert entry["proof"]["checkpoint"]["origin"] == "rekor.example - 42"
    assert value["timestamps"][0]["time"] == "2026-03-01T12:01:00Z"
    assert value["signature"]["claimed_digest"] == str(next(iter(digests(ARTIFACT).values())))


def test_statement_is_shown() -> None:
    world = World()
    value = shown(world.envelope(statement({"sha256": "ab" * 32})))
    found = value["envelope"]["statement"]
    assert found["subjects"] == [{"name": "s0", "digests": {"sha256": "ab" * 32}}]
    assert found["predicate"] == {}
    many = world.envelope(statement(*[{"sha256": f"{n:064x}"} for n in range(100)]))
    assert shown(many)["envelope"]["statement"]["subject_count"] == 100
    assert len(shown(many)["envelope"]["statement"]["subjects"]) == 64


def test_managed_key_is_shown_by_its_hint() -> None:
    bundle = replace(World().message(managed=True), key_hint="which")
    assert shown(bundle)["managed_key"] == {"hint": "which"}


def test_wrong_signature_is_shown_like_a_right_one() -> None:
    bundle = World().message()
    content = replace(bundle.content, signature=tampered(bundle.content.signature))
    assert shown(replace(bundle, content=content))["form"] == "0.3"


def test_part_that_cannot_be_read_hides_no_other() -> None:
    bundle = World().message()
    broken = replace(bundle, certificates=(b"\x30\x00",), timestamps=(b"x", *bundle.timestamps))
    value = shown(broken)
    assert value["certificates"][0]["problem"]["check"] == "certificate-format"
    assert value["timestamps"][0]["problem"]["check"] == "timestamp-format"
    assert value["timestamps"][1]["time"]
    nameless = World(leaf=Leaf(names=(), extensions=())).message()
    assert shown(nameless)["certificates"][0]["signer"]["problem"]["check"] == "certificate-san"
    unpromised = World(leaf=Leaf()).message()
    assert "problem" not in shown(unpromised)["certificates"][0]["scts"][0]


def test_text_is_no_statement_and_is_shown_as_such() -> None:
    value = shown(World().envelope(b"just text", payload_type="text/plain"))
    assert value["envelope"]["payload_type"] == "text/plain"
    assert value["envelope"]["statement"]["problem"]["check"] == "statement"


def test_terminal_controls_do_not_stand_raw() -> None:
    leaf = Leaf(names=(x509.UniformResourceIdentifier("https://a\x1b[2J.example"),))
    found = inspect_bundle(serialize_bundle(World(leaf=leaf).message()), NOTHING)
    assert b"\x1b" not in found.json
    assert json.loads(found.json)["certificates"][0]["signer"]["identity"] == (
        "https://a\x1b[2J.example"
    )


def test_what_is_no_bundle_is_shown_in_parts() -> None:
    value = json.loads(serialize_bundle(World(rekor=v1_log()).message()))
    value["mediaType"] = "application/vnd.dev.sigstore.bundle+json;version=0.4"
    found = shown(json.dumps(value).encode())
    assert found["problem"]["check"] == "bundle-media-type"
    by_path = {part["path"]: part for part in found["parts"]}
    material = "bundle.verificationMaterial"
    certificate = by_path[f"{material}.certificate.rawBytes"]
    assert certificate["signer"]["identity"] == "signer@example.com"
    stamps = f"{material}.timestampVerificationData.rfc3161Timestamps[0].signedTimestamp"
    assert by_path[stamps]["time"]
    envelope = f"{material}.tlogEntries[0].inclusionProof.checkpoint.envelope"
    assert by_path[envelope]["checkpoint"]["size"] == 4


@pytest.mark.parametrize("raw", [b"", b"\xff", b"[" * 1000, b"{}", b"7", b'{"a":1,"a":2}'])
def test_what_is_nothing_is_a_problem(raw: bytes) -> None:
    assert shown(raw)["problem"]["check"].startswith("bundle-")


def test_huge_bundle_is_shown_in_few_parts() -> None:
    raw = json.dumps({"mediaType": "x", "list": [["y" * 3000] * 50] * 50}).encode()
    found = inspect_bundle(raw, NOTHING)
    assert len(json.loads(found.json)["parts"]) == 100
    assert len(found.json) < 1 << 19


def test_what_is_too_large_to_show_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    # No bundle is so large that it comes near the limit; one that is would have no answer at all.
    bundle = World().message()
    monkeypatch.setattr(inspection, "MAX_SHOWN", len(json.dumps(shown(bundle))) // 2)
    value = shown(bundle)
    assert value["problem"]["check"] == "too-large"
    assert value["form"] == "0.3"
    assert "certificates" not in value


def test_old_forms_are_shown() -> None:
    assert shown_detached(Detached(signature=b"AAAA"))["form"] == "detached"
    bad = shown_detached(Detached(signature=b"AAAA", certificate=b"-----BEGIN X"))
    assert bad["problem"]["check"] == "certificate-format"
    with pytest.raises(InvalidInputError):
        inspect_bundle(None, Detached(certificate=b"AAAA"))


def shown_detached(detached: Detached) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(inspect_bundle(None, detached).json)
    return value


def test_every_real_bundle_is_shown(vectors: Path) -> None:
    for path in sorted(vectors.glob("conformance/*/bundle.sigstore.json")):
        value = shown(path.read_bytes())
        assert value.get("form") or value["problem"], path


GOOD = serialize_bundle(World(rekor=v1_log()).message())


@settings(max_examples=300)
@given(st.data())
def test_damaged_bundle_raises_nothing(data: st.DataObject) -> None:
    raw = bytearray(GOOD)
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    assert shown(bytes(raw))


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(
            st.sampled_from(["mediaType", "rawBytes", "cert", "payload", "envelope", "x\x1b"]),
            inner,
        ),
    )
)  # fmt: skip
def test_any_json_raises_nothing(value: Any) -> None:
    assert shown(json.dumps(value).encode())["problem"]
