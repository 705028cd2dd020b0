"""The SigningConfig: which services to sign with. Reads, writes and selects; calls no service."""

from __future__ import annotations

import enum
import json
from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime

from keylessd.core.strict_json import Fields, JsonObject, JsonValue, StrictJsonError, loads
from keylessd.core.trusted_root import (
    MAX_TRUSTED_ROOT_BYTES,
    TimeRange,
    time_range_json,
    time_range_of,
)
from keylessd.errors import InvalidInputError, NoServiceError

MAX_SIGNING_CONFIG_BYTES = 1 << 20  # bytes; the public one has 1 KiB
MAX_SERVICES = 256  # of each kind
MAX_UINT32 = (1 << 32) - 1

MEDIA_TYPE = "application/vnd.dev.sigstore.signingconfig.v0.2+json"
TRUST_CONFIG_MEDIA_TYPE = "application/vnd.dev.sigstore.clienttrustconfig.v0.1+json"
_OLD_MEDIA_TYPE = "application/vnd.dev.sigstore.signingconfig.v0.1+json"

# Versions of the services' interfaces that keylessd speaks. Version 0 means unreleased.
CA_VERSIONS = frozenset({1})
OIDC_VERSIONS = frozenset({1})
REKOR_VERSIONS = frozenset({1, 2})
TSA_VERSIONS = frozenset({1})

_CONFIG = frozenset(
    {
        "mediaType",
        "caUrls",
        "oidcUrls",
        "rekorTlogUrls",
        "rekorTlogConfig",
        "tsaUrls",
        "tsaConfig",
    }
)
_SERVICE = frozenset({"url", "majorApiVersion", "validFor", "operator"})
_SERVICE_CONFIG = frozenset({"selector", "count"})
_TRUST_CONFIG = frozenset({"mediaType", "trustedRoot", "signingConfig"})


class Selector(enum.StrEnum):
    """How many of the selectable services are to be used."""

    ANY = "ANY"
    ALL = "ALL"
    EXACT = "EXACT"
    UNDEFINED = "SERVICE_SELECTOR_UNDEFINED"


@dataclass(frozen=True, slots=True)
class Service:
    """One service that may be used.

    Attributes:
        url: Base URL; of a TSA the whole URL.
        api_version: Major version of its interface.
        valid_for: When it may be used, None if the configuration does not say; it is then
            never used.
        operator: Who runs it.
    """

    url: str
    api_version: int
    valid_for: TimeRange | None
    operator: str


@dataclass(frozen=True, slots=True)
class SigningConfig:
    """The services of one Sigstore instance, in the order of the file.

    Attributes:
        ca_urls: Fulcio.
        oidc_urls: OpenID Connect issuers, discovery bases.
        rekor_urls: Logs of any version.
        tsa_urls: Timestamp authorities.
        rekor_selector: How many logs an entry goes to.
        rekor_count: For EXACT; else 0.
        tsa_selector: How many timestamps are made.
        tsa_count: For EXACT; else 0.
    """

    ca_urls: tuple[Service, ...]
    oidc_urls: tuple[Service, ...]
    rekor_urls: tuple[Service, ...]
    tsa_urls: tuple[Service, ...]
    rekor_selector: Selector
    rekor_count: int
    tsa_selector: Selector
    tsa_count: int


@dataclass(frozen=True, slots=True)
class Selection:
    """The services to try, in this order.

    Attributes:
        services: One per operator, all of the same version.
        required: How many of them must succeed; those after are spares.
    """

    services: tuple[Service, ...]
    required: int


