"""Signing configurations and the selection of services."""

from __future__ import annotations

import json
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keylessd.core.signing_config import (
    MEDIA_TYPE,
    TRUST_CONFIG_MEDIA_TYPE,
    Selection,
    Selector,
    Service,
    SigningConfig,
    parse_signing_config,
    parse_trust_config,
    select_ca,
    select_oidc,
    select_rekor,
    select_tsa,
    serialize_signing_config,
)
from keylessd.core.trusted_root import TimeRange, parse_trusted_root
from keylessd.errors import InvalidInputError, NoServiceError

NOW = datetime(2026, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)
SERVICE = {
    "url": "https://one.example.com",
    "majorApiVersion": 1,
    "validFor": {"start": "2025-01-01T00:00:00Z", "end": "2027-01-01T00:00:00.5Z"},
    "operator": "one",
}
VALUE: dict[str, Any] = {
    "mediaType": MEDIA_TYPE,
    "caUrls": [SERVICE],
    "oidcUrls": [SERVICE],
    "rekorTlogUrls": [{**SERVICE, "majorApiVersion": 2}, SERVICE],
    "rekorTlogConfig": {"selector": "ANY"},
    "tsaUrls": [SERVICE],
    "tsaConfig": {"selector": "EXACT", "count": 1},
}


def _raw(**changes: object) -> bytes:
    value = {**VALUE, **changes}
    return json.dumps({key: item for key, item in value.items() if item is not ...}).encode()


def service(
    name: str,
    version: int = 1,
    *,
    start: timedelta | None = -DAY,
    end: timedelta | None = None,
    operator: str | None = None,
) -> Service:
    """Return a service that is valid from *start* to *end*, both relative to NOW."""
    period = TimeRange(None if start is None else NOW + start, None if end is None else NOW + end)
    return Service(name, version, period, name if operator is None else operator)


def config(*services: Service, selector: Selector = Selector.ALL, count: int = 0) -> SigningConfig:
    """Return a configuration with *services* of every kind."""
    return SigningConfig(services, services, services, services, selector, count, selector, count)


def _names(selection: Selection) -> list[str]:
    return [item.url for item in selection.services]


# --- reading ---------------------------------------------------------------------------------


def test_everything_is_read() -> None:
    period = TimeRange(
        datetime(2025, 1, 1, tzinfo=UTC), datetime(2027, 1, 1, 0, 0, 0, 500_000, UTC)
    )
    one = Service("https://one.example.com", 1, period, "one")
    two = Service("https://one.example.com", 2, period, "one")
    assert parse_signing_config(_raw()) == SigningConfig(
        ca_urls=(one,),
        oidc_urls=(one,),
        rekor_urls=(two, one),
        tsa_urls=(one,),
        rekor_selector=Selector.ANY,
        rekor_count=0,
        tsa_selector=Selector.EXACT,
        tsa_count=1,
    )


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"[]",
        b"{}",
        _raw()[:-1],
        _raw() + b" " * (1 << 20),
        _raw().replace(b'"caUrls"', b'"caUrls": [], "caUrls"'),
        _raw(mediaType="application/vnd.dev.sigstore.signingconfig.v0.3+json"),
        _raw(mediaType=...),
        _raw(mediaType=2),
        _raw(caUrls={}),
        _raw(caUrls=["https://one.example.com"]),
        _raw(caUrls=[{**SERVICE, "url": ""}]),
        _raw(caUrls=[{**SERVICE, "url": None}]),
        _raw(caUrls=[{**SERVICE, "majorApiVersion": -1}]),
        _raw(caUrls=[{**SERVICE, "majorApiVersion": 1.0}]),
        _raw(caUrls=[{**SERVICE, "majorApiVersion": 1 << 32}]),
        _raw(caUrls=[{**SERVICE, "validFor": {"start": "2025-01-01"}}]),
        _raw(caUrls=[{**SERVICE, "validFor": "always"}]),
        _raw(caUrls=[{**SERVICE, "operator": 1}]),
        _raw(caUrls=[SERVICE] * 257),
        _raw(ca_urls=[]),
        _raw(tsaConfig={"selector": "SOME"}),
        _raw(tsaConfig={"selector": 2}),
        _raw(tsaConfig={"selector": "EXACT", "count": -1}),
        _raw(tsaConfig="ANY"),
    ],
)
def test_malformed_config_is_refused(raw: bytes) -> None:
    with pytest.raises(InvalidInputError):
        parse_signing_config(raw)


