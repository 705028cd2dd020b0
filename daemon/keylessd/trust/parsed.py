"""Trusted roots and signing configurations, parsed once per content."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING, Generic, TypeVar

from keylessd.core.signing_config import parse_signing_config
from keylessd.core.trusted_root import parse_trusted_root
from keylessd.errors import InvalidInputError

if TYPE_CHECKING:
    from keylessd.core.signing_config import SigningConfig
    from keylessd.core.trusted_root import TrustedRoot
    from keylessd.flow.threads import Threads
    from keylessd.trust.where import Urls

T = TypeVar("T")

MAX_KEPT = 64  # of each kind; a parsed root is some 50 KB
MAX_FILE = 1 << 20  # bytes; the largest real one has 8 KiB


class Parsed:
    """A bounded memory of parsed files, by their SHA-256."""

    def __init__(self, threads: Threads) -> None:
        """Store where to parse: a large root takes milliseconds."""
        self._roots = _Recent(threads, parse_trusted_root, "trusted root")
        self._configs = _Recent(threads, parse_signing_config, "signing config")

    async def trusted_root(self, raw: bytes) -> TrustedRoot:
        """Return the TrustedRoot that *raw* is the JSON of.

        Raises:
            InvalidInputError: If it is none.
        """
        return await self._roots.get(raw)

    async def signing_config(self, raw: bytes) -> SigningConfig:
        """Return the SigningConfig that *raw* is the JSON of.

        Raises:
            InvalidInputError: If it is none.
        """
        return await self._configs.get(raw)


class _Recent(Generic[T]):
    def __init__(self, threads: Threads, parse: Callable[[bytes], T], kind: str) -> None:
        self._threads = threads
        self._parse = parse
        self._kind = kind
        self._kept: OrderedDict[bytes, T] = OrderedDict()

    async def get(self, raw: bytes) -> T:
        if len(raw) > MAX_FILE:
            raise InvalidInputError(
                f"the {self._kind} has {len(raw)} bytes; at most {MAX_FILE} are read"
            )
        digest = hashlib.sha256(raw).digest()
        if digest in self._kept:
            self._kept.move_to_end(digest)
            return self._kept[digest]
        value = await self._threads.run("disk", self._parse, raw, abandon_on_cancel=True)
        self._kept[digest] = value
        if len(self._kept) > MAX_KEPT:
            self._kept.popitem(last=False)
        return value


def version_of(trusted_root: bytes, signing_config: bytes | None, *urls: Urls) -> str:
    """Return the version of a TrustMaterial: 16 hex digits that stand for all that is in it.

    Args:
        trusted_root: The JSON.
        signing_config: The JSON, or None.
        *urls: What was put over the configuration, in that order.
    """
    state = hashlib.sha256(hashlib.sha256(trusted_root).digest())
    state.update(b"-" if signing_config is None else hashlib.sha256(signing_config).digest())
    for one in urls:
        for url in (one.fulcio, one.rekor, one.oidc_issuer, one.tsa):
            state.update(b"-" if url is None else hashlib.sha256(url.encode()).digest())
    return state.hexdigest()[:16]
