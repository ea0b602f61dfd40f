"""Columns that take the place of others: both are there for a while and kept in step, then the old ones go."""

from __future__ import annotations

from dataarch.errors import InvalidChange
from dataarch.rollout.drafting.both_forms import BothForms, NewColumn
from dataarch.rollout.drafting.carried import commented, granted
from dataarch.rollout.drafting.copies import COPY, copied, told
from dataarch.rollout.drafting.draft import Draft, Phase
from dataarch.rollout.drafting.naming import quoted
from dataarch.rollout.drafting.old_form import gone, loosened, turned
from dataarch.rollout.drafting.on_table import OnTable
from dataarch.rollout.drafting.text import MOMENT, docstring
from dataarch.rollout.operations import RequireVerifiedOp
from dataarch.rollout.operations.statements import verbatim

__all__ = ["NewColumn", "Replacement"]


class Replacement(BothForms):
    """Columns that take the place of others, as revisions."""

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
        found = [
            self._expand(),
            self._indexes(),
            self._backfill(),
            *self._kept_to(),
            loosened(self),
            turned(self),
            gone(self),
        ]
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

    def _expand(self) -> Draft:
        on = OnTable(self.table)
        adding = [on.add_column(one.name, one.kind.kind, one.kind.type) for one in self.new]
        dressing = [grant for one in self.new for grant in granted(self.table, self.old[0].name, one.name)]
        if self.carried:
            dressing += commented(self.table, self.old[0].name, self.new[0].name)
        made = self.dual_write
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
            (*adding, *dressing, made),
            (made.reverse(), *(on.drop_column(one.name) for one in reversed(self.new))),
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
        filling = self.backfill
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

    def _kept_to(self) -> list[Draft]:
        """Return the revisions by which every row keeps to the rules of the new form; none where it has none.

        Not before every row has it: a rule would refuse each change of a row that is not filled yet, whatever it is
        about.
        """
        on, rules = OnTable(self.table), self.rules
        dropping = [on.drop_constraint(rule.name, rule.kind) for rule in rules]
        checked = Draft(
            Phase.CONTRACT,
            f"check_{self.what}",
            docstring(
                f"{self.says}: rows that are written from now on keep to the rules of the new form.",
                f"It refuses until the backfill is verified: dataarch backfill verify {self.what}.",
                f"Locks: ACCESS EXCLUSIVE on the table, {MOMENT}.",
            ),
            (RequireVerifiedOp(self.what), *(rule.adding for rule in rules)),
            tuple(reversed(dropping)),
        )
        validated = Draft(
            Phase.CONTRACT,
            f"validate_{self.what}",
            docstring(
                f"{self.says}: every row keeps to the rules of the new form.",
                "Locks: SHARE UPDATE EXCLUSIVE on the table while every row is read: readers and writers go on.",
            ),
            tuple(on.validate(rule.name) for rule in rules),
            tuple(one for dropped, rule in zip(dropping, rules, strict=True) for one in (dropped, rule.adding)),
        )
        return [checked, validated] if rules else []