def test_version_01_is_refused_by_name() -> None:
    raw = json.dumps(
        {
            "mediaType": "application/vnd.dev.sigstore.signingconfig.v0.1+json",
            "caUrl": "https://fulcio.example.com",
        }
    ).encode()
    with pytest.raises(InvalidInputError, match=r"version 0\.1"):
        parse_signing_config(raw)


@pytest.mark.parametrize("item", [..., None, {}, {"selector": "SERVICE_SELECTOR_UNDEFINED"}])
def test_missing_selector_is_read_and_selects_nothing(item: object) -> None:
    found = parse_signing_config(_raw(rekorTlogConfig=item, tsaConfig=item))
    assert (found.rekor_selector, found.tsa_selector) == (Selector.UNDEFINED, Selector.UNDEFINED)
    for select in (select_rekor, select_tsa):
        with pytest.raises(NoServiceError, match="how to select"):
            select(found, NOW)


@settings(deadline=None)
@given(data=st.data())
def test_damaged_config_raises_nothing_else(data: st.DataObject) -> None:
    raw = _raw()
    position = data.draw(st.integers(0, len(raw) - 1))
    with suppress(InvalidInputError):
        parse_signing_config(
            raw[:position] + bytes([data.draw(st.integers(0, 255))]) + raw[position + 1 :]
        )
    with pytest.raises(InvalidInputError):
        parse_signing_config(raw[:position])


# --- selecting -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "unusable",
    [
        service("a", 0),
        service("a", 3),
        service("a", start=timedelta(microseconds=1)),
        service("a", end=-timedelta(microseconds=1)),
        service("a", start=None),
        Service("a", 1, None, "a"),
    ],
    ids=["version-0", "version-3", "future", "expired", "no-start", "no-period"],
)
def test_unusable_service_is_never_selected(unusable: Service) -> None:
    for select in (select_ca, select_oidc, select_rekor, select_tsa):
        with pytest.raises(NoServiceError):
            select(config(unusable), NOW)
        found = select(config(unusable, service("b")), NOW)
        services = found.services if isinstance(found, Selection) else (found,)
        assert [item.url for item in services] == ["b"]


def test_service_whose_period_ends_before_it_starts_is_passed_over() -> None:
    backwards = {"start": "2027-01-01T00:00:00Z", "end": "2025-01-01T00:00:00Z"}
    other = {**SERVICE, "url": "https://other.example.com", "validFor": backwards}
    parsed = parse_signing_config(_raw(caUrls=[other, SERVICE]))
    assert len(parsed.ca_urls) == 2
    assert select_ca(parsed, NOW).url == SERVICE["url"]
    with pytest.raises(NoServiceError):
        select_ca(parse_signing_config(_raw(caUrls=[other])), NOW)


@pytest.mark.parametrize(
    "usable", [service("a", start=timedelta(0)), service("a", end=timedelta(0))]
)
def test_both_ends_of_the_period_are_usable(usable: Service) -> None:
    assert select_ca(config(usable), NOW) is usable


