"""Foreign keys of a table that is not a partition now: taken off while it is archived, put on when it comes back.

With them on, a row that others delete in a table it refers to would go while it is archived, or its deletion would wait
until the archive is written.
"""

from __future__ import annotations

from dataarch.partitions.blueprint import Blueprint
from dataarch.partitions.quoting import literal
from dataarch.partitions.worker import Worker

__all__ = ["orphans_left_out", "put_on", "take_off"]

KEYS = """
SELECT quote_ident(conname) AS name, confrelid::regclass::text AS referenced, convalidated AS valid
FROM pg_constraint WHERE conrelid = {table}::regclass AND contype = 'f' ORDER BY conname
"""


def take_off(worker: Worker, name: str) -> None:
    """Remove the foreign keys of a table; raises :class:`LockTimeout` where what they refer to stays in use.

    Guarantee: all or none; locks what they refer to (ACCESS EXCLUSIVE) for that moment. Idempotent.
    """
    place = worker.blueprint.place(name)
    keys = worker.connection.exec_driver_sql(KEYS.format(table=literal(place))).all()
    if not keys:
        return
    referenced = sorted({key.referenced for key in keys})
    # before the table itself: a deletion that cascades takes its locks in the same order
    locks = [f"LOCK TABLE ONLY {one} IN ACCESS EXCLUSIVE MODE" for one in referenced]
    dropped = ", ".join(f"DROP CONSTRAINT {key.name}" for key in keys)
    worker.locked(locks, lambda: [f"ALTER TABLE {place} {dropped}"], about=referenced)


def put_on(worker: Worker, name: str) -> int:
    """Give a table its parent's foreign keys, and take out the rows whose references have been deleted.

    Returns:
        How many rows were taken out.

    Guarantee: those who write what the keys refer to wait for a moment that does not depend on the number of rows.
    Safe to repeat after a crash.
    """
    blueprint = worker.blueprint
    place = blueprint.place(name)
    there = worker.connection.exec_driver_sql(KEYS.format(table=literal(place))).all()
    missing = [key for key in blueprint.foreign_keys if not any(key.startswith(f"{one.name} ") for one in there)]
    if missing:
        # from here on no new orphan can come, and the keys need not look at the rows that are there
        added = [f"ALTER TABLE {place} ADD CONSTRAINT {key.removesuffix(' NOT VALID')} NOT VALID" for key in missing]
        locks = [f"LOCK TABLE ONLY {one} IN SHARE ROW EXCLUSIVE MODE" for one in blueprint.referenced]
        worker.locked(locks, lambda: added, about=blueprint.referenced)
    orphans = sum(_delete(worker, statement) for statement in orphans_left_out(blueprint, name))
    for key in worker.connection.exec_driver_sql(KEYS.format(table=literal(place))).all():
        if not key.valid:
            worker.tried(lambda key=key: worker.run(f"ALTER TABLE {place} VALIDATE CONSTRAINT {key.name}"))  # type: ignore[misc]
    return orphans


def orphans_left_out(blueprint: Blueprint, name: str) -> list[str]:
    """Return the SQL that takes rows out of a table whose references have been deleted."""
    return [f"DELETE FROM ONLY {blueprint.place(name)} AS child WHERE {orphaned}" for orphaned in blueprint.orphaned]


def _delete(worker: Worker, statement: str) -> int:
    deleted = 0

    def attempt() -> None:
        nonlocal deleted
        deleted = worker.connection.exec_driver_sql(statement).rowcount

    worker.tried(attempt)
    return deleted
