"""The whole list: each step wrong by itself in a bundle that is otherwise right."""

import threading
from dataclasses import replace
from datetime import timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519

from keylessd.core.bundle import Bundle, BundleVersion, MessageSignature
from keylessd.core.certificate import Signer
from keylessd.core.trusted_root import TimeRange, TrustedRoot
from keylessd.core.verify import (
    KEYLESS_STEPS,
    MANAGED_KEY_STEPS,
    ManagedKey,
    Verified,
    VerifyOptions,
    verify_bundle,
)
from keylessd.errors import InvalidInputError, VerificationError
from keylessd.policy.expect import AnySigner, ExpectedSigner
from sigsim.pki import (
    CODE_SIGNING,
    LIFETIME,
    SERVER_AUTH,
    START,
    CtLog,
    Leaf,
    authority,
    der,
    ec_key,
    mint_ca,
    mint_leaf,
    utf8,
    with_negative_serial,
)
from sigsim.stamps import mint_tsa, stamp
from sigsim.worlds import SIGNED, RekorLog, World, digests, tampered, v1_log

SECOND = timedelta(seconds=1)
SIGNER = AnySigner(
    (ExpectedSigner(identity="signer@example.com", issuer="https://issuer.example"),)
)


def accepted(
    world: World,
    bundle: Bundle | None = None,
    root: TrustedRoot | None = None,
    *,
    expected: AnySigner | ManagedKey = SIGNER,
    artifact: bytes | None = None,
    **options: object,
) -> Verified:
    return verify_bundle(
        bundle or world.message(),
        digests() if artifact is None else digests(artifact),
        root or world.root(),
        expected=expected,
        options=VerifyOptions(**options),  # type: ignore[arg-type]
    )


def refused(world: World, bundle: Bundle | None = None, **more: object) -> str:
    with pytest.raises(VerificationError) as error:
        accepted(world, bundle, **more)  # type: ignore[arg-type]
    return error.value.check


def one() -> World:
    """A world whose log is Rekor v1."""
    return World(rekor=v1_log())


# --- facts ---------------------------------------------------------------------------------


def test_verified_facts_name_their_sources() -> None:
    world = one()
    verified = accepted(world)
    assert verified.signer is not None
    assert (verified.signer.identity, verified.signer.kind) == ("signer@example.com", "email")
    assert [(item.time, item.source) for item in verified.times] == [
        (SIGNED, "tsa"),
        (SIGNED, "rekor"),
    ]
    (entry,) = verified.entries
    assert (entry.log, entry.integrated_time) == ("https://rekor.example", SIGNED)
    assert [sct.log for sct in verified.scts] == ["https://ct.example"]
    assert verified.digest == next(iter(digests().values()))
    assert verified.certificate is not None
    assert verified.key_sha256 is None


def test_steps_are_named_in_order() -> None:
    # All of them, where the options ask for all.
    assert accepted(World(), now=SIGNED).steps == tuple(step.name for step in KEYLESS_STEPS)
    world = World()
    key = ManagedKey(world.key.public_key(), TimeRange(START, None))
    verified = accepted(world, world.message(managed=True), expected=key, now=SIGNED)
    assert verified.steps == tuple(step.name for step in MANAGED_KEY_STEPS)


def test_steps_that_nobody_asked_for_are_not_reported_as_done() -> None:
    steps = accepted(World(), sct_threshold=0).steps
    assert {"clock", "certificate-transparency"}.isdisjoint(steps)
    assert "certificate-transparency" in accepted(World()).steps
    world = World()
    key = ManagedKey(world.key.public_key())
    assert "key-validity" not in accepted(world, world.message(managed=True), expected=key).steps


def test_every_step_says_what_it_checks() -> None:
    for step in (*KEYLESS_STEPS, *MANAGED_KEY_STEPS):
        assert step.check.__doc__, step.name