def test_only_rekor_has_a_version_2() -> None:
    services = config(service("v2", 2), service("v1", 1))
    assert _names(select_rekor(services, NOW)) == ["v2"]
    assert _names(select_tsa(services, NOW)) == ["v1"]
    assert select_ca(services, NOW).url == "v1"
    assert select_oidc(services, NOW).url == "v1"


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 2, 1, 0), (1, 3, 0, 2)])
def test_highest_version_wins_over_newest_start_and_versions_are_not_mixed(
    order: tuple[int, ...],
) -> None:
    services = [
        service("old-v2", 2, start=-9 * DAY, operator="a"),
        service("new-v1", 1, start=-1 * DAY, operator="b"),
        service("newer-v2", 2, start=-2 * DAY, operator="c"),
        service("future-v2", 2, start=DAY, operator="d"),
    ]
    found = select_rekor(config(*(services[number] for number in order)), NOW)
    assert _names(found) == ["newer-v2", "old-v2"]


def test_lower_version_is_selected_once_the_higher_has_no_service() -> None:
    services = config(service("v2", 2, end=-DAY), service("v1", 1))
    assert _names(select_rekor(services, NOW)) == ["v1"]


def test_newest_of_each_operator_is_selected() -> None:
    services = config(
        service("a-old", start=-5 * DAY, operator="a"),
        service("b", start=-4 * DAY, operator="b"),
        service("a-new", start=-3 * DAY, operator="a"),
        service("a-future", start=DAY, operator="a"),
    )
    assert _names(select_tsa(services, NOW)) == ["a-new", "b"]
    assert select_ca(services, NOW).url == "a-new"


def test_services_of_equal_start_keep_the_order_of_the_file() -> None:
    names = ["c", "a", "d", "b"]
    assert _names(select_rekor(config(*map(service, names)), NOW)) == names
    same = [service(name, operator="one") for name in names]
    assert _names(select_rekor(config(*same), NOW)) == ["c"]
    assert select_ca(config(*same), NOW).url == "c"


THREE = (service("a", start=-DAY), service("b", start=-2 * DAY), service("c", start=-3 * DAY))


@pytest.mark.parametrize(
    ("selector", "count", "required"),
    [
        (Selector.ALL, 0, 3),
        (Selector.ALL, 1, 3),
        (Selector.ANY, 0, 1),
        (Selector.ANY, 2, 1),
        (Selector.EXACT, 1, 1),
        (Selector.EXACT, 2, 2),
        (Selector.EXACT, 3, 3),
    ],
)
def test_selector_tells_how_many_must_succeed(
    selector: Selector, count: int, required: int
) -> None:
    for select in (select_rekor, select_tsa):
        found = select(config(*THREE, selector=selector, count=count), NOW)
        assert (_names(found), found.required) == (["a", "b", "c"], required)


@pytest.mark.parametrize("count", [0, 4])
def test_exact_number_that_cannot_be_had_is_refused(count: int) -> None:
    for select in (select_rekor, select_tsa):
        with pytest.raises(NoServiceError, match=f"demands {count} of 3"):
            select(config(*THREE, selector=Selector.EXACT, count=count), NOW)


def test_exact_counts_operators() -> None:
    services = [service(name, operator="one") for name in ("a", "b")]
    with pytest.raises(NoServiceError):
        select_tsa(config(*services, selector=Selector.EXACT, count=2), NOW)


def test_services_of_another_time_may_mean_that_the_clock_is_wrong() -> None:
    with pytest.raises(NoServiceError, match=r"no usable .* for \d{4}-.*Z$") as caught:
        select_tsa(config(service("a", start=DAY)), NOW)
    assert "this machine's clock" in str(caught.value.hint)
    never = Service("a", 1, None, "a")
    for other in (config(), config(service("a", version=99)), config(never)):
        with pytest.raises(NoServiceError) as caught:
            select_tsa(other, NOW)
        assert caught.value.hint is None


@pytest.mark.parametrize("selector", list(Selector))
def test_nothing_is_never_enough(selector: Selector) -> None:
    for select in (select_rekor, select_tsa):
        with pytest.raises(NoServiceError):
            select(config(selector=selector, count=0), NOW)