def parse_signing_config(raw: bytes) -> SigningConfig:
    """Return the signing configuration that *raw* is the JSON of.

    Raises:
        InvalidInputError: It is not a SigningConfig of version 0.2, or malformed.
    """
    try:
        value = loads(raw, max_bytes=MAX_SIGNING_CONFIG_BYTES)
        fields = Fields(value, path="signingConfig", known=_CONFIG)
        media_type = fields.text("mediaType")
        if media_type == _OLD_MEDIA_TYPE:
            raise InvalidInputError(
                "the signing config is of version 0.1, which is not supported; 0.2 is",
                hint="obtain the instance's signing_config.v0.2.json",
            )
        if media_type != MEDIA_TYPE:
            fields.fail("mediaType", f"not that of a signing config: {media_type[:100]!r}")
        rekor_selector, rekor_count = _selector_of(fields, "rekorTlogConfig")
        tsa_selector, tsa_count = _selector_of(fields, "tsaConfig")
        return SigningConfig(
            ca_urls=_services_of(fields, "caUrls"),
            oidc_urls=_services_of(fields, "oidcUrls"),
            rekor_urls=_services_of(fields, "rekorTlogUrls"),
            tsa_urls=_services_of(fields, "tsaUrls"),
            rekor_selector=rekor_selector,
            rekor_count=rekor_count,
            tsa_selector=tsa_selector,
            tsa_count=tsa_count,
        )
    except StrictJsonError as exc:
        raise InvalidInputError(f"the signing config cannot be used: {exc}") from exc


def serialize_signing_config(config: SigningConfig) -> bytes:
    """Return the configuration as JSON of version 0.2."""
    value: JsonObject = {
        "mediaType": MEDIA_TYPE,
        "caUrls": [_service_json(service) for service in config.ca_urls],
        "oidcUrls": [_service_json(service) for service in config.oidc_urls],
        "rekorTlogUrls": [_service_json(service) for service in config.rekor_urls],
        "tsaUrls": [_service_json(service) for service in config.tsa_urls],
    }
    # An undefined selector is written by leaving it out: not every reader knows its name.
    if config.rekor_selector is not Selector.UNDEFINED:
        value["rekorTlogConfig"] = _selector_json(config.rekor_selector, config.rekor_count)
    if config.tsa_selector is not Selector.UNDEFINED:
        value["tsaConfig"] = _selector_json(config.tsa_selector, config.tsa_count)
    return json.dumps(value, ensure_ascii=False, indent=2).encode("utf-8")


def parse_trust_config(raw: bytes) -> tuple[bytes, bytes]:
    """Return the trusted root and the signing config in a ClientTrustConfig, each as JSON.

    Raises:
        InvalidInputError: It is not a ClientTrustConfig. The two parts are not judged.
    """
    try:
        value = loads(raw, max_bytes=MAX_TRUSTED_ROOT_BYTES + MAX_SIGNING_CONFIG_BYTES)
        fields = Fields(value, path="trustConfig", known=_TRUST_CONFIG)
        media_type = fields.text("mediaType")
        if media_type != TRUST_CONFIG_MEDIA_TYPE:
            fields.fail("mediaType", f"not that of a trust config: {media_type[:100]!r}")
        return _part_of(fields, "trustedRoot"), _part_of(fields, "signingConfig")
    except StrictJsonError as exc:
        raise InvalidInputError(f"the trust config cannot be used: {exc}") from exc


def select_ca(config: SigningConfig, now: datetime) -> Service:
    """Return the certificate authority to use at *now*.

    Raises:
        NoServiceError: None is usable.
    """
    return _candidates("certificate authority", config.ca_urls, CA_VERSIONS, now)[0]


def select_oidc(config: SigningConfig, now: datetime) -> Service:
    """Return the OpenID Connect issuer to use at *now*.

    Raises:
        NoServiceError: None is usable.
    """
    return _candidates("OpenID Connect issuer", config.oidc_urls, OIDC_VERSIONS, now)[0]


def select_rekor(config: SigningConfig, now: datetime) -> Selection:
    """Return the transparency logs to use at *now*, all of one version.

    Raises:
        NoServiceError: None is usable, or not as many as the configuration demands.
    """
    logs = _candidates("transparency log", config.rekor_urls, REKOR_VERSIONS, now)
    return _select("transparency log", logs, config.rekor_selector, config.rekor_count)