def test_no_step_is_listed_twice() -> None:
    for steps in (KEYLESS_STEPS, MANAGED_KEY_STEPS):
        names = {step.name for step in steps}
        assert len(names) == len({step.check for step in steps}) == len(steps)


# --- bundle and certificate ----------------------------------------------------------------


def test_entry_twice() -> None:
    world = World()
    bundle = world.message()
    assert refused(world, replace(bundle, entries=bundle.entries * 2)) == "bundle-duplicate"


def test_timestamp_twice() -> None:
    world = World()
    bundle = world.message()
    assert refused(world, replace(bundle, timestamps=bundle.timestamps * 2)) == "bundle-duplicate"


def test_too_many_timestamps() -> None:
    world = World()
    many = [SIGNED + n * SECOND for n in range(33)]
    assert refused(world, world.message(stamps=many)) == "bundle-limits"
    assert len(accepted(world, world.message(stamps=many[:32])).times) == 32


def test_too_many_entries() -> None:
    world = one()
    bundle = world.message()
    (first,) = bundle.entries
    # All but the first are of unknown logs, of which any number would be ignored.
    others = [replace(first, log_id=bytes([n]) * 32) for n in range(32)]
    assert refused(world, replace(bundle, entries=(first, *others))) == "bundle-limits"
    assert accepted(world, replace(bundle, entries=(first, *others[1:])))


def test_certificate_in_place_of_a_managed_key() -> None:
    world = World()
    key = ManagedKey(world.key.public_key())
    assert refused(world, expected=key) == "key-material"


def test_managed_key_in_place_of_a_certificate() -> None:
    world = World()
    assert refused(world, world.message(managed=True)) == "key-material"


def test_unreadable_certificate() -> None:
    world = World()
    bundle = replace(world.message(), certificates=(b"\x30\x00",))
    assert refused(world, bundle) == "certificate-format"


def test_root_in_the_bundle() -> None:
    world = World()
    bundle = world.message()
    root = der(world.ca_root.certificate)
    middle = der(world.ca.certificate)
    assert accepted(world, replace(bundle, certificates=(*bundle.certificates, middle)))
    with_root = replace(bundle, certificates=(*bundle.certificates, middle, root))
    assert accepted(world, with_root)
    # It is not what makes the certificate trusted.
    stranger = World(key=world.key, ct=world.ct, rekor=world.rekor, tsa=world.tsa)
    other = world.message(certificate=stranger.certificate())
    chain = [der(ca.certificate) for ca in (stranger.ca, stranger.ca_root)]
    bad = replace(other, certificates=(*other.certificates, *chain))
    assert refused(world, bad) == "certificate-chain"


@pytest.mark.parametrize("beside", [b"\x30\x00", b"", b"junk"], ids=["empty", "nothing", "junk"])
def test_what_stands_beside_the_certificate_has_the_form_of_one(beside: bytes) -> None:
    world = World()
    bundle = world.message()
    both = replace(bundle, certificates=(*bundle.certificates, beside))
    assert refused(world, both) == "certificate-format"
    cut = replace(bundle, certificates=(*bundle.certificates, bundle.certificates[0][:-1]))
    assert refused(world, cut) == "certificate-format"
    more = replace(bundle, certificates=(*bundle.certificates, bundle.certificates[0] + b"\x00"))
    assert refused(world, more) == "certificate-format"


def test_old_root_in_the_bundle_need_not_be_readable() -> None:
    world = World()
    bundle = world.message()
    old = with_negative_serial(der(world.ca_root.certificate))
    assert accepted(world, replace(bundle, certificates=(*bundle.certificates, old)))


def test_intermediate_from_the_bundle_is_not_used() -> None:
    world = World()
    between = mint_ca("between", parent=world.ca)
    leaf = mint_leaf(world.key, between, [world.ct])
    bundle = world.message(certificate=leaf)
    full = replace(bundle, certificates=(*bundle.certificates, der(between.certificate)))
    assert refused(world, full) == "certificate-chain"


