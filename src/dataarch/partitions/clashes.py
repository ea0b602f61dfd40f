"""Rows of an archive that clash with rows of the table, on anything that must be unique: the table's rows stay.

A primary key is one such rule of many. Each unique index counts, with its expressions, condition, collations and
operators, and each exclusion constraint: two rows that one of them refuses cannot be in one partition.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial

from sqlalchemy import Connection

from dataarch.partitions.blueprint import Blueprint, lies_in
from dataarch.partitions.layout import Range
from dataarch.partitions.quoting import ident, literal
from dataarch.partitions.worker import Worker

__all__ = ["Loaded", "Rule", "clearing", "deleted", "give_way", "loaded", "rules_of"]

RULES = """
SELECT indnullsnotdistinct AS nulls_clash, coalesce(pg_get_expr(indpred, indrelid), 'true') AS condition,
       parts.expressions, parts.operators
FROM pg_index
LEFT JOIN pg_constraint ON conindid = indexrelid AND conrelid = indrelid AND contype = 'x'
CROSS JOIN LATERAL (
    SELECT array_agg(format('(%s)%s', pg_get_indexdef(indexrelid, part, false),
               ' COLLATE ' || quote_ident(collation_schema.nspname) || '.' || quote_ident(collname)) ORDER BY part)
               AS expressions,
           array_agg(format('OPERATOR(%I.%s)', operator_schema.nspname, oprname) ORDER BY part) AS operators
    FROM generate_series(1, indnkeyatts) AS part
    JOIN pg_opclass ON pg_opclass.oid = indclass[part - 1]
    LEFT JOIN pg_amop ON amopfamily = opcfamily AND (amoplefttype, amoprighttype) = (opcintype, opcintype)
        AND amopstrategy = 3
    JOIN pg_operator ON pg_operator.oid = coalesce(conexclop[part], amopopr)
    JOIN pg_namespace AS operator_schema ON operator_schema.oid = oprnamespace
    LEFT JOIN pg_collation ON pg_collation.oid = indcollation[part - 1]
    LEFT JOIN pg_namespace AS collation_schema ON collation_schema.oid = collnamespace
) AS parts
WHERE indrelid = {place}::regclass AND (indisunique OR indisexclusion)
"""
"""Strategy 3 of a B-tree is its equality; an exclusion constraint has its own operators."""


@dataclass(frozen=True, slots=True)
class Rule:
    """What two rows of a partition may not have in common.

    Attributes:
        expressions: as the index has them, over the columns.
        operators: for each, the one by which two values clash.
        condition: the rows that it is about.
        nulls_clash: whether two NULLs do.
    """

    expressions: tuple[str, ...]
    operators: tuple[str, ...]
    condition: str
    nulls_clash: bool


@dataclass(slots=True)
class Loaded:
    """A table beside the parent that holds the rows of an archive, until it becomes a partition.

    Attributes:
        name: of the table.
        range: what it becomes the partition of.
        written: number of the transaction that wrote the archive's rows; those that join them have others. None where
            nothing can have joined them yet.
        rules: what must be unique in it.
        gave_way: how many of the archive's rows were taken out, because the table has rows that they clash with.
    """

    name: str
    range: Range
    written: str | None
    rules: tuple[Rule, ...]
    gave_way: int = field(default=0)


def loaded(worker: Worker, name: str, within: Range) -> Loaded:
    """Return what there is to know of a table into which an archive, and nothing else, has been loaded."""
    place = worker.blueprint.place(name)
    written = worker.connection.exec_driver_sql(f"SELECT xmin::text FROM {place} LIMIT 1").scalar_one_or_none()
    return Loaded(name, within, written or "0", rules_of(worker.connection, place))


def rules_of(connection: Connection, place: str) -> tuple[Rule, ...]:
    """Return what must be unique in a table."""
    found = connection.exec_driver_sql(RULES.format(place=literal(place)))
    return tuple(Rule(tuple(one.expressions), tuple(one.operators), one.condition, one.nulls_clash) for one in found)


def give_way(worker: Worker, archive: Loaded, sources: Sequence[str]) -> None:
    """Take the archive's rows that clash with rows of the catch-alls out of its table, and count them."""
    gone = 0

    def attempt(statement: str) -> None:
        nonlocal gone
        gone = deleted(worker, [statement])

    for statement in clearing(worker.blueprint, archive, sources):
        worker.tried(partial(attempt, statement))
        archive.gave_way += gone


def deleted(worker: Worker, statements: Iterable[str]) -> int:
    """Run statements, and return how many rows they took out."""
    return sum(worker.connection.exec_driver_sql(statement).rowcount for statement in statements)


def clearing(blueprint: Blueprint, archive: Loaded, sources: Sequence[str], *, among: str = "true") -> list[str]:
    """Return the SQL that takes out the archive's rows that clash with rows of the catch-alls.

    Args:
        blueprint: of the table.
        archive: which may be attached to whatever routes rows to it.
        sources: names of the catch-alls.
        among: condition on the rows of the catch-alls.
    """
    place = blueprint.place
    inside = lies_in(blueprint.column, archive.range)
    return [
        _clearing(rule, place(archive.name), f"ONLY {place(source)} WHERE ({inside}) AND ({among})", archive.written)
        for source in sources
        for rule in archive.rules
    ]


def _clearing(rule: Rule, early: str, late: str, written: str | None) -> str:
    # the columns of the table are read without its name: those of its counterpart have others
    names = [ident(f"dataarch {number}") for number, _ in enumerate(rule.expressions)]
    listed = ", ".join(f"{expression} AS {name}" for name, expression in zip(names, rule.expressions, strict=True))
    same = [
        f"({expression} {operator} late.{name}{_or_both_null(expression, name) if rule.nulls_clash else ''})"
        for name, expression, operator in zip(names, rule.expressions, rule.operators, strict=True)
    ]
    loaded = "true" if written is None else f"early.xmin = '{written}'::xid"
    return (
        f"DELETE FROM ONLY {early} AS early"
        f" USING (SELECT {listed} FROM {late} AND ({rule.condition})) AS late"
        f" WHERE {loaded} AND ({rule.condition}) AND {' AND '.join(same)}"
    )


def _or_both_null(expression: str, name: str) -> str:
    return f" OR {expression} IS NULL AND late.{name} IS NULL"
