"""Whatever there is of a table: the plan's steps keep each instant and each row, and end where the policy asks."""

from __future__ import annotations

from datetime import UTC, date, datetime

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from dataarch.clock import Grain, Period
from dataarch.errors import ClockImplausible
from dataarch.models.partitioning import Policy
from dataarch.partitions.catalog import Partition
from dataarch.partitions.layout import Range, merged, without
from dataarch.partitions.naming import partition_name
from dataarch.partitions.plan import is_catch_all
from dataarch.partitions.steps import Attach, Plan, Replace, Retire
from fixtures.planned_tables import TABLE, PlannedTable, tables, tiles

pytestmark = pytest.mark.no_cover  # much work on few lines, which other tests run as well

ROUNDS = 5
"""Plans after which nothing may be left to do; the maintenance allows twice as many."""

MANY = settings(max_examples=max(50, settings().max_examples))
"""Never fewer than the profile asks for."""

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)


def settled(table: PlannedTable, also: tuple[Period, ...] = ()) -> Plan:
    """Carry out plans until there is nothing left to do, each step held against what no step may do."""
    kept = sorted([*table.rows, *table.retired])
    for _ in range(ROUNDS):
        now = table.plan(also)
        if not now.steps:
            return now
        for step in now.steps:
            covered = table.covered
            table.apply(step)
            assert tiles([one.range for one in table.ranged])
            if not table.has_default:
                # with a DEFAULT partition each instant has a partition, always
                assert without(covered, table.covered) == []
            assert sorted([*table.rows, *table.retired]) == kept
            for row in table.rows:
                assert table.holder(row) in table.partitions
    raise AssertionError(f"after {ROUNDS} rounds: {table.plan(also).steps}")


def clock_is_behind(ends: Plan) -> bool:
    """Tell whether the plan does nothing that only a clock asks for; some tables have rows of decades to come."""
    return any(isinstance(one, ClockImplausible) and "which cannot be" in str(one) for one in ends.problems)


@MANY
@given(tables())
def test_no_step_overlaps_or_leaves_a_gap_or_loses_a_row_and_soon_there_is_none_left(table: PlannedTable) -> None:
    ends = settled(table)
    event("problems" if ends.problems else "no problem")
    if not table.has_default:
        assert merged(table.covered) == [Range(None, None)]
    assert table.leftovers == []
    assert table.detached == []


@MANY
@given(tables())
def test_each_period_that_is_due_ends_with_its_partition_or_a_problem_that_names_it(table: PlannedTable) -> None:
    present = Period.of(table.now, table.grain)
    ends = settled(table)
    if clock_is_behind(ends):
        event("the clock is behind")
        return
    ranges = {one.range for one in table.ranged}
    for ahead in range(table.policy.premake + 1):
        period = present.plus(ahead)
        named = [problem for problem in ends.problems if problem.value == period.first_day]
        assert bool(named) != (Range(period.start, period.end) in ranges), period
        for problem in named:
            assert problem.table in table.partitions
            assert problem.hint


@MANY
@given(tables())
def test_rows_leave_the_catch_alls_for_their_periods_where_the_policy_keeps_those(table: PlannedTable) -> None:
    ends = settled(table)
    if clock_is_behind(ends):
        return
    present = Period.of(table.now, table.grain)
    named = {problem.value for problem in ends.problems}
    for row in table.rows:
        holder = table.partitions[table.holder(row)]
        if not is_catch_all(TABLE, holder, table.grain):
            continue
        period = Period.of(row, table.grain)
        out_of_reach = row.year < 1970 or row.year >= table.now.year + 10
        expired = table.policy.keep is not None and period < present.plus(-table.policy.keep)
        assert out_of_reach or expired or period.first_day in named, (row, holder)


@MANY
@given(tables())
def test_nothing_that_the_policy_keeps_is_retired_and_no_row_where_the_log_does_not_go_on(table: PlannedTable) -> None:
    present = Period.of(table.now, table.grain)
    for _ in range(ROUNDS):
        rows = list(table.rows)
        lively = table.survey().lively
        now = table.plan()
        retired = [step for step in now.steps if isinstance(step, Retire) and not step.begun]
        for step in retired:
            assert table.policy.keep is not None
            assert step.range.high <= present.plus(-table.policy.keep).start
            assert (table.partitions[step.partition].mark or {}).get("state") != "restored"
            assert not is_catch_all(TABLE, table.partitions[step.partition], table.grain)
        if lively & {step.partition for step in retired}:
            event("rows are retired")
            assert all(any(half.low <= row < half.high for row in rows) for half in halves(present, table.policy.keep))
        for each in now.steps:
            table.apply(each)
        if not now.steps:
            break


