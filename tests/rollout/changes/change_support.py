"""A project of Alembic's own, in a folder of a test, whose revisions changes write; and its database, emptied."""

from __future__ import annotations

import builtins
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from io import StringIO
from pathlib import Path
from typing import Any
from unittest.mock import patch

import psycopg
from alembic import command
from alembic.config import Config
from sqlalchemy import text

from dataarch.database.embedded.binaries import find_psql
from dataarch.database.engine import owner_engine
from dataarch.database.settings import Settings
from dataarch.rollout.backfill import run, verify
from dataarch.rollout.drafting.draft import Change
from dataarch.rollout.drafting.project import write
from fixtures.catalogs import described, owner_connection
from fixtures.databases import ROOT
from fixtures.servers import libpq

INI = """
[alembic]
script_location = %(here)s/migrations
file_template = %%(rev)s_%%(slug)s
path_separator = os
timezone = UTC
"""

FIRST = '''
"""The tables as they are before any change.

Revision ID: 0001
Revises:
"""

revision = "0001"
down_revision = None


def upgrade():
    pass


def downgrade():
    pass
'''

CLEAN = """
DROP SCHEMA IF EXISTS dataarch_rollout, dataarch_set_aside, shop CASCADE;
DROP SCHEMA public CASCADE;
CREATE SCHEMA public;
"""

CUSTOMERS = """
CREATE TABLE customers (id bigint PRIMARY KEY, name text NOT NULL);
INSERT INTO customers SELECT n, 'customer ' || n FROM generate_series(1, 20) AS n;
CREATE TABLE orders (
    id bigint PRIMARY KEY, customer_id bigint NOT NULL, amount integer NOT NULL DEFAULT 1, note text,
    "Mixed %Case" text
);
INSERT INTO orders SELECT n, n % 20 + 1, n, 'note ' || n, 'x' || n FROM generate_series(1, 300) AS n;
CREATE TABLE log (
    id bigint, at timestamptz NOT NULL, customer_id bigint NOT NULL, note text, PRIMARY KEY (id, at)
) PARTITION BY RANGE (at);
CREATE TABLE log_min PARTITION OF log FOR VALUES FROM (MINVALUE) TO ('2026-01-01 00:00+00');
CREATE TABLE log_2026 PARTITION OF log FOR VALUES FROM ('2026-01-01 00:00+00') TO (MAXVALUE);
INSERT INTO log SELECT n, timestamptz '2025-12-25 00:00+00' + n * interval '1 hour', n % 20 + 1, 'note ' || n
    FROM generate_series(1, 300) AS n;
CREATE SCHEMA shop;
CREATE TABLE shop."Order" (id bigint PRIMARY KEY, "Full Name" text NOT NULL, "100%" integer);
INSERT INTO shop."Order" SELECT n, 'First' || n || ' Last' || n, n FROM generate_series(1, 300) AS n;
"""


def index_of_log(column: str) -> str:
    """Return statements that make the index log_x of the table log, whose parts are called as our operations do."""
    parts = ("log_min", "log_2026")
    return f"CREATE INDEX log_x ON ONLY log ({column});" + "".join(
        f"CREATE INDEX {part}_log_x ON {part} ({column}); ALTER INDEX log_x ATTACH PARTITION {part}_log_x;"
        for part in parts
    )


