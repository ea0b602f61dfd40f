"""A plan as SQL that can be read, and run by psql: the same result, without batches and without trying again."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

from dataarch.clock import Grain
from dataarch.partitions.blueprint import Blueprint, lies_in, marked
from dataarch.partitions.change_log import leftovers_sql
from dataarch.partitions.layout import EVERYTHING
from dataarch.partitions.naming import catch_all_name, name_stem
from dataarch.partitions.quoting import ident
from dataarch.partitions.steps import Attach, CleanUp, Replace, Retire, Step

__all__ = ["described", "exchanging", "script_of"]

ASIDE = "_aside"
"""What a catch-all's name ends with from its detach to its end."""

LOCK_WAIT = "SET LOCAL lock_timeout = '100ms'"
"""Everybody else queues behind whoever waits for an exclusive lock."""


def described(step: Step) -> str:
    """Return a step as a sentence."""
    match step:
        case CleanUp():
            return f"Remove what a killed maintenance left: {', '.join(step.tables)}."
        case Attach():
            return f"Make {', '.join(piece.name for piece in step.pieces)}; nobody waits."
        case Replace():
            rows = f"moving {step.rows:,} rows, " if step.rows else ""
            names = ", ".join(piece.name for piece in step.pieces)
            return f"Carve {', '.join(step.sources)} into {names}, {rows}under a short lock."
        case Retire():
            ending = "archive it" if step.archive else "archive nothing"
            return f"Detach {step.partition}, {ending}, and {'drop' if step.drop else 'keep'} the table."


def script_of(step: Step, blueprint: Blueprint, grain: Grain) -> list[str]:
    """Return a step as statements of SQL, without semicolons; comments say what SQL cannot."""
    match step:
        case CleanUp():
            return ["BEGIN", LOCK_WAIT, *leftovers_sql(blueprint, step.tables), "COMMIT"]
        case Attach():
            return [
                statement
                for piece in step.pieces
                for statement in (
                    "BEGIN",
                    *blueprint.making(piece.name, piece.range),
                    *blueprint.attaching(piece.name, piece.range),
                    "COMMIT",
                )
            ]
        case Replace():
            return list(_replacing(step, blueprint))
        case Retire():
            return list(_retiring(step, blueprint, grain))


def _replacing(step: Replace, blueprint: Blueprint) -> Iterator[str]:
    if step.rows:
        yield f"-- the maintenance copies the {step.rows} rows in batches before the lock; here they move under it"
    yield from exchanging(step, blueprint)


def exchanging(
    step: Replace, blueprint: Blueprint, *, ready: Collection[str] = (), first: Iterable[str] = ()
) -> Iterator[str]:
    """Yield the transaction of an exchange.

    Args:
        step: what is exchanged.
        blueprint: of its table.
        ready: names of pieces that were made before, and hold rows.
        first: what is done under the lock, before anything is exchanged.
    """
    yield "BEGIN"
    yield LOCK_WAIT
    yield f"LOCK TABLE ONLY {blueprint.parent} IN ACCESS EXCLUSIVE MODE"
    yield from first
    names = {name: f"{name_stem(name, len(ASIDE))}{ASIDE}" for name in step.sources}
    aside = {name: ident(called, blueprint.schema) for name, called in names.items()}
    for name, place in aside.items():
        yield f"ALTER TABLE {blueprint.parent} DETACH PARTITION {blueprint.place(name)}"
        yield f"ALTER TABLE {blueprint.place(name)} RENAME TO {ident(names[name])}"
        yield f"-- from here on {place} holds the rows"
    for piece in step.pieces:
        if piece.name not in ready:
            yield from blueprint.making(piece.name, piece.range)
        for place in aside.values():
            yield (
                f"INSERT INTO {blueprint.place(piece.name)} ({blueprint.column_list}) OVERRIDING SYSTEM VALUE"
                f" SELECT {blueprint.column_list} FROM {place} WHERE {lies_in(blueprint.column, piece.range)}"
            )
        yield from blueprint.attaching(piece.name, piece.range)
        if piece.mark:
            yield marked(blueprint.place(piece.name), dict(piece.mark))
    if aside:
        yield f"DROP TABLE {', '.join(aside.values())}"
    yield "COMMIT"


def _retiring(step: Retire, blueprint: Blueprint, grain: Grain) -> Iterator[str]:
    place = blueprint.place(step.partition)
    if step.begun:
        yield f"-- its retirement was begun: {step.partition} may be detached already, or half so (then: FINALIZE)"
    if step.range != EVERYTHING:
        yield f"ALTER TABLE {blueprint.parent} DETACH PARTITION {place} CONCURRENTLY"
        successor = catch_all_name(blueprint.name, step.range.lower, grain)
        yield "BEGIN"
        yield from blueprint.making(successor, step.range)
        yield from blueprint.attaching(successor, step.range)
        yield "COMMIT"
    if step.archive:
        yield "-- the maintenance takes the foreign keys off for as long as it archives"
        yield f"-- the maintenance writes {step.partition}.parquet, and compares it with the table before the next line"
    if step.drop:
        yield f"DROP TABLE {place}"
