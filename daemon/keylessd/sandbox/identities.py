"""The issuers of one sandbox: makes them from its keys, and mints tokens of any of them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING

from keylessd.sandbox.oidc import AUDIENCE, OidcIssuer
from keylessd.sandbox.vault import SandboxError, Vault
from keylessd.sandbox.workloads import CLAIMS, PATHS, SUBJECTS

if TYPE_CHECKING:
    from keylessd.clock import Clock
    from keylessd.sandbox.oidc import JsonValue

LOGIN = "login"
DEFAULT_EMAIL = "you@sandbox.test"


class Identities:
    """The login issuer and the workload issuers.

    Attributes:
        login: The issuer that people log in at.
        workloads: Name -> issuer, see keylessd.sandbox.workloads.
    """

    def __init__(
        self,
        url: str,
        *,
        vault: Vault,
        clock: Clock,
        token_lifetime: timedelta = timedelta(hours=1),
    ) -> None:
        self.login = OidcIssuer(url, vault=vault, clock=clock, token_lifetime=token_lifetime)
        self.workloads = {
            name: OidcIssuer(
                url + path,
                vault=vault,
                clock=clock,
                name=f"oidc-{name}",
                token_lifetime=token_lifetime,
                interactive=False,
            )
            for name, path in PATHS.items()
        }

    def issuer(self, name: str) -> OidcIssuer:
        """Return the issuer called *name*: ``login`` or one of the workloads.

        Raises:
            SandboxError: There is none.
        """
        found = self.login if name == LOGIN else self.workloads.get(name)
        if found is None:
            names = ", ".join([LOGIN, *self.workloads])
            raise SandboxError(f"there is no issuer {name!r}; there are {names}")
        return found

    def by_url(self, url: str) -> OidcIssuer | None:
        """Return the issuer with that identifier, or None."""
        for issuer in (self.login, *self.workloads.values()):
            if issuer.url == url:
                return issuer
        return None

    def token(
        self,
        *,
        issuer: str = LOGIN,
        email: str | None = None,
        subject: str | None = None,
        email_verified: bool = True,
        audience: str | list[str] = AUDIENCE,
        lifetime: timedelta | None = None,
        claims: Mapping[str, JsonValue] | None = None,
    ) -> str:
        """Mint a token; what is not said is filled in with what the issuer's kind needs.

        The arguments are those of OidcIssuer.mint(), and *issuer* is a name.

        Raises:
            SandboxError: There is no such issuer.
        """
        minting = self.issuer(issuer)
        if subject is None and email is None:
            subject = SUBJECTS.get(issuer)
            email = DEFAULT_EMAIL if subject is None else None
        return minting.mint(
            email=email,
            subject=subject,
            email_verified=email_verified,
            audience=audience,
            lifetime=lifetime,
            claims={**CLAIMS.get(issuer, {}), **(claims or {})},
        )
