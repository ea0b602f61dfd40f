"""What a run tells of its rejects stays small, however many reasons there are, and loses none."""

from __future__ import annotations

from dataarch.models.base import new_id
from dataarch.pipelines.outcome import MOST_REASONS, OTHER, Counts, Outcome
from dataarch.pipelines.records import Reject, Stage


def lines(first: int, last: int) -> list[Reject]:
    """Return rejects with a reason of each one's own."""
    return [Reject(n, Stage.EXTRACT, f"Line {n} has 1 fields.", "x") for n in range(first, last + 1)]


def test_reasons_beyond_the_first_thousand_are_counted_together() -> None:
    outcome = Outcome(new_id())
    for first in (1, MOST_REASONS // 2, 1):
        outcome.add(Counts(read=MOST_REASONS, rejected=MOST_REASONS), lines(first, first + MOST_REASONS - 1), {})
    assert outcome.reasons.total() == outcome.counts.rejected == 3 * MOST_REASONS
    assert len(outcome.reasons) == MOST_REASONS + 1
    assert outcome.reasons["extract", "", OTHER] == MOST_REASONS // 2 - 1
    assert outcome.reasons["extract", "", "Line 1 has 1 fields."] == 2


def test_the_same_reason_is_one_however_often_it_is_given() -> None:
    outcome = Outcome(new_id())
    outcome.add(Counts(read=2, rejected=2), [Reject(n, Stage.LOAD, "Taken.", {}, "slug") for n in (1, 2)], {})
    assert outcome.reasons == {("load", "slug", "Taken."): 2}