# --- log entries ---------------------------------------------------------------------------


def test_bundle_without_entries() -> None:
    world = World()
    assert refused(world, replace(world.message(), entries=())) == "log-threshold"


def without_checkpoint(world: World, version: BundleVersion, *, proof: bool) -> Bundle:
    bundle = world.message()
    (entry,) = bundle.entries
    assert entry.proof is not None
    bare = replace(entry, proof=replace(entry.proof, checkpoint=None) if proof else None)
    return replace(bundle, version=version, entries=(bare,))


def test_version_01_may_have_the_promise_beside_a_proof_without_checkpoint() -> None:
    world = one()
    old = without_checkpoint(world, BundleVersion.V01, proof=True)
    assert accepted(world, old).omitted == ("inclusion-proof",)
    assert refused(world, old, promise_only=False) == "proof-missing"
    (entry,) = old.entries
    assert entry.proof is not None
    wrong = replace(entry, proof=replace(entry.proof, root_hash=bytes(32)))
    assert refused(world, replace(old, entries=(wrong,))) == "inclusion-proof"
    broken = replace(entry, promise=tampered(entry.promise or b""))
    assert refused(world, replace(old, entries=(broken,))) == "inclusion-promise"


def test_version_01_may_have_the_promise_alone_by_option() -> None:
    world = one()
    old = without_checkpoint(world, BundleVersion.V01, proof=False)
    assert refused(world, old) == "proof-missing"
    assert accepted(world, old, promise_only=True).omitted == ("inclusion-proof",)


@pytest.mark.parametrize("proof", [True, False])
def test_later_versions_need_the_checkpoint_whatever_the_option(proof: bool) -> None:
    world = one()
    old = without_checkpoint(world, BundleVersion.V01, proof=proof)
    for version in (BundleVersion.V02, BundleVersion.V03, BundleVersion.DETACHED):
        assert refused(world, replace(old, version=version)) == "proof-missing"
        wrong = refused(world, replace(old, version=version), promise_only=True)
        assert wrong == "proof-missing"
    assert accepted(world, replace(world.message(), version=BundleVersion.V01)).omitted == ()


def test_proof_of_one_log_is_proof_enough_for_one() -> None:
    world, bundle, logs = with_two_logs()
    root = world.root(tlogs=tuple(log.trusted() for log in logs))
    first, second = bundle.entries
    mixed = replace(
        bundle, version=BundleVersion.COSIGN, entries=(first, replace(second, proof=None))
    )
    assert accepted(world, mixed, root).omitted == ()
    assert accepted(world, mixed, root, tlog_threshold=2).omitted == ("inclusion-proof",)


def test_bundle_without_entries_by_option() -> None:
    world = World()
    bundle = replace(world.message(), entries=())
    assert accepted(world, bundle, tlog_threshold=0).entries == ()
    unstamped = replace(bundle, timestamps=())
    assert refused(world, unstamped, tlog_threshold=0) == "time-threshold"


def test_entry_of_an_unknown_log() -> None:
    world = World()
    other = World(rekor=RekorLog(2, ed25519.Ed25519PrivateKey.generate()))
    assert refused(world, root=world.root(tlogs=other.root().tlogs)) == "log-unknown"


def with_two_logs(operator: str = "") -> tuple[World, Bundle, tuple[RekorLog, RekorLog]]:
    """A bundle with the same signature in two logs."""
    world = one()
    first = world.rekor
    first.operator = operator
    bundle = world.message()
    second = RekorLog(1, ec_key(), base_url="https://second.example", operator=operator)
    entry = second.add(bundle.entries[0].body)
    return world, replace(bundle, entries=(*bundle.entries, entry)), (first, second)


def test_two_logs_count_twice() -> None:
    world, bundle, logs = with_two_logs()
    root = world.root(tlogs=tuple(log.trusted() for log in logs))
    assert len(accepted(world, bundle, root, tlog_threshold=2, time_threshold=3).entries) == 2


