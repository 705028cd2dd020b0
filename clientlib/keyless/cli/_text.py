"""Times and spans of time as people read them."""

import time


def moment(seconds: int) -> str:
    """Return a time in seconds since the epoch as UTC text, for example 2026-01-31 23:59:59Z."""
    return time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime(seconds))


def span(seconds: int) -> str:
    """Return a span of time in its largest fitting unit, for example ``9 min``."""
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"
