"""Stated URLs over a signing configuration, and which version a stated log has."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from keylessd.core.signing_config import (
    Service,
    parse_signing_config,
    select_ca,
    select_oidc,
    select_rekor,
    select_tsa,
)
from keylessd.core.trusted_root import parse_trusted_root
from keylessd.errors import NoServiceError
from keylessd.trust.stated_urls import ALWAYS, rekor_version, with_stated_urls
from keylessd.trust.where import Urls
from sigsim.trust_files import log, signing_config, trusted_root

NOW = datetime(2030, 1, 1, tzinfo=UTC)
V1, V2 = log("https://one.example", v2=False), log("https://two.example:8080/log", v2=True)
ROOT = parse_trusted_root(trusted_root(V1, V2))
CONFIG = parse_signing_config(signing_config())


def test_nothing_stated_changes_nothing():
    assert with_stated_urls(CONFIG, Urls(), ROOT) is CONFIG
    assert with_stated_urls(None, Urls(), ROOT) is None


@pytest.mark.parametrize(
    ("field", "select"),
    [("fulcio", select_ca), ("oidc_issuer", select_oidc)],
)
def test_stated_service_is_the_only_one(field, select):
    config = with_stated_urls(CONFIG, Urls(**{field: "https://mine.example"}), ROOT)
    assert config is not None
    assert select(config, NOW).url == "https://mine.example"
    assert select_rekor(config, NOW) == select_rekor(CONFIG, NOW)


@pytest.mark.parametrize(("field", "select"), [("rekor", select_rekor), ("tsa", select_tsa)])
def test_stated_log_or_tsa_is_the_only_one(field, select):
    config = with_stated_urls(CONFIG, Urls(**{field: "https://mine.example"}), ROOT)
    assert config is not None
    selection = select(config, NOW)
    assert [service.url for service in selection.services] == ["https://mine.example"]
    assert selection.required == 1
    assert config.ca_urls == CONFIG.ca_urls


def test_all_four_need_no_configuration():
    urls = Urls("https://f.example", "https://r.example", "https://o.example", "https://t.example")
    config = with_stated_urls(None, urls, ROOT)
    assert config is not None
    assert select_ca(config, NOW).url == "https://f.example"
    assert select_rekor(config, NOW).services[0].url == "https://r.example"
    assert select_oidc(config, NOW).url == "https://o.example"
    assert select_tsa(config, NOW).services[0].url == "https://t.example"


def test_what_is_not_stated_is_not_there():
    config = with_stated_urls(None, Urls(fulcio="https://f.example"), ROOT)
    assert config is not None
    with pytest.raises(NoServiceError):
        select_rekor(config, NOW)


@pytest.mark.parametrize(
    ("url", "version"),
    [
        ("https://one.example", 1),
        ("https://two.example:8080/log", 2),
        ("https://TWO.example:8080/log/", 2),
        ("https://two.example:8080", 1),
        ("https://two.example", 1),
        ("https://unknown.example", 1),
    ],
)
def test_trusted_root_knows_the_version(url, version):
    assert rekor_version(url, CONFIG, ROOT) == version


def test_signing_config_knows_it_better():
    service = Service("http://127.0.0.1:3003/", 2, ALWAYS, "")
    config = replace(CONFIG, rekor_urls=(service,))
    assert rekor_version("http://127.0.0.1:3003", config, ROOT) == 2


def test_ed25519_log_with_an_id_of_version_1_is_of_version_1():
    old = replace(V2, log_id=b"\x01" * 32)
    root = replace(ROOT, tlogs=(old,))
    assert rekor_version("https://two.example:8080/log", None, root) == 1


@pytest.mark.parametrize(("logs", "version"), [((V2,), 2), ((V1, V2), 1), ((V1,), 1), ((), 1)])
def test_unknown_log_is_of_the_only_version_there_is(logs, version):
    assert rekor_version("http://127.0.0.1:1", None, replace(ROOT, tlogs=logs)) == version
