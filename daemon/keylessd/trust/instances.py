"""What an instance is made of: where its trust comes from. Describes; fetches nothing."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from keylessd.errors import InvalidInputError
from keylessd.trust.where import Urls

if TYPE_CHECKING:
    from keylessd.settings import InstanceSettings

PUBLIC = "public"
STAGING = "staging"
SANDBOX = "sandbox"

TRUSTED_ROOT_TARGET = "trusted_root.json"
SIGNING_CONFIG_TARGET = "signing_config.v0.2.json"
# The public instance's other configuration: Rekor v2 first.
REKOR_V2_SIGNING_CONFIG_TARGET = "signing_config_rekor_v2.v0.2.json"

MAX_ROOT = 512_000  # bytes; python-tuf's own limit

_ROOTS = Path(__file__).parent / "roots"


@dataclass(frozen=True, slots=True)
class TufInstance:
    """An instance whose trust root comes from a TUF repository.

    Attributes:
        name: Its name.
        url: Base URL of the metadata; the targets lie in ``targets/`` below it.
        root: Bytes of a root.json that is trusted from the start, of any version.
        signing_config_target: Name of the target that is the signing configuration. The
            repository may lack it; then there is none.
        urls: Service URLs that replace those of the signing configuration.
    """

    name: str
    url: str
    root: bytes = field(repr=False)
    signing_config_target: str = SIGNING_CONFIG_TARGET
    urls: Urls = field(default_factory=Urls)

    @property
    def cache_key(self) -> str:
        """Name of its cache directory: another mirror under the same name has another one."""
        return f"{quote(self.name, safe='')}-{hashlib.sha256(self.url.encode()).hexdigest()[:12]}"


@dataclass(frozen=True, slots=True)
class FileInstance:
    """An instance whose trust root is a file that somebody else keeps up to date.

    Attributes:
        name: Its name.
        trusted_root: A TrustedRoot JSON file.
        signing_config: A SigningConfig JSON file, if there is one.
        urls: Service URLs that replace those of the signing configuration.
    """

    name: str
    trusted_root: Path
    signing_config: Path | None = None
    urls: Urls = field(default_factory=Urls)


@dataclass(frozen=True, slots=True)
class SandboxInstance:
    """The local Sigstore of this machine, described by the directory it keeps its state in.

    Attributes:
        name: Its name.
        directory: Holds ``instance.json`` while, or after, a sandbox runs.
    """

    name: str
    directory: Path


InstanceSpec = TufInstance | FileInstance | SandboxInstance


def builtin(sandbox_dir: Path) -> dict[str, InstanceSpec]:
    """Return the instances that need no settings.

    Args:
        sandbox_dir: State directory of the local sandbox; need not exist.
    """
    return {
        PUBLIC: TufInstance(
            PUBLIC,
            "https://tuf-repo-cdn.sigstore.dev",
            (_ROOTS / "public.root.json").read_bytes(),
        ),
        STAGING: TufInstance(
            STAGING,
            "https://tuf-repo-cdn.sigstage.dev",
            (_ROOTS / "staging.root.json").read_bytes(),
        ),
        SANDBOX: SandboxInstance(SANDBOX, sandbox_dir),
    }


def configured(
    settings: Iterable[InstanceSettings], *, sandbox_dir: Path
) -> Mapping[str, InstanceSpec]:
    """Return the built-in instances and those of the settings.

    Settings for a built-in one choose its signing configuration and nothing else.

    Raises:
        InvalidInputError: If a TUF root that the settings name cannot be read.
    """
    instances = builtin(sandbox_dir)
    for one in settings:
        known = instances.get(one.name)
        if isinstance(known, TufInstance):
            target = one.signing_config_target or SIGNING_CONFIG_TARGET
            instances[one.name] = replace(known, signing_config_target=target)
        else:
            instances[one.name] = _configured(one)
    return instances


def _configured(settings: InstanceSettings) -> InstanceSpec:
    urls = Urls(
        fulcio=settings.fulcio_url,
        rekor=settings.rekor_url,
        oidc_issuer=settings.oidc_issuer,
        tsa=settings.timestamp_server_url,
    )
    if settings.trusted_root is not None:
        return FileInstance(settings.name, settings.trusted_root, settings.signing_config, urls)
    if settings.tuf_url is None or settings.tuf_root is None:
        raise InvalidInputError(f"instance {settings.name!r} names no source of trust")
    target = settings.signing_config_target or SIGNING_CONFIG_TARGET
    try:
        root = read_capped(settings.tuf_root, MAX_ROOT)
    except InvalidInputError as exc:
        raise InvalidInputError(f"instance.{settings.name}.tuf_root: {exc.message}") from exc
    return TufInstance(settings.name, settings.tuf_url, root, target, urls)


def read_capped(path: Path, limit: int) -> bytes:
    """Return the bytes of a small file.

    Raises:
        InvalidInputError: If it cannot be read, or is longer than *limit* bytes.
    """
    try:
        with path.open("rb") as file:
            raw = file.read(limit + 1)
    except OSError as exc:
        raise InvalidInputError(f"{path} cannot be read: {exc.strerror}") from exc
    if len(raw) > limit:
        raise InvalidInputError(f"{path} is longer than {limit} bytes")
    return raw
