"""The ``[identity.NAME]`` tables of the settings: identities the daemon holds, and for whom.

A kind of identity is a frozen value and the function that reads it from its table; ``KINDS`` is
their list. What is done with the values is in ``keylessd.identity.held``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Final

from keylessd.spiffe_names import agent_socket, is_spiffe_id
from keylessd.toml_table import Table, suggestion

DEFAULT_AUDIENCE: Final = "sigstore"
METADATA_HOST: Final = "metadata.google.internal"
IAM_CREDENTIALS_URL: Final = "https://iamcredentials.googleapis.com"
DEFAULT_SCOPES: Final = ("openid", "email")
ID_TOKEN_TYPE: Final = "urn:ietf:params:oauth:token-type:id_token"  # noqa: S105  # RFC 8693, 3
TOKEN_TYPE_PREFIX: Final = "urn:ietf:params:oauth:token-type:"  # noqa: S105
MAX_DELEGATES: Final = 16

_IDENTITY_NAME: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
# Google's own rule for the names of service accounts is narrower; this keeps a path a path.
_ACCOUNT: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9.@_+-]{0,253}")
_CREDENTIAL: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,254}")
_RESOURCE: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:[\x21\x22\x24-\x7e]{1,2000}")
_HOST_AND_PORT: Final = re.compile(
    r"(?:[0-9a-z](?:[0-9a-z.-]{0,251}[0-9a-z])?|\[[0-9a-f:]{2,39}\])(?::[0-9]{1,5})?"
)


@dataclass(frozen=True, slots=True)
class SecretPlace:
    """Where a secret lies; never the secret itself. Exactly one of the two is given.

    Attributes:
        file: A file that holds it and nothing else.
        credential: Name of a file in the directory that the service manager made for us
            (``$CREDENTIALS_DIRECTORY``).
    """

    file: Path | None
    credential: str | None


@dataclass(frozen=True, slots=True)
class TokenFile:
    """``kind = "file"``: a token that somebody else keeps fresh, such as a kubelet."""

    path: Path


@dataclass(frozen=True, slots=True)
class GoogleMetadata:
    """``kind = "google-metadata"``: the identity of the machine, from its metadata server."""

    account: str
    metadata_host: str


@dataclass(frozen=True, slots=True)
class GoogleImpersonation:
    """``kind = "google-impersonation"``: another service account, by the machine's right to it.

    Attributes:
        service_account: Email address; None: of ``$GOOGLE_SERVICE_ACCOUNT_NAME``, which is how
            Cloud Build names it.
        delegates: Email addresses of the accounts between the machine's and that one.
        account: The machine's account at the metadata server.
        metadata_host: Host of the metadata server, with a port if it is not 80.
        url: Base URL of the service that makes the tokens.
    """

    service_account: str | None
    delegates: tuple[str, ...]
    account: str
    metadata_host: str
    url: str


@dataclass(frozen=True, slots=True)
class ClientCredentials:
    """``kind = "client-credentials"``: RFC 6749, 4.4, at an OpenID provider.

    Attributes:
        issuer: The OpenID provider.
        client_id: Our name there.
        secret: Of the client.
        scopes: What is asked for.
        resource: What the token is to be for, as the provider calls it (RFC 8707); None: the
            provider is not told.
        token: Which of the tokens that come is the identity: ``"id_token"``, or
            ``"access_token"`` where the provider gives clients no other, and makes it a JWT
            (RFC 9068).
    """

    issuer: str
    client_id: str
    secret: SecretPlace
    scopes: tuple[str, ...]
    resource: str | None
    token: str


@dataclass(frozen=True, slots=True)
class TokenExchange:
    """``kind = "token-exchange"``: RFC 8693, another token for one that is at hand.

    Attributes:
        issuer: The OpenID provider.
        client_id: Our name there.
        secret: Of the client, or None for a public one.
        subject: File with the token that is given away; read again each time.
        subject_type: What that token is, a URI.
        requested_type: What is wanted for it, a URI.
        connector: Dex's name for whoever issued the subject token, or None.
        scopes: What is asked for.
    """

    issuer: str
    client_id: str
    secret: SecretPlace | None
    subject: Path
    subject_type: str
    requested_type: str
    connector: str | None
    scopes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Spiffe:
    """``kind = "spiffe"``: what a SPIFFE agent on this machine gives to the daemon.

    Attributes:
        socket: Where it listens: ``unix:///PATH`` or a path; None: as ``$SPIFFE_ENDPOINT_SOCKET``
            says.
        spiffe_id: The identity to use; None: the agent's first that has the hint.
        hint: The hint of the identity to use; None: whatever its hint.
    """

    socket: str | None
    spiffe_id: str | None
    hint: str | None


@dataclass(frozen=True, slots=True)
class HeldSettings:
    """One ``[identity.NAME]`` table.

    Attributes:
        name: What ``--identity`` calls it.
        kind: One of KINDS.
        source: The kind's own value.
        audience: What its tokens are for.
        instances: Names of the instances it is for; None: for all.
        users: Who may use it; None: the user that a user's daemon runs as, and nobody else.
        groups: Who else may: users that are in one of these groups.
    """

    name: str
    kind: str
    source: object
    audience: str
    instances: frozenset[str] | None
    users: tuple[range | str, ...] | None
    groups: tuple[range | str, ...] | None


def _file(table: Table) -> TokenFile:
    path = table.path("path")
    if path is None:
        raise table.error(None, "needs path")
    return TokenFile(path)


def _google_metadata(table: Table) -> GoogleMetadata:
    return GoogleMetadata(_account(table, "account") or "default", _metadata_host(table))


def _google_impersonation(table: Table) -> GoogleImpersonation:
    delegates = table.texts("delegates") or ()
    if len(delegates) > MAX_DELEGATES:
        raise table.error("delegates", f"more than {MAX_DELEGATES}")
    for delegate in delegates:
        if _ACCOUNT.fullmatch(delegate) is None:
            raise table.error("delegates", f"{delegate!r} is not a service account")
    return GoogleImpersonation(
        service_account=_account(table, "service_account"),
        delegates=delegates,
        account=_account(table, "account") or "default",
        metadata_host=_metadata_host(table),
        url=table.url("url") or IAM_CREDENTIALS_URL,
    )


def _client_credentials(table: Table) -> ClientCredentials:
    secret = _secret(table)
    if secret is None:
        raise table.error(None, "needs client_secret_file or client_secret_credential")
    return ClientCredentials(
        issuer=_issuer(table),
        client_id=_needed(table, "client_id"),
        secret=secret,
        scopes=_scopes(table),
        resource=_resource(table),
        token=table.choice("token", ("id_token", "access_token"), "id_token"),
    )


def _token_exchange(table: Table) -> TokenExchange:
    subject = table.path("subject_token_file")
    if subject is None:
        raise table.error(None, "needs subject_token_file")
    return TokenExchange(
        issuer=_issuer(table),
        client_id=_needed(table, "client_id"),
        secret=_secret(table),
        subject=subject,
        subject_type=_token_type(table, "subject_token_type"),
        requested_type=_token_type(table, "requested_token_type"),
        connector=table.text("connector_id"),
        scopes=_scopes(table),
    )


def _spiffe(table: Table) -> Spiffe:
    socket, spiffe_id = table.text("socket"), table.text("spiffe_id")
    if socket is not None:
        try:
            agent_socket(socket)
        except ValueError as exc:
            raise table.error("socket", str(exc)) from None
    if spiffe_id is not None and not is_spiffe_id(spiffe_id):
        raise table.error("spiffe_id", f"{spiffe_id!r} is not a SPIFFE ID")
    return Spiffe(socket, spiffe_id, table.text("hint"))


KINDS: Final[Mapping[str, Callable[[Table], object]]] = MappingProxyType(
    {
        "file": _file,
        "spiffe": _spiffe,
        "google-metadata": _google_metadata,
        "google-impersonation": _google_impersonation,
        "client-credentials": _client_credentials,
        "token-exchange": _token_exchange,
    }
)


def read_held(tables: Table) -> Mapping[str, HeldSettings]:
    """Read all tables below ``identity``, in the order of the text.

    Raises:
        SettingsError: at the first mistake.
    """
    held: dict[str, HeldSettings] = {}
    for name in tables.names():
        if _IDENTITY_NAME.fullmatch(name) is None:
            raise tables.error(name, "a name is made of a-z, 0-9, '.', '_' and '-'")
        held[name] = _held(name, tables.table(name))
    tables.finish()
    return MappingProxyType(held)


def _held(name: str, table: Table) -> HeldSettings:
    kind = table.text("kind")
    known = ", ".join(f'"{one}"' for one in KINDS)
    if kind is None:
        raise table.error(None, f"needs kind, one of {known}")
    if kind not in KINDS:
        raise table.error("kind", f"{kind!r} is not one of {known}" + suggestion(kind, [*KINDS]))
    instances = table.texts("instance")
    settings = HeldSettings(
        name=name,
        kind=kind,
        source=KINDS[kind](table),
        audience=table.text("audience") or DEFAULT_AUDIENCE,
        instances=None if instances is None else frozenset(instances),
        users=table.ids("allow_uids"),
        groups=table.ids("allow_gids"),
    )
    table.finish()
    return settings


def _needed(table: Table, key: str) -> str:
    value = table.text(key)
    if value is None:
        raise table.error(None, f"needs {key}")
    return value


def _issuer(table: Table) -> str:
    # Compared byte for byte with what the provider says, so a slash at its end stays.
    if table.url("issuer") is None:
        raise table.error(None, "needs issuer")
    return _needed(table, "issuer")


def _scopes(table: Table) -> tuple[str, ...]:
    scopes = table.texts("scopes")
    if scopes is None:
        return DEFAULT_SCOPES
    if any(" " in scope or not scope.isascii() for scope in scopes):
        raise table.error("scopes", "a scope has no blanks and no letters beyond ASCII")
    return scopes


def _resource(table: Table) -> str | None:
    value = table.text("resource")
    if value is not None and _RESOURCE.fullmatch(value) is None:
        # RFC 8707, 2.
        raise table.error("resource", f"{value!r} is not an absolute URI without a fragment")
    return value


def _token_type(table: Table, key: str) -> str:
    """Return a token type; a name without a colon is one of RFC 8693's own."""
    value = table.text(key)
    if value is None:
        return ID_TOKEN_TYPE
    return value if ":" in value else TOKEN_TYPE_PREFIX + value


def _account(table: Table, key: str) -> str | None:
    value = table.text(key)
    if value is not None and _ACCOUNT.fullmatch(value) is None:
        raise table.error(key, f"{value!r} is not a service account")
    return value


def _metadata_host(table: Table) -> str:
    value = table.text("metadata_host")
    if value is not None and _HOST_AND_PORT.fullmatch(value) is None:
        raise table.error("metadata_host", f"{value!r} is not a host name with or without a port")
    return value or METADATA_HOST


def _secret(table: Table) -> SecretPlace | None:
    file, credential = table.path("client_secret_file"), table.text("client_secret_credential")
    if credential is not None and _CREDENTIAL.fullmatch(credential) is None:
        raise table.error("client_secret_credential", "is not the name of a credential")
    if file is not None and credential is not None:
        raise table.error("client_secret_file", "excludes client_secret_credential")
    return None if file is None and credential is None else SecretPlace(file, credential)
