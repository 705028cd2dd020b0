"""A client of a certified OpenID provider as an identity of the daemon's: RFC 6749, 4.4.

The provider gives clients no ID tokens but access tokens, JWTs where the resource is for signing
(RFC 8707, RFC 9068); the real Fulcio takes them.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.real.cases import wrongly_judged
from tests.real.clients import Expected
from tests.real.oidc import OPAQUE, ROBOT_SECRET, SIGNING, OidcProvider
from tests.real.outcomes import failure_of
from tests.real.people import PeoplesHouse

from standing import bundle_of

KNOWN = 'scopes = ["sign"]\ntoken = "access_token"\n'
TABLES = {
    "robot": f'{KNOWN}resource = "{SIGNING}"\nclient_secret_file = "secret"\n',
    "stranger": f'{KNOWN}resource = "{SIGNING}"\nclient_secret_file = "another"\n',
    "opaque": f'{KNOWN}resource = "{OPAQUE}"\nclient_secret_file = "secret"\n',
    "unknown-resource": f'{KNOWN}resource = "urn:keyless:other"\nclient_secret_file = "secret"\n',
    "id-token": f'scopes = ["sign"]\nresource = "{SIGNING}"\nclient_secret_file = "secret"\n',
    "other-audience": f'{KNOWN}resource = "{SIGNING}"\naudience = "corp"\n'
    'client_secret_file = "secret"\n',
}


@pytest.fixture(scope="module")
def farm(stack, known_provider: OidcProvider) -> Iterator[PeoplesHouse]:
    """A daemon that is a client of the provider, and some that cannot be."""
    house = PeoplesHouse(stack, "robots", settings='log_level = "debug"')
    for name, secret in (("secret", ROBOT_SECRET), ("another", "another-secret")):
        (house.config.parent / name).write_text(secret)
    with house.config.open("a") as config:
        for name, text in TABLES.items():
            config.write(
                f'[identity.{name}]\nkind = "client-credentials"\n'
                f'issuer = "{known_provider.url}"\nclient_id = "{known_provider.robot}"\n{text}'
            )
    yield house
    house.close()


@pytest.mark.parametrize("words", [(), ("--identity", "robot")], ids=["first", "by name"])
def test_signing_as_a_client(farm, known_provider, judges, keyless, words) -> None:
    (path,) = farm.files(1, stem=f"robot-{len(words)}-")
    done = farm.keyless("sign", "--instance", "v1-tsa", *words, path)
    assert done.returncode == 0, done.stderr

    who = Expected(known_provider.robot, known_provider.url)
    cases = {
        "good": who,
        "identity": Expected(f"{who.identity}x", who.issuer),
        "prefix": Expected(who.identity[:-1], who.issuer),
        "issuer": Expected(who.identity, f"{who.issuer}x"),
    }
    judging = (keyless, *judges.values())
    row = "keyless, signed as a client"
    assert wrongly_judged(row, judging, bundle_of(path), path, cases) == []
    attempt, outcome = farm.records()[-2:]
    assert attempt["source"] == "held:robot"
    assert outcome["result"] == "ok"


@pytest.mark.parametrize(
    ("name", "code", "words"),
    [
        ("stranger", "identity_unavailable", "invalid_client"),
        ("opaque", "identity_unavailable", "three parts"),
        ("unknown-resource", "identity_unavailable", "invalid_target"),
        ("id-token", "identity_unavailable", "no ID token"),
        ("other-audience", "token_audience", "'corp' is wanted"),
    ],
)
def test_a_client_that_gets_no_token_signs_as_nobody(
    farm, name: str, code: str, words: str
) -> None:
    (path,) = farm.files(1, stem=f"not-{name}-")
    before = len(farm.ledger.read_bytes()) if farm.ledger.exists() else 0
    failure = failure_of(
        farm.keyless("sign", "--json", "--instance", "v1-tsa", "--identity", name, path)
    )

    assert failure.code == code
    assert words in failure.message
    assert not bundle_of(path).exists()
    # It was not even tried.
    assert len(farm.ledger.read_bytes()) == before


def test_the_secret_and_the_token_stay_where_they_are(farm, known_provider) -> None:
    (path,) = farm.files(1, stem="secrets-")
    said = [
        farm.keyless("sign", "--json", "--instance", "v1-tsa", "--identity", name, path)
        for name in TABLES
    ]
    said += [farm.keyless("whoami", "--json"), farm.keyless("status", "--json")]
    texts = [one.stdout + one.stderr for one in said]
    texts += [file.read_text() for file in (farm.log, farm.ledger)]
    for text in texts:
        assert ROBOT_SECRET not in text
        assert "another-secret" not in text
        assert "eyJ" not in text
