"""How far a backfill is, as it tells whoever watches it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["OnProgress", "Outcome", "Progress"]


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a backfill is, or its verification.

    Attributes:
        name: the backfill's.
        seen: rows looked at, by all runs and all workers.
        changed: of them that were changed.
        failed: of them that could not be filled.
        batches: that were committed.
        estimated: rows that there are, as the server estimates.
        rate: rows a second that this run looks at, since it began.
        waits: why nothing is done at this moment; None while something is.
        last: rows of the latest batch.
    """

    name: str
    seen: int = 0
    changed: int = 0
    failed: int = 0
    batches: int = 0
    estimated: int = 0
    rate: float = 0.0
    waits: str | None = None
    last: int = 0

    @property
    def remaining(self) -> float | None:
        """Seconds that are left at this rate; None where nobody can say."""
        return max(0, self.estimated - self.seen) / self.rate if self.rate else None


OnProgress = Callable[[Progress], None]
"""What is called after each batch and while it waits, in the thread that began it."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run has done.

    Attributes:
        name: the backfill's.
        seen: rows that this run looked at.
        changed: of them that it changed; the others were done already, or are not concerned.
        failed: rows that could not be filled, of all runs; they are in the books, with the reasons.
        batches: that it committed.
        largest: rows of its largest batch.
        seconds: that it took.
    """

    name: str
    seen: int = 0
    changed: int = 0
    failed: int = 0
    batches: int = 0
    largest: int = 0
    seconds: float = 0.0