def test_two_logs_of_an_operator_count_once() -> None:
    world, bundle, logs = with_two_logs("op")
    root = world.root(tlogs=tuple(log.trusted() for log in logs))
    assert refused(world, bundle, root=root, tlog_threshold=2) == "log-threshold"
    assert refused(world, bundle, root=root, time_threshold=3) == "time-threshold"


def test_two_entries_of_a_log_count_once() -> None:
    world = one()
    bundle = world.message()
    again = world.rekor.add(bundle.entries[0].body)
    both = replace(bundle, entries=(*bundle.entries, again))
    assert len(accepted(world, both).entries) == 2
    assert refused(world, both, tlog_threshold=2) == "log-threshold"


def test_unknown_log_is_ignored_while_the_threshold_holds() -> None:
    world, bundle, _ = with_two_logs()
    assert [entry.log for entry in accepted(world, bundle).entries] == ["https://rekor.example"]
    assert refused(world, bundle, tlog_threshold=2) == "log-unknown"


def test_bad_entry_of_a_known_log_beside_a_good_one() -> None:
    world, bundle, logs = with_two_logs()
    root = world.root(tlogs=tuple(log.trusted() for log in logs))
    good, bad = bundle.entries
    wrong = replace(bundle, entries=(good, replace(bad, promise=tampered(bad.promise or b""))))
    assert refused(world, wrong, root=root) == "inclusion-promise"


def test_entry_of_both_log_versions() -> None:
    world = one()
    bundle = world.message()
    second = World(
        key=world.key,
        rekor=RekorLog(2, ed25519.Ed25519PrivateKey.generate(), base_url="https://v2.example"),
    )
    (digest,) = digests().values()
    body = second.body(bundle.content, digest, bundle.certificates[0], managed=False)
    both = replace(bundle, entries=(*bundle.entries, second.rekor.add(body)))
    root = world.root(tlogs=(world.rekor.trusted(), second.rekor.trusted()))
    verified = accepted(world, both, root, tlog_threshold=2)
    assert [entry.version for entry in verified.entries] == ["0.0.1", "0.0.2"]


# --- times ---------------------------------------------------------------------------------


def test_no_time_at_all() -> None:
    world = World()
    assert refused(world, world.message(stamps=())) == "time-threshold"


def test_integrated_time_without_a_promise_is_no_time() -> None:
    world = one()
    bundle = world.message(stamps=(), promise=False)
    entry = replace(bundle.entries[0], integrated_time=int(SIGNED.timestamp()))
    assert refused(world, replace(bundle, entries=(entry,))) == "time-threshold"


def test_integrated_time_of_version_2_is_no_time() -> None:
    world = World()
    bundle = world.message(stamps=())
    entry = replace(bundle.entries[0], integrated_time=int(SIGNED.timestamp()))
    assert refused(world, replace(bundle, entries=(entry,))) == "time-threshold"


def test_promise_alone_is_time_enough() -> None:
    world = one()
    assert [item.source for item in accepted(world, world.message(stamps=())).times] == ["rekor"]


def test_bad_timestamp_fails_beside_a_good_time() -> None:
    world = one()
    bundle = world.message()
    wrong = replace(bundle, timestamps=(stamp(world.tsa, b"another", at=SIGNED),))
    assert refused(world, wrong) == "timestamp-imprint"


def test_bad_timestamp_of_a_known_authority_fails_beside_a_good_one() -> None:
    world = World()
    bundle = world.message()
    wrong = stamp(world.tsa, b"another", at=SIGNED)
    for both in ((wrong, *bundle.timestamps), (*bundle.timestamps, wrong)):
        assert refused(world, replace(bundle, timestamps=both)) == "timestamp-imprint"


