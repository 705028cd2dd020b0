"""Which module makes the source of which kind of held identity. One line for each.

Another kind is: its settings and how they are read in ``keylessd.held_settings.KINDS``, a module
here with ``make``, and its line below.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from keylessd.identity.held import file, google, oauth, spiffe

if TYPE_CHECKING:
    from keylessd.held_settings import HeldSettings
    from keylessd.identity.held.source import HeldSource, Maker, Parts

MAKERS: Final[Mapping[str, Maker]] = MappingProxyType(
    {
        "file": file.make,
        "google-metadata": google.make_metadata,
        "google-impersonation": google.make_impersonation,
        "client-credentials": oauth.make_client_credentials,
        "token-exchange": oauth.make_token_exchange,
        "spiffe": spiffe.make,
    }
)


def make_source(settings: HeldSettings, parts: Parts) -> HeldSource:
    """Return the source of one held identity; nothing is asked or opened yet."""
    return MAKERS[settings.kind](settings, parts)