def select_tsa(config: SigningConfig, now: datetime) -> Selection:
    """Return the timestamp authorities to use at *now*.

    Raises:
        NoServiceError: None is usable, or not as many as the configuration demands.
    """
    tsas = _candidates("timestamp authority", config.tsa_urls, TSA_VERSIONS, now)
    return _select("timestamp authority", tsas, config.tsa_selector, config.tsa_count)


def _candidates(
    what: str, services: tuple[Service, ...], versions: Collection[int], now: datetime
) -> tuple[Service, ...]:
    """Return what is usable, best first: of the highest version, newest, one per operator.

    Raises:
        NoServiceError: Nothing is.
    """
    usable = [
        service
        for service in services
        if service.api_version in versions
        and service.valid_for is not None
        and service.valid_for.contains(now)
    ]
    if not usable:
        others = [one for one in services if one.api_version in versions and one.valid_for]
        raise NoServiceError(
            f"the signing config has no usable {what} for {now:%Y-%m-%dT%H:%M:%SZ}",
            # All that it has may be for another time because it is another time.
            hint="it has some for other times; look at this machine's clock" if others else None,
        )
    highest = max(service.api_version for service in usable)
    # Sorting is stable: services with the same start stay in the order of the file.
    newest_first = sorted(
        (service for service in usable if service.api_version == highest),
        key=_start,
        reverse=True,
    )
    by_operator: dict[str, Service] = {}
    for service in newest_first:
        by_operator.setdefault(service.operator, service)
    return tuple(by_operator.values())


def _start(service: Service) -> datetime:
    if service.valid_for is None or service.valid_for.start is None:
        return datetime.min.replace(tzinfo=UTC)
    return service.valid_for.start


def _select(what: str, services: tuple[Service, ...], selector: Selector, count: int) -> Selection:
    """Return how many of the services are needed.

    Raises:
        NoServiceError: The selector cannot be satisfied, or there is none.
    """
    match selector:
        case Selector.ALL:
            return Selection(services, len(services))
        case Selector.ANY:
            return Selection(services, 1)
        case Selector.EXACT:
            if not 1 <= count <= len(services):
                raise NoServiceError(
                    f"the signing config demands {count} of {len(services)} usable services "
                    f"of the kind {what}"
                )
            return Selection(services, count)
        case Selector.UNDEFINED:
            raise NoServiceError(f"the signing config does not say how to select a {what}")


def _services_of(fields: Fields, name: str) -> tuple[Service, ...]:
    return tuple(_service_of(item) for item in fields.children(name, _SERVICE, limit=MAX_SERVICES))


def _service_of(fields: Fields) -> Service:
    url = fields.text("url")
    if not url:
        fields.fail("url", "missing")
    return Service(
        url=url,
        api_version=_uint32(fields, "majorApiVersion"),
        valid_for=time_range_of(fields, "validFor"),
        operator=fields.text("operator"),
    )


def _selector_of(fields: Fields, name: str) -> tuple[Selector, int]:
    config = fields.child(name, _SERVICE_CONFIG)
    if config is None:
        return Selector.UNDEFINED, 0
    names = {selector.value: selector for selector in Selector}
    selector = config.enumerated("selector", names, default=Selector.UNDEFINED)
    return selector, _uint32(config, "count")


def _uint32(fields: Fields, name: str) -> int:
    number = fields.int64(name)
    if number > MAX_UINT32:
        fields.fail(name, "integer out of range")
    return number


def _part_of(fields: Fields, name: str) -> bytes:
    value: JsonValue = fields.value(name)
    if not isinstance(value, dict):
        fields.fail(name, "missing or not an object")
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8")


def _service_json(service: Service) -> JsonObject:
    value: JsonObject = {"url": service.url, "majorApiVersion": service.api_version}
    if service.valid_for is not None:
        value["validFor"] = time_range_json(service.valid_for)
    value["operator"] = service.operator
    return value


def _selector_json(selector: Selector, count: int) -> JsonObject:
    value: JsonObject = {"selector": selector.value}
    if selector is Selector.EXACT:
        value["count"] = count
    return value
