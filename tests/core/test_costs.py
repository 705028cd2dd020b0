"""What an input may cost grows with its size and no faster. Steps are counted, the clock is not."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

import pytest
from cryptography import x509
from cryptography.hazmat import asn1 as codec

from fuzzing import Element, build_der, parse_der, steps_of
from keylessd.core.artifact import check_statement
from keylessd.core.bundle import DsseEnvelope, parse_bundle, serialize_bundle
from keylessd.core.certificate import parse_leaf, signer_of
from keylessd.core.note import parse_checkpoint
from keylessd.core.sct import parse_sct_list
from keylessd.core.strict_json import loads
from keylessd.core.timestamp import verify_timestamp
from keylessd.core.trusted_root import parse_trusted_root, serialize_trusted_root
from keylessd.errors import InvalidInputError, VerificationError
from sigsim.pki import Leaf, der
from sigsim.stamps import attribute, stamp
from sigsim.worlds import IN_TOTO, SIGNED, World, digests, statement

WORLD = World()
MADE = WORLD.message()
BUNDLE = json.loads(serialize_bundle(MADE))
ROOT = json.loads(serialize_trusted_root(WORLD.root()))
GOOD = stamp(WORLD.tsa, MADE.content.signature, at=SIGNED)


def entries(count: int) -> bytes:
    value = json.loads(json.dumps(BUNDLE))
    value["verificationMaterial"]["tlogEntries"] *= count
    return json.dumps(value).encode()


def payload(count: int) -> bytes:
    content = DsseEnvelope(b"x" * 1000 * count, IN_TOTO, b"s", "")
    return serialize_bundle(replace(MADE, content=content))


def logs(count: int) -> bytes:
    return json.dumps(ROOT | {"tlogs": ROOT["tlogs"] * count}).encode()


def subjects(count: int) -> bytes:
    return statement(*[{"sha256": f"{number:064x}"} for number in range(count)])


def note(count: int) -> bytes:
    body, _, line = WORLD.rekor.checkpoint().partition("\n\n")
    return f"{body}\n\n{line * count}".encode()


def names(count: int) -> bytes:
    listed = tuple(x509.RFC822Name(f"a{number}@b.example") for number in range(count))
    return der(WORLD.certificate(Leaf(names=listed)))


def extensions(count: int) -> bytes:
    others = tuple(
        (x509.UnrecognizedExtension(x509.ObjectIdentifier(f"1.2.3.{number}"), b"\5\0"), False)
        for number in range(count)
    )
    return der(WORLD.certificate(Leaf(others=others)))


def attributes(count: int) -> bytes:
    return stamp(
        WORLD.tsa,
        MADE.content.signature,
        at=SIGNED,
        edit_attributes=lambda items: [
            *items,
            *[
                attribute(x509.ObjectIdentifier(f"1.2.3.{number}"), codec.Null())
                for number in range(count)
            ],
        ],
    )


def nested(count: int) -> bytes:
    element = Element(0x30, b"")
    for _ in range(count):
        element = Element(0x30, [element])
    elements = parse_der(GOOD)
    elements.append(element)
    return build_der(elements)


def scts(count: int) -> bytes:
    item = b"\0" + b"L" * 32 + b"\0" * 8 + b"\0\0" + b"\4\3" + b"\0\1s"
    body = (len(item).to_bytes(2) + item) * count
    return len(body).to_bytes(2) + body


def read_statement(raw: bytes) -> object:
    return check_statement(DsseEnvelope(raw, IN_TOTO, b"s", ""), digests())


def read_json(raw: bytes) -> object:
    return loads(raw, max_bytes=1 << 24)


def read_stamp(raw: bytes) -> object:
    authorities = WORLD.root().timestamp_authorities
    return verify_timestamp(raw, MADE.content.signature, authorities)


def read_certificate(raw: bytes) -> object:
    return signer_of(parse_leaf(raw))


Case = tuple[Callable[[int], bytes], Callable[[bytes], object], int]

# What grows, who reads it, and how much of it there is at first; beyond a limit it is refused.
CASES: dict[str, Case] = {
    "entries": (entries, parse_bundle, 8),
    "payload": (payload, parse_bundle, 100),
    "logs": (logs, parse_trusted_root, 30),
    "subjects": (subjects, read_statement, 100),
    "lines": (note, lambda raw: parse_checkpoint(raw.decode()), 25),
    "more lines than allowed": (note, lambda raw: parse_checkpoint(raw.decode()), 300),
    "names": (names, read_certificate, 20),
    "extensions": (extensions, read_certificate, 20),
    "attributes": (attributes, read_stamp, 20),
    "nested DER": (nested, read_stamp, 100),
    "scts": (scts, parse_sct_list, 8),
    "keys": (
        lambda count: json.dumps({f"k{number}": 0 for number in range(count)}).encode(),
        read_json,
        500,
    ),
    "a key many times": (
        lambda count: b"{" + b",".join([b'"k":0'] * count) + b"}",
        read_json,
        500,
    ),
    "lists in lists": (lambda count: b"[" * count + b"]" * count, read_json, 500),
    "quotes": (lambda count: b'["' + b'\\"' * count, read_json, 5000),
    "open strings": (lambda count: b'"' * count, read_json, 5000),
    "digits": (lambda count: b"1" * count, read_json, 2000),
    "escapes": (lambda count: b'"' + b"\\u00e9" * count + b'"', read_json, 2000),
}


def reading(case: Case, times: int) -> tuple[bytes, Callable[[], None]]:
    make, read, count = case
    raw = make(count * times)

    def work() -> None:
        with suppress(VerificationError, InvalidInputError, ValueError):
            read(raw)

    return raw, work


@pytest.mark.parametrize("name", CASES)
def test_twice_as_much_costs_at_most_twice_as_many_steps(name: str) -> None:
    steps = [steps_of(reading(CASES[name], times)[1]) for times in (1, 2, 4)]
    allowance = 400  # of what costs the same for any size
    assert steps[1] <= 2 * steps[0] + allowance, steps
    assert steps[2] <= 2 * steps[1] + allowance, steps


@pytest.mark.parametrize("name", CASES)
def test_memory_is_a_small_multiple_of_the_input(name: str) -> None:
    raw, work = reading(CASES[name], 4)
    work()  # what is made once is not of this input
    tracemalloc.start()
    try:
        work()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak <= 40 * len(raw) + (1 << 18), (peak, len(raw))


def test_inputs_are_what_they_say() -> None:
    """Were they malformed in another way, their cost would say nothing."""
    assert len(parse_bundle(payload(1)).content.payload) == 1000  # type: ignore[union-attr]
    assert len(parse_trusted_root(logs(3)).tlogs) == 3
    assert len(parse_checkpoint(note(9).decode()).signatures) == 9
    assert len(parse_sct_list(scts(5))) == 5
    assert read_stamp(attributes(9))
    with pytest.raises(VerificationError) as caught:
        read_statement(subjects(9))
    assert caught.value.check == "subject"
    with pytest.raises(VerificationError) as caught:
        read_certificate(names(9))
    assert caught.value.check == "certificate-san"
    assert read_certificate(extensions(9))
