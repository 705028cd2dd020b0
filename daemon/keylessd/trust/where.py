"""Which Sigstore a request means: an instance, files, URLs, or a mixture. Only names it."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Urls:
    """Service URLs that a request states itself; each replaces what would be selected."""

    fulcio: str | None = None
    rekor: str | None = None
    oidc_issuer: str | None = None
    tsa: str | None = None

    def __bool__(self) -> bool:
        return (
            self.fulcio is not None
            or self.rekor is not None
            or self.oidc_issuer is not None
            or self.tsa is not None
        )


@dataclass(frozen=True, slots=True)
class Where:
    """A request's choice. All absent means the default instance.

    Attributes:
        instance: Name of a configured instance.
        trusted_root: Bytes of a TrustedRoot JSON file.
        signing_config: Bytes of a SigningConfig JSON file.
        trust_config: Bytes of a ClientTrustConfig JSON file, which holds both.
        urls: Service URLs over the rest.
    """

    instance: str | None = None
    trusted_root: bytes | None = None
    signing_config: bytes | None = None
    trust_config: bytes | None = None
    urls: Urls = field(default_factory=Urls)
