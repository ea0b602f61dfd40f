"""One maintenance of one table: its connection, its advisory lock, and locks that never make anybody wait for long."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial

from sqlalchemy import Connection, Table, text

from dataarch.database.pauses import PAUSE, pauses
from dataarch.database.unit_of_work import Database
from dataarch.errors import Deadlock, LockTimeout, PartitionRefused, PrivilegeMissing, SchemaNotMigrated
from dataarch.models.partitioning import Partitioning
from dataarch.partitions.blueprint import Blueprint, blueprint_of
from dataarch.partitions.quoting import literal, lock_name, qualified
from dataarch.partitions.survey import declared

__all__ = ["LOCK_WAIT", "PATIENCE", "PAUSE", "Worker", "refuse_referred", "working_on"]

LOCK_WAIT = 0.025
"""Seconds that a lock is waited for at a time: everybody else queues behind whoever waits."""

LONGEST_LOCK_WAIT = 0.25
"""The same for the last tries: where transactions follow each other without a pause, a short wait would never end."""

GENTLE = 5.0
"""Seconds in which no try waits for longer than :data:`LOCK_WAIT`, or a third of the patience where that is less."""

PATIENCE = 60.0
"""Seconds for which a lock is tried again and again, and for which another maintenance is waited for."""

SESSION = (
    "SET timezone = 'UTC'",
    "SET datestyle = 'ISO'",
    "SET row_security = off",
    "SET statement_timeout = 0",
    "SET idle_in_transaction_session_timeout = 0",
    "SET default_transaction_isolation = 'read committed'",
    f"SET lock_timeout = '{round(LOCK_WAIT * 1000)}ms'",
)
"""A lock that is not granted ends the statement; policies raise instead of hiding rows."""

OWNS = text("SELECT pg_has_role(current_user, relowner, 'USAGE') FROM pg_class WHERE oid = to_regclass(:table)")

MAY = text(
    """
    SELECT quote_ident(current_user) AS role, quote_ident(nspname) AS schema,
           quote_ident(current_database()) AS database,
           has_schema_privilege(pg_namespace.oid, 'CREATE') AS makes_tables,
           has_database_privilege(current_database(), 'TEMPORARY') AS makes_temporary_tables
    FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace WHERE pg_class.oid = to_regclass(:table)
    """
)

HOLDERS = """
SELECT DISTINCT pg_locks.pid, application_name, round(extract(epoch FROM clock_timestamp() - xact_start))::bigint AS age
FROM pg_locks LEFT JOIN pg_stat_activity ON pg_stat_activity.pid = pg_locks.pid
WHERE locktype = 'relation' AND granted AND pg_locks.pid <> pg_backend_pid()
  AND pg_locks.database = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND relation IN ({relations})
