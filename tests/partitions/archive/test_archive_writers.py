"""Nobody changes a table between its archiving and its end, and no row is hidden from the archiving."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import Connection

from dataarch.database.engine import owner_engine
from dataarch.database.settings import Settings
from dataarch.errors import ArchiveError, DependencyMissing, LockTimeout, PrivilegeMissing
from dataarch.partitions.archive import ArchiveOf, load_archive, rows, write_archive
from partitions.archive.archive_support import OF, count, sql, transaction

pytestmark = pytest.mark.schema

BLOCKED = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "pyarrow":
            raise ModuleNotFoundError("No module named 'pyarrow'", name="pyarrow")

sys.meta_path.insert(0, Blocked())
from pathlib import Path
from dataarch.errors import DependencyMissing
from dataarch.partitions.archive import ArchiveOf, load_archive, read_archive, verify_archive, write_archive
file = Path("a.parquet")
for use in (
    lambda: read_archive(file),
    lambda: write_archive(None, "t", file, about=ArchiveOf("t", "t_1")),
    lambda: verify_archive(None, file, "t"),
    lambda: load_archive(None, file, "t"),
):
    try:
        use()
    except DependencyMissing as missing:
        print(missing)
"""


def test_without_pyarrow_everything_says_how_to_install_it() -> None:
    done = subprocess.run([sys.executable, "-c", BLOCKED], capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    assert len(lines) == 4
    assert all("pip install 'dataarch[archive]'" in line for line in lines)
    assert issubclass(DependencyMissing, Exception)


def test_importing_the_archives_does_not_load_pyarrow() -> None:
    program = "import sys, dataarch.partitions.archive; print('pyarrow' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO events_2020_01 VALUES (gen_random_uuid(), gen_random_uuid(), NULL, '', '{}', now())",
        "UPDATE events_2020_01 SET activity_type = 'x'",
        "DELETE FROM events_2020_01",
    ],
)
def test_others_read_but_do_not_write_until_the_transaction_of_the_archiving_ends(
    committed: Settings, tmp_path: Path, statement: str
) -> None:
    with transaction(committed) as archiving, transaction(committed) as other:
        write_archive(archiving, "events_2020_01", tmp_path / "a.parquet", about=OF)
        assert count(other, "events_2020_01") == 1000
        sql(other, "SET LOCAL lock_timeout = '50ms'")
        savepoint = other.begin_nested()
        with pytest.raises(LockTimeout):
            sql(other, statement)
        savepoint.rollback()
        archiving.commit()
        sql(other, statement)


def test_a_table_is_archived_by_one_at_a_time(committed: Settings, tmp_path: Path) -> None:
    with transaction(committed) as one, transaction(committed) as other:
        write_archive(one, "events_2020_01", tmp_path / "one.parquet", about=OF)
        sql(other, "SET LOCAL lock_timeout = '50ms'")
        with pytest.raises(LockTimeout):
            write_archive(other, "events_2020_01", tmp_path / "other.parquet", about=OF)
        assert [path.name for path in tmp_path.iterdir()] == ["one.parquet"]
        other.rollback()


@pytest.mark.parametrize("level", ["REPEATABLE READ", "SERIALIZABLE"])
def test_a_snapshot_from_before_the_lock_is_refused(committed: Settings, tmp_path: Path, level: str) -> None:
    engine = owner_engine(committed)
    with engine.connect().execution_options(isolation_level=level) as connection:
        assert count(connection, "events_2020_01") == 1000
        with transaction(committed) as other:
            sql(other, "UPDATE events_2020_01 SET activity_type = 'late'")
        with pytest.raises(ArchiveError, match="READ COMMITTED"):
            write_archive(connection, "events_2020_01", tmp_path / "a.parquet", about=OF)
    engine.dispose()
    assert list(tmp_path.iterdir()) == []


def test_a_connection_without_a_transaction_is_refused(committed: Settings, tmp_path: Path) -> None:
    engine = owner_engine(committed)
    with (
        engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection,
        pytest.raises(ArchiveError, match="READ COMMITTED"),
    ):
        write_archive(connection, "events_2020_01", tmp_path / "a.parquet", about=OF)
    engine.dispose()


def test_rows_that_a_policy_hides_stop_the_archiving(connection: Connection, detached: str, file: Path) -> None:
    sql(connection, f"ALTER TABLE {detached} ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY")
    sql(connection, f"CREATE POLICY few ON {detached} USING (activity_type = 'login')")
    assert count(connection, detached) < 1000
    with pytest.raises(PrivilegeMissing, match="row-level security"):
        write_archive(connection, detached, file, about=OF)
    assert not file.exists()


def test_the_rows_of_tables_that_inherit_are_not_archived_with_it(
    connection: Connection, detached: str, file: Path
) -> None:
    sql(connection, f"CREATE TABLE heir () INHERITS ({detached})")
    sql(
        connection,
        f"INSERT INTO heir SELECT * FROM ONLY {detached}".replace("*", "tenant_id, id, NULL, '', '{}', now()"),
    )
    assert write_archive(connection, detached, file, about=OF).rows == 1000


def test_nothing_is_left_on_the_server_but_the_lock(connection: Connection, detached: str, file: Path) -> None:
    settings = "SELECT name, setting FROM pg_settings ORDER BY name"
    before = sql(connection, settings).all()
    write_archive(connection, detached, file, about=OF)
    sql(connection, f"CREATE TABLE back (LIKE {detached} INCLUDING ALL)")
    load_archive(connection, file, "back")
    assert sql(connection, settings).all() == before
    assert sql(connection, "SELECT count(*) FROM pg_class WHERE relname LIKE 'dataarch_archive%'").scalar_one() == 0


def test_a_row_lost_on_the_way_to_the_file_is_found_before_the_file_has_its_name(
    connection: Connection, detached: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = rows._parsed
    monkeypatch.setattr(rows, "_parsed", lambda lines, columns: whole(lines, columns).slice(1))
    with pytest.raises(ArchiveError, match=r"Parquet|rows"):
        write_archive(connection, detached, tmp_path / "a.parquet", about=OF)
    assert list(tmp_path.iterdir()) == []
    assert count(connection, detached) == 1000


def test_a_value_changed_on_the_way_to_the_file_is_found_before_the_file_has_its_name(
    connection: Connection, detached: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = rows._parsed
    monkeypatch.setattr(rows, "_parsed", lambda lines, columns: whole(lines.replace(b"login", b"logon"), columns))
    with pytest.raises(ArchiveError, match=r"events_2020_01 of events.*checksum.*Nothing was dropped"):
        write_archive(connection, detached, tmp_path / "a.parquet", about=OF)
    assert list(tmp_path.iterdir()) == []


def test_a_bound_without_a_zone_is_refused() -> None:
    from datetime import datetime

    from dataarch.errors import NaiveDatetime

    with pytest.raises(NaiveDatetime):
        ArchiveOf("events", "events_2020_01", datetime(2020, 1, 1))  # noqa: DTZ001