def test_unverifiable_timestamps_alone_fail_beside_a_good_time() -> None:
    world = one()
    bundle = world.message()
    stranger = stamp(mint_tsa(), bundle.content.signature, at=SIGNED)
    assert refused(world, replace(bundle, timestamps=(stranger,))) == "timestamp-authority"
    assert refused(world, replace(bundle, timestamps=(b"\x30\x00",))) == "timestamp-format"


def test_unverifiable_timestamp_is_ignored_beside_a_good_one() -> None:
    world = World()
    bundle = world.message()
    stranger = stamp(mint_tsa(), bundle.content.signature, at=SIGNED + 99 * LIFETIME)
    more = replace(bundle, timestamps=(stranger, b"\x30\x00", *bundle.timestamps))
    assert [item.time for item in accepted(world, more).times] == [SIGNED]


def test_timestamps_are_ignored_where_no_authority_is_trusted() -> None:
    world = one()
    root = world.root(timestamp_authorities=())
    assert [item.source for item in accepted(world, root=root).times] == ["rekor"]


def test_stamps_of_an_authority_count_once() -> None:
    world = World()
    bundle = world.message(stamps=(SIGNED, SIGNED + SECOND))
    assert len(accepted(world, bundle).times) == 2
    assert refused(world, bundle, time_threshold=2) == "time-threshold"


def test_stamps_of_two_authorities_count_twice() -> None:
    world = World()
    bundle = world.message()
    other = mint_tsa()
    more = (*bundle.timestamps, stamp(other, bundle.content.signature, at=SIGNED))
    second = other.trusted(uri="https://second.example")
    root = world.root(timestamp_authorities=(world.tsa.trusted(), second))
    assert accepted(world, replace(bundle, timestamps=more), root, time_threshold=2)
    renewed = world.root(timestamp_authorities=(world.tsa.trusted(), other.trusted()))
    both = replace(bundle, timestamps=more)
    assert refused(world, both, root=renewed, time_threshold=2) == "time-threshold"


def test_authority_and_log_count_twice() -> None:
    assert accepted(one(), time_threshold=2)


@pytest.mark.parametrize("outside", ["tsa", "rekor"])
@pytest.mark.parametrize("when", [START - SECOND, START + LIFETIME + SECOND])
def test_every_time_must_lie_in_the_certificates_life(outside: str, when: object) -> None:
    world = one()
    bundle = world.message(
        stamps=(when if outside == "tsa" else SIGNED,),  # type: ignore[arg-type]
        logged_at=when if outside == "rekor" else SIGNED,  # type: ignore[arg-type]
    )
    assert refused(world, bundle) == "certificate-expired"


@pytest.mark.parametrize("when", [START, START + LIFETIME])
def test_both_ends_of_the_certificates_life_belong_to_it(when: object) -> None:
    world = one()
    assert accepted(world, world.message(stamps=(when,), logged_at=when))  # type: ignore[arg-type]


def test_second_of_two_timestamps_outside() -> None:
    world = World()
    bundle = world.message(stamps=(SIGNED, START + LIFETIME + SECOND))
    assert refused(world, bundle) == "certificate-expired"


def test_time_in_the_future() -> None:
    world = World()
    assert accepted(world, now=SIGNED - timedelta(minutes=4))
    assert refused(world, now=SIGNED - timedelta(minutes=6)) == "time-future"


# --- certificate ---------------------------------------------------------------------------


def test_authority_not_in_use_at_one_of_the_times() -> None:
    world = one()
    bundle = world.message(logged_at=SIGNED + 5 * SECOND)
    period = TimeRange(START - SECOND, SIGNED + 4 * SECOND)
    limited = authority(world.ca, world.ca_root, valid_for=period)
    root = world.root(certificate_authorities=(limited,))
    assert refused(world, bundle, root=root) == "certificate-chain"


