"""cosign, sigstore-python and sigstore-js sign with the real services; keyless judges it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.real import matrix
from tests.real.cases import Made, judge
from tests.real.clients import STATEMENT_TYPE, ClientError, Expected, statement

LOGS = {"v1": "Rekor v1", "v1-tsa": "Rekor v1 + TSA", "v2": "Rekor v2 + TSA"}
PREDICATE = {"builder": "honest"}
KINDS = [
    (writer, kind, logs)
    for writer in ("cosign", "sigstore-python", "sigstore-js")
    for kind in ("blob", "attestation")
    for logs in LOGS
    # The server takes no other kind than hashedrekord; see the last test.
    if (writer, kind, logs) != ("sigstore-js", "attestation", "v2")
]


@pytest.fixture(scope="module", params=KINDS, ids="-".join)
def made(house, primed, stack, judges, request) -> Made:
    writer, kind, logs = request.param
    files = house.files(2, stem=f"{writer}-{kind}-{logs}-")
    predicate = house.work / "predicate.json"
    predicate.write_text(json.dumps(PREDICATE))
    attestation = kind == "attestation"
    who = house.who
    sign: Callable[[Path, Path], None]
    if writer == "sigstore-js":
        # An issuer whose challenge is the subject; it signs over no other, see README.
        known = stack.issuers.known
        token = known.token(issuer="spiffe")
        who = Expected("spiffe://sandbox.test/builder", known.issuer("spiffe").url)

        def sign(bundle: Path, path: Path) -> None:
            judges[writer].sign(
                bundle,
                statement(path, PREDICATE) if attestation else path.read_bytes(),
                kind=STATEMENT_TYPE if attestation else None,
                version=int(logs[1]),
                token=token,
                timestamp=logs != "v1",
            )
    else:

        def sign(bundle: Path, path: Path) -> None:
            chosen = predicate if attestation else None
            judges[writer].sign(bundle, path, logs, predicate=chosen)

    bundles = [path.with_name(path.name + ".bundle") for path in files]
    for bundle, path in zip(bundles, files, strict=True):
        sign(bundle, path)
    return Made(
        row=f"{writer}, {kind}, {LOGS[logs]}",
        artifact=files[0],
        bundle=bundles[0],
        other=bundles[1],
        who=who,
        attestation=attestation,
    )


def test_keyless_judges(made: Made, keyless, tmp_path: Path) -> None:
    def refusal(bundle, artifact, who):
        return keyless.refusal(bundle, artifact, who, attestation=made.attestation)

    judge(made, "keyless", refusal, tmp_path / "cases", known={})


@pytest.mark.parametrize("logs", LOGS)
def test_managed_key(house, primed, cosign, keyless, tmp_path: Path, logs: str) -> None:
    files = house.files(2, stem=f"managed-{logs}-")
    bundles = [path.with_name(path.name + ".bundle") for path in files]
    private, public = cosign.make_key(tmp_path)
    for bundle, path in zip(bundles, files, strict=True):
        cosign.sign(bundle, path, logs, key=private)
    made = Made(f"cosign, managed key, {LOGS[logs]}", files[0], bundles[0], bundles[1], house.who)

    def refusal(bundle, artifact, who):
        return keyless.key_refusal(bundle, artifact, public)

    judge(made, "keyless", refusal, tmp_path / "cases", known={}, managed=True)
    assert cosign.key_refusal(bundles[0], files[0], public) is None
    other = tmp_path / "other"
    other.mkdir()
    _, stranger = cosign.make_key(other)
    assert keyless.key_refusal(bundles[0], files[0], stranger) is not None
    # A key is no way around the identity, nor the other way round.
    assert keyless.refusal(bundles[0], files[0], house.who) is not None


def test_sigstore_js_attests_not_with_rekor_v2(house, stack, sigstore_js) -> None:
    (path,) = house.files(1, stem="js-attestation-v2")
    token = stack.issuers.known.token(issuer="spiffe")
    content = statement(path, PREDICATE)

    with pytest.raises(ClientError, match="invalid type, must be hashedrekord") as caught:
        sigstore_js.sign(path, content, kind=STATEMENT_TYPE, version=2, token=token)

    # A release that does it is wanted in KINDS.
    found = f'sigstore-js: "{matrix.said(str(caught.value))}"; it sends the kind dsse'
    matrix.TABLE.put("sigstore-js, attestation, Rekor v2 + TSA", "keyless", "good", found)
