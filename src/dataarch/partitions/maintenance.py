"""Look after a partitioned table: make what its policy asks for, retire what it no longer keeps, finish what was begun.

Each function is safe to repeat, to run at the same time, and to kill at any moment.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy import Table

from dataarch.clock import Grain, Period, utcnow
from dataarch.database.unit_of_work import Database
from dataarch.errors import ClockImplausible, DataArchError, PartitionRefused, PrivilegeMissing, ServerUnreachable
from dataarch.models.partitioning import Policy, table_of
from dataarch.partitions.change_log import leftovers_sql
from dataarch.partitions.layout import Range
from dataarch.partitions.plan import is_catch_all, plan
from dataarch.partitions.replace import refuse_taken, replace
from dataarch.partitions.restore import Restored, restore
from dataarch.partitions.retire import retire
from dataarch.partitions.script import described
from dataarch.partitions.steps import Attach, CleanUp, Plan, Replace, Retire, Step, Survey
from dataarch.partitions.survey import declared, survey
from dataarch.partitions.worker import PATIENCE, Worker, working_on

__all__ = ["Maintained", "Maintenance", "planned"]

ROUNDS = 10
"""Plans carried out before it is an error that there is still something to do."""

CLOCKS_APART = 24 * 3600
"""Seconds by which this machine's clock may differ from the server's."""


@dataclass
class Maintained:
    """What a maintenance did.

    Attributes:
        made: names of partitions that were made.
        moved: rows that were moved from catch-alls.
        retired: names of partitions that were taken out.
        archives: files that were written.
        problems: what stood in the way of other partitions.
    """

    made: list[str] = field(default_factory=list)
    moved: int = 0
    retired: list[str] = field(default_factory=list)
    archives: list[Path] = field(default_factory=list)
    problems: tuple[DataArchError, ...] = ()


@dataclass(frozen=True)
class Maintenance:
    """The maintenance of one partitioned table, as its owner.

    Attributes:
        db: where.
        model: a model that declares its partitions, or its table.
        policy: which partitions there should be, where it is not the model's own.
        archive_dir: folder of the archives.
        patience: seconds for which a lock is tried again and again, a few milliseconds at a time.
        say: told about what takes time.
    """

    db: Database
    model: object
    policy: Policy | None = None
    archive_dir: Path | None = None
    patience: float = PATIENCE
    say: Callable[[str], None] | None = None

    @property
    def table(self) -> Table:
        """The model's table."""
        return table_of(self.model)

    def plan(self, *, also: Iterable[Period] = (), retiring: bool = True) -> Plan:
        """Return what :meth:`maintain` would do now, or, without ``retiring``, :meth:`ensure`; changes nothing.

        Raises:
            SchemaNotMigrated, PartitionRefused: as :func:`~dataarch.partitions.survey.survey`.
            InvalidPeriod: one of ``also`` gets no partition.
        """
        with self.db.maintenance() as connection:
            return planned(survey(connection, self.table), self, also, retiring=retiring)

    def plan_retirement(self, names: Sequence[str]) -> Plan:
        """Return what :meth:`retire` would do; raises :class:`PartitionRefused` as that does."""
        with self.db.maintenance() as connection:
            return Plan(tuple(self._retirements(survey(connection, self.table), names)))

    def maintain(self) -> Maintained:
        """Make what the policy asks for, retire what it no longer keeps, and finish what was begun.

        Raises:
            LockTimeout: somebody held a lock all the time; what was done before stays, and nothing is half done.
            ClockImplausible: this machine's clock and the server's differ by more than a day, or the rows say that the
                server's is wrong; in the latter case raised when everything else is done.
            PartitionRefused: another partition, or rows of a DEFAULT partition, are in the way of a period, or a
                partition cannot be retired; raised when everything else is done.
            ConfigurationError: a partition is to be archived, and the folder is missing or cannot be written to.

        Guarantee: no row is lost, doubled, or out of sight at any moment, whoever writes meanwhile.
        """
        return _without_problems(self.attempt())

    def ensure(self, periods: Iterable[Period] = ()) -> Maintained:
        """Make the partitions that the policy asks for, and those of ``periods``; retire none. As :meth:`maintain`."""
        return _without_problems(self.attempt(also=periods, retiring=False))

    def attempt(self, *, also: Iterable[Period] = (), retiring: bool = True) -> Maintained:
        """Do as :meth:`maintain`, or, without ``retiring``, :meth:`ensure`; tell problems instead of raising the first.

        What stands in the way of some partitions is in ``problems`` of what is returned; other errors are raised.
        """
        done = Maintained()
        with self._working() as worker:
            _settle(worker, self, done, tuple(also), retiring=retiring)
        return done

    def retire(self, names: Sequence[str]) -> Maintained:
        """Retire these partitions, whatever the policy keeps.

        Raises:
            PartitionRefused: there is no such partition, or it holds rows of the present or the future, or it is a
                catch-all.
        """
        done = Maintained()
        with self._working() as worker:
            _finish(worker, self, done)
            left = [name for name in dict.fromkeys(names) if name not in done.retired]
            for step in self._retirements(survey(worker.connection, self.table), left):
                _do(worker, step, done, self.archive_dir)
            _settle(worker, self, done, (), retiring=False)
        return done

    def restore(self, file: Path, *, without: Collection[str] = ()) -> Restored:
        """Bring an archive back; see :func:`~dataarch.partitions.restore.restore`."""
        with self._working() as worker:
            _clean_up(worker, survey(worker.connection, self.table).leftovers)
            try:
                with worker.changing():
                    return restore(worker, file, without=without)
            except ServerUnreachable:
                raise
            except DataArchError:
                _clean_up(worker, survey(worker.connection, self.table).leftovers)
                raise

    def _retirements(self, found: Survey, names: Sequence[str]) -> list[Retire]:
        partitioning = declared(self.table)
        return [_retirement(found, name, self.policy or partitioning.policy, partitioning.grain) for name in names]

    def _working(self) -> AbstractContextManager[Worker]:
        return working_on(self.db, self.table, say=self.say, patience=self.patience)


