"""Whose identity a request means, as the sources are asked: never of another user than its own."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Protocol

from keylessd.identity.source import AmbientGrant, IdentityRequest

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from keylessd.ops.owner import Owner
    from keylessd.secret import Secret
    from keylessd.trust.material import TrustMaterial
    from keylessd.trust.where import Where


class Asking(Protocol):
    """The parts of a request that say whose identity is meant."""

    @property
    def owner(self) -> Owner:
        """On whose behalf."""
        ...

    @property
    def where(self) -> Where:
        """Which Sigstore."""
        ...

    @property
    def token(self) -> Secret | None:
        """The caller's token."""
        ...

    @property
    def identity(self) -> str | None:
        """Whom the caller names."""
        ...

    @property
    def ambient(self) -> AmbientGrant | None:
        """What the caller's environment grants."""
        ...


class Instances:
    """Knows what a request's choice of Sigstore is called, without a trust root if it can.

    Args:
        material: Returns trust root and services of a request's choice.
        default: Name of the instance that is meant where none is named.
    """

    def __init__(
        self,
        material: Callable[[Where], Awaitable[TrustMaterial]],
        default: Callable[[], str],
    ) -> None:
        self._material = material
        self._default = default

    async def name(self, where: Where) -> str:
        """Return the name of the instance; that of files is found in them.

        Where a request says itself which certificate authority gets the token, the name holds a
        hash of what it says. So a session serves nothing but what it was begun for: a program
        that may sign as somebody cannot have the token sent to a service of its own.

        Raises:
            InvalidInputError: the files are not valid.
        """
        if where.trusted_root is not None or where.trust_config is not None:
            base = (await self._material(where)).instance
        else:
            base = where.instance or self._default()
        return base + _stated_services(where)

    async def identity_request(self, asking: Asking, *, must_live: bool) -> IdentityRequest:
        """Return what the sources are asked.

        Raises:
            InvalidInputError: the request's files are not valid.
        """
        return IdentityRequest(
            owner_uid=asking.owner.uid,
            groups=asking.owner.groups,
            names_services=names_services(asking.where),
            instance=await self.name(asking.where),
            supplied=asking.token,
            ambient=asking.ambient,
            identity=asking.identity,
            issuer=asking.where.urls.oidc_issuer,
            must_live=must_live,
        )


def _stated_services(where: Where) -> str:
    """Return ``+`` and 12 hex digits that stand for what decides where a token goes, or ``""``."""
    stated = (
        None if where.urls.fulcio is None else where.urls.fulcio.encode(),
        where.signing_config,
        where.trust_config,
    )
    if all(one is None for one in stated):
        return ""
    digest = hashlib.sha256()
    for one in stated:
        digest.update(hashlib.sha256(b"" if one is None else b"1" + one).digest())
    return "+" + digest.hexdigest()[:12]


def names_services(where: Where) -> bool:
    """Tell whether a request says itself which certificate authority gets its token."""
    files = (where.trusted_root, where.signing_config, where.trust_config)
    return where.urls.fulcio is not None or any(file is not None for file in files)
