"""What the client finds in its environment: which source, in which order, and never another."""

from __future__ import annotations

from pathlib import Path

import pytest

from givers import AGENT_TOKEN, JOB, REQUEST_TOKEN
from keyless._gather import SOURCES, Found, gather
from keyless.errors import KeylessError

TOKEN = "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJtZSJ9.c2ln-_A"
OTHER = "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJvdGhlciJ9.c2ln"
URL = "https://run.actions.githubusercontent.com/x?api-version=2.0"

GITHUB = {
    "GITHUB_ACTIONS": "true",
    "ACTIONS_ID_TOKEN_REQUEST_URL": URL,
    "ACTIONS_ID_TOKEN_REQUEST_TOKEN": REQUEST_TOKEN,
}
BUILDKITE = {
    "BUILDKITE": "true",
    "BUILDKITE_AGENT_ACCESS_TOKEN": AGENT_TOKEN,
    "BUILDKITE_JOB_ID": JOB,
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


def found(
    environ: dict[str, str], source: str = "auto", *, printed: str = TOKEN, folder: Path = Path("/")
) -> Found | None:
    def run(argv: list[str], _: object) -> str:
        ran.append(argv)
        return printed

    ran.clear()
    return gather(environ, source, run=run, well_known_file=str(folder / "oidc-token"))


ran: list[list[str]] = []


def refused(environ: dict[str, str], source: str = "auto", **options: object) -> KeylessError:
    with pytest.raises(KeylessError) as caught:
        found(environ, source, **options)  # type: ignore[arg-type]
    return caught.value


def program(folder: Path, name: str, mode: int = 0o755) -> dict[str, str]:
    path = folder / name
    path.write_text("#!/bin/sh\n")
    path.chmod(mode)
    return {"PATH": str(folder)}


def test_an_environment_without_any_leaves_it_to_the_daemon() -> None:
    assert found({}) is None
    assert found({"PATH": "/bin", "SIGSTORE_ID_TOKEN": "", "GITHUB_ACTIONS": " "}) is None


@pytest.mark.parametrize("name", ["SIGSTORE_ID_TOKEN", "SIGSTORE_IDENTITY_TOKEN"])
def test_a_token_in_a_variable(name: str) -> None:
    one = found({name: f"  {TOKEN}\n"})
    assert one is not None
    assert (one.source, one.token, one.ambient) == ("env", TOKEN, None)


def test_github() -> None:
    one = found(GITHUB)
    assert one is not None
    assert (one.source, one.token) == ("github", None)
    assert one.ambient is not None
    assert (one.ambient.kind, one.ambient.url, one.ambient.token) == ("github", URL, REQUEST_TOKEN)
    assert (one.ambient.job, one.ambient.audience) == (None, None)
    assert REQUEST_TOKEN not in repr(one) + repr(one.ambient)


@pytest.mark.parametrize(
    "missing", ["ACTIONS_ID_TOKEN_REQUEST_URL", "ACTIONS_ID_TOKEN_REQUEST_TOKEN"]
)
def test_github_without_the_permission(missing: str) -> None:
    error = refused({**GITHUB, missing: ""})
    assert error.code == "identity_unavailable"
    assert "permissions: id-token: write" in (error.hint or "")


def test_gitlab() -> None:
    one = found({"GITLAB_CI": "true", "SIGSTORE_ID_TOKEN": TOKEN})
    assert one is not None
    assert (one.source, one.token) == ("gitlab", TOKEN)


def test_gitlab_without_a_token_names_what_to_write() -> None:
    error = refused({"GITLAB_CI": "true", "CI_JOB_JWT": TOKEN})
    assert error.code == "identity_unavailable"
    assert error.hint == "give the job `id_tokens: {SIGSTORE_ID_TOKEN: {aud: sigstore}}`"


@pytest.mark.parametrize(
    ("audience", "name"),
    [
        ("corp", "CORP_ID_TOKEN"),
        ("https://corp.example", "HTTPS___CORP_EXAMPLE_ID_TOKEN"),
        ("7up", "_UP_ID_TOKEN"),
    ],
)
def test_gitlabs_name_for_another_audience(audience: str, name: str) -> None:
    one = found({"GITLAB_CI": "1", "KEYLESS_AUDIENCE": audience, name: TOKEN})
    assert one is not None
    assert one.token == TOKEN


def test_buildkite_by_its_agent(folder: Path) -> None:
    one = found({**BUILDKITE, **program(folder, "buildkite-agent")})
    assert one is not None
    assert (one.source, one.token, one.ambient) == ("buildkite", TOKEN, None)
    agent = str(folder / "buildkite-agent")
    assert ran == [[agent, "oidc", "request-token", "--audience", "sigstore"]]


@pytest.mark.parametrize("url", [None, "https://agent.corp.example/v3"])
def test_buildkite_by_its_interface(folder: Path, url: str | None) -> None:
    environ = {**BUILDKITE, "PATH": str(folder)}
    if url is not None:
        environ["BUILDKITE_AGENT_ENDPOINT"] = url
    one = found(environ)
    assert one is not None
    assert one.ambient is not None
    assert one.ambient.kind == "buildkite"
    assert (one.ambient.token, one.ambient.job, one.ambient.url) == (AGENT_TOKEN, JOB, url)


def test_buildkite_with_neither() -> None:
    assert refused({"BUILDKITE": "true"}).code == "identity_unavailable"


def test_circleci(folder: Path) -> None:
    one = found({"CIRCLECI": "true", **program(folder, "circleci"), "KEYLESS_AUDIENCE": "corp"})
    assert one is not None
    assert (one.source, one.token) == ("circleci", TOKEN)
    circleci = str(folder / "circleci")
    assert ran == [[circleci, "run", "oidc", "get", "--claims", '{"aud":"corp"}', "--root-issuer"]]


def test_circleci_without_its_command_does_not_take_the_token_for_another_audience() -> None:
    error = refused({"CIRCLECI": "true", "CIRCLE_OIDC_TOKEN": TOKEN, "PATH": "/none"})
    assert error.code == "identity_unavailable"


@pytest.mark.parametrize("printed", ["", "nay", "<html>", "Error: no permission", TOKEN + ".x"])
def test_a_command_that_prints_no_token(folder: Path, printed: str) -> None:
    error = refused({"CIRCLECI": "true", **program(folder, "circleci")}, printed=printed)
    assert error.code == "identity_unavailable"
    assert not printed or printed not in error.message


@pytest.mark.parametrize("path", ["", ".", "::", "bin", "./", "~/bin"])
def test_a_command_in_the_working_directory_is_not_run(
    folder: Path, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "bin").mkdir()
    (folder / "~").mkdir()
    (folder / "~" / "bin").mkdir()
    for place in (folder, folder / "bin", folder / "~" / "bin"):
        program(place, "circleci")
    monkeypatch.chdir(folder)
    assert refused({"CIRCLECI": "true", "PATH": path}).code == "identity_unavailable"
    assert ran == []


def test_what_is_no_program_is_passed_over(folder: Path) -> None:
    for name in ("a", "b", "c"):
        (folder / name).mkdir()
    (folder / "a" / "circleci").mkdir()
    program(folder / "b", "circleci", 0o644)
    program(folder / "c", "circleci")
    path = ":".join(str(folder / name) for name in ("none", "a", "b", "c"))
    assert found({"CIRCLECI": "true", "PATH": path}) is not None
    assert ran[0][0] == str(folder / "c" / "circleci")


def test_a_file_that_is_named(folder: Path) -> None:
    (folder / "t").write_text(f"\n{TOKEN} \n")
    (folder / "oidc-token").write_text(OTHER)
    one = found({"KEYLESS_IDENTITY_TOKEN_FILE": str(folder / "t")}, folder=folder)
    assert one is not None
    assert (one.source, one.token) == ("file", TOKEN)


def test_a_file_where_others_look_for_it(folder: Path) -> None:
    (folder / "oidc-token").write_text(TOKEN)
    one = found({}, folder=folder)
    assert one is not None
    assert (one.source, one.token) == ("file", TOKEN)


def test_a_rotated_projection_is_read_through_its_links(folder: Path) -> None:
    for number, token in enumerate((TOKEN, OTHER)):
        (folder / str(number)).mkdir()
        (folder / str(number) / "token").write_text(token)
    (folder / "..data").symlink_to("0")
    (folder / "token").symlink_to("..data/token")
    environ = {"KEYLESS_IDENTITY_TOKEN_FILE": str(folder / "token")}
    first = found(environ)
    (folder / "..new").symlink_to("1")
    (folder / "..new").rename(folder / "..data")
    second = found(environ)
    assert first is not None
    assert second is not None
    assert (first.token, second.token) == (TOKEN, OTHER)


# --- order and choice --------------------------------------------------------------------------


def everything(folder: Path) -> dict[str, str]:
    program(folder, "circleci")
    (folder / "t").write_text(TOKEN)
    return {
        "SIGSTORE_ID_TOKEN": TOKEN,
        **GITHUB,
        "GITLAB_CI": "true",
        **BUILDKITE,
        "CIRCLECI": "true",
        "PATH": str(folder),
        "KEYLESS_IDENTITY_TOKEN_FILE": str(folder / "t"),
    }


OF = {
    "github": "GITHUB_ACTIONS",
    "gitlab": "GITLAB_CI",
    "buildkite": "BUILDKITE",
    "circleci": "CIRCLECI",
    "file": "KEYLESS_IDENTITY_TOKEN_FILE",
}


def test_the_first_that_is_there_is_taken(folder: Path) -> None:
    environ = everything(folder)
    del environ["GITLAB_CI"]
    order = []
    one = found(environ)
    assert one is not None
    order.append(one.source)
    del environ["SIGSTORE_ID_TOKEN"]
    while (one := found(environ)) is not None:
        order.append(one.source)
        del environ[OF[one.source]]
    assert order == ["env", "github", "buildkite", "circleci", "file"]
    assert [*SOURCES] == ["env", "github", "gitlab", "buildkite", "circleci", "file"]


@pytest.mark.parametrize("broken", ["github", "gitlab", "buildkite", "circleci", "file"])
def test_one_that_fails_is_never_replaced_by_the_next(folder: Path, broken: str) -> None:
    environ = everything(folder)
    del environ["SIGSTORE_ID_TOKEN"]
    for name in [*OF][: [*OF].index(broken)]:
        del environ[OF[name]]
    for name in ("ACTIONS_ID_TOKEN_REQUEST_TOKEN", "BUILDKITE_JOB_ID"):
        del environ[name]
    (folder / "circleci").unlink()
    (folder / "t").unlink()
    assert refused(environ).code == "identity_unavailable"
    assert ran == []


def test_a_variable_that_holds_no_token_is_an_error_and_not_passed_over() -> None:
    error = refused({"SIGSTORE_ID_TOKEN": "hunter2", **GITHUB})
    assert error.code == "token_malformed"
    assert "hunter2" not in error.message


@pytest.mark.parametrize("name", ["none", "daemon"])
def test_nothing_is_looked_for_if_nothing_is_wanted(folder: Path, name: str) -> None:
    assert found(everything(folder), name) is None


@pytest.mark.parametrize("name", ["env", "github", "buildkite", "circleci", "file"])
def test_one_can_be_chosen(folder: Path, name: str) -> None:
    environ = everything(folder)
    del environ["GITLAB_CI"]
    one = found(environ, name)
    assert one is not None
    assert one.source == name


@pytest.mark.parametrize(
    ("alias", "name"),
    [("envvar", "env"), ("filesystem", "file"), ("github-actions", "github")],
)
def test_other_commands_names_for_them(folder: Path, alias: str, name: str) -> None:
    environ = everything(folder)
    del environ["GITLAB_CI"]
    one = found(environ, alias)
    assert one is not None
    assert one.source == name


@pytest.mark.parametrize("name", [*SOURCES, "buildkite-agent"])
def test_one_that_is_chosen_and_not_there_is_an_error(name: str) -> None:
    assert refused({}, name).code == "identity_unavailable"


@pytest.mark.parametrize("name", ["spiffe", "google-workload-identity", "google-impersonate"])
def test_the_daemons_own_are_not_the_clients_to_choose(name: str) -> None:
    error = refused(GITHUB, name)
    assert error.code == "usage"
    assert "--identity NAME" in (error.hint or "")


def test_an_unknown_one() -> None:
    error = refused(GITHUB, "gihub")
    assert error.code == "usage"
    assert "github" in error.message


@pytest.mark.parametrize("audience", ['a"b', "a b", "x" * 257, "a\\b", "\u00e9", "$(id)"])
def test_an_audience_that_is_none(audience: str) -> None:
    assert refused({**GITHUB, "KEYLESS_AUDIENCE": audience}).code == "usage"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ACTIONS_ID_TOKEN_REQUEST_URL", "https://x/" + "y" * 2048),
        ("ACTIONS_ID_TOKEN_REQUEST_URL", "https://x\x1b[31m/"),
        ("ACTIONS_ID_TOKEN_REQUEST_TOKEN", "a b"),
        ("ACTIONS_ID_TOKEN_REQUEST_TOKEN", "a\nb"),
        ("ACTIONS_ID_TOKEN_REQUEST_TOKEN", "\u00e9"),
        ("ACTIONS_ID_TOKEN_REQUEST_TOKEN", "x" * 65_537),
    ],
)
def test_variables_that_cannot_be_sent(name: str, value: str) -> None:
    error = refused({**GITHUB, name: value})
    assert error.code == "identity_unavailable"
    assert value not in error.message
