"""What was verified is remembered, and under a key that holds whatever the answer depends on."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime
from typing import Any

import pytest

from keylessd.core.digests import HashAlgorithm, digest_of
from keylessd.core.legacy import Detached
from keylessd.core.verify import VerifyOptions
from keylessd.errors import VerificationError
from keylessd.ops import verify as verifying
from keylessd.ops.verdicts import MOST_REQUEST_BYTES, NOT_IN_KEY, Verdicts, key_of, size_of
from keylessd.ops.verify import VerifyRequest
from keylessd.policy.expect import ExpectedSigner
from keylessd.trust.where import Where
from ops_rig import EMAIL, open_rig

DIGEST = digest_of(HashAlgorithm.SHA256, b"artifact")
OTHER = digest_of(HashAlgorithm.SHA256, b"other")
SIGNER = ExpectedSigner(identity="a@b.example", issuer="https://issuer.example")
ROOT = "00" * 32
NOW = datetime(2026, 3, 1, tzinfo=UTC)
REQUEST = VerifyRequest(
    bundle=b"bundle",
    digests={DIGEST.algorithm: DIGEST},
    where=Where(),
    accepted=(SIGNER,),
    key=None,
    options=VerifyOptions(),
    predicate_type=None,
)
# Other values of every field. One that is missing here is found by the tests below.
REQUESTS: dict[str, list[Any]] = {
    "bundle": [b"bundlf", b"", None, b"bundle\0"],
    "digests": [
        {},
        {OTHER.algorithm: OTHER},
        {digest.algorithm: digest for digest in (DIGEST, digest_of(HashAlgorithm.SHA512, b"x"))},
    ],
    "accepted": [(), (SIGNER, SIGNER)],
    "key": [b"", b"key"],
    "predicate_type": ["", "https://type.example"],
}
OPTIONS: dict[str, list[Any]] = {
    "tlog_threshold": [0, 2],
    "time_threshold": [2],
    "sct_threshold": [0, 2],
    "managed_time_threshold": [1],
    "promise_only": [True],
    "any_subject": [True],
    "predicate_type": ["", "https://type.example"],
    "now": [NOW, NOW.replace(microsecond=1)],
    "explain": [True],
}
SIGNERS: dict[str, ExpectedSigner] = {
    "identity": replace(SIGNER, identity="b@b.example"),
    "identity_regexp": replace(SIGNER, identity=None, identity_regexp="a@b.example"),
    "issuer": replace(SIGNER, issuer="https://issuer.example/"),
    "issuer_regexp": replace(SIGNER, issuer=None, issuer_regexp="https://issuer.example"),
    "extensions": replace(SIGNER, extensions={"build_trigger": "push"}),
    "kind": replace(SIGNER, kind="email"),
}
DETACHED: dict[str, list[Any]] = {
    name: [b"", b"x"] for name in ("signature", "certificate", "chain", "timestamp")
}


def compared(kind: type) -> set[str]:
    return {field.name for field in fields(kind) if field.compare}


def variants() -> dict[str, VerifyRequest]:
    found = {
        f"{name} {number}": replace(REQUEST, **{name: value})
        for name, values in REQUESTS.items()
        for number, value in enumerate(values)
    }
    for name, values in OPTIONS.items():
        for number, value in enumerate(values):
            options = replace(REQUEST.options, **{name: value})
            found[f"options.{name} {number}"] = replace(REQUEST, options=options)
    for name, signer in SIGNERS.items():
        found[f"accepted.{name}"] = replace(REQUEST, accepted=(signer,))
    for name, values in DETACHED.items():
        for number, value in enumerate(values):
            detached = replace(Detached(), **{name: value})
            found[f"detached.{name} {number}"] = replace(REQUEST, detached=detached)
    return found


def test_every_field_of_a_request_is_tried() -> None:
    """A new field that nobody thinks of here would be found to be one whose values are missing."""
    assert set(REQUESTS) | {"options", "detached"} == compared(VerifyRequest) - NOT_IN_KEY
    assert set(OPTIONS) == compared(VerifyOptions)
    assert set(SIGNERS) == compared(ExpectedSigner)
    assert set(DETACHED) == compared(Detached)


def test_every_ingredient_makes_another_key() -> None:
    keys = {name: key_of(request, ROOT) for name, request in variants().items()}
    keys["as it is"] = key_of(REQUEST, ROOT)
    keys["another trust root"] = key_of(REQUEST, "00" * 31 + "01")
    assert None not in keys.values()
    assert len(set(keys.values())) == len(keys)


def test_equal_requests_have_one_key_wherever_the_trust_root_is_from() -> None:
    again = replace(
        REQUEST,
        digests=dict(reversed(list(REQUEST.digests.items()))),
        where=Where(trusted_root=b"whatever"),
        accepted=(replace(SIGNER),),
    )
    assert key_of(again, ROOT) == key_of(REQUEST, ROOT)


def test_a_large_request_is_not_remembered() -> None:
    largest = replace(REQUEST, bundle=b"x" * MOST_REQUEST_BYTES)
    assert key_of(largest, ROOT) is not None
    assert key_of(replace(largest, key=b"y"), ROOT) is None
    assert key_of(replace(largest, detached=Detached(chain=b"y")), ROOT) is None


def test_a_value_of_an_unknown_kind_is_an_error() -> None:
    @dataclass(frozen=True)
    class Odd:
        value: float

    with pytest.raises(TypeError, match="float"):
        key_of(replace(REQUEST, options=Odd(1.5)), ROOT)  # type: ignore[arg-type]


@pytest.mark.parametrize(("most", "left"), [(3, [2, 3, 4]), (2, [3, 4]), (5, [0, 1, 2, 3, 4])])
def test_the_number_of_answers_is_bounded(most: int, left: list[int]) -> None:
    verdicts = Verdicts(most=most, most_bytes=10**9)
    answers: list[Any] = list(range(5))
    for number in answers:
        verdicts.put(b"%d" % number, number, 1)
    found = [verdicts.get(b"%d" % number) for number in answers]
    assert [answer for answer in found if answer is not None] == left


def test_the_size_of_all_answers_is_bounded() -> None:
    verdicts = Verdicts(most=100, most_bytes=10)
    for name, size in ((b"a", 4), (b"b", 6)):
        verdicts.put(name, name, size)  # type: ignore[arg-type]
    assert verdicts.get(b"a") == b"a"  # and is asked for more lately than b
    verdicts.put(b"c", b"c", 1)  # type: ignore[arg-type]
    assert [verdicts.get(name) for name in (b"a", b"b", b"c")] == [b"a", None, b"c"]
    verdicts.put(b"d", b"d", 6)  # type: ignore[arg-type]
    assert [verdicts.get(name) for name in (b"a", b"c", b"d")] == [None, b"c", b"d"]
    verdicts.put(b"e", b"e", 11)  # type: ignore[arg-type]
    assert [verdicts.get(name) for name in (b"c", b"d", b"e")] == [None, None, None]


def test_an_answer_that_is_put_twice_counts_once() -> None:
    verdicts = Verdicts(most=100, most_bytes=10)
    for _ in range(20):
        verdicts.put(b"a", b"a", 4)  # type: ignore[arg-type]
    assert verdicts.get(b"a") == b"a"


def test_nothing_is_kept_without_a_key() -> None:
    verdicts = Verdicts()
    verdicts.put(None, b"a", 1)  # type: ignore[arg-type]
    assert verdicts.get(None) is None


def test_size_counts_all_that_is_sent() -> None:
    detached = Detached(signature=b"1", certificate=b"22", chain=b"333", timestamp=b"4444")
    assert size_of(replace(REQUEST, key=b"55555", detached=detached)) == len(REQUEST.bundle) + 15


# --- in the operation ----------------------------------------------------------------------


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """One item per verification that was really made."""
    made: list[str] = []

    def noted(*args: Any, **words: Any) -> Any:
        made.append("one")
        return original(*args, **words)

    original = verifying.verify_bundle
    monkeypatch.setattr(verifying, "verify_bundle", noted)
    return made


async def test_the_same_is_verified_once(autojump_clock, tmp_path, counted) -> None:
    async with open_rig(tmp_path) as rig:
        bundle = (await rig.sign()).bundle
        first = await rig.verify(bundle, DIGEST)
        assert await rig.verify(bundle, DIGEST) is first
        assert len(counted) == 1


async def test_what_is_refused_is_refused_again(autojump_clock, tmp_path, counted) -> None:
    async with open_rig(tmp_path) as rig:
        bundle = (await rig.sign()).bundle
        for _ in range(2):
            with pytest.raises(VerificationError):
                await rig.verify(bundle, OTHER)
        assert len(counted) == 2


async def test_another_question_gets_its_own_answer(autojump_clock, tmp_path, counted) -> None:
    async with open_rig(tmp_path) as rig:
        bundle = (await rig.sign()).bundle
        await rig.verify(bundle, DIGEST)
        eve = ExpectedSigner(identity=f"eve.{EMAIL}", issuer=rig.sigstore.urls["oidc"])
        refused: list[dict[str, Any]] = [
            {"accepted": (eve,)},
            {"options": VerifyOptions(tlog_threshold=2)},
            {"options": VerifyOptions(sct_threshold=2)},
            {"options": VerifyOptions(time_threshold=2)},
            {"options": VerifyOptions(now=NOW.replace(year=2000))},
            {"predicate_type": "https://type.example"},
        ]
        for changes in refused:
            with pytest.raises(VerificationError):
                await rig.verify(bundle, DIGEST, **changes)
        with pytest.raises(VerificationError):
            await rig.verify(bundle, OTHER)
        spoilt = bundle.replace(b'"signature":"', b'"signature":"AAAA')
        with pytest.raises(VerificationError):
            await rig.verify(spoilt, DIGEST)


async def test_another_trust_root_asks_anew(autojump_clock, tmp_path, counted) -> None:
    async with open_rig(tmp_path) as rig:
        bundle = (await rig.sign()).bundle
        await rig.verify(bundle, DIGEST)
        root = rig.trust.current.trusted_root
        rig.trust.current = replace(
            rig.trust.current, trusted_root=replace(root, ctlogs=(), sha256="11" * 32)
        )
        with pytest.raises(VerificationError) as caught:
            await rig.verify(bundle, DIGEST)
        assert caught.value.check == "sct-log"
