"""Everybody whom the real Fulcio certifies: people, workloads, workflows. Signed by, judged by."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.real import matrix
from tests.real.clients import Expected
from tests.real.services import EMAIL, HOST

from keylessd.sandbox.workloads import CLAIMS
from standing import bundle_of

WORKFLOW = CLAIMS["github"]
GITHUB = f"https://github.com/{WORKFLOW['job_workflow_ref']}"
KINDS = {
    "email, Dex": EMAIL,
    "email, our issuer": "you@sandbox.test",
    "uri": None,  # below the issuer's own URL
    "spiffe": "spiffe://sandbox.test/builder",
    "username": f"builder!{HOST}",
    "kubernetes": "https://kubernetes.io/namespaces/default/serviceaccounts/builder",
    "github": GITHUB,
}
# What a peer says about an identity that it cannot judge: (judge, kind) -> why.
KNOWN: dict[tuple[str, str], str] = {
    ("sigstore-python", "username"): "it compares the DER of an otherName, not its text",
    ("sigstore-js", "username"): "it reads no otherName",
}


def _who(stack, kind: str) -> tuple[Expected, str]:
    """Return whom a token names, and the token."""
    known = stack.issuers.known
    if kind == "email, Dex":
        return Expected(EMAIL, stack.urls.dex), stack.dex_token()
    name = "login" if kind.startswith("email") else kind
    issuer = known.issuer(name)
    if kind == "uri":
        subject = f"{issuer.url}/builder"
        return Expected(subject, issuer.url), known.token(issuer="uri", subject=subject)
    identity = KINDS[kind]
    assert identity is not None
    return Expected(identity, issuer.url), known.token(issuer=name)


@pytest.mark.parametrize("kind", KINDS)
def test_identity(stack, house, keyless, judges, kind: str) -> None:
    who, token = _who(stack, kind)
    (path,) = house.files(1, stem=f"as-{kind.replace(', ', '-').replace(' ', '-')}-")
    house.sign("v1-tsa", path, SIGSTORE_ID_TOKEN=token)

    wrong = []
    cases = {
        "good": who,
        "identity": replace(who, identity=who.identity + "x"),
        "prefix": replace(who, identity=who.identity[:-1]),
        "issuer": replace(who, issuer=stack.urls.fulcio),
    }
    for one in (keyless, *judges.values()):
        for case, expected in cases.items():
            words = one.refusal(bundle_of(path), path, expected)
            holds = (words is None) == (case == "good")
            excuse = KNOWN.get((one.name, kind)) if case == "good" else None
            why = excuse or "nobody knows why"
            found = None if holds else matrix.exception(one.name, words, why)
            matrix.TABLE.put(f"keyless, signed as {kind}", one.name, case, found)
            if holds == (excuse is not None):
                wrong.append((one.name, case, words))
    assert not wrong


def test_claims_of_a_workflow(stack, house, cosign) -> None:
    who, token = _who(stack, "github")
    (path,) = house.files(1, stem="workflow-")
    house.sign("v1-tsa", path, SIGSTORE_ID_TOKEN=token)
    claims = {
        "--certificate-github-workflow-trigger": WORKFLOW["event_name"],
        "--certificate-github-workflow-sha": WORKFLOW["sha"],
        "--certificate-github-workflow-name": WORKFLOW["workflow"],
        "--certificate-github-workflow-repository": WORKFLOW["repository"],
        "--certificate-github-workflow-ref": WORKFLOW["ref"],
    }
    words = [str(word) for pair in claims.items() for word in pair]

    assert house.verify_as(who, *words, path).returncode == 0
    asked = cosign.verify_words(bundle_of(path), path, who)
    assert cosign.run(*asked, *words).returncode == 0
    for option in claims:
        assert house.verify_as(who, option, "other", path).returncode == 1
        assert cosign.run(*asked, option, "other").returncode != 0
    # Whatever Fulcio's templates made of the claims can be asked for.
    run = f"https://github.com/{WORKFLOW['repository']}/actions/runs/{WORKFLOW['run_id']}"
    invocation = f"run_invocation_uri={run}/attempts/{WORKFLOW['run_attempt']}"
    extension = "--certificate-extension"
    assert house.verify_as(who, extension, invocation, path).returncode == 0
    assert house.verify_as(who, extension, invocation + "1", path).returncode == 1


def test_two_people_at_one_daemon(stack, house) -> None:
    # A certificate of one must not sign for the other.
    first, second = house.files(2, stem="two-people-")
    (alice, alices), (bob, bobs) = (
        (
            Expected(f"{name}@sandbox.test", stack.issuers.known.login.url),
            stack.issuers.known.token(email=f"{name}@sandbox.test"),
        )
        for name in ("alice", "bob")
    )
    house.sign("v1-tsa", first, SIGSTORE_ID_TOKEN=alices)
    house.sign("v1-tsa", second, SIGSTORE_ID_TOKEN=bobs)

    assert house.verify_as(alice, first).returncode == 0
    assert house.verify_as(bob, second).returncode == 0
    assert house.verify_as(bob, first).returncode == 1
    assert house.verify_as(alice, second).returncode == 1
