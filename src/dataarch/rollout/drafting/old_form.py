"""How the old form goes, and comes back: neither way are rows read or written while others wait.

Going down, the old form is not whole at once: rows that are written have it, those that are there get it by a backfill
of its own, and the gate is one revision below. So it goes in three steps: nothing is expected of it any more; it
follows the new form instead of the other way round; it is taken away.
"""

from __future__ import annotations

from alembic.operations import MigrateOperation

from dataarch.rollout.drafting.both_forms import BothForms
from dataarch.rollout.drafting.carried import commented, granted
from dataarch.rollout.drafting.directives import Again
from dataarch.rollout.drafting.draft import Draft, Phase
from dataarch.rollout.drafting.naming import quoted
from dataarch.rollout.drafting.not_null import NOT_NULL_BY_CHECK
from dataarch.rollout.drafting.on_table import OnTable, not_null_name
from dataarch.rollout.drafting.text import MOMENT, docstring
from dataarch.rollout.operations import RequireVerifiedOp

__all__ = ["gone", "loosened", "turned"]


def loosened(forms: BothForms) -> Draft | None:
    """Return the revision after which nothing is expected of the old form; None where nothing was."""
    up = _loosened_up(forms)
    if not up:
        return None
    left = "" if forms.carried else forms.along.names
    return Draft(
        Phase.CONTRACT,
        f"loosen_{forms.what}",
        docstring(
            f"{forms.says}: the old form may be left out.",
            _refusal(forms.what),
            f"Locks: ACCESS EXCLUSIVE on the table, {MOMENT}.",
            f"With it go: {left}." if left else "",
            "Going down makes what was on the old form anew while everybody goes on; killed, it begins once more.",
        ),
        (RequireVerifiedOp(forms.what), *up),
        _loosened_down(forms),
        _allowed_loose(forms),
    )


def turned(forms: BothForms) -> Draft:
    """Return the revision after which the old form follows from the new one."""
    names = forms.turned.names.items()
    called = " ".join(f"What was {quoted(old)} is called {quoted(new)} meanwhile." for old, new in names)
    return Draft(
        Phase.CONTRACT,
        f"turn_{forms.what}",
        docstring(
            f"{forms.says}: the old form follows the new one, and no longer the other way round. {called}".strip(),
            _refusal(forms.what),
            f"Locks: ACCESS EXCLUSIVE on the table, {MOMENT}.",
            "Going down takes as long. It refuses until the old form is whole again: dataarch backfill run "
            f"{forms.what_back}, and: dataarch backfill verify {forms.what_back}.",
        ),
        _turned_up(forms),
        _turned_down(forms),
        _allowed_turned(forms),
    )


def gone(forms: BothForms) -> Draft:
    """Return the revision that takes the old form away."""
    on, names = OnTable(forms.table), forms.turned.names
    back: list[MigrateOperation] = []
    for one in forms.old:
        called = names.get(one.name, one.name)
        back.append(on.add_column(called, one.kind, one.type))
        back += [*granted(forms.table, one.name, called), *commented(forms.table, one.name, called)]
    return Draft(
        Phase.CONTRACT,
        forms.what,
        docstring(
            f"{forms.says}: the old form goes.",
            f"Locks: ACCESS EXCLUSIVE on the table, {MOMENT}.",
            f"After it a version of the application that uses {forms.names} as it was fails. Going down takes as long "
            "and brings it back, in step with the new form. Rows that are there have it after: dataarch backfill run "
            f"{forms.what_back}, and: dataarch backfill verify {forms.what_back}.",
        ),
        (
            forms.dual_write_back.reverse(),
            *(on.drop_column(names.get(one.name, one.name)) for one in forms.old),
            forms.backfill_back.reverse(),
        ),
        (*back, forms.dual_write_back, forms.backfill_back),
        {"ban-drop-column": "every row was compared, and no version uses the old form any more"},
    )


def _refusal(name: str) -> str:
    return f"It refuses until the backfill is verified: dataarch backfill verify {name}."


def _loosened_up(forms: BothForms) -> list[MigrateOperation]:
    on, done = OnTable(forms.table), list[MigrateOperation]()
    for one in forms.new:
        if not one.nullable:
            name = not_null_name(forms.table.name, one.name)
            done += [on.nullable(one.name, nullable=False), on.drop_check(name)]
    done += [one for carried in forms.carried for one in carried.constrained]
    done += [on.nullable(one.name, nullable=True) for one in forms.old if not one.nullable]
    return [*done, *forms.along.dropped()]


def _loosened_down(forms: BothForms) -> tuple[MigrateOperation, ...]:
    on = OnTable(forms.table)
    return Again.together(
        [
            *(on.valid_again(one.name) for one in forms.new if not one.nullable),
            forms.along.restored(),
            *(on.not_null_again(one.name) for one in forms.old if not one.nullable),
            *(Again((), tuple(carried.unconstrained)) for carried in forms.carried),
        ]
    )


def _turned_up(forms: BothForms) -> tuple[MigrateOperation, ...]:
    on, done = OnTable(forms.table), list[MigrateOperation]()
    done += [on.default(one.name, None) for one in forms.old if one.default is not None]
    done += [on.default(one.name, one.default) for one in forms.new if one.default is not None]
    done += [on.rename_column(old, meanwhile) for old, meanwhile in forms.turned.names.items()]
    done += [on.rename_column(one.name, one.final) for one in forms.new if one.final != one.name]
    done += [one for carried in forms.carried for one in carried.taking_over]
    return (
        RequireVerifiedOp(forms.what),
        forms.dual_write.reverse(),
        *done,
        forms.dual_write_back,
        forms.backfill.reverse(),
        forms.backfill_back,
    )


def _turned_down(forms: BothForms) -> tuple[MigrateOperation, ...]:
    on, done = OnTable(forms.table), list[MigrateOperation]()
    done += [one for carried in forms.carried for one in carried.giving_back]
    done += [on.rename_column(one.final, one.name) for one in forms.new if one.final != one.name]
    done += [on.rename_column(meanwhile, old) for old, meanwhile in forms.turned.names.items()]
    done += [on.default(one.name, None) for one in forms.new if one.default is not None]
    done += [on.default(one.name, one.default) for one in forms.old if one.default is not None]
    return (
        RequireVerifiedOp(forms.what_back),
        forms.dual_write_back.reverse(),
        *done,
        forms.dual_write,
        forms.backfill_back.reverse(),
        forms.backfill,
    )


def _allowed_loose(forms: BothForms) -> dict[str, str]:
    """Return what ``dataarch lint`` is told of a form that is let go."""
    found = {} if all(one.nullable for one in forms.new) else dict(NOT_NULL_BY_CHECK)
    if not all(one.nullable for one in forms.old):
        found["ban-drop-not-null"] = "no version uses the old form any more"
    if forms.along.indexes:
        found["require-concurrent-index-deletion"] = "the lock is held for a moment, as for all else here"
    if forms.along.constraints:
        found["ban-drop-constraint"] = "nothing is expected of the old form any more"
    return found


def _allowed_turned(forms: BothForms) -> dict[str, str]:
    """Return what ``dataarch lint`` is told of names and defaults that are taken over."""
    found = {}
    if forms.turned.names:
        found["renaming-column"] = "both columns are there before and after, and no version uses the old form any more"
    if any(one.default is not None for one in forms.old):
        found["ban-drop-default"] = "the new form has it from now on"
    if any(" RENAME " in one.statement for carried in forms.carried for one in carried.taking_over):
        found["renaming-object"] = "what had this name is gone, and no program uses it"
    return found
