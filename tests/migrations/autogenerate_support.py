"""Alembic's comparison of a database with models, and what it proposes, rendered and run as a revision would."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import alembic
import sqlalchemy
from alembic.autogenerate import produce_migrations, render_python_code
from alembic.migration import MigrationContext
from alembic.operations import Operations
from alembic.operations.ops import MigrateOperation, OpContainer
from sqlalchemy import Connection, MetaData, create_engine, event

from dataarch.database.settings import Settings
from dataarch.models import Base
from dataarch.rollout.autogenerate import configure_arguments
from fixtures.catalogs import owner_connection


@dataclass(frozen=True)
class Proposed:
    """What autogenerate proposes."""

    up: list[MigrateOperation]
    upgrade: str
    downgrade: str
    queries: list[str]
    locks: set[tuple[str, str]]

    @property
    def kinds(self) -> list[str]:
        """The names of the operations' classes, in order."""
        return [type(one).__name__ for one in self.up]


def models() -> MetaData:
    """Return a copy of the project's models, which a test may change."""
    copied = MetaData(naming_convention=Base.metadata.naming_convention)
    for table in Base.metadata.sorted_tables:
        table.to_metadata(copied)
    return copied


def execute(settings: Settings, *statements: str) -> None:
    """Run SQL as the owner."""
    with owner_connection(settings) as connection:
        for statement in statements:
            connection.execute(statement)


@contextmanager
def connected(settings: Settings) -> Iterator[Connection]:
    engine = create_engine(settings.owner)
    try:
        with engine.connect() as connection:
            yield connection
    finally:
        engine.dispose()


def proposed(settings: Settings, metadata: MetaData | None = None, /, **options: Any) -> Proposed:
    """Compare a database with models as an environment of dataarch does.

    ``remove_undeclared`` and ``include_name`` go to ``configure_arguments``, all others to Alembic.
    """
    ours = {name: options.pop(name) for name in ("remove_undeclared", "include_name") if name in options}
    queries: list[str] = []
    with connected(settings) as connection:
        locks: set[tuple[str, str]] = set()
        event.listen(connection, "before_cursor_execute", lambda *given: queries.append(given[2]))
        event.listen(connection, "after_cursor_execute", lambda *given: locks.update(_held(given[0])))
        arguments = {"compare_type": True, **configure_arguments(connection, **ours), **options}
        context = MigrationContext.configure(connection, opts=arguments)
        script = produce_migrations(context, metadata if metadata is not None else Base.metadata)
        assert script.upgrade_ops is not None
        assert script.downgrade_ops is not None
        # `alembic check` prints it
        script.upgrade_ops.as_diffs()
        up, down = (
            render_python_code(one, migration_context=context) for one in (script.upgrade_ops, script.downgrade_ops)
        )
    return Proposed(list(_flat(script.upgrade_ops)), up, down, queries, locks)


IMPORTS = """
from dataarch.models.declared import Function, RowPolicy, Trigger
from sqlalchemy.dialects import postgresql
"""


def _held(connection: Connection) -> list[tuple[str, str]]:
    """Return the locks on tables that a transaction holds now; a savepoint that is rolled back gives its own back."""
    driver = connection.connection.driver_connection
    assert driver is not None
    return list(
        driver.execute(
            "SELECT CASE WHEN relpersistence = 't' THEN 'temporary ' ELSE '' END || relname, mode"
            " FROM pg_locks JOIN pg_class ON pg_class.oid = relation WHERE pid = pg_backend_pid()"
        )
    )


def _flat(container: OpContainer) -> Iterator[MigrateOperation]:
    for one in container.ops:
        if isinstance(one, OpContainer):
            yield from _flat(one)
        else:
            yield one


def run_code(settings: Settings, code: str) -> None:
    """Run rendered operations as a revision of its own would, as the owner."""
    with connected(settings) as connection:
        context = MigrationContext.configure(connection, opts={"transaction_per_migration": True})
        names: dict[str, Any] = {"sa": sqlalchemy}
        exec(IMPORTS, names)
        with Operations.context(context), context.begin_transaction(_per_migration=True):
            names["op"] = alembic.op
            exec("def revision():\n    " + code + "\n", names)
            names["revision"]()
        connection.commit()
