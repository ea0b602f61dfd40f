"""Alembic's commands, from the top of the checkout, as processes of their own; and no drift from the models."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import create_engine

from dataarch.database.embedded.binaries import find_psql
from dataarch.database.settings import Settings
from dataarch.models import Base
from fixtures.alembic_runs import run, started
from fixtures.catalogs import described, owner_connection, tables
from fixtures.databases import ROOT
from fixtures.servers import libpq

pytestmark = pytest.mark.migration


def test_alembic_goes_up_to_head_checks_and_goes_down_to_base(empty_database: Settings, settings: Settings) -> None:
    run(empty_database, "upgrade", "head")
    assert described(empty_database) == described(settings)
    assert "No new upgrade operations detected." in run(empty_database, "check")
    run(empty_database, "downgrade", "base")
    assert tables(empty_database) == {"alembic_version"}


def test_alembic_check_sees_a_column_that_no_model_has(settings: Settings) -> None:
    with owner_connection(settings) as connection:
        connection.execute("ALTER TABLE users ADD COLUMN nickname text")
    process = started(settings, "check")
    _, said = process.communicate(timeout=60)
    assert process.returncode != 0
    assert "nickname" in said


def test_alembic_generates_an_empty_revision_for_a_schema_that_did_not_change(
    settings: Settings, tmp_path: Path
) -> None:
    ini = (ROOT / "alembic.ini").read_text().replace("%(here)s", str(ROOT))
    versions = f"version_locations = {ROOT / 'alembic' / 'versions'}:{tmp_path}\n"
    config = tmp_path / "alembic.ini"
    config.write_text(ini.replace("[alembic]\n", f"[alembic]\n{versions}"))
    run(settings, "-c", str(config), "revision", "--autogenerate", "-m", "empty", "--version-path", str(tmp_path))
    (written,) = tmp_path.glob("*_empty.py")
    body = written.read_text()
    assert body.count("    pass\n") == 2
    assert "op.create" not in body
    assert "op.drop" not in body


def test_the_models_alone_would_make_the_same_columns_constraints_and_indexes(
    settings: Settings, empty_database: Settings
) -> None:
    with owner_connection(settings) as connection:
        function = connection.execute("SELECT pg_get_functiondef('uuid_v7'::regproc)").fetchone()
    with owner_connection(empty_database) as connection:
        assert function is not None
        connection.execute(str(function[0]))
    engine = create_engine(empty_database.owner)
    Base.metadata.create_all(engine)
    engine.dispose()
    assert _defined(empty_database) == _defined(settings)


def _defined(settings: Settings) -> set[str]:
    """The columns, constraints and indexes of the tables, without grants, partitions, Alembic's own and the cache's."""
    kinds = ("column ", "constraint ", "index ")
    return {
        line.split(" acl ")[0]
        for line in described(settings)
        if line.startswith(kinds)
        and not any(other in line for other in ("user_activity_log_", "alembic_version", "dataarch_cache."))
    }


def by_psql(settings: Settings, sql: str) -> None:
    arguments = [find_psql(), "--no-psqlrc", "--quiet", "--set", "ON_ERROR_STOP=1", libpq(settings.owner)]
    done = subprocess.run(arguments, input=sql, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def by_one_simple_query(settings: Settings, sql: str) -> None:
    with psycopg.connect(libpq(settings.owner), autocommit=True) as connection:
        result = connection.pgconn.exec_(sql.encode())
        assert result.status == psycopg.pq.ExecStatus.COMMAND_OK, result.error_message
        assert result.command_status == b"COMMIT"


@pytest.mark.parametrize("send", [by_psql, by_one_simple_query])
def test_the_sql_that_alembic_prints_makes_the_same_schema_and_takes_it_away(
    empty_database: Settings, settings: Settings, send: Callable[[Settings, str], None]
) -> None:
    bare = described(empty_database)
    send(empty_database, run(None, "upgrade", "head", "--sql"))
    assert described(empty_database) == described(settings)
    assert "No new upgrade operations detected." in run(empty_database, "check")
    send(empty_database, run(None, "downgrade", "head:base", "--sql"))
    assert [line for line in described(empty_database) if "alembic_version" not in line] == bare


def test_the_sql_that_alembic_prints_switches_the_policies_off() -> None:
    assert "SET row_security = off;" in run(None, "upgrade", "0009:head", "--sql")
