"""The sandbox's issuers that nobody logs in at: what CI systems, clusters and others would be.

Each hangs below a path of the login issuer's URL and has one of Fulcio's issuer types, so that
every kind of certificate can be had. Pure: names and sample claims only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from keylessd.sandbox.issuers import IssuerRule, IssuerType

if TYPE_CHECKING:
    from collections.abc import Mapping

    from keylessd.sandbox.oidc import JsonValue

DOMAIN = "sandbox.test"

# Name -> path below the login issuer.
PATHS: Mapping[str, str] = {
    "github": "/ci/github",
    "kubernetes": "/kubernetes",
    "spiffe": "/spiffe",
    "uri": "/uri",
    "username": "/username",
}

SUBJECTS: Mapping[str, str] = {
    "github": "repo:example/project:ref:refs/heads/main",
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
        IssuerRule(login_url + PATHS["github"], IssuerType.CI_PROVIDER),
        IssuerRule(login_url + PATHS["kubernetes"], IssuerType.KUBERNETES),
        IssuerRule(login_url + PATHS["spiffe"], IssuerType.SPIFFE, trust_domain=DOMAIN),
        IssuerRule(login_url + PATHS["uri"], IssuerType.URI, subject_domain=f"https://{DOMAIN}"),
        IssuerRule(login_url + PATHS["username"], IssuerType.USERNAME, subject_domain=DOMAIN),
    ]
