"""The log of what changes in catch-alls while their rows are copied, and how the copy catches up."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from dataarch.errors import ConstraintError, LockTimeout, PartitionRefused
from dataarch.partitions.blueprint import Blueprint, bounds_sql, marked, without_grants
from dataarch.partitions.clashes import Loaded, clearing, deleted
from dataarch.partitions.layout import Range
from dataarch.partitions.naming import name_stem
from dataarch.partitions.quoting import ident
from dataarch.partitions.worker import Worker

__all__ = ["FEW_ENTRIES", "ChangeLog", "leftovers_sql", "settled"]

FEW_ENTRIES = 200
"""Entries that are left to be worked off under the exclusive lock."""

MOST_ROUNDS = 1000
"""Rounds after which a log that only grows is given up; each takes what is there when it begins."""


def _names(blueprint: Blueprint) -> tuple[str, str, str]:
    stem = name_stem(blueprint.name, 14)
    place = blueprint.place
    return place(f"{stem}_staged"), place(f"{stem}_moving"), place(f"{stem}_note_move")


def leftovers_sql(blueprint: Blueprint, tables: Sequence[str]) -> list[str]:
    """Return the SQL that removes a log and staged tables whose maker was killed, to be run as one transaction.

    The function goes first, and the triggers of the catch-alls with it: they write into what is dropped next.
    """
    function = _names(blueprint)[2]
    return [
        f"DROP FUNCTION IF EXISTS {function}() CASCADE",
        *(f"DROP TABLE IF EXISTS {blueprint.place(name)} CASCADE" for name in tables),
    ]


class ChangeLog:
    """Keys of the rows that were inserted, updated or deleted in catch-alls since the copy began.

    The log holds keys, not rows: a key is worked off by copying its row anew, whatever it is by then. So the order of
    entries does not matter, nor the isolation level of whoever made them.

    Where rows join those of an archive, its rows give way to whatever they clash with, and are counted.
    """

    def __init__(
        self, worker: Worker, sources: Sequence[str], mark: Mapping[str, str], archive: Loaded | None = None
    ) -> None:
        if not worker.blueprint.key:
            raise PartitionRefused(
                f"The rows of {worker.blueprint.name} cannot be moved while others write: it has no primary key.",
                hint=f"Give it one that contains {worker.blueprint.column}.",
                table=worker.blueprint.name,
            )
        self.worker = worker
        self.names = list(sources)
        self.sources = [worker.blueprint.place(source) for source in sources]
        self.mark = dict(mark)
        self.archive = archive
        self.target, self.log, self.function = _names(worker.blueprint)
        self.key = ", ".join(ident(name) for name, _ in worker.blueprint.key)

    def starting(self, staged: Sequence[tuple[str, Range]]) -> list[str]:
        """Return the SQL that makes the log and its triggers, and a table that routes copied rows to their partitions.

        CREATE TRIGGER waits for whoever is writing, so that the log misses nothing.
        """
        blueprint = self.worker.blueprint
        columns = ", ".join(f"{ident(name)} {kind} NOT NULL" for name, kind in blueprint.key)
        routed = f"PARTITION BY RANGE ({ident(blueprint.column)})"
        key = f"PRIMARY KEY ({self.key})"
        # with it the copy can say that this alone may be there already: on any other clash it must not skip a row
        return [
            f"CREATE TABLE {self.target} (LIKE {blueprint.parent} INCLUDING GENERATED, {key}) {routed}",
            marked(self.target, self.mark),
            *(
                f"ALTER TABLE {self.target} ATTACH PARTITION {blueprint.place(name)} {bounds_sql(within)}"
                for name, within in staged
            ),
            # nobody publishes it, and a server that crashes ends the maintenance too
            f"CREATE UNLOGGED TABLE {self.log} ({columns})",
            marked(self.log, self.mark),
            without_grants(self.target),
            without_grants(self.log),
            self._function(),
            f"REVOKE ALL ON FUNCTION {self.function}() FROM PUBLIC",
            f"CREATE TEMP TABLE IF NOT EXISTS dataarch_taken ({columns}) ON COMMIT DELETE ROWS",
            *(statement for source in self.sources for statement in self._triggers(source)),
        ]

    def _function(self) -> str:
        names = [ident(name) for name, _ in self.worker.blueprint.key]
        keys = {side: ", ".join(f"{side}.{name}" for name in names) for side in ("OLD", "NEW")}
        # the copy must not hold fast what the row refers to: it may be deleted next
        copied = f"DELETE FROM {self.target} WHERE ({', '.join(names)}) = ({keys['OLD']})"
        if self.archive:
            # no copy; it is counted when it gives way
            copied += f" AND xmin <> '{self.archive.written}'::xid"
        return f"""
            CREATE FUNCTION {self.function}() RETURNS trigger
            LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
            AS $note$
            BEGIN
                IF TG_OP = 'TRUNCATE' THEN
                    RAISE EXCEPTION 'The rows of % are being moved to their partitions.', TG_TABLE_NAME
                        USING ERRCODE = 'lock_not_available', HINT = 'Try again when the maintenance is done.';
                END IF;
                IF TG_OP <> 'INSERT' THEN
                    INSERT INTO {self.log} VALUES ({keys["OLD"]});
                    {copied};
                END IF;
                IF TG_OP <> 'DELETE' THEN
                    INSERT INTO {self.log} VALUES ({keys["NEW"]});
                END IF;
                RETURN NULL;
            END
            $note$"""

    def _triggers(self, source: str) -> list[str]:
        rows, all_rows = ident("dataarch_note_move"), ident("dataarch_refuse_truncate")
        note = f"EXECUTE FUNCTION {self.function}()"
        return [
            f"CREATE TRIGGER {rows} AFTER INSERT OR UPDATE OR DELETE ON {source} FOR EACH ROW {note}",
            f"CREATE TRIGGER {all_rows} BEFORE TRUNCATE ON {source} {note}",
            # replication applies changes with triggers switched off, except these
            f"ALTER TABLE {source} ENABLE ALWAYS TRIGGER {rows}, ENABLE ALWAYS TRIGGER {all_rows}",
        ]

    def work_off(self) -> None:
        """Bring the copy up to date until few entries are left; those that come meanwhile are for the next round."""
        for _ in range(MOST_ROUNDS):
            settled(self.worker, self._round)
            if self.left(FEW_ENTRIES) <= FEW_ENTRIES:
                return

    def left(self, most: int) -> int:
        """Return how many entries there are; no more than one over ``most`` are counted."""
        found: int = self.worker.connection.exec_driver_sql(
            f"SELECT count(*) FROM (SELECT FROM {self.log} LIMIT {most + 1}) AS found"
        ).scalar_one()
        return found

    def _round(self) -> None:
        self.worker.run("BEGIN", self._taking())
        gave_way = self._given_way()
        self.worker.run(*self._renewing(), "COMMIT")
        if self.archive:
            self.archive.gave_way += gave_way

    def work_off_rest(self) -> int:
        """The same inside the exchange, where no more entries come; return how many of the archive's rows gave way."""
        # a partition with checks that were put off cannot be exchanged
        self.worker.run("SET CONSTRAINTS ALL IMMEDIATE", self._taking())
        gave_way = self._given_way()
        self.worker.run(*self._renewing())
        return gave_way

    def _taking(self) -> str:
        entries = f"WITH taken AS (DELETE FROM {self.log} RETURNING {self.key})"
        return f"{entries} INSERT INTO dataarch_taken SELECT DISTINCT {self.key} FROM taken"

    @property
    def _taken(self) -> str:
        return f"({self.key}) IN (SELECT {self.key} FROM dataarch_taken)"

    def _given_way(self) -> int:
        if self.archive is None:
            return 0
        theirs = f"xmin = '{self.archive.written}'::xid"
        return deleted(
            self.worker,
            [
                f"DELETE FROM ONLY {self.worker.blueprint.place(self.archive.name)} WHERE {theirs} AND {self._taken}",
                *clearing(self.worker.blueprint, self.archive, self.names, among=self._taken),
            ],
        )

    def _renewing(self) -> list[str]:
        columns = self.worker.blueprint.column_list
        return [
            f"DELETE FROM {self.target} WHERE {self._taken}",
            *(
                f"INSERT INTO {self.target} ({columns}) OVERRIDING SYSTEM VALUE"
                f" SELECT {columns} FROM {source} WHERE {self._taken}"
                for source in self.sources
            ),
        ]

    def ending(self, staged: Sequence[str]) -> list[str]:
        """Return the SQL that takes the new partitions out of the routing table, and removes it and the log."""
        place = self.worker.blueprint.place
        return [
            *(f"ALTER TABLE {self.target} DETACH PARTITION {place(name)}" for name in staged),
            f"DROP FUNCTION {self.function}() CASCADE",
            f"DROP TABLE {self.target}, {self.log}",
        ]


def settled(worker: Worker, attempt: Callable[[], None], *, about: Sequence[str] = ()) -> None:
    """Do something again and again while rows break a constraint, or a lock is not granted.

    What a row refers to is being deleted: in a moment the row is gone as well. Or its value is being given to another.

    Raises:
        PartitionRefused: rows broke the same constraint all the time.
        LockTimeout: as :meth:`Worker.tried`.
    """

    def once() -> None:
        try:
            attempt()
        except ConstraintError as broken:
            raise LockTimeout("A row's reference was being deleted, or its value given to another.") from broken

    try:
        worker.tried(once, about=about)
    except LockTimeout as given_up:
        broken = given_up.__cause__ and given_up.__cause__.__cause__
        if isinstance(broken, ConstraintError):
            raise _rows_break(worker, broken) from broken
        raise


def _rows_break(worker: Worker, broken: ConstraintError) -> PartitionRefused:
    return PartitionRefused(
        f"Rows in the catch-alls of {worker.blueprint.name} cannot be moved, for they break its constraints: "
        f"{broken.message}",
        hint="Nothing was changed. They were written past the constraint: correct them, or delete them.",
        table=worker.blueprint.name,
        constraint=broken.constraint,
    )