def _without_problems(done: Maintained) -> Maintained:
    if done.problems:
        raise done.problems[0]
    return done


def planned(found: Survey, given: Maintenance, also: Iterable[Period], *, retiring: bool = True) -> Plan:
    """Return the plan for what a survey found; raises :class:`ClockImplausible` where two clocks disagree."""
    apart = abs((utcnow() - found.now).total_seconds())
    if apart > CLOCKS_APART:
        raise ClockImplausible(
            f"The clock of this machine says {utcnow():%Y-%m-%d %H:%M}, that of the server {found.now:%Y-%m-%d %H:%M}: "
            f"no partition of {found.table} is made or retired on the word of either.",
            table=found.table,
            value=found.now,
        )
    return plan(found, declared(given.table), policy=given.policy, also=also, retiring=retiring)


def _finish(worker: Worker, given: Maintenance, done: Maintained) -> None:
    """Finish what was begun and killed, and nothing else."""
    for step in planned(survey(worker.connection, given.table), given, ()).steps:
        if isinstance(step, CleanUp) or (isinstance(step, Retire) and step.begun):
            _do(worker, step, done, given.archive_dir)


def _settle(worker: Worker, given: Maintenance, done: Maintained, also: Sequence[Period], *, retiring: bool) -> None:
    """Plan and carry out until there is nothing left to do; what a step is refused for holds up no other."""
    refused = _Refused()
    for _ in range(ROUNDS):
        now = planned(survey(worker.connection, given.table), given, also, retiring=retiring)
        done.problems = (*now.problems, *refused.problems)
        if all(refused.holds(step) for step in now.steps):
            return
        for step in now.steps:
            if not refused.holds(step):
                try:
                    _do(worker, step, done, given.archive_dir)
                except PartitionRefused as problem:
                    refused.note(step, problem)
    raise PartitionRefused(
        f"After {ROUNDS} rounds there is still something to do for the partitions of {worker.blueprint.name}.",
        hint="Somebody else changes them at the same time: look with `dataarch partitions plan`.",
        table=worker.blueprint.name,
    )


@dataclass
class _Refused:
    """Steps that are not tried again: a retirement alone, a change of the layout with all that would build on it."""

    retirements: set[str] = field(default_factory=set)
    layout: bool = False
    problems: list[PartitionRefused] = field(default_factory=list)

    def holds(self, step: Step) -> bool:
        if isinstance(step, Retire):
            return step.partition in self.retirements
        return self.layout and isinstance(step, Attach | Replace)

    def note(self, step: Step, problem: PartitionRefused) -> None:
        if isinstance(step, Retire):
            self.retirements.add(step.partition)
        else:
            self.layout = True
        # what others refer to refuses each of its partitions for the same reason
        if str(problem) not in map(str, self.problems):
            self.problems.append(problem)


def _do(worker: Worker, step: Step, done: Maintained, archive_dir: Path | None) -> None:
    try:
        _carried_out(worker, step, done, archive_dir)
    except PrivilegeMissing as refused:
        raise PrivilegeMissing(
            f"A step for the partitions of {worker.blueprint.name} was not done ({described(step)}). {refused.message}",
            hint=refused.hint,
            table=worker.blueprint.name,
            sqlstate=refused.sqlstate,
        ) from refused


def _carried_out(worker: Worker, step: Step, done: Maintained, archive_dir: Path | None) -> None:
    match step:
        case CleanUp():
            _clean_up(worker, step.tables)
        case Attach():
            _attach(worker, step)
            done.made += [piece.name for piece in step.pieces]
        case Replace():
            done.moved += replace(worker, step)
            done.made += [piece.name for piece in step.pieces if piece.name not in step.sources]
        case Retire():
            with worker.changing():
                file = retire(worker, step, archive_dir)
            done.retired.append(step.partition)
            done.archives += [file] if file else []


def _clean_up(worker: Worker, tables: Sequence[str]) -> None:
    if tables:
        worker.tried(lambda: worker.run(*leftovers_sql(worker.blueprint, tables)), about=worker.blueprint.referenced)


def _attach(worker: Worker, step: Attach) -> None:
    """Make partitions where there is none; the table is locked against other changes of it, not against its users."""
    blueprint = worker.blueprint
    for piece in step.pieces:

        def make(name: str = piece.name, within: Range = piece.range) -> None:
            refuse_taken(worker, name)
            worker.run(*blueprint.making(name, within), *blueprint.attaching(name, within))

        worker.tried(make, about=blueprint.referenced)


def _retirement(found: Survey, name: str, policy: Policy, grain: Grain) -> Retire:
    table = found.table
    one = next((each for each in found.partitions if each.name == name), None)
    if one is None:
        raise PartitionRefused(
            f"{name} is no partition of {table}.", hint=f"See: dataarch partitions list {table}", table=name
        )
    if one.is_default or is_catch_all(table, one, grain) or one.range.high > found.now:
        raise PartitionRefused(
            f"The partition {name} of {table} is not retired: it holds rows of the present or the future, or whatever "
            "has no other partition.",
            hint=f"Name one that is wholly in the past; see: dataarch partitions list {table}",
            table=name,
        )
    return Retire(name, one.range, policy.archive, policy.drop)
