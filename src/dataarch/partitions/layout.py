"""Ranges of time, half-open, and how they tile: pure reckoning, no server."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

__all__ = ["EVERYTHING", "Range", "components", "gaps", "merged", "without"]

FIRST = datetime.min.replace(tzinfo=UTC)
LAST = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Range:
    """The instants ``lower <= t < upper``; None is MINVALUE below and MAXVALUE above."""

    lower: datetime | None
    upper: datetime | None

    @property
    def low(self) -> datetime:
        """The lower bound as an instant that can be compared."""
        return FIRST if self.lower is None else self.lower

    @property
    def high(self) -> datetime:
        """The upper bound as an instant that can be compared."""
        return LAST if self.upper is None else self.upper

    def overlaps(self, other: Range) -> bool:
        """Tell whether any instant lies in both."""
        return self.low < other.high and other.low < self.high

    def covers(self, other: Range) -> bool:
        """Tell whether every instant of the other lies in this one."""
        return self.low <= other.low and other.high <= self.high


EVERYTHING = Range(None, None)


def _bound(instant: datetime) -> datetime | None:
    return None if instant in {FIRST, LAST} else instant


def gaps(taken: Iterable[Range], within: Range = EVERYTHING) -> list[Range]:
    """Return the ranges of ``within`` that none of ``taken`` covers, in order."""
    found = []
    at = within.low
    for one in sorted(taken, key=lambda each: each.low):
        if one.high <= at:
            continue
        if one.low >= within.high:
            break
        if one.low > at:
            found.append(Range(_bound(at), _bound(one.low)))
        at = one.high
    if at < within.high:
        found.append(Range(_bound(at), within.upper))
    return found


def without(area: Iterable[Range], taken: Iterable[Range]) -> list[Range]:
    """Return what is left of ``area`` when ``taken`` is cut out of it, in order, joined where it touches."""
    cut = list(taken)
    return [rest for whole in merged(area) for rest in gaps(cut, whole)]


def merged(ranges: Iterable[Range]) -> list[Range]:
    """Return the same instants as ranges that neither touch nor overlap, in order."""
    found: list[Range] = []
    for one in sorted(ranges, key=lambda each: each.low):
        if found and one.low <= found[-1].high:
            if one.high > found[-1].high:
                found[-1] = Range(found[-1].lower, one.upper)
        else:
            found.append(one)
    return found


def components(present: Sequence[Range], wanted: Sequence[Range]) -> list[tuple[list[Range], list[Range]]]:
    """Pair the ranges that must change: each pair tiles the same instants, once as they are and once as they should be.

    Args:
        present: ranges that do not overlap, in order.
        wanted: ranges that tile the same instants, in order.

    Pairs that would change nothing are left out.
    """
    found = []
    # where a boundary is common to both, what is before and what is after can change on their own
    boundaries = sorted({one.high for one in present} & {one.high for one in wanted})
    start = FIRST
    for boundary in boundaries:
        before = [one for one in present if start <= one.low and one.high <= boundary]
        after = [one for one in wanted if start <= one.low and one.high <= boundary]
        if before != after:
            found.append((before, after))
        start = boundary
    return found
