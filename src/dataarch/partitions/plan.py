"""What has to be done so that a table has the partitions that its policy asks for: reckoned, not done.

:func:`plan` is pure. It is given what there is (a :class:`Survey`) and returns the steps; the maintenance carries them
out, looks again, and is done when a plan has none.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

from dataarch.clock import Grain, Period
from dataarch.errors import DataArchError, InvalidPeriod, PartitionRefused
from dataarch.models.partitioning import Partitioning, Policy
from dataarch.partitions.catalog import Partition
from dataarch.partitions.clocks import EARLIEST, ahead_of, behind_of, silence, starting
from dataarch.partitions.layout import EVERYTHING, Range, components, gaps, merged, without
from dataarch.partitions.naming import catch_all_name, partition_name
from dataarch.partitions.steps import Attach, CleanUp, Piece, Plan, Replace, Retire, Step, Survey

__all__ = ["is_catch_all", "plan"]

YEARS_AHEAD = 10
"""Rows from later stay in a catch-all, as those from before 1970 do: the clock that made them was wrong."""

PIECES_AT_ONCE = 6
"""Partitions attached under one exclusive lock: each costs it some 2 ms."""

FEW_ROWS = 1000
"""A catch-all with no more is carved a few periods at a time: its rows are copied each time."""


def is_catch_all(table: str, partition: Partition, grain: Grain) -> bool:
    """Tell whether a partition is one of the catch-alls that this library makes, and may carve."""
    if partition.is_default:
        return False
    expected = catch_all_name(table, None if partition.lower is None else partition.range.low, grain)
    return partition.name == expected or partition.name.startswith(f"{table}_rest_")


def plan(
    survey: Survey,
    partitioning: Partitioning,
    *,
    policy: Policy | None = None,
    also: Iterable[Period] = (),
    retiring: bool = True,
) -> Plan:
    """Return the steps that give a table its partitions.

    Args:
        survey: what there is.
        partitioning: what the model declares.
        policy: which partitions there should be, where it is not the model's own.
        also: periods that are wanted besides.
        retiring: whether partitions are retired, and what is in the way of that is a problem.

    Raises:
        InvalidPeriod: one of ``also`` is before 1970 or more than ten years ahead.

    Guarantee: pure; no step loses a row, and once all are carried out, the next plan has no more of them. An instant
    that has a partition before a step has one after it.
    """
    draft = _Draft(survey, partitioning.grain, policy or partitioning.policy, tuple(also))
    steps: list[Step] = [CleanUp(survey.leftovers)] if survey.leftovers else []
    steps += draft.layout()
    problems = draft.problems()
    if retiring:
        # last: a folder that takes no archive is no reason to make no partitions
        retirements, implausible = draft.retirements()
        steps += [*draft.begun(), *retirements]
        problems += implausible
    return Plan(tuple(steps), tuple(problems))


class _Draft:
    def __init__(self, survey: Survey, grain: Grain, policy: Policy, also: Sequence[Period]) -> None:
        self.survey = survey
        self.grain = grain
        self.policy = policy
        self.present = Period.of(survey.now, grain)
        self.cutoff = None if policy.keep is None else self.present.plus(-policy.keep).start
        # a partition on its way out still has its place, but nobody finds its rows any more
        self.ranged = sorted((one for one in survey.partitions if not one.is_default), key=lambda each: each.range.low)
        self.default = next((one for one in survey.partitions if one.is_default), None)
        self.catch_alls = [one for one in self.ranged if is_catch_all(survey.table, one, grain)]
        self.fixed = [one for one in self.ranged if one not in self.catch_alls]
        for period in also:
            self._plausible(period)
        furthest = max(self._horizon(), self.present.plus(policy.premake).start)
        self.behind = behind_of(survey, self.present, furthest)
        # while the old partition of a period is on its way out, its name is taken
        leaving = {one.name for one in survey.detached}
        wanted = {*also, *(() if self.behind else (*self._due(), *self._strayed()))}
        self.wanted = sorted(one for one in wanted if partition_name(survey.table, one) not in leaving)

    # ── which periods ─────────────────────────────────────────────────────────────────────────────────────────────

    def _due(self) -> list[Period]:
        return [self.present.plus(ahead) for ahead in range(self.policy.premake + 1)]

    def _horizon(self) -> datetime:
        return Period.of(self.survey.now, Grain.YEAR).plus(YEARS_AHEAD).start.replace(month=self.survey.now.month)

    def _in_reach(self, period: Period) -> bool:
        return period.first_day >= Grain(self.grain).first_day(EARLIEST) and period.start <= self._horizon()

    def _plausible(self, period: Period) -> None:
        if not self._in_reach(period):
            raise InvalidPeriod(
                f"The {self.grain} {period} gets no partition of {self.survey.table}: it is before 1970 or more than "
                f"{YEARS_AHEAD} years ahead.",
                hint="Its rows are kept in a catch-all partition; check the clock that made them.",
                table=self.survey.table,
                value=period.first_day,
            )

    def _strayed(self) -> list[Period]:
        ours = {one.name for one in self.catch_alls}
        # a table that was this period's partition has its name still
        taken = {one.name for one in self.survey.detached} | self.survey.kept
        found = []
        for stray in self.survey.strays:
            period = Period(self.grain.first_day(stray.first_day), self.grain)
            # what has left the policy is made a period only to be retired again
            expired = self.cutoff is not None and period.start < self.cutoff
            if stray.partition not in ours or partition_name(self.survey.table, period) in taken:
                continue
            if self._in_reach(period) and not (expired and not self.policy.drop):
                found.append(period)
        return found

    # ── how they tile ─────────────────────────────────────────────────────────────────────────────────────────────

    def layout(self) -> list[Step]:
        fixed = [one.range for one in self.fixed]
        free = gaps(fixed)
        periods = [r for period in self.wanted if any(f.covers(r := Range(period.start, period.end)) for f in free)]
        steps: list[Step] = []
        empty = gaps([one.range for one in self.ranged])
        new = self._fill(empty, periods)
        if new:
            steps.append(Attach(tuple(self._piece(one) for one in new)))
        caught = [one for one in new if one not in periods]
        present = sorted([*(one.range for one in self.catch_alls), *caught], key=lambda each: each.low)
        area = merged(present)
        inside = [one for one in periods if any(whole.covers(one) for whole in area)]
        wanted = sorted([*inside, *without(area, inside)], key=lambda each: each.low)
        # a gap of one period was filled by a catch-all with its bounds
        steps += [
            Replace((one.name,), (self._piece(one.range),), self.survey.rows.get(one.name, 0))
            for one in self.catch_alls
            if one.range in inside
        ]
        for before, after in components(present, wanted):
            steps += self._replacements(before, after)
        return steps

    def _fill(self, empty: Sequence[Range], periods: Sequence[Range]) -> list[Range]:
        """Return what to attach where there is nothing; a DEFAULT partition is a catch-all of its own kind."""
        made = [one for one in periods if any(gap.covers(one) for gap in empty)]
        if self.default is not None:
            holding = {stray.first_day for stray in self.survey.strays if stray.partition == self.default.name}
            return [one for one in made if one.lower is not None and one.lower.date() not in holding]
        return sorted([*made, *without(empty, made)], key=lambda each: each.low)

    def _replacements(self, before: list[Range], after: list[Range]) -> list[Step]:
        sources = tuple(self._name(one) for one in before)
        rows = sum(self.survey.rows.get(source, 0) for source in sources)
        periods = [one for one in after if self._is_period(one)]
        if len(periods) <= PIECES_AT_ONCE or rows > FEW_ROWS:
            return [Replace(sources, tuple(self._piece(one) for one in after), rows)]
        # an empty catch-all is carved a few periods at a time, so that no lock is held for long
        chosen = periods[:PIECES_AT_ONCE]
        kept = sorted([*chosen, *without(before, chosen)], key=lambda each: each.low)
        return [
            Replace(sources, tuple(self._piece(one) for one in kept), rows),
            # a catch-all that is left may be a period by now
            *(
                step
                for pair in components(
                    [one for one in kept if one not in chosen and any(one.covers(p) for p in periods[PIECES_AT_ONCE:])],
                    [one for one in after if one.low >= chosen[-1].high],
                )
                for step in self._replacements(*pair)
            ),
        ]

    def _is_period(self, one: Range) -> bool:
        if one.lower is None or one.upper is None:
            return False
        period = Period.of(one.lower, self.grain)
        return period.start == one.lower and period.end == one.upper and period in self.wanted

    def _name(self, one: Range) -> str:
        for existing in self.catch_alls:
            if existing.range == one:
                return existing.name
        return self._piece(one).name

    def _piece(self, one: Range) -> Piece:
        rows = sum(s.rows for s in self.survey.strays if Range(one.lower, one.upper).covers(starting(s.first_day)))
        if self._is_period(one) and one.lower is not None:
            return Piece(partition_name(self.survey.table, Period.of(one.lower, self.grain)), one, rows)
        return Piece(catch_all_name(self.survey.table, one.lower, self.grain), one, rows)

    # ── what is over ──────────────────────────────────────────────────────────────────────────────────────────────

    def begun(self) -> list[Step]:
        pending = [
            Retire(
                one.name,
                one.range,
                bool((one.mark or {}).get("archive", self.policy.archive)),
                bool((one.mark or {}).get("drop", self.policy.drop)),
                begun=True,
            )
            for one in self.ranged
            if one.detach_pending or _retiring(one)
        ]
        detached = [
            Retire(one.name, EVERYTHING, bool(one.mark.get("archive")), bool(one.mark.get("drop")), begun=True)
            for one in self.survey.detached
        ]
        return [*pending, *detached]

    def retirements(self) -> tuple[list[Step], list[DataArchError]]:
        if self.cutoff is None or self.policy.keep is None or self.behind:
            return [], []
        old = [
            one
            for one in self.fixed
            if one.range.high <= self.cutoff
            and one.lower is not None
            and not one.detach_pending
            and not _retiring(one)
            and (one.mark or {}).get("state") != "restored"
        ]
        if self.survey.lively & {one.name for one in old}:
            silent = silence(self.survey, self.present, self.policy.keep)
            if silent is not None:
                return [], [ahead_of(self.survey, silent, old)]
        return [Retire(one.name, one.range, self.policy.archive, self.policy.drop) for one in old], []

    # ── what is in the way ────────────────────────────────────────────────────────────────────────────────────────

    def problems(self) -> list[DataArchError]:
        found: list[DataArchError] = [self.behind] if self.behind else []
        for period in self.wanted:
            wanted = Range(period.start, period.end)
            found += [
                self._overlapped(period, one)
                for one in self.fixed
                if one.range.overlaps(wanted) and one.range != wanted
            ]
        return found + self._half_in_default() + self._in_default()

    def _overlapped(self, period: Period, one: Partition) -> DataArchError:
        table = self.survey.table
        return PartitionRefused(
            f"The {self.grain} {period} of {table} lies partly or wholly in the partition {one.name}, which is no "
            f"{self.grain}: {one.bounds or one.range}.",
            hint=f"Detach it, and bring its rows back: ALTER TABLE {table} DETACH PARTITION {one.name}; "
            f"then `dataarch partitions maintain`; then INSERT INTO {table} SELECT * FROM {one.name}",
            table=one.name,
            value=period.first_day,
        )

    def _half_in_default(self) -> list[DataArchError]:
        if self.default is None:
            return []
        table, name = self.survey.table, self.default.name
        empty = gaps([one.range for one in self.ranged])
        ranges = {period: Range(period.start, period.end) for period in self.wanted}
        return [
            PartitionRefused(
                f"The {self.grain} {period} of {table} lies partly in the DEFAULT partition {name}, and partly in "
                "another: its partition cannot be made.",
                hint=_without_default(table, name),
                table=name,
                value=period.first_day,
            )
            for period, wanted in ranges.items()
            if any(gap.overlaps(wanted) and not gap.covers(wanted) for gap in empty)
        ]

    def _in_default(self) -> list[DataArchError]:
        if self.default is None:
            return []
        table, name = self.survey.table, self.default.name
        due = {period.first_day: period for period in self.wanted}
        return [
            PartitionRefused(
                f"The DEFAULT partition {name} of {table} holds {stray.rows} rows of the {self.grain} "
                f"{due[stray.first_day]}, so that its partition cannot be made.",
                hint=_without_default(table, name),
                table=name,
                value=stray.first_day,
            )
            for stray in self.survey.strays
            if stray.partition == name and stray.first_day in due
        ]


def _without_default(table: str, default: str) -> str:
    return (
        f"Replace it by catch-alls: ALTER TABLE {table} DETACH PARTITION {default}; "
        f"then `dataarch partitions maintain`; then INSERT INTO {table} SELECT * FROM {default}"
    )


def _retiring(one: Partition) -> bool:
    return (one.mark or {}).get("state") == "retiring"