class Project:
    """A folder with an ``alembic.ini``, and a database with some tables and rows."""

    def __init__(self, folder: Path, settings: Settings) -> None:
        self.folder = folder
        self.settings = settings
        self.versions = folder / "migrations" / "versions"
        self.versions.mkdir(parents=True)
        (folder / "alembic.ini").write_text(INI)
        (folder / "migrations" / "env.py").write_text("from dataarch.rollout.environment import run\n\nrun()\n")
        template = (ROOT / "alembic" / "script.py.mako").read_text()
        (folder / "migrations" / "script.py.mako").write_text(template)
        (self.versions / "0001_expand_tables.py").write_text(FIRST.strip() + "\n")
        self.sql(CLEAN)
        self.sql(CUSTOMERS)
        self.up()

    def config(self) -> Config:
        """Return Alembic's configuration."""
        config = Config(self.folder / "alembic.ini")
        config.attributes["settings"] = self.settings
        return config

    def write(self, change: Change) -> list[str]:
        """Write a change's revisions, and return the names of the files."""
        return [path.name for path in write(self.config(), change)]

    def text(self, name: str) -> str:
        """Return what is in a file whose name ends so."""
        (found,) = self.versions.glob(f"*{name}")
        return found.read_text()

    def up(self, revision: str = "head") -> None:
        """Upgrade."""
        command.upgrade(self.config(), revision)

    def down(self, revision: str) -> None:
        """Downgrade."""
        command.downgrade(self.config(), revision)

    def script(self, revisions: str) -> str:
        """Return the SQL of ``alembic upgrade --sql``."""
        config = self.config()
        config.output_buffer = StringIO()
        command.upgrade(config, revisions, sql=True)
        return config.output_buffer.getvalue()

    def psql(self, script: str) -> None:
        """Run a script in psql; it must succeed."""
        done = subprocess.run(
            [find_psql(), "--no-psqlrc", "--quiet", "-v", "ON_ERROR_STOP=1", libpq(self.settings.owner)],
            input=script,
            capture_output=True,
            text=True,
            timeout=120,
        )
        if done.returncode:
            raise AssertionError(done.stderr)

    def sql(self, statement: str) -> None:
        """Run statements as the owner."""
        with owner_connection(self.settings) as connection:
            connection.execute(statement)

    def rows(self, query: str) -> list[tuple[object, ...]]:
        """Return what a query gives."""
        with owner_connection(self.settings) as connection:
            return connection.execute(query).fetchall()

    def schema(self) -> list[str]:
        """Return what there is but rows and what belongs to changes themselves."""
        lines = [line for line in described(self.settings) if not re.search(r"alembic_version|dataarch_rollout", line)]
        # a dual write's function names columns in the order in which they were made
        return [line.split("(")[0] if line.startswith("function") else line for line in lines]

    def backfill(self, name: str) -> None:
        """Run a backfill and verify it; every row must be right then."""
        engine = owner_engine(self.settings)
        try:
            assert run(engine, name).failed == 0
            assert verify(engine, name).differing == 0
        finally:
            engine.dispose()

    def unverified(self) -> list[str]:
        """Return the backfills that are registered and not verified."""
        if self.rows("SELECT to_regclass('dataarch_rollout.backfills')") == [(None,)]:
            return []
        found = self.rows("SELECT name FROM dataarch_rollout.backfills WHERE verified_at IS NULL ORDER BY name")
        return [str(name) for (name,) in found]

    def fill(self) -> None:
        """Run and verify the backfills that are registered and not verified."""
        for name in self.unverified():
            self.backfill(name)

    def all_the_way_down(self, to: str = "0001") -> None:
        """Downgrade step by step, and fill after each."""
        ((at,),) = self.rows("SELECT version_num FROM alembic_version")
        for number in range(int(str(at)) - 1, int(to) - 1, -1):
            self.fill()
            self.down(f"{number:04}")

    def refused(self, statement: str) -> str:
        """Return the SQLSTATE with which a statement is refused; it must be."""
        with psycopg.connect(libpq(self.settings.owner)) as connection:
            try:
                connection.execute(statement)
            except psycopg.Error as error:
                return error.sqlstate or ""
        raise AssertionError(f"accepted: {statement}")

    def there_and_back(self, *revisions: str, fills: bool = False) -> None:
        """Go up revision by revision, each also down and up again: the schema is what it was on each way.

        If it fills, backfills are run that are registered then, before it goes on, up or down.
        """
        fill = self.fill if fills else lambda: None
        at, *_ = self.rows("SELECT version_num FROM alembic_version")[0]
        before = {at: self.schema()}
        for revision in revisions:
            self.up(revision)
            before[revision] = self.schema()
            fill()
            self.down(str(at))
            difference = sorted(set(self.schema()) ^ set(before[str(at)]))
            if difference:
                raise AssertionError(f"{revision} went down: {difference}")
            fill()
            self.up(revision)
            difference = sorted(set(self.schema()) ^ set(before[revision]))
            if difference:
                raise AssertionError(f"{revision} went up again: {difference}")
            at = revision


LOCKS = """
SELECT relation::regclass::text, mode FROM pg_locks JOIN pg_class ON pg_class.oid = relation
WHERE pg_locks.pid = pg_backend_pid() AND relkind IN ('r', 'p') AND relnamespace NOT IN
    ('pg_catalog'::regnamespace, 'information_schema'::regnamespace)
"""

STRENGTH = (
    "AccessShareLock",
    "RowShareLock",
    "RowExclusiveLock",
    "ShareUpdateExclusiveLock",
    "ShareLock",
    "ShareRowExclusiveLock",
    "ExclusiveLock",
    "AccessExclusiveLock",
)


@contextmanager
def watched(project: Project, revision: str, query: str) -> Iterator[list[Any]]:
    """Give a list that is filled with what a query answers before the revision commits, on either way."""
    (file,) = project.versions.glob(f"{revision}_*.py")
    found: list[Any] = []
    written = file.read_text()
    watching = "    import builtins\n    builtins.dataarch_watch(op.get_bind())\n"
    file.write_text(written.replace("\n\ndef downgrade", f"{watching}\n\ndef downgrade", 1) + watching)
    with patch.object(builtins, "dataarch_watch", create=True, new=lambda on: found.extend(on.execute(text(query)))):
        yield found
    file.write_text(written)


def strongest_locks(project: Project, revision: str) -> dict[str, str]:
    """Upgrade to a revision, and return the strongest lock that it held on each table before it committed.

    Locks of readers are left out, and those on Alembic's own table.
    """
    with watched(project, revision, LOCKS) as found:
        project.up(revision)
    strongest: dict[str, str] = {}
    for table, mode in found:
        if table != "alembic_version" and STRENGTH.index(mode) > STRENGTH.index(strongest.get(table, STRENGTH[0])):
            strongest[table] = mode
    return strongest
