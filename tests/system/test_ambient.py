"""Jobs of CI systems and machines with identities: the real command, daemon and sandbox.

The CI systems are fakes; what the sandbox's Fulcio certifies for their tokens is verified.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from givers import (
    ACCESS_TOKEN,
    ACCOUNT,
    AGENT_TOKEN,
    REQUEST_TOKEN,
    Buildkite,
    GitHub,
    IamCredentials,
    Metadata,
    served,
)
from keylessd.sandbox.workloads import CLAIMS, PATHS
from procfs import shown_of
from standing import Standing, bundle_of, standing

pytestmark = pytest.mark.system

CONFIG = """
log_level = "debug"

[ambient]
github_hosts = ["127.0.0.1"]
buildkite_hosts = ["127.0.0.1"]

[identity.machine]
kind = "google-metadata"
metadata_host = "{metadata}"
instance = ["sandbox"]

[identity.pod]
kind = "file"
path = "{pod}"
instance = ["sandbox"]

[identity.build]
kind = "google-impersonation"
metadata_host = "{metadata}"
url = "{iam}"

[identity.elsewhere]
kind = "file"
path = "/none"
instance = ["staging"]

[identity.others]
kind = "file"
path = "{pod}"
allow_uids = [4242]
"""
NAMES = {
    "github": f"https://github.com/{CLAIMS['github']['job_workflow_ref']}",
    "gitlab": f"https://{CLAIMS['gitlab']['ci_config_ref_uri']}",
    "buildkite": "https://buildkite.com/example/project",
    "circleci": "https://circleci.com/api/v2/projects/b7d0a7a4-6a6e-4e5f-8f55-0c9d1f1c2b22"
    "/pipeline-definitions/7c0f3b1e-1a2b-4c3d-8e4f-5a6b7c8d9e44",
    "kubernetes": "https://kubernetes.io/namespaces/default/serviceaccounts/builder",
}


@dataclass
class Place:
    """A house, the fakes around it, and a token of each issuer."""

    house: Standing
    github: GitHub
    github_at: str
    buildkite: Buildkite
    buildkite_at: str
    tokens: dict[str, str]
    pod: Path

    def issuer(self, name: str) -> str:
        return self.house.urls["oidc_issuer"] + PATHS[name]

    def signs(self, environ: dict[str, str], *words: str) -> Path:
        """Sign a new file in a job with this environment."""
        path = self.house.work / f"file{len(list(self.house.work.iterdir()))}"
        path.write_bytes(os.urandom(16))
        done = self.house.keyless("sign", *words, path, environ=bare(environ))
        assert done.returncode == 0, done.stderr
        return path

    def refuses(self, environ: dict[str, str], *words: str) -> dict[str, str]:
        """Fail to sign; return the error."""
        path = self.house.work / "refused"
        path.write_bytes(b"x")
        done = self.house.keyless("sign", "--json", *words, path, environ=bare(environ))
        assert done.returncode != 0
        assert not bundle_of(path).exists()
        error: dict[str, str] = json.loads(done.stdout.splitlines()[-1])["error"]
        return error

    def verifies(self, path: Path, name: str) -> None:
        done = self.house.keyless(
            "verify",
            *("--certificate-identity", NAMES[name]),
            *("--certificate-oidc-issuer", self.issuer(name)),
            path,
        )
        assert done.returncode == 0, done.stderr

    def source(self, environ: dict[str, str], *words: str) -> list[dict[str, str]]:
        done = self.house.keyless("whoami", "--json", *words, environ=bare(environ))
        assert done.returncode == 0, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]


def bare(environ: dict[str, str]) -> dict[str, str]:
    """Return *environ* without the token that the house has for its other tests."""
    return {"SIGSTORE_ID_TOKEN": "", **environ}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    directory = tmp_path_factory.mktemp("ambient")
    tokens: dict[str, str] = {}
    github, buildkite = GitHub(lambda _: tokens["github"]), Buildkite(lambda _: tokens["buildkite"])
    metadata = Metadata(lambda _, **__: tokens["login"])
    iam = IamCredentials(lambda _, **__: tokens["build"])
    pod = directory / "pod"
    config = directory / "config" / "keyless"
    config.mkdir(parents=True)
    with ExitStack() as stack:
        github_at = stack.enter_context(served(github))
        buildkite_at = stack.enter_context(served(buildkite))
        metadata_at = stack.enter_context(served(metadata)).removeprefix("http://")
        iam_at = stack.enter_context(served(iam))
        (config / "config.toml").write_text(
            CONFIG.format(metadata=metadata_at, iam=iam_at, pod=pod / "token")
        )
        for house in standing(directory):
            tokens |= {name: house.token("--issuer", name) for name in NAMES}
            tokens["login"] = house.token()
            tokens["build"] = house.token("--email", ACCOUNT)
            # As Cloud Build sets it, for the daemon that the client starts.
            house.environ["GOOGLE_SERVICE_ACCOUNT_NAME"] = ACCOUNT
            project(pod, tokens["kubernetes"])
            yield Place(house, github, github_at, buildkite, buildkite_at, tokens, pod)


def project(pod: Path, token: str) -> None:
    """Put a token into a directory as a kubelet does."""
    pod.mkdir(exist_ok=True)
    version = pod / f"..{len(list(pod.iterdir()))}"
    version.mkdir()
    (version / "token").write_text(token)
    (pod / "..next").symlink_to(version.name)
    (pod / "..next").rename(pod / "..data")
    if not (pod / "token").is_symlink():
        (pod / "token").symlink_to("..data/token")


def program(place: Place, name: str, script: str) -> dict[str, str]:
    """Put a program before all others on the PATH."""
    directory = place.house.directory / f"bin-{name}-{len(script)}"
    directory.mkdir(exist_ok=True)
    path = directory / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return {"PATH": f"{directory}:{os.environ['PATH']}"}


def jobs(place: Place) -> dict[str, dict[str, str]]:
    """Return the environment of a job of each CI system."""
    agent = (
        f"[ \"$*\" = 'oidc request-token --audience sigstore' ] && echo {place.tokens['buildkite']}"
    )
    circleci = f"[ \"$1 $2 $3\" = 'run oidc get' ] && echo {place.tokens['circleci']}"
    return {
        "github": place.github.environ(place.github_at),
        "gitlab": {"GITLAB_CI": "true", "SIGSTORE_ID_TOKEN": place.tokens["gitlab"]},
        "buildkite": {"BUILDKITE": "true", **program(place, "buildkite-agent", agent)},
        "circleci": {"CIRCLECI": "true", **program(place, "circleci", circleci)},
    }


@pytest.mark.parametrize("name", ["github", "gitlab", "buildkite", "circleci"])
def test_a_job_signs_as_itself(place: Place, name: str) -> None:
    job = jobs(place)[name]
    place.verifies(place.signs(job), name)
    (me,) = place.source(job)
    assert (me["source"], me["issuer"]) == (name, place.issuer(name))


def test_buildkite_without_its_command(place: Place) -> None:
    job = place.buildkite.environ(place.buildkite_at)
    place.verifies(place.signs(job), "buildkite")
    assert place.buildkite.seen[-1].headers["authorization"] == f"Token {AGENT_TOKEN}"


def test_many_files_of_one_job_take_what_one_request_gives(place: Place) -> None:
    job = place.github.environ(place.github_at)
    first, second = (place.house.work / name for name in ("many1", "many2"))
    for path in (first, second):
        path.write_bytes(os.urandom(16))
    done = place.house.keyless("sign", first, second, environ=bare(job))
    assert done.returncode == 0, done.stderr
    for path in (first, second):
        place.verifies(path, "github")


def test_a_token_file_that_is_rotated(place: Place) -> None:
    job = {"KEYLESS_IDENTITY_TOKEN_FILE": str(place.pod / "token")}
    place.verifies(place.signs(job), "kubernetes")
    project(place.pod, place.tokens["gitlab"])
    try:
        place.verifies(place.signs(job), "gitlab")
    finally:
        project(place.pod, place.tokens["kubernetes"])
    assert place.source(job)[0]["source"] == "file"


def test_without_an_environment_the_daemons_first_identity_serves(place: Place) -> None:
    path = place.signs({})
    done = place.house.verify(path)
    assert done.returncode == 0, done.stderr


def test_what_the_daemon_holds_is_chosen_by_name(place: Place) -> None:
    place.verifies(place.signs({}, "--identity", "pod"), "kubernetes")
    # And a job's own identity is not looked at then.
    job = place.github.environ(place.github_at)
    place.verifies(place.signs(job, "--identity", "pod"), "kubernetes")
    found = place.source({})
    assert [(one["name"], one["source"]) for one in found if one.get("name")] == [
        ("machine", "google-metadata"),
        ("pod", "file"),
        ("build", "google-impersonation"),
    ]


def test_a_step_of_cloud_build_signs_as_its_service_account(place: Place) -> None:
    path = place.signs({}, "--identity", "build")
    done = place.house.keyless(
        "verify",
        *("--certificate-identity", ACCOUNT),
        *("--certificate-oidc-issuer", place.house.urls["oidc_issuer"]),
        path,
    )
    assert done.returncode == 0, done.stderr
    # By its address too, once it is known.
    place.signs({}, "--identity", ACCOUNT)


@pytest.mark.parametrize("name", ["elsewhere", "others", "nobody"])
def test_what_is_for_others_does_not_exist(place: Place, name: str) -> None:
    assert place.refuses({}, "--identity", name)["code"] == "login_required"


def test_a_job_without_the_permission_is_told_which(place: Place) -> None:
    job = {**place.github.environ(place.github_at), "ACTIONS_ID_TOKEN_REQUEST_URL": ""}
    error = place.refuses(job)
    assert error["code"] == "identity_unavailable"
    assert "permissions: id-token: write" in error["hint"]


@pytest.mark.parametrize(
    "origin",
    [
        "http://localhost:{port}",
        "http://127.0.0.2:{port}",
        "http://169.254.169.254",
        "http://evil.example",
        "https://actions.githubusercontent.com.evil.example",
    ],
)
def test_the_daemon_does_not_ask_just_anywhere(place: Place, origin: str) -> None:
    seen = len(place.github.seen)
    port = place.github_at.rpartition(":")[2]
    error = place.refuses(place.github.environ(origin.format(port=port)))
    assert error["code"] == "identity_unavailable"
    assert "github_hosts" in error["hint"]
    assert len(place.github.seen) == seen


@pytest.mark.parametrize("fault", ["forbidden", "redirect", "oversized", "page"])
def test_a_source_that_fails_is_never_replaced_by_another(place: Place, fault: str) -> None:
    before = place.house.counts()
    place.github.fault = fault
    try:
        # The daemon's own identities are there, and would sign.
        error = place.refuses(place.github.environ(place.github_at))
    finally:
        place.github.fault = None
    assert error["code"] == "identity_unavailable"
    assert "GitHub Actions" in error["message"]
    assert place.house.counts().since(before).certificates == 0


def test_no_secret_of_any_source_stays_anywhere_or_is_shown(place: Place) -> None:
    fetched = place.github.environ(place.github_at)
    sources = {
        **jobs(place),
        "buildkite's interface": place.buildkite.environ(place.buildkite_at),
        "file": {"KEYLESS_IDENTITY_TOKEN_FILE": str(place.pod / "token")},
        "env": {"SIGSTORE_ID_TOKEN": place.tokens["login"]},
        "refused": {**fetched, "ACTIONS_ID_TOKEN_REQUEST_TOKEN": f"{REQUEST_TOKEN}x"},
        "elsewhere": {**fetched, "ACTIONS_ID_TOKEN_REQUEST_URL": "https://evil.example/?a=b"},
        "late": {"SIGSTORE_ID_TOKEN": place.house.token("--lifetime", "1")},
    }
    held = [("--identity", name) for name in ("machine", "pod", "build")]
    said = []
    for job, words in [*((job, ()) for job in sources.values()), *(({}, one) for one in held)]:
        (file,) = place.house.files(1, stem=f"seen{len(said)}-")
        commands: tuple[tuple[str | Path, ...], ...]
        commands = (("sign", "--json", *words, file), ("whoami", "--json", *words))
        said += [place.house.keyless(*command, environ=bare(job)) for command in commands]
    assert {one.returncode == 0 for one in said} == {True, False}
    commands = (("status",), ("status", "--json"), ("ledger", "--json"))
    said += [place.house.keyless(*command, environ=bare({})) for command in commands]

    pid = place.house.daemon_pid()
    assert pid is not None
    state = [place.house.directory / name for name in ("state", "cache", "run", "work")]
    paths = [path for top in state for path in top.rglob("*") if path.is_file()]
    texts = shown_of(pid) | {str(path): path.read_bytes() for path in paths}
    texts |= {f"said {n}": (one.stdout + one.stderr).encode() for n, one in enumerate(said)}
    assert any(event["level"] == "debug" for event in place.house.log_events())
    secrets = [REQUEST_TOKEN, AGENT_TOKEN, ACCESS_TOKEN]
    tokens = [*place.tokens.values(), sources["late"]["SIGSTORE_ID_TOKEN"]]
    secrets += [part for token in tokens for part in token.split(".")[1:]]
    found = [name for name, text in texts.items() for one in secrets if one.encode() in text]
    assert found == []
