"""Google: the metadata server's identity of the machine, and other accounts by its right to them.

The metadata server is asked by plain http at a link-local address: nobody else answers there, and
it names itself in a header that a proxy or a stranger would not send. It attests the machine and
never the client, which is why policy decides who signs as it.
"""

from __future__ import annotations

import json
import re
from types import MappingProxyType
from typing import TYPE_CHECKING
from urllib.parse import quote, urlencode, urlsplit

from keylessd.held_settings import GoogleImpersonation, GoogleMetadata
from keylessd.identity.fetch import Giver, ask, in_header, received, text_in, unavailable
from keylessd.secret import Secret

if TYPE_CHECKING:
    from collections.abc import Mapping

    from keylessd.held_settings import HeldSettings
    from keylessd.identity.held.source import Parts
    from keylessd.identity.token import IdentityToken
    from keylessd.services.http import HttpClient, HttpReply

FLAVOR = "Metadata-Flavor"
SCOPE = "https://www.googleapis.com/auth/cloud-platform"
# How Cloud Build names the account of a build.
ACCOUNT_VARIABLE = "GOOGLE_SERVICE_ACCOUNT_NAME"
_ACCOUNT = re.compile(r"[A-Za-z0-9][A-Za-z0-9.@_+-]{0,253}")

_METADATA_HINTS = MappingProxyType(
    {
        404: "attach a service account to this machine or pod",
        403: "the metadata server of this machine does not give out identities",
    }
)


class MetadataServer:
    """Asks the metadata server of one machine."""

    def __init__(self, http: HttpClient, host: str, giver: Giver) -> None:
        """Store the parts.

        Args:
            http: Sends.
            host: Name or address, with a port if it is not 80.
            giver: For errors.
        """
        self._url = f"http://{host}/computeMetadata/v1/instance/service-accounts"
        self._http = http.reaching(frozenset({urlsplit(self._url).hostname or host}))
        self._giver = giver

    async def ask(self, account: str, what: str, query: Mapping[str, str]) -> HttpReply:
        """Return the answer about *account*.

        Raises:
            IdentityError: ``identity_unavailable``; also if it is not the metadata server that
                answers.
        """
        url = f"{self._url}/{quote(account, safe='@')}/{what}?{urlencode(query)}"
        reply = await ask(self._http, self._giver, "GET", url, headers={FLAVOR: "Google"})
        if reply.headers.get(FLAVOR.lower()) != "Google":
            raise unavailable(
                self._giver,
                f"what answers at {reply.url} is not a metadata server: it does not say {FLAVOR}",
            )
        return reply


class MetadataSource:
    """The machine's own account."""

    def __init__(self, settings: HeldSettings, source: GoogleMetadata, parts: Parts) -> None:
        self._audience = settings.audience
        self._account = source.account
        self._clock = parts.clock
        self._giver = Giver(
            name=f"identity {settings.name!r} (Google's metadata server)",
            hint="is this a machine of Google's? metadata_host in the settings names the server",
            hints=_METADATA_HINTS,
            audience_hint="the metadata server gives what is asked for; this is a fault there",
        )
        self._server = MetadataServer(parts.http, source.metadata_host, self._giver)

    @property
    def keeps(self) -> bool:
        """It lives for an hour."""
        return True

    async def fetch(self) -> IdentityToken:
        """Return a token of the machine's account."""
        # The full format has the email address, without which Fulcio takes no Google token.
        query = {"audience": self._audience, "format": "full"}
        reply = await self._server.ask(self._account, "identity", query)
        text = reply.body.strip()
        if not text or not text.isascii():
            raise unavailable(self._giver, f"what {reply.url} answered is no token")
        raw = Secret(text.decode("ascii"))
        return received(
            raw, self._giver, audience=self._audience, now=self._clock.now(), reply=reply
        )


class ImpersonationSource:
    """Another account, for which the machine's may make tokens; Cloud Build's way too."""

    def __init__(
        self, settings: HeldSettings, source: GoogleImpersonation, account: str, parts: Parts
    ) -> None:
        self._audience = settings.audience
        self._source = source
        self._clock = parts.clock
        self._http = parts.http
        self._account = account
        self._giver = Giver(
            name=f"identity {settings.name!r} (Google's service account {account!r})",
            hint=None,
            hints=MappingProxyType(
                {
                    403: "grant the machine's account the role"
                    f" roles/iam.serviceAccountOpenIdTokenCreator on {account!r}",
                    404: "there may be no such service account",
                }
            ),
            audience_hint="the service gives what is asked for; this is a fault there",
        )
        machine = Giver(
            name=self._giver.name,
            hint="the machine's own access token could not be had",
            hints=_METADATA_HINTS,
            audience_hint="",
        )
        self._server = MetadataServer(parts.http, source.metadata_host, machine)

    @property
    def keeps(self) -> bool:
        """It lives for an hour."""
        return True

    async def fetch(self) -> IdentityToken:
        """Return a token of the account, made with the machine's access token."""
        reply = await self._server.ask(self._source.account, "token", {"scopes": SCOPE})
        access = text_in(reply, self._giver, "access_token")
        body: dict[str, object] = {"audience": self._audience, "includeEmail": True}
        if self._source.delegates:
            body["delegates"] = [
                f"projects/-/serviceAccounts/{delegate}" for delegate in self._source.delegates
            ]
        account = quote(self._account, safe="@")
        reply = await ask(
            self._http,
            self._giver,
            "POST",
            f"{self._source.url}/v1/projects/-/serviceAccounts/{account}:generateIdToken",
            headers={
                "Authorization": f"Bearer {in_header(access, self._giver)}",
                "Content-Type": "application/json",
                "Accept": "application/json",
            },
            content=json.dumps(body).encode(),
        )
        raw = text_in(reply, self._giver, "token")
        return received(
            raw, self._giver, audience=self._audience, now=self._clock.now(), reply=reply
        )


class UnnamedSource:
    """An account that nobody named; says so whenever it is asked."""

    def __init__(self, settings: HeldSettings) -> None:
        self._giver = Giver(
            name=f"identity {settings.name!r}",
            hint=f"name service_account in the settings, or start the daemon with"
            f" {ACCOUNT_VARIABLE}",
            hints=MappingProxyType({}),
            audience_hint="",
        )

    @property
    def keeps(self) -> bool:
        """There is nothing to keep."""
        return False

    async def fetch(self) -> IdentityToken:
        """Raise the error that says what is missing."""
        raise unavailable(self._giver, "no service account is named")


def make_metadata(settings: HeldSettings, parts: Parts) -> MetadataSource:
    """Return the source of a ``kind = "google-metadata"``."""
    assert isinstance(settings.source, GoogleMetadata)  # noqa: S101  # the registry pairs them
    return MetadataSource(settings, settings.source, parts)


def make_impersonation(settings: HeldSettings, parts: Parts) -> ImpersonationSource | UnnamedSource:
    """Return the source of a ``kind = "google-impersonation"``."""
    source = settings.source
    assert isinstance(source, GoogleImpersonation)  # noqa: S101  # the registry pairs them
    account = source.service_account or parts.environ.get(ACCOUNT_VARIABLE, "")
    if _ACCOUNT.fullmatch(account) is None:
        return UnnamedSource(settings)
    return ImpersonationSource(settings, source, account, parts)