# --- writing, and real configurations --------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [{}, {"tsaUrls": [], "tsaConfig": {}}, {"caUrls": [{**SERVICE, "validFor": None}]}],
    ids=["full", "no-tsa", "no-period"],
)
def test_what_is_written_is_read_again(changes: dict[str, object]) -> None:
    found = parse_signing_config(_raw(**changes))
    assert parse_signing_config(serialize_signing_config(found)) == found


@pytest.mark.parametrize(
    ("name", "url", "version"),
    [
        ("signing_config.v0.2.json", "https://rekor.sigstore.dev", 1),
        ("signing_config_rekor_v2.v0.2.json", "https://log2025-1.rekor.sigstore.dev", 2),
    ],
)
def test_real_configs_are_read_and_others_read_ours(
    vectors: Path, tmp_path: Path, name: str, url: str, version: int
) -> None:
    (path,) = (vectors / "tuf-production/targets").glob(f"*.{name}")
    found = parse_signing_config(path.read_bytes())
    (log, *spares) = select_rekor(found, NOW + DAY).services
    assert (log.url, log.api_version, spares) == (url, version, [])
    assert select_ca(found, NOW).url == "https://fulcio.sigstore.dev"
    assert select_oidc(found, NOW).url == "https://oauth2.sigstore.dev/auth"
    assert select_tsa(found, NOW).required == 1
    models = pytest.importorskip("sigstore.models")
    ours = tmp_path / "config.json"
    ours.write_bytes(serialize_signing_config(found))
    assert models.SigningConfig.from_file(str(ours)).get_oidc_url()
    ours.write_bytes(_raw(tsaUrls=[], tsaConfig={}))
    ours.write_bytes(serialize_signing_config(parse_signing_config(ours.read_bytes())))
    models.SigningConfig.from_file(str(ours))


# --- both in one file ------------------------------------------------------------------------


def test_parts_of_a_trust_config_are_not_judged() -> None:
    value = {"mediaType": TRUST_CONFIG_MEDIA_TYPE, "trustedRoot": {"a": 1}, "signingConfig": {}}
    assert [json.loads(part) for part in parse_trust_config(json.dumps(value).encode())] == [
        {"a": 1},
        {},
    ]


def test_trust_config_is_taken_apart(vectors: Path) -> None:
    root = (vectors / "trust/production.trusted_root.json").read_bytes()
    raw = json.dumps(
        {
            "mediaType": TRUST_CONFIG_MEDIA_TYPE,
            "trustedRoot": json.loads(root),
            "signingConfig": VALUE,
        }
    ).encode()
    root_part, config_part = parse_trust_config(raw)
    assert json.loads(root_part) == json.loads(root)
    assert len(parse_trusted_root(root_part).tlogs) == 2
    assert parse_signing_config(config_part) == parse_signing_config(_raw())
    models = pytest.importorskip("sigstore.models")
    models.ClientTrustConfig.from_json(raw.decode())


@pytest.mark.parametrize(
    "value",
    [
        {"trustedRoot": {}, "signingConfig": {}},
        {"mediaType": MEDIA_TYPE, "trustedRoot": {}, "signingConfig": {}},
        {"mediaType": TRUST_CONFIG_MEDIA_TYPE, "trustedRoot": {}},
        {"mediaType": TRUST_CONFIG_MEDIA_TYPE, "signingConfig": {}},
        {"mediaType": TRUST_CONFIG_MEDIA_TYPE, "trustedRoot": [], "signingConfig": {}},
        {"mediaType": TRUST_CONFIG_MEDIA_TYPE, "trustedRoot": {}, "signingConfig": None},
        {"mediaType": TRUST_CONFIG_MEDIA_TYPE, "trusted_root": {}, "signingConfig": {}},
        [],
    ],
)
def test_malformed_trust_config_is_refused(value: object) -> None:
    with pytest.raises(InvalidInputError):
        parse_trust_config(json.dumps(value).encode())
