"""Trust material for the real services, written by keyless' own code: roots, configs, TUF."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.real.keys import Keys, PublicKey
from tests.real.services import CT_ORIGIN, REKOR1_NAME, REKOR2_NAMES

from keylessd.clock import SystemClock
from keylessd.core.keys import key_details, spki
from keylessd.core.note import note_key_id
from keylessd.core.signing_config import (
    Selector,
    Service,
    SigningConfig,
    serialize_signing_config,
)
from keylessd.core.trusted_root import (
    Authority,
    TimeRange,
    TransparencyLog,
    TrustedRoot,
    serialize_trusted_root,
)
from keylessd.sandbox.trust_files import trust_config
from keylessd.sandbox.tuf_repo import TufRepository
from keylessd.sandbox.vault import DirectoryVault

OPERATOR = "keyless.test"
TRUSTED_ROOT = "trusted_root.json"
SIGNING_CONFIG = "signing_config.v0.2.json"


@dataclass(frozen=True, slots=True)
class Urls:
    """Where the services are."""

    fulcio: str
    ct: str
    issuer: str
    dex: str
    rekor1: str
    rekor2_a: str
    rekor2_b: str
    tsa: str
    files: str


def trusted_root(keys: Keys, urls: Urls) -> bytes:
    """Return the TrustedRoot of all services. Logs stand in it by name, not by address.

    Clients take the host of ``baseUrl`` as the name that a log's checkpoints bear.
    """
    period = TimeRange(keys.start, None)

    def log(name: str, key: PublicKey, *, v2: bool = False) -> TransparencyLog:
        digest = hashlib.sha256(spki(key)).digest()
        return TransparencyLog(
            base_url=f"https://{name}",
            name=name,
            key=key,
            key_details=key_details(key),
            valid_for=period,
            log_id=note_key_id(name, key) if v2 else digest,
            checkpoint_key_id=None,
            operator="",
        )

    public = keys.public
    return serialize_trusted_root(
        TrustedRoot(
            tlogs=(
                log(REKOR1_NAME, public["rekor1"]),
                *(log(host, public[name], v2=True) for name, host in REKOR2_NAMES.items()),
            ),
            ctlogs=(log(CT_ORIGIN, public["ct"]),),
            certificate_authorities=(
                Authority(urls.fulcio, OPERATOR, "keyless tests CA", (keys.ca,), period, ""),
            ),
            timestamp_authorities=(
                Authority(urls.tsa, OPERATOR, "keyless tests TSA", keys.tsa_chain, period, ""),
            ),
            disabled=(),
            sha256="",
        )
    )


def signing_config(
    keys: Keys,
    urls: Urls,
    logs: Sequence[tuple[str, int]],
    *,
    selector: Selector = Selector.ANY,
    count: int = 0,
    timestamp: bool = True,
    oidc: str | None = None,
) -> bytes:
    """Return the SigningConfig that writes to *logs*, pairs of URL and version of interface."""
    period = TimeRange(keys.start, None)

    def one(url: str, version: int = 1, operator: str = OPERATOR) -> Service:
        return Service(url, version, period, operator)

    return serialize_signing_config(
        SigningConfig(
            ca_urls=(one(urls.fulcio),),
            oidc_urls=(one(oidc or urls.dex),),
            # An operator each: a client takes one log per operator.
            rekor_urls=tuple(
                one(url, version, f"{number}.{OPERATOR}")
                for number, (url, version) in enumerate(logs)
            ),
            tsa_urls=(one(urls.tsa),) if timestamp else (),
            rekor_selector=selector,
            rekor_count=count,
            tsa_selector=Selector.ANY,
            tsa_count=0,
        )
    )


def configurations(keys: Keys, urls: Urls) -> Mapping[str, bytes]:
    """Return the signing configurations that the tests use, by name."""
    v1, a, b = (urls.rekor1, 1), (urls.rekor2_a, 2), (urls.rekor2_b, 2)
    return {
        "v1": signing_config(keys, urls, [v1], timestamp=False),
        "v1-tsa": signing_config(keys, urls, [v1]),
        "v2": signing_config(keys, urls, [a]),
        "both-any": signing_config(keys, urls, [v1, a]),
        "both-all": signing_config(keys, urls, [v1, a], selector=Selector.ALL),
        "v2-all": signing_config(keys, urls, [a, b], selector=Selector.ALL),
        "v2-exact1": signing_config(keys, urls, [a, b], selector=Selector.EXACT, count=1),
        "v2-exact2": signing_config(keys, urls, [a, b], selector=Selector.EXACT, count=2),
        "v2-exact3": signing_config(keys, urls, [a, b], selector=Selector.EXACT, count=3),
    }


def write_trust(folder: Path, keys: Keys, urls: Urls) -> None:
    """Write the trusted root, and each configuration alone and with the root in one file."""
    folder.mkdir()
    root = trusted_root(keys, urls)
    (folder / TRUSTED_ROOT).write_bytes(root)
    for name, config in configurations(keys, urls).items():
        (folder / f"signing-{name}.json").write_bytes(config)
        (folder / f"trust-{name}.json").write_bytes(trust_config(root, config))


class Repository:
    """A TUF repository below the file server. Making it anew in another process is fine.

    Attributes:
        url: Where clients find it.
        root: File with the first root, for clients to begin with.
        tuf: The repository's own operations: publish, renew, rotate.
    """

    def __init__(self, directory: Path, files_url: str, name: str, **options: object) -> None:
        folder = directory / "repositories" / name
        # Its keys lie in the folder too, so what is served is the part without them.
        self.tuf = TufRepository(DirectoryVault(folder), clock=SystemClock(), **options)  # type: ignore[arg-type]
        served = directory / "www" / name
        served.parent.mkdir(exist_ok=True)
        if not served.is_symlink():
            served.symlink_to(folder / "tuf")
        self.url = f"{files_url}/{name}"
        self.root = folder / "tuf" / "1.root.json"
        self.folder = folder / "tuf"
