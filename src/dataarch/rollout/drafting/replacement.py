"""Columns that take the place of others: both are there for a while and kept in step, then the old ones go."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from alembic.operations import MigrateOperation

from dataarch.errors import InvalidChange
from dataarch.rollout.drafting.carried import Carried, Rule, commented, granted
from dataarch.rollout.drafting.copies import COPY, copied, told
from dataarch.rollout.drafting.dependents import Dependents
from dataarch.rollout.drafting.directives import Sql
from dataarch.rollout.drafting.draft import Draft, Phase
from dataarch.rollout.drafting.naming import quoted
from dataarch.rollout.drafting.not_null import NOT_NULL_BY_CHECK
from dataarch.rollout.drafting.on_table import OnTable, not_null_name
from dataarch.rollout.drafting.tables import Column, Table
from dataarch.rollout.drafting.text import MOMENT, docstring
from dataarch.rollout.drafting.types import Kind
from dataarch.rollout.dual_write import DualWrite
from dataarch.rollout.operations import CreateDualWriteOp, RequireVerifiedOp, StartBackfillOp
from dataarch.rollout.operations.statements import verbatim

__all__ = ["NewColumn", "Replacement"]


@dataclass(frozen=True, slots=True)
class NewColumn:
    """A column that comes.

    Attributes:
        name: while both forms are there.
        kind: its type.
        nullable: whether it may be NULL in the end.
        default: its default in the end.
        final: its name in the end.
    """

    name: str
    kind: Kind
    nullable: bool
    default: str | None
    final: str


@dataclass(frozen=True)
class Replacement:
    """Columns that take the place of others.

    Attributes:
        table: theirs.
        what: name of the dual write and of the backfill, and of the files.
        says: what takes the place of what, for docstrings.
        old: the columns that go.
        new: the columns that come.
        forward: each new column, as an SQL expression over the old ones.
        backward: each old column, as an SQL expression over the new ones.
        along: what goes with the old columns.
        carried: what is carried over to the new ones.
    """

    table: Table
    what: str
    says: str
    old: tuple[Column, ...]
    new: tuple[NewColumn, ...]
    forward: Mapping[str, str]
    backward: Mapping[str, str]
    along: Dependents
    carried: tuple[Carried, ...] = field(default=())

    def drafts(self) -> list[Draft]:
        """Return the revisions in their order.

        Raises:
            InvalidChange: the table has no primary key, or an expression does not fit.
        """
        self.table.keyed()
        for one in self.old:
            if one.made_by:
                raise InvalidChange(
                    f"The column {quoted(one.name)} of {self.table.sql} is filled by itself ({one.made_by}).",
                    hint="Such a column can be renamed at once with op.alter_column, when no version uses it.",
                    table=self.table.name,
                    column=one.name,
                )
        for carried in self.carried:
            carried.refuse()
        self._asked()
        found = [self._expand(), self._indexes(), self._backfill(), self._validate(), self._contract()]
        return [one for one in found if one is not None]

    def _asked(self) -> None:
        """Raise InvalidChange if the server does not plan the expressions; it is asked on an empty copy."""
        with copied(self.table) as connection:
            for one in self.new:
                connection.execute(verbatim(f"ALTER TABLE {COPY} ADD {quoted(one.name)} {one.kind.kind}"))
            sets = {**self.forward, **self.backward}.items()
            for column, expression in sets:
                told(
                    connection,
                    f"EXPLAIN UPDATE {COPY} SET {quoted(column)} = ({expression})",
                    refusal=f"{quoted(column)} of {self.table.sql} cannot be {expression}",
                    hint="Name the columns of the row by their bare names, in double quotes where SQL needs them.",
                )

    @property
    def _dual_write(self) -> CreateDualWriteOp:
        return CreateDualWriteOp(
            DualWrite(self.what, self.table.name, dict(self.forward), dict(self.backward), self.table.schema)
        )

    @property
    def _rules(self) -> list[Rule]:
        on = OnTable(self.table)
        not_null = [one.name for one in self.new if not one.nullable]
        return [
            *(Rule(not_null_name(self.table.name, name), "check", on.not_null_check(name)) for name in not_null),
            *(rule for carried in self.carried for rule in carried.rules),
        ]

    def _expand(self) -> Draft:
        on, rules = OnTable(self.table), self._rules
        adding = [on.add_column(one.name, one.kind.kind, one.kind.type) for one in self.new]
        dressing = [grant for one in self.new for grant in granted(self.table, self.old[0].name, one.name)]
        if self.carried:
            dressing += commented(self.table, self.old[0].name, self.new[0].name)
        made = self._dual_write
        return Draft(
            Phase.EXPAND,
            self.what,
            docstring(
                f"{self.says}: both are there, and in step whoever writes.",
                "Rows that are there already have the new form once they are written or backfilled: a version of the "
                "application that uses the new form comes after that.",
                f"Locks: ACCESS EXCLUSIVE on the table, {MOMENT}.",
                "Going down drops the new form; what was written to it has been written to the old one too.",
            ),
            (
                *adding,
                *dressing,
                made,
                *(rule.adding for rule in rules),
            ),
            (
                *(on.drop_constraint(rule.name, rule.kind) for rule in reversed(rules)),
                made.reverse(),
                *(on.drop_column(one.name) for one in reversed(self.new)),
            ),
            {"downgrade-loses-data": "what was written to the new form has been written to the old one too"},
        )

    def _indexes(self) -> Draft | None:
        found = [one for carried in self.carried for one in carried.indexes]
        if not found:
            return None
        return Draft(
            Phase.EXPAND,
            f"index_{self.what}",
            docstring(
                f"{self.says}: the new form has the indexes of the old one.",
                "Locks: SHARE UPDATE EXCLUSIVE on the table while each index is built: nobody waits.",
            ),
            tuple(making for making, _ in found),
            tuple(dropping for _, dropping in reversed(found)),
        )

    def _backfill(self) -> Draft:
        filling = StartBackfillOp(
            self.what, self.table.name, sets=dict(self.forward), matches=self._matches, schema=self.table.schema
        )
        return Draft(
            Phase.BACKFILL,
            self.what,
            docstring(
                f"{self.says}: rows that are there already get the new form.",
                f"This registers the work. Then: dataarch backfill run {self.what}, and: dataarch backfill verify "
                f"{self.what}.",
                "Locks: none that a reader or a writer waits for; while it runs, the rows of one small batch.",
            ),
            (filling,),
            (filling.reverse(),),
        )

    @property
    def _matches(self) -> str | None:
        """What holds for a row whose forms agree; None where the new form alone says it."""
        if all(one.final == one.name for one in self.new) and self.carried:
            return None
        return " OR ".join(f"({_follows(side)})" for side in (self.forward, self.backward))

    def _validate(self) -> Draft | None:
        on, rules = OnTable(self.table), self._rules
        if not rules:
            return None
        again = [(on.drop_constraint(rule.name, rule.kind), rule.adding) for rule in rules]
        return Draft(
            Phase.CONTRACT,
            f"validate_{self.what}",
            docstring(
                f"{self.says}: every row keeps to the rules of the new form.",
                "Locks: SHARE UPDATE EXCLUSIVE on the table while every row is read: readers and writers go on.",
                f"It refuses until the backfill is verified: dataarch backfill verify {self.what}.",
            ),
            (RequireVerifiedOp(self.what), *(on.validate(rule.name) for rule in rules)),
            tuple(operation for pair in again for operation in pair),
        )

    def _contract(self) -> Draft:
        names = " and ".join(quoted(one.name) for one in self.old)
        left = "" if self.carried else self.along.names
        return Draft(
            Phase.CONTRACT,
            self.what,
            docstring(
                f"{self.says}: the old form goes.",
                f"It refuses until the backfill is verified: dataarch backfill verify {self.what}.",
                f"Locks: ACCESS EXCLUSIVE on the table, {MOMENT}.",
                f"With it go: {left}." if left else "",
                f"After it a version of the application that uses {names} as it was fails. Going down brings it back "
                "with its values, computed from the new form, but writes every row under ACCESS EXCLUSIVE.",
            ),
            self._contract_up(),
            self._contract_down(),
            self._allowed,
        )

    @property
    def _allowed(self) -> dict[str, str]:
        """What ``dataarch lint`` is told of the contract."""
        found = {"ban-drop-column": "every row was compared, and no version uses the old form any more"}
        if not all(one.nullable for one in self.new):
            found.update(NOT_NULL_BY_CHECK)
        if any(one.final != one.name for one in self.new):
            found["renaming-column"] = "the column of this name goes in the same transaction"
        if any(" RENAME " in one.statement for carried in self.carried for one in carried.taking_over):
            found["renaming-object"] = "what had this name goes in the same transaction"
        return found

    def _contract_up(self) -> tuple[MigrateOperation, ...]:
        on, done = OnTable(self.table), list[MigrateOperation]()
        for one in self.new:
            if not one.nullable:
                done += [on.nullable(one.name, nullable=False), on.drop_check(not_null_name(self.table.name, one.name))]
        done += [on.drop_column(one.name) for one in self.old]
        for one in self.new:
            if one.final != one.name:
                done.append(on.rename_column(one.name, one.final))
            if one.default is not None:
                done.append(on.default(one.final, one.default))
        taking_over = [one for carried in self.carried for one in carried.taking_over]
        return (RequireVerifiedOp(self.what), self._dual_write.reverse(), *done, *taking_over)

    def _contract_down(self) -> tuple[MigrateOperation, ...]:
        on, done = OnTable(self.table), list[MigrateOperation]()
        for one in self.new:
            if one.default is not None:
                done.append(on.default(one.final, None))
            if one.final != one.name:
                done.append(on.rename_column(one.final, one.name))
        done += [one for carried in self.carried for one in carried.giving_back]
        done += [on.add_column(one.name, one.kind, one.type) for one in self.old]
        sets = ", ".join(f"{quoted(column)} = {expression}" for column, expression in self.backward.items())
        done.append(Sql(f"UPDATE {self.table.sql} SET {sets}"))
        for old in self.old:
            done += [on.nullable(old.name, nullable=False)] if not old.nullable else []
            done += [on.default(old.name, old.default)] if old.default is not None else []
            done += [*granted(self.table, old.name, old.name), *commented(self.table, old.name, old.name)]
        for one in self.new:
            if not one.nullable:
                name = not_null_name(self.table.name, one.name)
                done += [on.check(name, f"{quoted(one.name)} IS NOT NULL", valid=True)]
                done += [on.nullable(one.name, nullable=True)]
        return (*done, *self.along.restored(), self._dual_write)


def _follows(side: Mapping[str, str]) -> str:
    return " AND ".join(f"{quoted(column)} IS NOT DISTINCT FROM ({expression})" for column, expression in side.items())
