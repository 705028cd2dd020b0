"""A wrapper that keeps secrets out of logs, tracebacks and reprs by accident.

It cannot wipe memory: Python copies strings and bytes as it likes. Dropping the last reference
early is all that can be done, and the threat model says so.
"""

from __future__ import annotations


class Secret:
    """Holds text that must not be shown; ``reveal()`` is the only way to it."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """Return the secret itself; the caller must not keep, log or format it."""
        return self._value

    def __repr__(self) -> str:
        return f"<Secret of {len(self._value)} characters>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash(self._value)

    def __reduce__(self) -> str:
        raise TypeError("a secret is never pickled")
