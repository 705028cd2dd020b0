"""The directory of a served sandbox: where it is, what is written there, who runs it.

Files, all of mode 0600 in a directory of mode 0700:

- ``instance.json``: names, URLs and ports; see Instance. It stays when the sandbox ends, so that
  the ports are the same the next time.
- ``root.json``: the first TUF root. ``trusted_root.json``, ``signing_config.json``,
  ``trust_config.json`` (both in one): for tools that take files.
- ``pid``: the process that serves it; gone when it ended in order. ``lock``: held while it runs.
- ``state/``: keys, logs and TUF metadata. Not for others.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

from keylessd.sandbox.names import HOST, SERVICES, STATE, TSA_PATH
from keylessd.sandbox.vault import DirectoryVault, SandboxError, held, write_atomically

if TYPE_CHECKING:
    from keylessd.sandbox.local import LocalSigstore
    from keylessd.sandbox.oidc import JsonValue

NAME = "sandbox"
INSTANCE = "instance.json"
ISSUERS = "issuers.json"
PID = "pid"


def default_directory(environ: Mapping[str, str]) -> Path | None:
    """Return where the sandbox lives if nobody says otherwise; None if the environment is mute."""
    # The base directory specification: a relative path is ignored.
    if (state := environ.get("XDG_STATE_HOME", "")).startswith("/"):
        return Path(state) / "keyless" / NAME
    if (home := environ.get("HOME", "")).startswith("/"):
        return Path(home) / ".local" / "state" / "keyless" / NAME
    return None


@dataclass(frozen=True, slots=True)
class Instance:
    """What ``instance.json`` says.

    Attributes:
        ports: Service -> loopback port.
        rekor: Which logs the default signing configuration names.
    """

    ports: Mapping[str, int]
    rekor: str

    @property
    def urls(self) -> dict[str, str]:
        """Service -> base URL."""
        return {service: f"http://{HOST}:{port}" for service, port in self.ports.items()}

    def service_urls(self) -> dict[str, str]:
        """Return the URLs by the names that an instance's settings have for them."""
        urls = self.urls
        return {
            "fulcio_url": urls["fulcio"],
            "rekor_url": urls["rekor-v2" if self.rekor == "v2" else "rekor-v1"],
            "rekor_v1_url": urls["rekor-v1"],
            "rekor_v2_url": urls["rekor-v2"],
            "oidc_issuer": urls["oidc"],
            "timestamp_server_url": urls["tsa"] + TSA_PATH,
            "ctlog_url": urls["ctlog"],
            "tuf_url": urls["tuf"],
        }

    def to_json(self) -> bytes:
        """Return the document; file names in it are relative to its directory."""
        value: dict[str, JsonValue] = {
            "name": NAME,
            **self.service_urls(),
            "tuf_root": "root.json",
            "signing_config_target": "signing_config.v0.2.json",
            "trusted_root": "trusted_root.json",
            "signing_config": "signing_config.json",
            "trust_config": "trust_config.json",
            "rekor": self.rekor,
            "ports": dict(self.ports),
        }
        return json.dumps(value, indent=2).encode() + b"\n"

    @classmethod
    def read(cls, directory: Path) -> Self | None:
        """Return what *directory* says, or None if no sandbox was ever served from it.

        Raises:
            SandboxError: The document is damaged.
        """
        try:
            value = json.loads((directory / INSTANCE).read_bytes())
            ports = {service: int(value["ports"][service]) for service in SERVICES}
            return cls(ports=ports, rekor=str(value["rekor"]))
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError) as exc:
            raise SandboxError(f"{directory / INSTANCE} is damaged: {exc}") from exc


def write_files(directory: Path, instance: Instance, sandbox: LocalSigstore) -> None:
    """Write what others read, for a sandbox that this process is about to serve."""
    root = sandbox.tuf.root()
    if root is None:
        raise SandboxError("the sandbox has no TUF root")
    files = {
        "root.json": root,
        "trusted_root.json": sandbox.trusted_root(),
        "signing_config.json": sandbox.signing_config(),
        "trust_config.json": sandbox.trust_config(),
        INSTANCE: instance.to_json(),
        PID: b"%d\n" % os.getpid(),
    }
    for name, content in files.items():
        write_atomically(directory / name, content)


def running_pid(directory: Path) -> int | None:
    """Return the process that serves the sandbox in *directory*, or None.

    A stale ``pid`` file does no harm: the kernel says whether the lock is held.
    """
    if not directory.is_dir() or not held(directory):
        return None
    try:
        return int((directory / PID).read_text())
    except (FileNotFoundError, ValueError):
        return None


def vault_of(directory: Path) -> DirectoryVault:
    """Return the documents of an existing sandbox, for reading beside the process that serves it.

    Raises:
        SandboxError: There is no sandbox.
    """
    if not (directory / STATE).is_dir():
        raise SandboxError(f"there is no sandbox in {directory}; start one with 'up'")
    return DirectoryVault(directory / STATE)