# ── clocks ────────────────────────────────────────────────────────────────────────────────────────────────────────


def halves(present: Period, keep: int | None) -> list[Range]:
    """Return the newer and the older half of the periods that are kept; an odd one belongs to both."""
    kept = max(keep or 0, 1)
    half = (kept + 1) // 2
    return [
        Range(present.plus(-half).start, present.start),
        Range(present.plus(-kept).start, present.plus(half - kept).start),
    ]


def busy_log(grain: Grain, keep: int, periods: int = 25) -> PlannedTable:
    """A log with rows in each period, the present one included; what is old has not been retired yet."""
    table = PlannedTable(NOON, grain, Policy(premake=2, keep=None))
    present = Period.of(NOON, grain)
    table.rows = [present.plus(-n).start for n in range(periods)]
    settled(table)
    table.policy = Policy(premake=2, keep=keep)
    return table


def retirements(table: PlannedTable) -> list[str]:
    """Carry out all other steps until there are none, and return what would be retired."""
    for _ in range(ROUNDS):
        now = table.plan()
        others = [step for step in now.steps if not isinstance(step, Retire)]
        for step in others:
            table.apply(step)
        if not others:
            return [step.partition for step in now.steps if isinstance(step, Retire)]
    raise AssertionError(f"after {ROUNDS} rounds: {table.plan().steps}")


