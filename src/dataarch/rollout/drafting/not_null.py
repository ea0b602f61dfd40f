"""NOT NULL by way of a CHECK: not valid at first, then validated, then NOT NULL without a scan."""

from __future__ import annotations

from dataarch.rollout.drafting.directives import Again
from dataarch.rollout.drafting.draft import Draft, Phase
from dataarch.rollout.drafting.naming import quoted
from dataarch.rollout.drafting.on_table import OnTable, not_null_name
from dataarch.rollout.drafting.tables import Table
from dataarch.rollout.drafting.text import MOMENT, docstring
from dataarch.rollout.operations import RequireVerifiedOp, StartBackfillOp

__all__ = ["NOT_NULL_BY_CHECK", "filled_draft", "set_draft", "unchecked_draft", "validated_draft"]

NOT_NULL_BY_CHECK = {
    "adding-not-nullable-field": "the CHECK that is valid saves the scan",
    "ban-drop-constraint": "NOT NULL takes the place of the CHECK",
}
"""What ``dataarch lint`` is told where a valid CHECK becomes NOT NULL."""


def unchecked_draft(table: Table, column: str, what: str, *, gate: str | None = None) -> Draft:
    """Return the revision after which no NULL is written any more: the first, or after a backfill that is verified."""
    on, name = OnTable(table), not_null_name(table.name, column)
    return Draft(
        Phase.EXPAND if gate is None else Phase.CONTRACT,
        what if gate is None else f"check_{what}",
        docstring(
            f"Column {quoted(column)} of {table.sql} is not NULL in rows that are written from now on.",
            "A row without a value that is there already cannot be updated until it has one, whatever column the "
            "update is about."
            if gate is None
            else f"It refuses until the backfill is verified: dataarch backfill verify {gate}.",
            f"Locks: ACCESS EXCLUSIVE on the table, {MOMENT}.",
        ),
        (*([] if gate is None else [RequireVerifiedOp(gate)]), on.not_null_check(column)),
        (on.drop_check(name),),
    )


def filled_draft(table: Table, column: str, value: str, what: str) -> Draft:
    """Return the revision that registers the filling of rows without a value."""
    table.keyed()
    filling = StartBackfillOp(
        what, table.name, sets={column: value}, matches=f"{quoted(column)} IS NOT NULL", schema=table.schema
    )
    return Draft(
        Phase.BACKFILL,
        what,
        docstring(
            f"Column {quoted(column)} of {table.sql}: rows without a value get {value}.",
            f"This registers the work. Then: dataarch backfill run {what}, and: dataarch backfill verify {what}.",
            "Locks: none that a reader or a writer waits for; while it runs, the rows of one small batch.",
        ),
        (filling,),
        (filling.reverse(),),
    )


def validated_draft(table: Table, column: str, what: str) -> Draft:
    """Return the revision that reads every row, in a transaction of its own."""
    on, name = OnTable(table), not_null_name(table.name, column)
    return Draft(
        Phase.CONTRACT,
        f"validate_{what}",
        docstring(
            f"Column {quoted(column)} of {table.sql} is not NULL in any row.",
            "Locks: SHARE UPDATE EXCLUSIVE on the table while every row is read: readers and writers go on.",
            "It refuses if a row has no value.",
        ),
        (on.validate(name),),
        (on.drop_check(name), on.not_null_check(column)),
    )


def set_draft(table: Table, column: str, what: str) -> Draft:
    """Return the revision that sets NOT NULL, for which the valid CHECK saves the scan, and drops the CHECK."""
    on, name = OnTable(table), not_null_name(table.name, column)
    return Draft(
        Phase.CONTRACT,
        f"set_{what}",
        docstring(
            f"Column {quoted(column)} of {table.sql} is NOT NULL.",
            f"Locks: ACCESS EXCLUSIVE on the table, {MOMENT}: the CHECK that is valid saves reading the rows.",
            "After it a version of the application that writes no value fails.",
        ),
        (on.nullable(column, nullable=False), on.drop_check(name)),
        Again.together([on.valid_again(column)]),
        NOT_NULL_BY_CHECK,
    )
