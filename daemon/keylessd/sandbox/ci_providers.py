"""What Fulcio makes of the claims of CI systems: a name and extensions, by templates. Pure.

The templates are those of the public Fulcio's configuration. Fields are claims; their names have
no blanks, dots or slashes here, see fields_of().
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from keylessd.sandbox.oidc import JsonValue


@dataclass(frozen=True, slots=True)
class CiProvider:
    """One CI system.

    Attributes:
        san: Template of the URI that the certificate names.
        extensions: Last arc -> template.
        optional: The same for those that are left out where a claim is missing.
        defaults: What a claim is taken to be where the token does not have it.
    """

    san: str
    extensions: Mapping[int, str]
    optional: Mapping[int, str]
    defaults: Mapping[str, str]


PROVIDERS: Final[Mapping[str, CiProvider]] = MappingProxyType(
    {
        "github": CiProvider(
            san="{url}/{job_workflow_ref}",
            extensions=MappingProxyType(
                {
                    2: "{event_name}",
                    3: "{sha}",
                    4: "{workflow}",
                    5: "{repository}",
                    6: "{ref}",
                    9: "{url}/{job_workflow_ref}",
                    10: "{job_workflow_sha}",
                    11: "{runner_environment}",
                    12: "{url}/{repository}",
                    13: "{sha}",
                    14: "{ref}",
                    15: "{repository_id}",
                    16: "{url}/{repository_owner}",
                    17: "{repository_owner_id}",
                    18: "{url}/{workflow_ref}",
                    19: "{workflow_sha}",
                    20: "{event_name}",
                    21: "{url}/{repository}/actions/runs/{run_id}/attempts/{run_attempt}",
                    22: "{repository_visibility}",
                }
            ),
            # A job has an environment only if its workflow says so.
            optional=MappingProxyType({23: "{environment}"}),
            defaults=MappingProxyType({"url": "https://github.com"}),
        ),
        "gitlab": CiProvider(
            san="https://{ci_config_ref_uri}",
            extensions=MappingProxyType(
                {
                    9: "https://{ci_config_ref_uri}",
                    10: "{ci_config_sha}",
                    11: "{runner_environment}",
                    12: "{url}/{project_path}",
                    13: "{sha}",
                    14: "refs/{ref_directory}/{ref}",
                    15: "{project_id}",
                    16: "{url}/{namespace_path}",
                    17: "{namespace_id}",
                    18: "https://{ci_config_ref_uri}",
                    19: "{ci_config_sha}",
                    20: "{pipeline_source}",
                    21: "{url}/{project_path}/-/jobs/{job_id}",
                    22: "{project_visibility}",
                }
            ),
            optional=MappingProxyType({23: "{environment}"}),
            defaults=MappingProxyType({"url": "https://gitlab.com"}),
        ),
        "buildkite": CiProvider(
            san="{url}/{organization_slug}/{pipeline_slug}",
            extensions=MappingProxyType(
                {
                    11: "{runner_environment}",
                    13: "{build_commit}",
                    20: "{build_source}",
                    21: "{url}/{organization_slug}/{pipeline_slug}/builds/{build_number}#{job_id}",
                }
            ),
            optional=MappingProxyType({}),
            defaults=MappingProxyType({"url": "https://buildkite.com"}),
        ),
        "circleci": CiProvider(
            san="{api_url}/projects/{project_id}/pipeline-definitions/{pipeline_definition_id}",
            extensions=MappingProxyType(
                {
                    9: "{api_url}/projects/{project_id}/pipeline-definitions"
                    "/{pipeline_definition_id}",
                    12: "{vcs_origin}",
                    14: "{vcs_ref}",
                    18: "{api_url}/pipeline/{pipeline_id}/config",
                    21: "{platform_url}/workflow/{workflow_id}/job/{job_id}",
                }
            ),
            optional=MappingProxyType({}),
            defaults=MappingProxyType(
                {
                    "api_url": "https://circleci.com/api/v2",
                    "platform_url": "https://app.circleci.com/",
                }
            ),
        ),
    }
)


def fields_of(provider: CiProvider, claims: Mapping[str, JsonValue]) -> dict[str, str]:
    """Return what stands for the fields of *provider*'s templates.

    CircleCI's claims are named ``oidc.circleci.com/vcs-ref``: here that is ``vcs_ref``.
    """
    fields = dict(provider.defaults)
    for name, value in claims.items():
        if isinstance(value, str | int) and not isinstance(value, bool):
            fields[name.rpartition("/")[2].replace("-", "_")] = str(value)
    # GitLab names the branch or the tag alone.
    fields["ref_directory"] = "heads" if fields.get("ref_type") == "branch" else "tags"
    return fields