@given(st.sampled_from(Grain), st.integers(0, 24), st.data())
def test_where_the_clock_leaps_ahead_and_a_row_is_written_by_it_nothing_is_retired(
    grain: Grain, keep: int, data: st.DataObject
) -> None:
    table = busy_log(grain, keep)
    kept = max(keep, 1)
    leap = data.draw(st.integers((kept + 1) // 2 + 1, 200), label="periods by which the clock leaps")
    table.now = Period.of(NOON, grain).plus(leap).start.replace(hour=13)
    table.rows.append(table.now)
    assert retirements(table) == []
    old = [row for row in table.rows if row < Period.of(table.now, grain).plus(-keep).start]
    problems = [problem for problem in table.plan().problems if isinstance(problem, ClockImplausible)]
    assert len(problems) == bool(old)
    for problem in problems:
        assert str(table.now.date()) in str(problem)
        assert "dataarch partitions retire orders_" in problem.hint


@given(st.sampled_from(Grain), st.integers(2, 24), st.data())
def test_a_clock_that_stays_wrong_for_half_of_what_is_kept_retires_nothing(
    grain: Grain, keep: int, data: st.DataObject
) -> None:
    table = busy_log(grain, keep)
    leap = data.draw(st.integers(2 * keep, 200), label="periods by which the clock leaps")
    stays = data.draw(st.integers(0, keep // 2), label="periods for which it is wrong")
    wrong = Period.of(NOON, grain).plus(leap)
    for after in range(stays + 1):
        table.now = wrong.plus(after).start.replace(hour=13)
        table.rows.append(table.now)
        assert retirements(table) == []


@given(st.sampled_from(Grain), st.integers(0, 24))
def test_a_log_that_goes_on_is_retired_as_its_policy_says(grain: Grain, keep: int) -> None:
    table = busy_log(grain, keep)
    present = Period.of(NOON, grain)
    assert retirements(table) == [partition_name(TABLE, present.plus(-n)) for n in range(24, keep, -1)]
    assert table.plan().problems == ()


@given(st.sampled_from(Grain), st.integers(0, 8))
def test_old_partitions_without_a_row_are_retired_whatever_the_log_does(grain: Grain, keep: int) -> None:
    table = busy_log(grain, keep)
    table.rows = []
    assert len(retirements(table)) == 24 - keep
    assert table.plan().problems == ()


@pytest.mark.parametrize("year", [1969, 1999, 2010])
@pytest.mark.parametrize("keep", [None, 0, 12])
def test_where_the_clock_lies_far_behind_the_rows_it_is_named_and_nothing_is_made_by_it(
    year: int, keep: int | None
) -> None:
    table = busy_log(Grain.MONTH, 12)
    table.policy = Policy(premake=2, keep=keep)
    # which a row of a wrong clock makes no better
    table.now = NOON.replace(year=year)
    table.rows.append(table.now)
    now = table.plan()
    assert now.steps == ()
    assert [type(problem) for problem in now.problems] == [ClockImplausible]
    assert str(table.now.date()) in str(now.problems[0])
    assert now.problems[0].hint


def test_a_clock_before_all_periods_is_named_where_there_is_no_row_as_well() -> None:
    table = PlannedTable(NOON.replace(year=1969), Grain.DAY, Policy(premake=2))
    assert [type(problem) for problem in table.plan().problems] == [ClockImplausible]
    for step in table.plan().steps:
        table.apply(step)
    assert list(table.partitions) == ["orders_rest_min"]
    assert table.plan().steps == ()


def test_rows_of_appointments_in_years_to_come_put_no_clock_in_doubt() -> None:
    table = busy_log(Grain.YEAR, 3, periods=4)
    table.policy = Policy(premake=12, keep=3)
    table.rows += [NOON.replace(year=NOON.year + ahead) for ahead in (1, 5, 9, 12, 60)]
    assert settled(table).problems == ()
    assert table.retired == []


@MANY
@given(tables(), st.lists(st.integers(-30, 30), max_size=12), st.data())
def test_periods_asked_for_in_any_order_end_in_the_same_layout(
    table: PlannedTable, ahead: list[int], data: st.DataObject
) -> None:
    table.policy = Policy(premake=table.policy.premake)
    present = Period.of(table.now, table.grain)
    asked = [present.plus(n) for n in ahead if present.plus(n).start.year < table.now.year + 10]
    asked = [period for period in asked if period.start.year >= 1970]
    other = PlannedTable(**{**vars(table), "partitions": dict(table.partitions), "rows": list(table.rows)})
    other.leftovers, other.detached = list(table.leftovers), list(table.detached)
    settled(table, tuple(asked))
    for period in data.draw(st.permutations(asked)):
        settled(other, (period,))
    settled(other)
    assert {one.range for one in other.ranged} == {one.range for one in table.ranged}
    assert {one.name for one in other.ranged if "_rest_" not in one.name} == {
        one.name for one in table.ranged if "_rest_" not in one.name
    }


@given(tables())
def test_the_rows_of_a_replacement_are_those_of_its_sources(table: PlannedTable) -> None:
    found = table.survey()
    for step in table.plan().steps:
        if isinstance(step, Replace) and set(step.sources) <= set(found.rows):
            assert step.rows == sum(found.rows[source] for source in step.sources)
            assert step.rows >= sum(piece.rows for piece in step.pieces)
            return


# ── a DEFAULT partition ───────────────────────────────────────────────────────────────────────────────────────────


def with_default(*others: Partition, rows: tuple[datetime, ...] = ()) -> PlannedTable:
    default = Partition("orders_default", None, None, bounds="DEFAULT")
    found = {one.name: one for one in (*others, default)}
    return PlannedTable(NOON, Grain.MONTH, Policy(premake=0), found, list(rows))


def test_a_period_whose_rows_lie_in_a_default_partition_is_a_problem_and_is_not_made() -> None:
    now = with_default(rows=(NOON,)).plan()
    assert now.steps == ()
    assert [(one.table, one.value) for one in now.problems] == [("orders_default", date(2026, 11, 1))]


def test_a_period_that_lies_half_in_a_default_partition_is_a_problem_and_is_not_made() -> None:
    now = with_default(Partition("orders_rest_min", None, NOON)).plan()
    assert now.steps == ()
    assert [(one.table, one.value) for one in now.problems] == [("orders_default", date(2026, 11, 1))]
    assert "DETACH PARTITION orders_default" in str(now.problems[0])


def test_a_period_that_is_free_beside_a_default_partition_is_made() -> None:
    now = with_default().plan()
    assert [type(step) for step in now.steps] == [Attach]
    assert now.problems == ()
