"""Service URLs that somebody stated, put in the place of a signing configuration's. Pure."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.asymmetric import ed25519

from keylessd.core.note import note_key_id
from keylessd.core.signing_config import Selector, Service, SigningConfig
from keylessd.core.trusted_root import TimeRange

if TYPE_CHECKING:
    from keylessd.core.trusted_root import TransparencyLog, TrustedRoot
    from keylessd.trust.where import Urls

OPERATOR = "stated"
# Whoever states a URL wants it used now; the selection by time must always find it.
ALWAYS = TimeRange(datetime.min.replace(tzinfo=UTC), None)
EMPTY = SigningConfig(
    ca_urls=(),
    oidc_urls=(),
    rekor_urls=(),
    tsa_urls=(),
    rekor_selector=Selector.ANY,
    rekor_count=0,
    tsa_selector=Selector.ANY,
    tsa_count=0,
)


def with_stated_urls(
    config: SigningConfig | None, urls: Urls, root: TrustedRoot
) -> SigningConfig | None:
    """Return *config* with the services of *urls* in the place of its own of each kind.

    Args:
        config: The signing configuration, or None if there is none.
        urls: Stated URLs. If there are none, *config* is returned as it is.
        root: Says of which version a stated log is, see rekor_version().
    """
    if not urls:
        return config
    result = EMPTY if config is None else config
    if urls.fulcio is not None:
        result = replace(result, ca_urls=_only(urls.fulcio, 1))
    if urls.oidc_issuer is not None:
        result = replace(result, oidc_urls=_only(urls.oidc_issuer, 1))
    if urls.tsa is not None:
        result = replace(
            result, tsa_urls=_only(urls.tsa, 1), tsa_selector=Selector.ANY, tsa_count=0
        )
    if urls.rekor is not None:
        version = rekor_version(urls.rekor, config, root)
        result = replace(
            result,
            rekor_urls=_only(urls.rekor, version),
            rekor_selector=Selector.ANY,
            rekor_count=0,
        )
    return result


def rekor_version(url: str, config: SigningConfig | None, root: TrustedRoot) -> int:
    """Return the major version of the interface at a log's stated URL.

    What the signing configuration says of that URL; else what the trusted root's log of that name
    is; else, for a name that neither knows, 2 if all logs of the root are of version 2, and 1
    otherwise, which any older private deployment is.
    """
    name = _name(url)
    if config is not None:
        for service in config.rekor_urls:
            if _name(service.url) == name:
                return service.api_version
    named = [_is_v2(log) for log in root.tlogs if log.name.lower() == name]
    if named:
        return 2 if any(named) else 1
    return 2 if root.tlogs and all(_is_v2(log) for log in root.tlogs) else 1


def _is_v2(log: TransparencyLog) -> bool:
    # A log of version 2 is called by its whole key identifier as a signer of notes; one of
    # version 1, whatever its key, by the hash of the key alone.
    is_ed25519 = isinstance(log.key, ed25519.Ed25519PublicKey)
    return is_ed25519 and log.log_id == note_key_id(log.name, log.key)


def _only(url: str, version: int) -> tuple[Service, ...]:
    return (Service(url=url, api_version=version, valid_for=ALWAYS, operator=OPERATOR),)


def _name(url: str) -> str:
    _, separator, rest = url.partition("://")
    return (rest if separator else url).rstrip("/").lower()
