"""How cases on which verifiers differ are made and kept; `edges` has them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from cryptography import x509

from keylessd.core.bundle import Bundle, serialize_bundle
from keylessd.core.trusted_root import serialize_trusted_root
from sigsim.pki import Leaf, utf8
from sigsim.worlds import World, v1_log

SIGNER = ("signer@example.com", "https://issuer.example")
PREDICATE_TYPE = "https://keyless.test/predicate/v1"
LEAF = Leaf(
    names=(x509.RFC822Name(SIGNER[0]),),
    extensions=((1, SIGNER[1].encode()), (8, utf8(SIGNER[1]))),
)
OLD_TYPE = "application/vnd.dev.sigstore.bundle+json;version=0.2"


@dataclass(frozen=True)
class Edge:
    """One case.

    Attributes:
        bundle: JSON.
        root: JSON of the trust root.
        is_attestation: Whether an envelope was signed.
    """

    bundle: bytes
    root: bytes
    is_attestation: bool = False


@dataclass(frozen=True)
class Known:
    """A case by name: how it is made, and what each verifier says.

    Attributes:
        make: Makes it anew.
        ours: The check that fails, None if it is accepted.
        accepted_by: Those of ``"cosign"``, ``"sigstore-python"`` and ``"sigstore-js"`` that accept.
    """

    make: Callable[[], Edge]
    ours: str | None
    accepted_by: frozenset[str]


EDGES: dict[str, Known] = {}
_SHORT = {"go": "cosign", "py": "sigstore-python", "js": "sigstore-js"}


def edge(ours: str | None, accepted_by: str) -> Callable[[Callable[[], Edge]], Callable[[], Edge]]:
    """Add what the decorated function makes; *accepted_by* has the short names of the peers."""

    def keep(make: Callable[[], Edge]) -> Callable[[], Edge]:
        peers = frozenset(_SHORT[name] for name in accepted_by.split())
        EDGES[make.__name__.replace("_", "-")] = Known(make, ours, peers)
        return make

    return keep


def v1_world(**more: Any) -> World:
    return World(leaf=LEAF, rekor=v1_log(), **more)


def v2_world(**more: Any) -> World:
    return World(leaf=LEAF, **more)


def made(world: World, bundle: Bundle | None = None, **root: Any) -> Edge:
    signed = serialize_bundle(bundle or world.message())
    return Edge(signed, serialize_trusted_root(world.root(**root)))


def edited(world: World, edit: Callable[[Any], None]) -> Edge:
    """A good bundle whose JSON was changed."""
    value = json.loads(serialize_bundle(world.message()))
    edit(value)
    return Edge(json.dumps(value).encode(), serialize_trusted_root(world.root()))


def with_root(world: World, edit: Callable[[Any], None]) -> Edge:
    """A good bundle and a trust root whose JSON was changed."""
    value = json.loads(serialize_trusted_root(world.root()))
    edit(value)
    return Edge(serialize_bundle(world.message()), json.dumps(value).encode())


def entry_of(value: Any) -> Any:
    return value["verificationMaterial"]["tlogEntries"][0]