def test_root_expired_at_one_of_the_times() -> None:
    old = mint_ca("root", end=SIGNED + 4 * SECOND)
    world = World(ca_root=old, rekor=v1_log())
    assert accepted(world)
    assert refused(world, world.message(logged_at=SIGNED + 5 * SECOND)) == "certificate-chain"


def test_certificate_of_a_stranger() -> None:
    world = World()
    stranger = World(key=world.key, ct=world.ct)
    bundle = world.message(certificate=stranger.certificate())
    assert refused(world, bundle) == "certificate-chain"


@pytest.mark.parametrize(
    ("leaf", "check"),
    [
        (Leaf(usages=(SERVER_AUTH,)), "certificate-extended-key-usage"),
        (Leaf(usages=None), "certificate-extended-key-usage"),
        (Leaf(key_usages=None), "certificate-key-usage"),
        (Leaf(key_usages=("key_agreement",)), "certificate-key-usage"),
        (Leaf(extensions=()), "certificate-issuer"),
        (Leaf(extensions=((8, b"raw"),)), "certificate-extension"),
        (Leaf(sct_time=START - timedelta(days=11 * 366)), "sct-time"),
    ],
)
def test_wrong_certificate(leaf: Leaf, check: str) -> None:
    assert refused(World(leaf=leaf)) == check


def test_certificate_of_an_authority() -> None:
    found = refused(World(leaf=Leaf(ca=True, usages=(CODE_SIGNING,))))
    assert found in {"certificate-ca", "certificate-chain"}


def test_certificate_nobody_promised_to_publish() -> None:
    world = World()
    bundle = world.message(certificate=mint_leaf(world.key, world.ca))
    assert refused(world, bundle) == "sct-missing"
    assert accepted(world, bundle, sct_threshold=0).scts == ()


def test_promise_of_an_unknown_log() -> None:
    world = World()
    assert refused(world, root=world.root(ctlogs=())) == "sct-log"
    assert refused(world, root=world.root(ctlogs=(CtLog(ec_key()).trusted(),))) == "sct-log"
    assert refused(world, sct_threshold=2) == "sct-threshold"


# --- signer --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("identity", "issuer", "check"),
    [
        ("other@example.com", "https://issuer.example", "identity"),
        ("signer@example.com", "https://other.example", "issuer"),
        ("signer@example.co", "https://issuer.example", "identity"),
        ("SIGNER@example.com", "https://issuer.example", "identity"),
        ("signer@example.com", "https://issuer.example/", "issuer"),
    ],
)
def test_another_signer(identity: str, issuer: str, check: str) -> None:
    expected = AnySigner((ExpectedSigner(identity=identity, issuer=issuer),))
    assert refused(World(), expected=expected) == check


def test_nobody_is_accepted_by_an_empty_policy() -> None:
    assert refused(World(), expected=AnySigner(())) == "identity"


def test_policy_sees_the_verified_signer() -> None:
    seen: list[Signer] = []

    class Watching:
        def check(self, signer: Signer) -> None:
            seen.append(signer)

    leaf = Leaf(extensions=((8, utf8("https://i.example")), (20, utf8("push"))))
    world = World(leaf=leaf)
    verify_bundle(world.message(), digests(), world.root(), expected=Watching())
    assert [dict(signer.extensions) for signer in seen] == [
        {"issuer": "https://i.example", "build_trigger": "push"}
    ]


# --- entry bodies --------------------------------------------------------------------------


@pytest.mark.parametrize("generation", [1, 2])
@pytest.mark.parametrize(
    ("part", "check"),
    [("signature", "entry-signature"), ("verifier", "entry-verifier"), ("digest", "entry-digest")],
)
def test_authentic_entry_of_something_else(generation: int, part: str, check: str) -> None:
    world = World() if generation == 2 else one()
    bundle = world.message()
    content = bundle.content
    verifier = bundle.certificates[0]
    (digest,) = digests().values()
    if part == "signature":
        content = replace(content, signature=world.message().content.signature)
    elif part == "verifier":
        verifier = der(world.certificate())
    else:
        (digest,) = digests(b"another").values()
    body = world.body(content, digest, verifier, managed=False)
    assert refused(world, replace(bundle, entries=(world.rekor.add(body),))) == check


