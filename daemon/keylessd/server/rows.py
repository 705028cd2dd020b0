"""Lists in replies: as many rows as surely fit into a head. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

# Lists in a status. The watchdog lives on this answer, so it must fit whatever is in them.
MAX_ROWS: Final = 64
LIST_BYTES: Final = 18 << 10  # of one list; a head has 64 KiB, and a status three lists
ROW_OVERHEAD: Final = 5  # bytes that a text has in a head besides its own
SHOWN: Final = 1024  # characters of one text


def fitting(rows: Iterable[dict[str, object]]) -> list[dict[str, object]]:
    """Return as many rows as surely fit into the head of a reply, from the first one on."""
    kept: list[dict[str, object]] = []
    size = 0
    for row in rows:
        texts = [part for item in row.items() for part in map(str, item)]
        size += sum(len(part.encode("utf-8", "surrogatepass")) + ROW_OVERHEAD for part in texts)
        if size > LIST_BYTES or len(kept) == MAX_ROWS:
            break
        kept.append(row)
    return kept
