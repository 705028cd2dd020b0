"""The tables of held identities: what they say, and errors that name key and line."""

from __future__ import annotations

from pathlib import Path

import pytest

from keylessd.held_settings import (
    ClientCredentials,
    GoogleImpersonation,
    GoogleMetadata,
    SecretPlace,
    TokenExchange,
    TokenFile,
)
from keylessd.settings import Settings, SettingsError, parse_settings

FULL = """
[ambient]
github_hosts = ["ghes.corp.example", "127.0.0.1"]
buildkite_hosts = ["agent.buildkite.corp.example"]

[instance.corp]
trusted_root = "t"

[identity.pod]
kind = "file"
path = "token"
instance = ["corp", "public"]
allow_uids = [0, "1000-1999", "builder"]
allow_gids = ["wheel"]

[identity.machine]
kind = "google-metadata"
audience = "corp"

[identity.release]
kind = "google-impersonation"
service_account = "release@project.iam.gserviceaccount.com"
delegates = ["middle@project.iam.gserviceaccount.com"]
metadata_host = "127.0.0.1:8080"
url = "http://127.0.0.1:8081/"
allow_uids = []

[identity.robot]
kind = "client-credentials"
issuer = "https://dex.corp.example/"
client_id = "robot"
client_secret_credential = "dex"

[identity.client]
kind = "client-credentials"
issuer = "https://op.corp.example"
client_id = "c"
client_secret_file = "s"
scopes = []
resource = "urn:sigstore"
token = "access_token"

[identity.traded]
kind = "token-exchange"
issuer = "https://dex.corp.example"
client_id = "farm"
client_secret_file = "/etc/keyless/farm"
subject_token_file = "/run/token"
subject_token_type = "access_token"
connector_id = "ci"
scopes = ["openid"]
"""


def test_every_value_is_taken(tmp_path: Path) -> None:
    settings = parse_settings(FULL, file=str(tmp_path / "config.toml"))

    assert settings.ambient.github_hosts == {"ghes.corp.example", "127.0.0.1"}
    assert settings.ambient.buildkite_hosts == {"agent.buildkite.corp.example"}
    held = settings.identities
    assert [*held] == ["pod", "machine", "release", "robot", "client", "traded"]
    pod = held["pod"]
    assert pod.source == TokenFile(tmp_path / "token")
    assert pod.instances == {"corp", "public"}
    assert pod.users == (range(1), range(1000, 2000), "builder")
    assert pod.groups == ("wheel",)
    assert pod.audience == "sigstore"
    machine = held["machine"]
    assert machine.source == GoogleMetadata("default", "metadata.google.internal")
    assert (machine.instances, machine.users, machine.groups) == (None, None, None)
    assert machine.audience == "corp"
    assert held["release"].source == GoogleImpersonation(
        service_account="release@project.iam.gserviceaccount.com",
        delegates=("middle@project.iam.gserviceaccount.com",),
        account="default",
        metadata_host="127.0.0.1:8080",
        url="http://127.0.0.1:8081",
    )
    assert held["release"].users == ()
    assert held["robot"].source == ClientCredentials(
        issuer="https://dex.corp.example/",
        client_id="robot",
        secret=SecretPlace(None, "dex"),
        scopes=("openid", "email"),
        resource=None,
        token="id_token",
    )
    assert held["client"].source == ClientCredentials(
        issuer="https://op.corp.example",
        client_id="c",
        secret=SecretPlace(tmp_path / "s", None),
        scopes=(),
        resource="urn:sigstore",
        token="access_token",
    )
    assert held["traded"].source == TokenExchange(
        issuer="https://dex.corp.example",
        client_id="farm",
        secret=SecretPlace(Path("/etc/keyless/farm"), None),
        subject=Path("/run/token"),
        subject_type="urn:ietf:params:oauth:token-type:access_token",
        requested_type="urn:ietf:params:oauth:token-type:id_token",
        connector="ci",
        scopes=("openid",),
    )


def test_nothing_is_held_by_default() -> None:
    assert dict(Settings().identities) == {}
    with pytest.raises(TypeError):
        Settings().identities["x"] = None  # type: ignore[index]


