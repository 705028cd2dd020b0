"""The sandbox's issuers that nobody logs in at: what CI systems, clusters and others would be.

Each hangs below a path of the login issuer's URL and has one of Fulcio's issuer types, so that
every kind of certificate can be had. Pure: names and sample claims only.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from keylessd.sandbox.ci_providers import PROVIDERS
from keylessd.sandbox.issuers import IssuerRule, IssuerType

if TYPE_CHECKING:
    from keylessd.sandbox.oidc import JsonValue

DOMAIN = "sandbox.test"

# Name -> path below the login issuer.
PATHS: Mapping[str, str] = {
    "github": "/ci/github",
    "gitlab": "/ci/gitlab",
    "buildkite": "/ci/buildkite",
    "circleci": "/ci/circleci",
    "kubernetes": "/kubernetes",
    "spiffe": "/spiffe",
    "uri": "/uri",
    "username": "/username",
}

SUBJECTS: Mapping[str, str] = {
    "github": "repo:example/project:ref:refs/heads/main",
    "gitlab": "project_path:example/project:ref_type:branch:ref:main",
    "buildkite": "organization:example:pipeline:project:ref:refs/heads/main:commit"
    ":0123456789abcdef0123456789abcdef01234567:step:build",
    "circleci": "/org/5e7c5b7a-7f0b-4a5e-9d5a-3f1f4b1f0a11"
    "/project/b7d0a7a4-6a6e-4e5f-8f55-0c9d1f1c2b22/user/0f6a6d6c-9d3b-4a59-8a1b-2c3d4e5f6a33"
    "/vcs-origin/github.com/example/project/vcs-ref/refs/heads/main",
    "kubernetes": "system:serviceaccount:default:builder",
    "spiffe": f"spiffe://{DOMAIN}/builder",
    "uri": f"https://{DOMAIN}/builder",
    "username": "builder",
}

_WORKFLOW = "example/project/.github/workflows/release.yml@refs/heads/main"

CLAIMS: Mapping[str, Mapping[str, JsonValue]] = {
    "github": {
        "event_name": "push",
        "sha": "0123456789abcdef0123456789abcdef01234567",
        "workflow": "release",
        "repository": "example/project",
        "repository_id": "1001",
        "repository_owner": "example",
        "repository_owner_id": "2002",
        "repository_visibility": "public",
        "ref": "refs/heads/main",
        "ref_type": "branch",
        "actor": "someone",
        "workflow_ref": _WORKFLOW,
        "workflow_sha": "0123456789abcdef0123456789abcdef01234567",
        "job_workflow_ref": _WORKFLOW,
        "job_workflow_sha": "0123456789abcdef0123456789abcdef01234567",
        "runner_environment": "github-hosted",
        "run_id": "3003",
        "run_number": "7",
        "run_attempt": "1",
    },
    "gitlab": {
        "ci_config_ref_uri": "gitlab.com/example/project//.gitlab-ci.yml@refs/heads/main",
        "ci_config_sha": "0123456789abcdef0123456789abcdef01234567",
        "runner_environment": "gitlab-hosted",
        "project_path": "example/project",
        "project_id": "1001",
        "project_visibility": "public",
        "namespace_path": "example",
        "namespace_id": "2002",
        "sha": "0123456789abcdef0123456789abcdef01234567",
        "ref": "main",
        "ref_type": "branch",
        "pipeline_source": "push",
        "job_id": "3003",
    },
    "buildkite": {
        "organization_slug": "example",
        "pipeline_slug": "project",
        "build_number": 7,
        "build_commit": "0123456789abcdef0123456789abcdef01234567",
        "build_source": "webhook",
        "runner_environment": "self-hosted",
        "job_id": "0190046e-e199-453b-a302-a21a4d649d31",
    },
    "circleci": {
        "oidc.circleci.com/project-id": "b7d0a7a4-6a6e-4e5f-8f55-0c9d1f1c2b22",
        "oidc.circleci.com/pipeline-definition-id": "7c0f3b1e-1a2b-4c3d-8e4f-5a6b7c8d9e44",
        "oidc.circleci.com/pipeline-id": "2d9a8b7c-6e5f-4d3c-9b2a-1f0e9d8c7b55",
        "oidc.circleci.com/workflow-id": "3e8b7a6d-5f4e-4c2d-8a1b-0e9f8d7c6b66",
        "oidc.circleci.com/job-id": "4f7c6b5e-4d3f-4b1e-9c0a-1d8e7f6a5c77",
        "oidc.circleci.com/vcs-ref": "refs/heads/main",
        "oidc.circleci.com/vcs-origin": "github.com/example/project",
    },
    "kubernetes": {
        "kubernetes.io": {
            "namespace": "default",
            "pod": {"name": "builder-0", "uid": "49ad3572-b3dd-43a6-8d77-5858d3660275"},
            "serviceaccount": {"name": "builder", "uid": "f5720c1d-e152-4356-a897-11b07aff165d"},
        }
    },
}


def rules(login_url: str) -> list[IssuerRule]:
    """Return the rules of the login issuer at *login_url* and of all workload issuers."""
    return [
        IssuerRule(login_url, IssuerType.EMAIL, federated=True),
        *(
            IssuerRule(login_url + PATHS[name], IssuerType.CI_PROVIDER, ci_provider=name)
            for name in PROVIDERS
        ),
        IssuerRule(login_url + PATHS["kubernetes"], IssuerType.KUBERNETES),
        IssuerRule(login_url + PATHS["spiffe"], IssuerType.SPIFFE, trust_domain=DOMAIN),
        IssuerRule(login_url + PATHS["uri"], IssuerType.URI, subject_domain=f"https://{DOMAIN}"),
        IssuerRule(login_url + PATHS["username"], IssuerType.USERNAME, subject_domain=DOMAIN),
    ]
