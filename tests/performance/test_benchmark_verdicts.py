"""What the benchmarks of partitions make of their figures: a limit that is broken ends them with 1."""

from __future__ import annotations

import pytest

from benchmarks.partitions import ingest, latest
from benchmarks.partitions.latest import Case
from benchmarks.partitions.maintenance import STALL_LIMIT, stall_verdict
from benchmarks.partitions.plans import Cost
from benchmarks.partitions.verdict import Verdict, together

pytestmark = pytest.mark.performance

LITTLE, MUCH = STALL_LIMIT * 0.5, STALL_LIMIT * 1.1


@pytest.mark.parametrize(
    ("quiet", "busy", "verdict"),
    [
        ([LITTLE] * 3, [LITTLE] * 3, Verdict.HOLDS),
        ([LITTLE] * 3, [LITTLE, LITTLE, MUCH], Verdict.BROKEN),
        ([LITTLE, LITTLE, MUCH], [LITTLE] * 3, Verdict.CANNOT_TELL),
        ([LITTLE, LITTLE, MUCH], [MUCH] * 3, Verdict.CANNOT_TELL),
    ],
)
def test_one_long_stall_breaks_the_limit_where_nobody_stalls_without_a_maintenance(
    quiet: list[float], busy: list[float], verdict: Verdict
) -> None:
    assert stall_verdict(quiet, busy) is verdict


@pytest.mark.parametrize(
    ("verdicts", "whole"),
    [
        ([], 0),
        ([Verdict.HOLDS], 0),
        ([Verdict.HOLDS, Verdict.CANNOT_TELL], 2),
        ([Verdict.CANNOT_TELL, Verdict.BROKEN, Verdict.HOLDS], 1),
    ],
)
def test_a_benchmark_ends_with_1_for_a_broken_limit_and_with_2_for_one_it_cannot_judge(
    verdicts: list[Verdict], whole: int
) -> None:
    assert together(verdicts) == whole


def read(kind: str, months: int, buffers: int, ms: float, way: str = "windows") -> tuple[Case, Cost, float]:
    cost = Cost(trips=1, buffers=buffers, partitions=months, planned=months, pruned_late=0, rows=50)
    return Case(way, months, kind), cost, ms


@pytest.mark.parametrize(
    ("grown", "broken"),
    [
        (read("busy", 120, 125, 1.5), []),
        (read("rare", 120, 126, 1.0), ["rare, 120 months: 1.26 of the buffers of 1 (limit 1.25)"]),
        (read("busy", 60, 100, 1.6), ["busy, 60 months: 1.60 of the time of 1 (limit 1.5)"]),
        (read("dormant", 120, 900, 9.0), []),
        (read("busy", 120, 900, 9.0, "naive"), []),
    ],
)
def test_reads_that_grow_with_the_months_are_named(grown: tuple[Case, Cost, float], broken: list[str]) -> None:
    case, *_ = grown
    cases = [read(case.kind, 1, 100, 1.0, case.way), grown]
    touched = {one: (cost, cost) for one, cost, _ in cases}
    assert latest.broken(touched, {one: (ms, ms) for one, _, ms in cases}) == broken


@pytest.mark.parametrize(
    ("again", "many", "verdict"),
    [
        (1.0, 1.05, Verdict.HOLDS),
        (1.0, 1.15, Verdict.BROKEN),
        (1.15, 1.0, Verdict.CANNOT_TELL),
        (0.0, 0.0, Verdict.CANNOT_TELL),
    ],
)
def test_ingest_is_judged_by_the_servers_processor_time_and_not_where_equal_logs_differ(
    again: float, many: float, verdict: Verdict
) -> None:
    # by the clock it takes ten times as long: other work on the machine does not count
    times = {
        ("COPY", ingest.FEW): [(1.0, 1.0)] * 3,
        ("COPY", "3 months, again"): [(1.0, again)] * 3,
        ("COPY", "120 months"): [(10.0, many)] * 3,
    }
    assert ingest.verdict(times) is verdict
