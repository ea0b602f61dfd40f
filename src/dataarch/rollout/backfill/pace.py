"""How many rows the next batch takes: pure arithmetic, so that it can be tested with any speeds."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Pace", "next_size"]

GROWTH = 2.0
"""A batch is at most this many times as large as the one before: a lucky one says little of the next."""


@dataclass(frozen=True, slots=True)
class Pace:
    """What batches aim at.

    Attributes:
        seconds: what a batch should take, from its first row to its commit. Its rows are locked no longer than that, so
            it is about the longest that a writer waits for one of them.
        most: rows of a batch at the most.
        first: rows of the first batch, before anything is known.
    """

    seconds: float = 0.02
    most: int = 10_000
    first: int = 500


def next_size(size: int, rows: int, seconds: float, pace: Pace) -> int:
    """Return how many rows the next batch takes.

    Args:
        size: rows that the last batch was allowed to take.
        rows: rows that it looked at; fewer where its range ended.
        seconds: what it took.
        pace: what is aimed at.

    Returns:
        From 1 to ``pace.most``; at most twice ``size``. Where a batch took its whole size and too long, fewer than
        ``size``, unless that is 1.
    """
    if rows <= 0:
        return _within(size, pace)
    fitting = rows * pace.seconds / max(seconds, 1e-6)
    if seconds > pace.seconds:
        # half of the way at once, so that one slow commit does not make the next hundred batches tiny
        return _within(min(size - 1, int((size + fitting) / 2)), pace)
    return _within(min(max(size, int(fitting)), int(size * GROWTH)), pace)


def _within(size: int, pace: Pace) -> int:
    return max(1, min(size, pace.most))
