"""Ranges of time: what is left of them, what they cover, and which of them must change together."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from dataarch.partitions.layout import EVERYTHING, FIRST, LAST, Range, components, gaps, merged, without

START = datetime(2026, 1, 1, tzinfo=UTC)

edges = st.none() | st.integers(0, 40).map(lambda day: START + timedelta(days=day))
ranges = st.builds(Range, edges, edges).filter(lambda one: one.low < one.high)

PROBES = [FIRST, *(START + timedelta(hours=12 * n) for n in range(-1, 84)), LAST - timedelta.resolution]
"""An instant in each range, and at each edge."""


def holding(many: list[Range]) -> list[int]:
    """Return, for each probe, how many ranges hold it."""
    return [sum(one.low <= probe < one.high for one in many) for probe in PROBES]


@st.composite
def tilings(draw: st.DrawFn) -> list[Range]:
    """Ranges in order that do not overlap; some touch, and there may be gaps."""
    bounds = [None, *sorted(one for one in draw(st.sets(edges, max_size=8)) if one is not None), None]
    pairs = [Range(lower, upper) for lower, upper in itertools.pairwise(bounds)]
    return [one for one in pairs if draw(st.booleans())]


@given(st.lists(ranges, max_size=6), ranges)
def test_gaps_are_what_no_range_covers(taken: list[Range], within: Range) -> None:
    found = gaps(taken, within)
    inside, covered = holding([within]), holding(taken)
    assert holding(found) == [int(here and not there) for here, there in zip(inside, covered, strict=True)]
    assert all(one.high < other.low for one, other in itertools.pairwise(found))


@given(st.lists(ranges, max_size=6), st.lists(ranges, max_size=6))
def test_without_leaves_each_instant_that_was_not_cut_out(area: list[Range], taken: list[Range]) -> None:
    found = without(area, taken)
    expected = [int(bool(here) and not there) for here, there in zip(holding(area), holding(taken), strict=True)]
    assert holding(found) == expected
    assert found == merged(found)


@given(st.lists(ranges, max_size=6))
def test_merged_ranges_hold_the_same_instants_and_neither_touch_nor_overlap(many: list[Range]) -> None:
    found = merged(many)
    assert holding(found) == [int(bool(count)) for count in holding(many)]
    assert all(one.high < other.low for one, other in itertools.pairwise(found))


@given(tilings(), st.data())
def test_components_tile_the_same_instants_before_and_after_and_only_where_something_changes(
    present: list[Range], data: st.DataObject
) -> None:
    cuts = data.draw(st.lists(ranges, max_size=4))
    wanted = sorted(
        [rest for cut in merged(cuts) for rest in without(present, without([EVERYTHING], [cut]))]
        + without(present, cuts),
        key=lambda one: one.low,
    )
    found = components(present, wanted)
    for before, after in found:
        assert before != after
        assert merged(before) == merged(after)
    changed = [one for before, _ in found for one in before]
    made = [one for _, after in found for one in after]
    assert sorted([one for one in present if one not in changed] + made, key=lambda one: one.low) == wanted


@given(ranges, ranges)
def test_ranges_overlap_where_an_instant_lies_in_both_and_cover_where_each_does(one: Range, other: Range) -> None:
    both = [here and there for here, there in zip(holding([one]), holding([other]), strict=True)]
    assert one.overlaps(other) == other.overlaps(one) == any(both)
    assert one.covers(other) == (both == holding([other]))


def test_the_bounds_of_everything_are_minvalue_and_maxvalue() -> None:
    assert gaps([]) == [EVERYTHING] == merged([Range(None, START), Range(START, None)])
    assert gaps([Range(None, START)]) == [Range(START, None)]
    assert gaps([Range(START, None)]) == [Range(None, START)]
    assert gaps([EVERYTHING]) == []