def test_authentic_entry_of_a_managed_key() -> None:
    world = World()
    bundle = world.message()
    other = world.message(managed=True)
    assert isinstance(bundle.content, MessageSignature)
    mixed = replace(other, certificates=bundle.certificates)
    assert refused(world, mixed) == "entry-body"


# --- managed keys --------------------------------------------------------------------------


@pytest.mark.parametrize("make", [World, one], ids=["v2", "v1"])
def test_managed_key(make: object) -> None:
    assert callable(make)
    world = make()
    key = ManagedKey(world.key.public_key())
    verified = accepted(world, world.message(managed=True, stamps=()), expected=key)
    assert verified.signer is None
    assert verified.certificate is None
    assert verified.key_sha256 is not None
    assert len(verified.entries) == 1


def test_another_managed_key() -> None:
    world = World()
    bundle = world.message(managed=True)
    assert refused(world, bundle, expected=ManagedKey(ec_key().public_key())) == "signature"


def test_managed_key_bundle_needs_its_log_entry() -> None:
    world = World()
    bundle = replace(world.message(managed=True), entries=())
    key = ManagedKey(world.key.public_key())
    assert refused(world, bundle, expected=key) == "log-threshold"


def test_managed_key_may_need_a_time() -> None:
    world = World()
    bundle = world.message(managed=True, stamps=())
    key = ManagedKey(world.key.public_key())
    assert refused(world, bundle, expected=key, managed_time_threshold=1) == "time-threshold"
    stamped = world.message(managed=True)
    assert accepted(world, stamped, expected=key, managed_time_threshold=1)


@pytest.mark.parametrize(
    ("period", "check"),
    [
        (TimeRange(SIGNED, SIGNED), None),
        (TimeRange(SIGNED + SECOND, None), "key-validity"),
        (TimeRange(START - SECOND, SIGNED - SECOND), "key-validity"),
    ],
)
def test_managed_key_with_a_validity_of_its_own(period: TimeRange, check: str | None) -> None:
    world = World()
    key = ManagedKey(world.key.public_key(), period)
    bundle = world.message(managed=True)
    if check is None:
        assert accepted(world, bundle, expected=key)
    else:
        assert refused(world, bundle, expected=key) == check
    unstamped = world.message(managed=True, stamps=())
    assert refused(world, unstamped, expected=key) == "time-threshold"


def test_bad_timestamp_fails_for_a_managed_key_too() -> None:
    world = World()
    key = ManagedKey(world.key.public_key())
    wrong = replace(
        world.message(managed=True), timestamps=(stamp(world.tsa, b"another", at=SIGNED),)
    )
    assert refused(world, wrong, expected=key) == "timestamp-imprint"


# --- options and threads -------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {"tlog_threshold": -1},
        {"sct_threshold": -1},
        {"time_threshold": 0},
        {"managed_time_threshold": -1},
    ],
)
def test_senseless_threshold_is_refused(options: dict[str, int]) -> None:
    with pytest.raises(InvalidInputError):
        VerifyOptions(**options)  # type: ignore[arg-type]


def test_many_threads_verify_at_once() -> None:
    world = World()
    good = world.message()
    bad = replace(good, content=replace(good.content, signature=tampered(good.content.signature)))
    root = world.root()
    outcomes: list[str] = []

    def work(bundle: Bundle) -> None:
        for _ in range(5):
            try:
                verify_bundle(bundle, digests(), root, expected=SIGNER)
                outcomes.append("good")
            except VerificationError:
                outcomes.append("bad")

    threads = [threading.Thread(target=work, args=(item,)) for item in [good, bad] * 4]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["bad"] * 20 + ["good"] * 20
