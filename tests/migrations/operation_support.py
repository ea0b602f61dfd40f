"""Revisions of a test's own, run by Alembic in dataarch's environment: online, by psql, or as a process."""

from __future__ import annotations

import os
import subprocess
import sys
from io import StringIO
from pathlib import Path
from textwrap import dedent, indent

from alembic import command
from alembic.autogenerate import render_python_code
from alembic.config import Config
from alembic.operations import MigrateOperation
from alembic.operations.ops import UpgradeOps

from dataarch.database.embedded.binaries import find_psql
from dataarch.database.settings import Settings
from fixtures.catalogs import described, owner_connection
from fixtures.databases import ROOT
from fixtures.servers import libpq

REVISION = """
import sqlalchemy as sa
from alembic import op
import dataarch.rollout.operations

revision = "{revision}"
down_revision = {parent!r}


def upgrade():
{upgrade}


def downgrade():
{downgrade}
"""


class Revisions:
    """A folder of revisions."""

    def __init__(self, folder: Path, settings: Settings) -> None:
        self.folder = folder
        self.settings = settings
        self.written = 0
        (folder / "versions").mkdir(parents=True)
        (folder / "env.py").write_text("from dataarch.rollout.environment import run\n\nrun()\n")
        (folder / "alembic.ini").write_text(f"[alembic]\nscript_location = {folder}\npath_separator = os\n")

    def write(self, upgrade: str, downgrade: str = "pass") -> None:
        """Add a revision with the bodies of its two functions."""
        parent = f"{self.written:04d}" if self.written else None
        self.written += 1
        text = REVISION.format(
            revision=f"{self.written:04d}",
            parent=parent,
            upgrade=indent(upgrade, "    "),
            downgrade=indent(downgrade, "    "),
        )
        (self.folder / "versions" / f"{self.written:04d}.py").write_text(text)

    def write_page(self, name: str) -> None:
        """Add the revision that is the example on an operation's page."""
        page = (ROOT / "docs" / "reference" / "operations" / f"{name}.md").read_text()
        self.write("", "")
        path = self.folder / "versions" / f"{self.written:04d}.py"
        head = path.read_text().split("def upgrade")[0]
        path.write_text(head + page.split("```py\n")[1].split("```")[0])

    def config(self) -> Config:
        """Return Alembic's configuration."""
        config = Config(self.folder / "alembic.ini")
        config.attributes["settings"] = self.settings
        return config

    def up(self, revision: str = "head") -> None:
        """Upgrade."""
        command.upgrade(self.config(), revision)

    def down(self, revision: str = "base") -> None:
        """Downgrade."""
        command.downgrade(self.config(), revision)

    def script(self, revision: str, *, down: bool = False) -> str:
        """Return the SQL of ``alembic upgrade --sql`` or ``alembic downgrade --sql``."""
        config = self.config()
        config.output_buffer = StringIO()
        (command.downgrade if down else command.upgrade)(config, revision, sql=True)
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
        assert done.returncode == 0, done.stderr

    def process(self, *arguments: str) -> subprocess.Popen[str]:
        """Start ``alembic`` with these arguments and return at once."""
        assert self.settings.owner_url is not None
        kept = {name: value for name, value in os.environ.items() if not name.startswith("DATAARCH_")}
        return subprocess.Popen(
            [sys.executable, "-m", "alembic", "-c", str(self.folder / "alembic.ini"), *arguments],
            env={**kept, "DATAARCH_OWNER_URL": self.settings.owner_url},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )


def rendered(operation: MigrateOperation) -> str:
    """Return an operation as autogenerate writes it into a revision."""
    lines = dedent("    " + render_python_code(UpgradeOps([operation]))).splitlines()
    return "\n".join(line for line in lines if not line.startswith("#"))


def schema_of(settings: Settings) -> list[str]:
    """Return what is in the database, but for Alembic's own table."""
    return [line for line in described(settings) if "alembic_version" not in line]


def assert_goes_up_and_down(revisions: Revisions) -> None:
    """Assert that the revisions change the schema going up, and going down leave it as it was."""
    bare = schema_of(revisions.settings)
    revisions.up()
    assert schema_of(revisions.settings) != bare
    revisions.down()
    assert schema_of(revisions.settings) == bare


def answers(settings: Settings, query: str, *values: object) -> list[object]:
    """Return the first column of a query's answer, asked as the owner."""
    with owner_connection(settings) as connection:
        return [row[0] for row in connection.execute(query, values or None).fetchall()]


ORDERS_BY_MONTH = """
CREATE TABLE orders (
    tenant_id uuid, id integer, at timestamptz, note text, extra jsonb DEFAULT '{}',
    CONSTRAINT pk_orders PRIMARY KEY (tenant_id, id, at)
) PARTITION BY RANGE (at);
CREATE TABLE orders_rest_min PARTITION OF orders FOR VALUES FROM (MINVALUE) TO ('2026-01-01 00:00+00');
CREATE TABLE orders_2026_01 PARTITION OF orders FOR VALUES FROM ('2026-01-01 00:00+00') TO ('2026-02-01 00:00+00');
CREATE TABLE orders_2026_02 PARTITION OF orders FOR VALUES FROM ('2026-02-01 00:00+00') TO (MAXVALUE)
    PARTITION BY HASH (tenant_id);
CREATE TABLE orders_2026_02_a PARTITION OF orders_2026_02 FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE orders_2026_02_b PARTITION OF orders_2026_02 FOR VALUES WITH (MODULUS 2, REMAINDER 1);
INSERT INTO orders SELECT gen_random_uuid(), n, timestamptz '2025-12-01 00:00+00' + n * interval '1 hour', 'note ' || n
    FROM generate_series(1, 3000) AS n;
"""


def indexes(settings: Settings, name: str | None = None) -> list[tuple[str, str, bool]]:
    """Return table, name and validity of each index: all but the keys', or one and those attached to it."""
    query = """
        SELECT indrelid::regclass::text, relname, indisvalid FROM pg_index JOIN pg_class ON oid = indexrelid
        WHERE relnamespace = 'public'::regnamespace AND NOT indisprimary AND relname <> 'alembic_version_pkc'
          AND (%(name)s::text IS NULL
               OR indexrelid IN (SELECT relid FROM pg_partition_tree(quote_ident(%(name)s)::regclass)))
        ORDER BY 1
    """
    with owner_connection(settings) as connection:
        if name is not None and connection.execute(
            "SELECT to_regclass(quote_ident(%s)) IS NULL", [name]
        ).fetchone() == (True,):
            return []
        found = connection.execute(query, {"name": name}).fetchall()
        return [(str(table), str(index), bool(valid)) for table, index, valid in found]
