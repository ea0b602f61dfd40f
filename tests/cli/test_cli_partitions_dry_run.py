"""`dataarch partitions … --dry-run`: what it prints changes nothing, and does the same when it is run."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest

from cli.cli_support import dataarch, refusal
from cli.partitions_of_log import LOG, THIS_MONTH, drop_month, filled_history, names
from dataarch.database.engine import owner_engine
from dataarch.database.settings import Settings
from dataarch.partitions.archive import load_archive
from fixtures.databases import new_database
from fixtures.killed_copy import kill_during_the_copy
from fixtures.months import Connection, add_writer, all_rows, owner, write
from fixtures.servers import Servers

pytestmark = pytest.mark.schema


@pytest.mark.parametrize("settled", [True, False], ids=["old rows have their months", "old rows lie in a catch-all"])
@pytest.mark.parametrize(
    "arguments",
    [
        ("ensure", "--period", "2015-02", "--premake", "14"),
        ("maintain", "--premake", "15", "--keep", "24"),
        ("maintain",),
    ],
    ids=" ".join,
)
def test_a_dry_run_prints_sql_that_does_the_same(
    settings: Settings, servers: Servers, tmp_path: Path, arguments: tuple[str, ...], *, settled: bool
) -> None:
    rows = filled_history(settings)
    if settled:
        dataarch(settings, tmp_path, "partitions", "maintain")
    drop_month(settings, 3)
    before = names(settings)
    archives = {"DATAARCH_ARCHIVE_DIR": str(tmp_path)}
    printed = dataarch(settings, tmp_path, "partitions", *arguments, "--dry-run", **archives)
    assert (printed.code, printed.complaints, names(settings)) == (0, "", before)
    assert ("-- the maintenance copies the 5 rows" in printed.printed) is not settled
    assert settings.owner.database is not None
    with new_database(servers, settings.owner.database) as copy:
        run_script(copy, printed.printed)
        done = dataarch(settings, tmp_path, "partitions", *arguments, **archives)
        assert done.code == 0, done.complaints
        while (more := dataarch(copy, tmp_path, "partitions", *arguments, "--dry-run")).printed:
            run_script(copy, more.printed)
        assert names(copy) == names(settings)
        with owner(copy) as theirs, owner(settings) as ours:
            assert all_rows(theirs) == all_rows(ours)
            assert (all_rows(ours) == rows) == ("--keep" not in arguments)


def test_the_printed_clean_up_after_a_killed_copy_lets_writers_go_on_and_the_rest_does_the_same(
    settings: Settings, servers: Servers, tmp_path: Path
) -> None:
    filled_history(settings)
    kill_during_the_copy(settings)
    printed = dataarch(settings, tmp_path, "partitions", "maintain", "--dry-run").printed
    clean_up, rest = printed.split("-- the maintenance copies", 1)
    assert settings.owner.database is not None
    with new_database(servers, settings.owner.database) as copy, owner(copy) as connection:
        assert left_behind(connection) != []
        run_script(copy, clean_up)
        assert left_behind(connection) == []
        # what wrote into the catch-all while it was copied does so still
        assert write(connection, add_writer(connection), "2020-01-05") == [f"{LOG}_rest_min"]
        connection.execute(f"UPDATE {LOG} SET activity_type = 'logout' WHERE created_at < '2020-01-01'")
        rows = all_rows(connection)
        run_script(copy, f"--{rest}")
        done = dataarch(settings, tmp_path, "partitions", "maintain")
        assert (done.code, done.complaints) == (0, "")
        assert names(copy) == names(settings)
        assert all_rows(connection) == rows


def left_behind(connection: Connection) -> list[str]:
    """Return the tables, functions and triggers of a copy that was begun."""
    return [
        name
        for (name,) in connection.execute(
            "SELECT proname FROM pg_proc WHERE proname LIKE %(log)s UNION ALL"
            " SELECT tgname FROM pg_trigger WHERE tgname LIKE 'dataarch%%' UNION ALL"
            " SELECT relname FROM pg_class WHERE relname LIKE %(log)s AND relkind IN ('r', 'p') AND NOT relispartition",
            {"log": f"{LOG}\\_%"},
        )
    ]


def test_a_dry_run_of_a_restore_prints_all_but_the_loading_and_with_it_does_the_same(
    settings: Settings, servers: Servers, tmp_path: Path
) -> None:
    file = tmp_path / f"{LOG}_2020_01.parquet"
    archived_and_written_again(settings, tmp_path)
    with owner(settings) as connection:
        before, rows = names(settings), all_rows(connection)
    printed = dataarch(settings, tmp_path, "partitions", "restore", file, "--dry-run").printed
    assert (
        printed.splitlines()[0]
        == f"-- {str(file)!r} holds 3 rows; they come back as the partition {file.stem!r} of {LOG!r}"
    )
    with owner(settings) as connection:
        assert (names(settings), all_rows(connection), left_behind(connection)) == (before, rows, [])
    making, exchange = printed.split("-- SQL alone cannot read the file", 1)
    assert settings.owner.database is not None
    with new_database(servers, settings.owner.database) as copy, owner(copy) as theirs, owner(settings) as ours:
        run_script(copy, making)
        with pytest.raises(psycopg.errors.RaiseException, match="The 3 rows of the archive are not there yet"):
            run_script(copy, f"--{exchange}")
        assert (names(copy), all_rows(theirs)) == (before, rows)
        load(copy, file)
        run_script(copy, f"--{exchange}")
        back = dataarch(settings, tmp_path, "partitions", "restore", file)
        assert "has 1 rows again. 1 stayed out" in back.printed
        assert names(copy) == names(settings)
        assert all_rows(theirs) == all_rows(ours)
        assert left_behind(theirs) == []
        # no policy retires it again
        assert dataarch(copy, tmp_path, "partitions", "maintain", "--keep", "24", "--dry-run").printed == ""


def archived_and_written_again(settings: Settings, folder: Path) -> None:
    """Archive three rows of a month, then write one of them again and a new one, and delete the user of another."""
    with owner(settings) as connection:
        writer, gone = add_writer(connection), add_writer(connection)
        write(connection, writer, "2020-01-01", "2020-01-02", *(THIS_MONTH.plus(-ago).start for ago in (1, 24)))
        write(connection, gone, "2020-01-03")
        kept = connection.execute(f"SELECT id FROM {LOG} WHERE created_at = '2020-01-01'").fetchone()
        assert kept
        dataarch(settings, folder, "partitions", "maintain")
        dataarch(settings, folder, "partitions", "maintain", "--keep", "24", "--archive-dir", folder)
        connection.execute("DELETE FROM users WHERE id = %s", [gone.user_id])
        connection.execute(
            f"INSERT INTO {LOG} (tenant_id, id, user_id, activity_type, created_at)"
            " VALUES (%s, %s, %s, 'again', '2020-01-01')",
            [writer.tenant_id, kept[0], writer.user_id],
        )
        assert write(connection, writer, "2020-01-04") == [f"{LOG}_rest_min"]


def load(settings: Settings, file: Path) -> None:
    """Do what the printed script leaves out."""
    engine = owner_engine(settings)
    with engine.begin() as connection:
        load_archive(connection, file, file.stem)
    engine.dispose()


def test_a_dry_run_of_a_restore_refuses_what_the_restore_would_refuse(settings: Settings, tmp_path: Path) -> None:
    file = tmp_path / f"{LOG}_2020_01.parquet"
    archived_and_written_again(settings, tmp_path)
    with owner(settings) as connection:
        connection.execute(f"CREATE TABLE {file.stem} (id int)")
        ended = dataarch(settings, tmp_path, "partitions", "restore", file, "--dry-run")
        assert f"There is a table {file.stem} already" in refusal(ended, 1)
        connection.execute(f"DROP TABLE {file.stem}")
    dataarch(settings, tmp_path, "partitions", "restore", file)
    ended = dataarch(settings, tmp_path, "partitions", "restore", file, "--dry-run")
    assert "which has been restored already" in refusal(ended, 1)
    assert ended.printed == ""


def run_script(settings: Settings, script: str) -> None:
    with owner(settings) as connection:
        for line in script.splitlines():
            if not line.startswith("--"):
                connection.execute(line)


def test_a_dry_run_prints_what_a_policy_compares_with_as_it_is(settings: Settings, tmp_path: Path) -> None:
    with owner(settings) as connection:
        connection.execute(f"CREATE POLICY spaced ON {LOG} AS RESTRICTIVE USING (activity_type <> 'a  b')")
    printed = dataarch(settings, tmp_path, "partitions", "ensure", "--period", "2015-02", "--dry-run").printed
    assert "'a  b'" in printed


def test_a_dry_run_of_a_retirement_names_the_archive(settings: Settings, tmp_path: Path) -> None:
    filled_history(settings)
    dataarch(settings, tmp_path, "partitions", "maintain")
    printed = dataarch(settings, tmp_path, "partitions", "retire", f"{LOG}_2020_01", "--dry-run").printed
    assert printed.splitlines()[0].endswith(f'DETACH PARTITION "public"."{LOG}_2020_01" CONCURRENTLY;')
    assert f"{LOG}_2020_01.parquet" in printed
    assert f"{LOG}_2020_01" in names(settings)
