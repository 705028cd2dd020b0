"""A whole Sigstore in one object: engines, applications, trust material, and a way to mount it.

Served or not is decided elsewhere: here is no socket. Tests mount transport() in an httpx client;
``python -m keylessd.sandbox up`` serves the same applications at loopback ports.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Self

from cryptography.hazmat.primitives import serialization

from keylessd.clock import Clock, SystemClock
from keylessd.sandbox import (
    ct_app,
    fulcio_app,
    oidc_app,
    rekor_v1_app,
    rekor_v2_app,
    trust_files,
    tsa_app,
    tuf_app,
    workloads,
)
from keylessd.sandbox.ca import BACKDATING, LEAF_LIFETIME, CertificateAuthority
from keylessd.sandbox.ctlog import CtLog
from keylessd.sandbox.identities import Identities
from keylessd.sandbox.inprocess import InProcessTransport
from keylessd.sandbox.login import LoginFlows
from keylessd.sandbox.names import IN_PROCESS_URLS, REKOR_V1_NAME, REKOR_V2_NAME, STATE, TSA_PATH
from keylessd.sandbox.rekor_v1 import RekorV1
from keylessd.sandbox.rekor_v2 import RekorV2
from keylessd.sandbox.sequencer import INTERVAL_SECONDS
from keylessd.sandbox.store import LogStore
from keylessd.sandbox.tokens import TokenVerifier, fetch_jwks
from keylessd.sandbox.trust_files import AuthorityFacts, LogFacts, RekorChoice
from keylessd.sandbox.tsa import TimestampAuthority
from keylessd.sandbox.tuf_repo import TufRepository
from keylessd.sandbox.vault import (
    DirectoryLock,
    DirectoryVault,
    MemoryVault,
    SandboxError,
    Vault,
    ecdsa_key,
    ed25519_key,
)

if TYPE_CHECKING:
    import httpx
    from starlette.types import ASGIApp

    from keylessd.sandbox.issuers import IssuerRule
    from keylessd.sandbox.oidc import JsonValue


class LocalSigstore:
    """One sandbox. Make it with create(); end it with close(), or use it as a context manager.

    Attributes:
        urls: Service -> base URL without a trailing slash.
        apps: Service -> ASGI application. May be replaced, for example by one that wraps it and
            injects faults; transport() looks there for each request.
        identities: The issuers; see token().
        flows: The login flows.
        verifier: What Fulcio accepts; its ``rules`` may be extended.
        ctlog, authority, rekor_v1, rekor_v2, tsa, tuf: The engines.
    """

    def __init__(
        self,
        vault: Vault,
        stores: Mapping[str, LogStore],
        *,
        clock: Clock,
        clocks: Mapping[str, Clock] | None = None,
        urls: Mapping[str, str] = IN_PROCESS_URLS,
        rekor: RekorChoice = RekorChoice.V1,
        issuers: Sequence[IssuerRule] = (),
        interval_seconds: float = INTERVAL_SECONDS,
        certificate_lifetime: timedelta = LEAF_LIFETIME,
        token_lifetime: timedelta = timedelta(hours=1),
        auto_login: str | None = None,
    ) -> None:
        """See create(); *stores* are the logs' storages by service."""
        self.urls = dict(urls)
        self.rekor = rekor
        self._resources = ExitStack()
        self._start = _created(vault, clock) - BACKDATING

        def time_of(service: str) -> Clock:
            return (clocks or {}).get(service, clock)

        self.identities = Identities(
            urls["oidc"], vault=vault, clock=time_of("oidc"), token_lifetime=token_lifetime
        )
        self.flows = LoginFlows(
            self.identities.login, vault=vault, clock=time_of("oidc"), auto_login=auto_login
        )
        self.verifier = TokenVerifier(
            [*workloads.rules(urls["oidc"]), *issuers], clock=time_of("fulcio"), fetch=self._jwks
        )
        self.ctlog = CtLog(ecdsa_key(vault, "ctlog"), stores["ctlog"], clock=time_of("ctlog"))
        self.authority = CertificateAuthority.open(
            vault, log=self.ctlog, clock=time_of("fulcio"), lifetime=certificate_lifetime
        )
        self.rekor_v1 = RekorV1(
            stores["rekor-v1"],
            ecdsa_key(vault, "rekor-v1"),
            name=REKOR_V1_NAME,
            clock=time_of("rekor-v1"),
            interval_seconds=interval_seconds,
        )
        self.rekor_v2 = RekorV2(
            stores["rekor-v2"],
            ed25519_key(vault, "rekor-v2"),
            name=REKOR_V2_NAME,
            clock=time_of("rekor-v2"),
            interval_seconds=interval_seconds,
        )
        self.tsa = TimestampAuthority.open(vault, clock=time_of("tsa"))
        self.tuf = TufRepository(vault, clock=time_of("tuf"))
        self.publish()
        self.apps: dict[str, ASGIApp] = self._make_apps()

    @classmethod
    def create(
        cls,
        directory: Path | None = None,
        *,
        clock: Clock | None = None,
        clocks: Mapping[str, Clock] | None = None,
        urls: Mapping[str, str] = IN_PROCESS_URLS,
        rekor: RekorChoice | str = RekorChoice.V1,
        issuers: Sequence[IssuerRule] = (),
        interval_seconds: float = INTERVAL_SECONDS,
        certificate_lifetime: timedelta = LEAF_LIFETIME,
        token_lifetime: timedelta = timedelta(hours=1),
        auto_login: str | None = None,
        lock: DirectoryLock | None = None,
    ) -> Self:
        """Make a sandbox, or open the one in *directory*.

        Args:
            directory: Keeps everything; locked until close(). None: nothing is kept.
            clock: The sandbox's time; the machine's if None.
            clocks: Service -> its own time, where that is another.
            urls: Service -> base URL. What the issuers' URLs are is part of their tokens.
            rekor: Which logs the default signing configuration names.
            issuers: Accepted besides the sandbox's own.
            interval_seconds: How long the logs collect entries for one checkpoint.
            certificate_lifetime: Of the certificates.
            token_lifetime: Of the ID tokens, if nobody says otherwise.
            auto_login: Log everybody in as this person, without a page.
            lock: The directory's, if the caller holds it already; it stays the caller's.

        Raises:
            SandboxError: Another process has the directory, or what is in it cannot be used.
            StoreError: A log in it cannot be used.
        """
        with ExitStack() as resources:
            vault: Vault = MemoryVault()
            if directory is not None:
                if lock is None:
                    resources.callback(DirectoryLock(directory).close)
                vault = DirectoryVault(directory / STATE)
            stores = {}
            for service in ("ctlog", "rekor-v1", "rekor-v2"):
                stores[service] = _store(directory, service)
                resources.callback(stores[service].close)
            made = cls(
                vault,
                stores,
                clock=clock if clock is not None else SystemClock(),
                clocks=clocks,
                urls=urls,
                rekor=RekorChoice(rekor),
                issuers=issuers,
                interval_seconds=interval_seconds,
                certificate_lifetime=certificate_lifetime,
                token_lifetime=token_lifetime,
                auto_login=auto_login,
            )
            made._resources = resources.pop_all()  # our own
            return made

    @classmethod
    def load(cls, directory: Path, *, clock: Clock | None = None) -> Self:
        """Open the sandbox in *directory*, which must exist, at the in-process URLs.

        Raises:
            SandboxError: There is none, or another process has it.
        """
        if not (directory / STATE).is_dir():
            raise SandboxError(f"there is no sandbox in {directory}")
        return cls.create(directory, clock=clock)

    # --- trust material -----------------------------------------------------------------------

    def trusted_root(self) -> bytes:
        """Return the TrustedRoot (JSON)."""
        return trust_files.trusted_root(
            tlogs=[
                LogFacts(
                    f"https://{REKOR_V1_NAME}", self.rekor_v1.public_key, self.rekor_v1.log_id
                ),
                LogFacts(
                    f"https://{REKOR_V2_NAME}", self.rekor_v2.public_key, self.rekor_v2.log_id
                ),
            ],
            ctlogs=[
                LogFacts("https://ctlog.sandbox.test", self.ctlog.public_key, self.ctlog.log_id)
            ],
            certificate_authorities=[
                AuthorityFacts("https://fulcio.sandbox.test", self.authority.chain)
            ],
            timestamp_authorities=[
                AuthorityFacts(f"https://tsa.sandbox.test{TSA_PATH}", self.tsa.chain)
            ],
            start=self._start,
        )

    def signing_config(self, rekor: RekorChoice | str | None = None) -> bytes:
        """Return a SigningConfig (JSON) with those logs; None: those the sandbox was made with."""
        choice = self.rekor if rekor is None else RekorChoice(rekor)
        rekor_urls = {1: self.urls["rekor-v1"], 2: self.urls["rekor-v2"]}
        if choice is not RekorChoice.BOTH:
            version = 1 if choice is RekorChoice.V1 else 2
            rekor_urls = {version: rekor_urls[version]}
        return trust_files.signing_config(
            ca_url=self.urls["fulcio"],
            oidc_url=self.urls["oidc"],
            rekor_urls=rekor_urls,
            tsa_url=self.urls["tsa"] + TSA_PATH,
            start=self._start,
        )

    def trust_config(self, rekor: RekorChoice | str | None = None) -> bytes:
        """Return trusted root and signing configuration in one document (JSON)."""
        return trust_files.trust_config(self.trusted_root(), self.signing_config(rekor))

    def publish(self) -> None:
        """Bring the TUF repository up to date with the trust material."""
        self.tuf.publish(
            {
                "trusted_root.json": self.trusted_root(),
                "signing_config.v0.2.json": self.signing_config(),
                "signing_config_rekor_v2.v0.2.json": self.signing_config(RekorChoice.V2),
            }
        )

    # --- use ----------------------------------------------------------------------------------

    def token(
        self,
        *,
        issuer: str = "login",
        email: str | None = None,
        subject: str | None = None,
        email_verified: bool = True,
        audience: str | list[str] = "sigstore",
        lifetime: timedelta | None = None,
        claims: Mapping[str, JsonValue] | None = None,
    ) -> str:
        """Mint an ID token of one of the sandbox's issuers; see Identities.token()."""
        return self.identities.token(
            issuer=issuer,
            email=email,
            subject=subject,
            email_verified=email_verified,
            audience=audience,
            lifetime=lifetime,
            claims=claims,
        )

    def counters(self) -> dict[str, int]:
        """Return how much was issued in this process, and how much the logs hold in all."""
        return {
            "certificates": self.authority.issued,
            "ct_entries": self.ctlog.size,
            "rekor_v1_entries": self.rekor_v1.sequencer.tree.size,
            "rekor_v2_entries": self.rekor_v2.sequencer.tree.size,
            "timestamps": self.tsa.issued,
        }

    def transport(self) -> httpx.AsyncBaseTransport:
        """Return a transport for httpx.AsyncClient that reaches the applications by their URLs.

        A request to any other host and port fails with httpx.ConnectError, as if nobody
        listened there.
        """
        return InProcessTransport(self.apps, self.urls)

    def close(self) -> None:
        """Close the logs and let go of the directory."""
        self._resources.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    async def _jwks(self, issuer: str) -> Mapping[str, JsonValue]:
        own = self.identities.by_url(issuer)
        return own.jwks() if own is not None else await fetch_jwks(issuer)

    def _make_apps(self) -> dict[str, ASGIApp]:
        chain = [
            certificate.public_bytes(serialization.Encoding.DER)
            for certificate in self.authority.chain
        ]
        return {
            "oidc": oidc_app.make_app(self.flows, list(self.identities.workloads.values())),
            "fulcio": fulcio_app.make_app(self.authority, self.verifier),
            "ctlog": ct_app.make_app(self.ctlog, chain),
            "rekor-v1": rekor_v1_app.make_app(self.rekor_v1),
            "rekor-v2": rekor_v2_app.make_app(self.rekor_v2),
            "tsa": tsa_app.make_app(self.tsa),
            "tuf": tuf_app.make_app(self.tuf),
        }


def _created(vault: Vault, clock: Clock) -> datetime:
    """Return when the sandbox was made; the first call stores it."""
    raw = vault.load("created")
    if raw is not None:
        return datetime.fromisoformat(raw.decode())
    now = clock.now().replace(microsecond=0)
    vault.save("created", now.isoformat().encode())
    return now


def _store(directory: Path | None, service: str) -> LogStore:
    if directory is None:
        return LogStore.in_memory()
    path = directory / STATE / f"{service}.sqlite"
    # SQLite would make it readable to others; its side files take the mode of this one.
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    return LogStore.open(path)