@pytest.mark.parametrize(
    ("text", "line", "key", "problem"),
    [
        ("[identity.a]", 1, "identity.a", "needs kind, one of"),
        ('[identity.a]\nkind = "fil"', 2, "identity.a.kind", 'did you mean "file"?'),
        ("[identity.a]\nkind = 1", 2, "identity.a.kind", "must be a string"),
        ('[identity.A]\nkind = "file"', 1, "identity.A", "a name is made of"),
        ('[identity.a]\nkind = "file"', 1, "identity.a", "needs path"),
        ('[identity.a]\nkind="file"\npath="t"\nacount="x"', 4, "identity.a.acount", "unknown key"),
        ('[identity.a]\nkind="file"\npath="t"\nurl="https://x"', 4, "identity.a.url", "unknown"),
        (
            '[identity.a]\nkind="file"\npath="t"\ninstance=["pubic"]',
            4,
            "identity.a.instance",
            'did you mean "public"?',
        ),
        (
            '[identity.a]\nkind="file"\npath="t"\ninstance="public"',
            4,
            "identity.a.instance",
            "a list of strings",
        ),
        (
            '[identity.a]\nkind="file"\npath="t"\nallow_uids=1000',
            4,
            "identity.a.allow_uids",
            "must be a list",
        ),
        (
            '[identity.a]\nkind="file"\npath="t"\nallow_uids=["9-1"]',
            4,
            "identity.a.allow_uids",
            "from 0 to",
        ),
        (
            '[identity.a]\nkind="file"\npath="t"\nallow_uids=[-1]',
            4,
            "identity.a.allow_uids",
            "from 0 to",
        ),
        (
            '[identity.a]\nkind="file"\npath="t"\nallow_uids=[4294967295]',
            4,
            "identity.a.allow_uids",
            "from 0 to",
        ),
        (
            '[identity.a]\nkind="file"\npath="t"\nallow_uids=[true]',
            4,
            "identity.a.allow_uids",
            "is not a number",
        ),
        (
            '[identity.a]\nkind="file"\npath="t"\nallow_gids=["*"]',
            4,
            "identity.a.allow_gids",
            "is not a number",
        ),
        (
            '[identity.a]\nkind="google-metadata"\naccount="a/b"',
            3,
            "identity.a.account",
            "not a service account",
        ),
        (
            '[identity.a]\nkind="google-metadata"\nmetadata_host="a/b"',
            3,
            "identity.a.metadata_host",
            "is not a host name",
        ),
        (
            '[identity.a]\nkind="google-impersonation"\nservice_account="../x"',
            3,
            "identity.a.service_account",
            "not a service account",
        ),
        (
            '[identity.a]\nkind="google-impersonation"\ndelegates=["a?b"]',
            3,
            "identity.a.delegates",
            "not a service account",
        ),
        (
            '[identity.a]\nkind="google-impersonation"\nurl="http://iam.example"',
            3,
            "identity.a.url",
            "must be https",
        ),
        (
            '[identity.a]\nkind="client-credentials"\nclient_id="c"\nissuer="https://i"',
            1,
            "identity.a",
            "needs client_secret_file",
        ),
        (
            '[identity.a]\nkind="client-credentials"\nclient_secret_file="f"\nclient_secret_credential="c"',
            3,
            "identity.a.client_secret_file",
            "excludes",
        ),
        (
            '[identity.a]\nkind="client-credentials"\nclient_secret_credential="../c"',
            3,
            "identity.a.client_secret_credential",
            "not the name",
        ),
        (
            '[identity.a]\nkind="client-credentials"\nclient_secret_file="f"\nissuer="http://i"',
            4,
            "identity.a.issuer",
            "must be https",
        ),
        *(
            (
                (
                    '[identity.a]\nkind="client-credentials"\nissuer="https://i"\nclient_id="c"\n'
                    f'client_secret_file="f"\nresource="{resource}"'
                ),
                6,
                "identity.a.resource",
                "not an absolute URI",
            )
            for resource in ("sigstore", "https://x#y", "urn:", "urn:a b", "urn:\u00e9", ":x")
        ),
        (
            (
                '[identity.a]\nkind="client-credentials"\nissuer="https://i"\nclient_id="c"\n'
                'client_secret_file="f"\ntoken="acces_token"'
            ),
            6,
            "identity.a.token",
            '"access_token"',
        ),
        (
            '[identity.a]\nkind="token-exchange"\nissuer="https://i"',
            1,
            "identity.a",
            "needs subject_token_file",
        ),
        ('[ambient]\ngithub_hosts=["https://x"]', 2, "ambient.github_hosts", "not a host name"),
        ("[ambient]\ngitub_hosts=[]", 2, "ambient.gitub_hosts", "github_hosts"),
    ],
)
def test_errors_name_key_and_line(text: str, line: int, key: str | None, problem: str) -> None:
    with pytest.raises(SettingsError) as caught:
        parse_settings(text, file="/etc/k.toml")

    assert problem in caught.value.message
    assert (caught.value.line, caught.value.key) == (line, key)


def test_a_secret_in_the_settings_is_refused_and_not_repeated() -> None:
    text = (
        '[identity.a]\nkind="client-credentials"\nissuer="https://i"\nclient_id="c"\n'
        'client_secret_file="f"\nclient_secret="hunter2"'
    )
    with pytest.raises(SettingsError, match="unknown key") as caught:
        parse_settings(text)

    assert "hunter2" not in caught.value.message
