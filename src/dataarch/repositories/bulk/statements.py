"""The SQL that judges rows in a stage, and writes those that are good.

Two temporary tables are made for a portion of rows, and dropped with it: the *stage* has them as they came, the
*docket* in the order of their keys, each with what is known of it. A name of ours begins with ``~``, which no column's
does.

Rows that are there are locked in the order of their keys, then changed; new ones are inserted in the same order. So who
holds locks waits only for keys behind its own, and for rows that others have inserted, who in turn wait only for such:
two portions never wait for each other because of their keys.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from sqlalchemy import Column

from dataarch.repositories.bulk.rules import DIALECT, TENANT, Rule, in_bytes, quoted, rules_of, sql_of, table_name
from dataarch.repositories.bulk.target import Target, Unique

__all__ = ["OF_SOME", "SOME", "Statements", "statements_for"]

GOOD = '"~code" IS NULL AND NOT "~outdone"'
FRESH = f'{GOOD} AND NOT "~known"'
STALE = f'{GOOD} AND "~differs"'
COUNTED_ID = 'CAST(%(id)s || to_hex(%(number)s + "~at") AS uuid)'
"""Version 7 with a counter: the last 64 bits begin with those of the variant, so they have 16 digits."""

SOME = "/* some */"
OF_SOME = ' AND "~at" = ANY(%(some)s)'


@dataclass(frozen=True, slots=True)
class Statements:
    """What is sent for one portion of rows; ``%(tenant)s`` is a parameter of most.

    Attributes:
        rules: what rows can break; a row's code is the place of its rule among these.
        stage: makes the stage.
        copy: fills it.
        judge: makes the docket.
        analyze: lets the planner know how many of many rows are good.
        contest: refuses rows that want what a row before them gets; to be repeated while it does so.
        stand_in: lets an earlier row of the same key count where the later ones are refused.
        refused: the rows that are refused, with their codes.
        outdone: how many rows are good, but not the last ones of their key.
        tally: how many of the good rows are new, how many are to be changed, and how many are as they should be.
        order: the good rows in the order in which they are written.
        refuse_one: refuses a row that the server alone can judge.
        there_now: whether the table has a row with the key of one that was taken for new, or may have one unseen.
        take_as_new: lets a row that is not there any more be a new one.
        lock, update, insert: write the good rows. As in tally, :data:`SOME` stands where a condition may follow.
        returning: what follows insert, for the primary keys of the new rows.
        changed: the primary keys of the rows that are changed.
        written: the ids of the rows that are new or changed, and their numbers, each as one value of bytes; empty where
            the table has no single id.
        drop: drops the docket.
        drop_stage: drops the stage.
    """

    rules: tuple[Rule, ...]
    stage: str
    copy: str
    judge: str
    analyze: str
    contest: str
    stand_in: str
    refused: str
    outdone: str
    tally: str
    order: str
    refuse_one: str
    there_now: str
    take_as_new: str
    lock: str
    update: str
    insert: str
    returning: str
    changed: str
    written: str
    drop: str
    drop_stage: str


@lru_cache(maxsize=256)
def statements_for(target: Target) -> Statements:
    """Return the statements for portions of this kind."""
    stage, docket = quoted(f"~stage of {target.table.name}"), quoted(f"~docket of {target.table.name}")
    rules = rules_of(target)
    travelling = ", ".join(f"{quoted(c.name)} {c.type.compile(dialect=DIALECT)}" for c in target.travelling)
    names = ", ".join(quoted(column.name) for column in target.travelling)
    return Statements(
        rules=rules,
        stage=f'CREATE TEMPORARY TABLE {stage} ("~at" bigint, {travelling}) ON COMMIT DROP',
        copy=f'COPY {stage} ("~at", {names}) FROM STDIN (FORMAT binary)'.replace("%%", "%"),
        judge=_judge(target, rules, stage, docket),
        analyze=f'ANALYZE {docket} ("~code", "~known", "~differs", "~outdone")',
        contest=_contest(target, rules, docket),
        stand_in=_stand_in(target, docket),
        refused=f'SELECT "~at", "~code" FROM {docket} WHERE "~code" IS NOT NULL',
        outdone=f'SELECT count(*) FROM {docket} WHERE "~outdone"',
        tally=f"""
            SELECT count(*) FILTER (WHERE NOT "~known"), count(*) FILTER (WHERE "~differs"),
                   count(*) FILTER (WHERE "~known" AND NOT "~differs")
            FROM {docket} WHERE {GOOD}{SOME}
        """,
        order=f'SELECT "~at" FROM {docket} WHERE {GOOD} ORDER BY {_by_key(target)}',
        refuse_one=f'UPDATE {docket} SET "~code" = -1 WHERE "~at" = %(at)s',
        there_now=_there_now(target, docket),
        take_as_new=f'UPDATE {docket} SET "~known" = false, "~differs" = false WHERE "~at" = %(at)s',
        lock=_lock(target, docket),
        update=_update(target, docket),
        insert=_insert(target, docket),
        returning=f" RETURNING {_listed(target.identity, '') or 'NULL'}",
        changed=_changed(target, docket),
        written=_written(target, docket),
        drop=f"DROP TABLE {docket}",
        drop_stage=f"DROP TABLE {stage}",
    )


def _listed(columns: Sequence[Column[Any]], owner: str) -> str:
    return ", ".join(f"{owner}{quoted(column.name)}" for column in columns)


def _by_key(target: Target) -> str:
    """Return the order in which everybody writes."""
    first = target.key or next((u.columns for u in target.others if not u.primary), ())
    return ", ".join([*(in_bytes(column) for column in first if column in target.given), '"~at"'])


def _known(column: Column[Any]) -> str:
    return quoted(f"~of {column.name}")


def _judge(target: Target, rules: Sequence[Rule], stage: str, docket: str) -> str:
    broken = " ".join(f"WHEN {rule.broken} THEN {code}" for code, rule in enumerate(rules))
    parts = ['s."~at"', _listed(target.staged, "s."), f'CASE {broken or "WHEN false THEN 0"} END AS "~code"']
    joins = [rule.join for rule in rules if rule.join]
    if target.key:
        same = [f"p.{quoted(c.name)} = s.{quoted(c.name)}" for c in target.key]
        joins.insert(0, f"LEFT JOIN {table_name(target)} AS p ON {' AND '.join([f'p.tenant_id = {TENANT}', *same])}")
        parts += [f"p.{quoted(column.name)} AS {_known(column)}" for column in target.identity]
        differs = " OR ".join(f"p.{quoted(c.name)} IS DISTINCT FROM s.{quoted(c.name)}" for c in target.changing)
        parts += [
            'p.tenant_id IS NOT NULL AS "~known"',
            f'p.tenant_id IS NOT NULL AND ({differs or "false"}) AS "~differs"',
        ]
        keys = ", ".join(in_bytes(column) for column in target.key)
        later = f'lead("~at") OVER (PARTITION BY "~code" IS NULL, {keys} ORDER BY "~at")'
        outdone = f'"~code" IS NULL AND {later} IS NOT NULL'
        order = f'"~code" IS NULL, {keys}, "~at"'
    else:
        parts += ['false AS "~known"', 'false AS "~differs"']
        outdone, order = "false", _by_key(target)
    return f"""
        CREATE TEMPORARY TABLE {docket} ON COMMIT DROP AS
        SELECT *, {outdone} AS "~outdone" FROM (
            SELECT {", ".join(parts)} FROM {stage} AS s {" ".join(joins)}
        ) AS judged
        ORDER BY {order}
    """


def _contest(target: Target, rules: Sequence[Rule], docket: str) -> str:
    """Return the refusal of rows that want what a row before them gets; empty where nothing can be wanted twice.

    A row is sure of what it wants where it is the first in everything. Who wants the same is refused; the others are
    looked at again, until nobody wants what another does.
    """
    fought = [(code, rule.unique) for code, rule in enumerate(rules) if rule.unique and _all_given(target, rule.unique)]
    values = {code: ", ".join(in_bytes(column) for column in unique.columns) for code, unique in fought}
    there = {code: " AND ".join(f"{quoted(c.name)} IS NOT NULL" for c in unique.columns) for code, unique in fought}
    if not fought:
        return ""
    several = " OR ".join(
        f"({some}) IN (SELECT {some} FROM {docket} WHERE {GOOD} AND {there[code]} GROUP BY {some} HAVING count(*) > 1)"
        for code, some in values.items()
    )
    firsts = ", ".join(
        f'CASE WHEN {there[code]} THEN min("~at") OVER (PARTITION BY {some}) ELSE "~at" END AS first_{code}'
        for code, some in values.items()
    )
    sure = " AND ".join(f'first_{code} = "~at"' for code in values)
    loses = {code: f'(first_{code} <> r."~at" AND first_{code} IN (SELECT "~at" FROM sure))' for code in values}
    which = " ".join(f"WHEN {lost} THEN {code}" for code, lost in loses.items())
    return f"""
        WITH rivals AS MATERIALIZED (SELECT "~at", {firsts} FROM {docket} WHERE {GOOD} AND ({several})),
             sure AS MATERIALIZED (SELECT "~at" FROM rivals WHERE {sure})
        UPDATE {docket} AS d SET "~code" = CASE {which} END
        FROM rivals AS r WHERE d."~at" = r."~at" AND ({" OR ".join(loses.values())})
    """


def _all_given(target: Target, unique: Unique) -> bool:
    return set(unique.columns) <= set(target.given)


def _stand_in(target: Target, docket: str) -> str:
    if not target.key:
        return ""
    keys = ", ".join(in_bytes(column) for column in target.key)
    return f"""
        UPDATE {docket} SET "~outdone" = false WHERE "~at" IN (
            SELECT max("~at") FROM {docket} WHERE "~code" IS NULL GROUP BY {keys} HAVING bool_and("~outdone"))
        RETURNING "~at"
    """


def _there_now(target: Target, docket: str) -> str:
    same = [f"p.{quoted(column.name)} = d.{quoted(column.name)}" for column in target.key]
    condition = " AND ".join([f"p.tenant_id = {TENANT}", *same])
    return f"""
        SELECT current_setting('transaction_isolation') <> 'read committed' OR EXISTS (
            SELECT FROM {docket} AS d JOIN {table_name(target)} AS p ON {condition}
            WHERE "~at" = %(at)s AND NOT "~known")
    """


def _same_row(target: Target) -> str:
    mine = [f"p.{quoted(column.name)} = d.{_known(column)}" for column in target.identity]
    # the key too: somebody may have given it to another row meanwhile
    still = [f"p.{quoted(column.name)} = d.{quoted(column.name)}" for column in target.key]
    return " AND ".join([f"p.tenant_id = {TENANT}", *mine, *still])


def _lock(target: Target, docket: str) -> str:
    if not target.changing:
        return ""
    keys = ", ".join(in_bytes(column, "d.") for column in target.key)
    return f"""
        SELECT count(*) FROM (
            SELECT FROM {docket} AS d JOIN {table_name(target)} AS p ON {_same_row(target)}
            WHERE {STALE}{SOME} ORDER BY {keys} FOR NO KEY UPDATE OF p
        ) AS locked
    """


def _update(target: Target, docket: str) -> str:
    if not target.changing:
        return ""
    sets = [f"{quoted(column.name)} = d.{quoted(column.name)}" for column in target.changing]
    for column in target.touched:
        onupdate: Any = column.onupdate
        value = f"CAST(%(touched {column.name})s AS {column.type.compile(dialect=DIALECT)})"
        sets.append(f"{quoted(column.name)} = {sql_of(onupdate.arg) if onupdate.is_clause_element else value}")
    return f"""
        UPDATE {table_name(target)} AS p SET {", ".join(sets)} FROM {docket} AS d
        WHERE {_same_row(target)} AND {STALE}{SOME}
    """


def _insert(target: Target, docket: str) -> str:
    names = [quoted(column.name) for column in target.staged]
    values = list(names)
    if target.numbered is not None:
        names.append(quoted(target.numbered.name))
        values.append(COUNTED_ID)
    return f"""
        INSERT INTO {table_name(target)} (tenant_id, {", ".join(names)})
        SELECT {TENANT}, {", ".join(values)} FROM {docket} AS d
        WHERE {FRESH}{SOME} ORDER BY {_by_key(target)}
    """


def _changed(target: Target, docket: str) -> str:
    identity = ", ".join(_known(column) for column in target.identity) or "NULL"
    return f"SELECT {identity} FROM {docket} WHERE {STALE}" if target.key else ""


def _written(target: Target, docket: str) -> str:
    id_column = target.id_column
    if id_column is None:
        return ""
    new = COUNTED_ID if target.numbered is id_column else quoted(id_column.name)
    known = _known(id_column) if target.key else "NULL"
    return f"""
        SELECT string_agg(uuid_send(id), '' ORDER BY "~at"), string_agg(int4send(CAST("~at" AS int)), '' ORDER BY "~at")
        FROM (
            SELECT "~at", CASE WHEN "~known" THEN {known} ELSE {new} END AS id
            FROM {docket} WHERE {GOOD} AND ("~differs" OR NOT "~known")
        ) AS written
    """
