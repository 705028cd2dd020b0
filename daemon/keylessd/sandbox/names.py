"""Names and places that several modules of the sandbox agree on. Pure, and light to import."""

from __future__ import annotations

from collections.abc import Mapping

# The services, in the order of their ports.
SERVICES = ("oidc", "fulcio", "ctlog", "rekor-v1", "rekor-v2", "tsa", "tuf")
HOST = "127.0.0.1"
# Folder of keys, logs and documents inside a sandbox's directory.
STATE = "state"
# The timestamp authority's URL is that of its endpoint.
TSA_PATH = "/api/v1/timestamp"

# The logs' names are those of hosts without port: some clients take no others. They do not
# change when the ports do. The real URLs stand in the signing configuration only.
REKOR_V1_NAME = "rekor-v1.sandbox.test"
REKOR_V2_NAME = "rekor-v2.sandbox.test"

IN_PROCESS_URLS: Mapping[str, str] = {
    service: f"http://{service}.sandbox.test" for service in SERVICES
}