ORDER BY pg_locks.pid
"""


@dataclass
class Worker:
    """What a maintenance works with.

    Attributes:
        connection: the owner's, each statement a transaction of its own; holds the table's advisory lock.
        table: the model's table.
        partitioning: what it declares.
        blueprint: what its partitions have to be like.
        say: told about what takes time.
        patience: seconds for which a lock is tried.
        changing: opened around what lets rows of the table come or go, so that whoever remembers them hears of it.
    """

    connection: Connection
    table: Table
    partitioning: Partitioning
    blueprint: Blueprint
    say: Callable[[str], None] = lambda said: None  # noqa: ARG005  # nobody listens
    patience: float = PATIENCE
    changing: Callable[[], AbstractContextManager[None]] = nullcontext
    random: random.Random = field(default_factory=random.Random)

    def run(self, *statements: str) -> None:
        """Send statements as one transaction, in one round trip."""
        self.connection.exec_driver_sql("; ".join(statements))

    def locked(
        self,
        locks: Sequence[str],
        body: Callable[[], Sequence[str]],
        *,
        about: Sequence[str] = (),
        before: Callable[[], None] = lambda: None,
    ) -> None:
        """Take locks, do what ``body`` does, run the statements that it returns, and commit: all or nothing.

        Args:
            locks: ``LOCK TABLE …`` statements, in the order in which they are taken.
            body: called with the locks held; it must be quick.
            about: quoted names of tables whose lock holders an error should name, beside the parent.
            before: called before each try, without a lock.

        Raises:
            LockTimeout: a lock was not granted within ``patience``; nothing was changed. It names who held it.
        """

        def attempt() -> None:
            before()
            self.run("BEGIN", *locks)
            last = body()
            self.run(*last, "COMMIT")

        self.tried(attempt, about=about)

    def tried(self, attempt: Callable[[], None], *, about: Sequence[str] = (), undo: str = "ROLLBACK") -> None:
        """Do something that gives up a lock soon, again and again; raises :class:`LockTimeout` in the end.

        ``undo`` is what goes back to where it began: outside a transaction, or at a savepoint.
        """
        began = time.monotonic()
        between, wait = pauses(self.random), LOCK_WAIT
        while True:
            try:
                attempt()
            except (LockTimeout, Deadlock) as refused:
                self.connection.exec_driver_sql(undo)
                passed = time.monotonic() - began
                if passed > self.patience:
                    self.wait_for_locks(LOCK_WAIT)
                    raise self._given_up(about) from refused
                time.sleep(next(between))
                if passed > min(GENTLE, self.patience / 3):
                    wait = min(wait * 1.5, LONGEST_LOCK_WAIT)
                    self.wait_for_locks(wait)
            except BaseException:
                self._go_back(undo)
                raise
            else:
                break
        if wait != LOCK_WAIT:
            self.wait_for_locks(LOCK_WAIT)

    def wait_for_locks(self, seconds: float) -> None:
        """Let each lock be waited for so long, from now on."""
        self.connection.exec_driver_sql(f"SET lock_timeout = '{round(seconds * 1000)}ms'")

    def _go_back(self, undo: str) -> None:
        if not self.connection.invalidated and not self.connection.closed:
            self.connection.exec_driver_sql(undo)

    def _given_up(self, about: Sequence[str]) -> LockTimeout:
        relations = ", ".join(f"to_regclass({literal(name)})" for name in (self.blueprint.parent, *about))
        holders = self.connection.exec_driver_sql(HOLDERS.format(relations=relations)).all()
        named = ", ".join(f"{h.pid} ({h.application_name or 'no name'}, {h.age or '?'} s)" for h in holders)
        return LockTimeout(
            f"A lock on {self.blueprint.name} was not granted within {self.patience:g} s; it is held by the server's "
            f"processes {named or 'that have ended since'}.",
            hint="Nothing was changed. Run it again when they have ended: SELECT * FROM pg_stat_activity.",
            table=self.blueprint.name,
        )


@contextmanager
def working_on(
    db: Database, table: Table, *, say: Callable[[str], None] | None = None, patience: float = PATIENCE
) -> Iterator[Worker]:
    """Open the maintenance of a table; one runs at a time, by advisory lock.

    Raises:
        SchemaNotMigrated: the table is not in the database.
        PrivilegeMissing: the role does not own it, or may not make the tables that this takes.
        LockTimeout: another maintenance of it has run for longer than ``patience``.
    """
    partitioning = declared(table)
    with db.maintenance() as connection:
        for statement in SESSION:
            connection.exec_driver_sql(statement)
        owns = connection.execute(OWNS, {"table": qualified(table)}).scalar_one_or_none()
        if owns is None:
            raise SchemaNotMigrated(f"There is no table {table.fullname} in this database.", table=table.name)
        if not owns:
            raise PrivilegeMissing(f"The role does not own {table.fullname}.", table=table.name)
        _refuse_powerless(connection, table)
        blueprint = blueprint_of(connection, table, partitioning.column)
        worker = Worker(
            connection,
            table,
            partitioning,
            blueprint,
            say or (lambda said: None),  # noqa: ARG005
            patience,
            partial(db.changing, table),
        )
        _alone(worker)
        yield worker


def _refuse_powerless(connection: Connection, table: Table) -> None:
    """Raise before anything is begun, where it could not be finished."""
    may = connection.execute(MAY, {"table": qualified(table)}).one()
    for granted, what, grant in (
        (may.makes_tables, f"tables in the schema {may.schema}", f"CREATE ON SCHEMA {may.schema}"),
        (may.makes_temporary_tables, "temporary tables", f"TEMPORARY ON DATABASE {may.database}"),
    ):
        if not granted:
            raise PrivilegeMissing(
                f"The role {may.role} owns {table.fullname}, and may not make {what}: its partitions cannot be made, "
                "moved or archived.",
                hint=f"As the owner of the database: GRANT {grant} TO {may.role}",
                table=table.name,
            )


def _alone(worker: Worker) -> None:
    blueprint = worker.blueprint
    deadline = time.monotonic() + worker.patience
    # polled, not waited for: whoever waits in a transaction holds up CREATE INDEX CONCURRENTLY
    while not worker.connection.exec_driver_sql(
        f"SELECT pg_try_advisory_lock({lock_name(blueprint.schema, blueprint.name)})"
    ).scalar_one():
        if time.monotonic() > deadline:
            raise LockTimeout(
                f"Another maintenance of {blueprint.name} has been running for {worker.patience:g} s.",
                hint="Wait for it, then run this again.",
                table=blueprint.name,
            )
        time.sleep(0.1)


def refuse_referred(worker: Worker, what: str) -> None:
    """Raise :class:`PartitionRefused` where other tables refer to this one: their rows would be in the way."""
    if worker.blueprint.referring:
        raise PartitionRefused(
            f"{what} of {worker.blueprint.name} cannot be done: {', '.join(worker.blueprint.referring)} refers to it.",
            hint="Drop that foreign key first; a partition cannot leave a table that others refer to.",
            table=worker.blueprint.name,
        )
