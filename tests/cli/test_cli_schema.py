"""`dataarch upgrade` and `downgrade`: the schema, from wherever the command is run."""

from __future__ import annotations

from pathlib import Path

import pytest

from cli.cli_support import dataarch, refusal
from dataarch.database.settings import Settings
from dataarch.database.unit_of_work import Database
from fixtures.catalogs import owner_connection, tables
from fixtures.tenants import inhabit

pytestmark = pytest.mark.migration


def test_upgrade_and_downgrade_go_to_the_end_and_back_with_the_data(empty_database: Settings, tmp_path: Path) -> None:
    assert "head" in dataarch(empty_database, tmp_path, "upgrade").printed
    full = tables(empty_database)
    with Database(empty_database) as db:
        inhabit(db)
    down = dataarch(empty_database, tmp_path, "downgrade", "base")
    assert (down.code, down.complaints) == (0, "")
    assert tables(empty_database) == {"alembic_version"}
    assert dataarch(empty_database, tmp_path, "upgrade").code == 0
    assert tables(empty_database) == full
    with owner_connection(empty_database) as connection:
        assert connection.execute("SELECT count(*) FROM inventory_movements").fetchone() == (1,)


def test_upgrade_is_repeated_without_harm_and_goes_to_any_revision(empty_database: Settings, tmp_path: Path) -> None:
    for revision in ("0003", "head", "head"):
        ended = dataarch(empty_database, tmp_path, "upgrade", revision)
        assert (ended.code, ended.complaints) == (0, "")


def test_upgrade_with_sql_prints_statements_and_needs_no_server(tmp_path: Path) -> None:
    ended = dataarch(None, tmp_path, "upgrade", "--sql", DATAARCH_DATABASE_URL="postgresql://nobody@127.0.0.1:1/none")
    assert (ended.code, ended.complaints) == (0, "")
    assert "CREATE TABLE public.user_activity_log" in ended.printed
    assert "The database is at" not in ended.printed


@pytest.mark.parametrize("revision", ["nonsense", "[/]"])
def test_a_revision_that_does_not_exist_is_one_line_and_2(settings: Settings, tmp_path: Path, revision: str) -> None:
    for command in ("upgrade", "downgrade"):
        assert f"'{revision}'" in refusal(dataarch(settings, tmp_path, command, revision), 2)


def test_help_names_every_command(tmp_path: Path) -> None:
    ended = dataarch(None, tmp_path, "--help")
    assert (ended.code, ended.complaints) == (0, "")
    for command in ("upgrade", "downgrade", "demo", "server", "partitions"):
        assert command in ended.printed
