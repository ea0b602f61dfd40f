"""Pauses between tries: longer each time, and random, so that two who met once do not meet again."""

from __future__ import annotations

import random
from collections.abc import Iterator

__all__ = ["LONGEST_PAUSE", "PAUSE", "pauses"]

PAUSE = 0.05
"""Seconds before the second try; each later pause is half as long again, 1 s at the most, random by half."""

LONGEST_PAUSE = 1.0


def pauses(chance: random.Random | None = None) -> Iterator[float]:
    """Yield the seconds to pause before the second try, before the third, and so on without end."""
    chance = chance or random.Random()  # noqa: S311  # no secret
    pause = PAUSE
    while True:
        yield pause * chance.uniform(0.5, 1.5)
        pause = min(pause * 1.5, LONGEST_PAUSE)
