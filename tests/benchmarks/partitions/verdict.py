"""What a benchmark found, and how its process ends."""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum

__all__ = ["Verdict", "together"]


class Verdict(IntEnum):
    """Whether a limit holds; the value is how the process ends."""

    HOLDS = 0
    BROKEN = 1
    CANNOT_TELL = 2


def together(verdicts: Iterable[Verdict]) -> Verdict:
    """Return one for all: a limit that is broken counts for more than one that cannot be judged."""
    found = set(verdicts)
    return next((one for one in (Verdict.BROKEN, Verdict.CANNOT_TELL) if one in found), Verdict.HOLDS)
