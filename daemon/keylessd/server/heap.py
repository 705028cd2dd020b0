"""Spares the garbage collector what cannot be garbage: all that was loaded at the start.

The daemon frees nearly everything by counting references. The collector looks for the rest, and a
full pass over some 300,000 objects of modules stops every request for as long as dozens of them
take. Nothing is said here about memory in use, which it does not change.
"""

from __future__ import annotations

import gc
from typing import Final

# Objects made and not freed again between two passes over the youngest. A signature has some 500
# while it is under way, so with 700, the default, there was a pass for every one or two.
YOUNG: Final = 10_000


def postpone_collection() -> None:
    """Collect nothing until keep_what_is_loaded(): importing makes much and frees little."""
    gc.disable()


def keep_what_is_loaded() -> None:
    """Never look again at what is there now, and begin to collect what comes."""
    gc.freeze()
    gc.set_threshold(YOUNG, *gc.get_threshold()[1:])
    gc.enable()
