"""Mutants that change nothing that anybody could see, each with the reason."""

from __future__ import annotations

from collections.abc import Mapping

# name of the mutant -> why it is no other program
EQUIVALENT: Mapping[str, str] = {}
