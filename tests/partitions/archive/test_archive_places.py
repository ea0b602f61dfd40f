"""A folder that is full, read-only, missing or no folder is named with partition and remedy, and no row is dropped."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from sqlalchemy import Connection

from dataarch.database.settings import Settings
from dataarch.errors import ArchiveError
from dataarch.partitions.archive import ArchiveOf, write_archive
from dataarch.partitions.archive.library import pyarrow
from fixtures.small_disks import mounted
from partitions.archive.archive_support import OF, count, sql, transaction

pytestmark = pytest.mark.schema

WRITER = """
import resource, sys
from pathlib import Path
from partitions.archive.archive_support import OF, transaction
from dataarch.database.settings import Settings
from dataarch.partitions.archive import write_archive
url, file, limit = sys.argv[1:]
if int(limit):
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), int(limit)))
with transaction(Settings(database_url=url, owner_url=url)) as connection:
    print("ready", flush=True)
    write_archive(connection, "events_2020_01", Path(file), about=OF)
"""


def writer(settings: Settings, file: Path, limit: int = 0) -> subprocess.Popen[str]:
    """Start a process that archives the events, in files of limited size where one is given."""
    assert settings.owner_url is not None
    # what measures coverage writes a file of its own, which would meet the limit too
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, settings.owner_url, str(file), str(limit)],
        env={**inherited, "PYTHONPATH": str(Path(__file__).parents[2])},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def refused(connection: Connection, file: Path) -> str:
    """Return the words of a refusal, which name table, partition, file and remedy, and leave rows and folder alone."""
    with pytest.raises(ArchiveError) as caught:
        write_archive(connection, "events_2020_01", file, about=OF)
    said = str(caught.value)
    assert all(name in said for name in ("events_2020_01 of events", str(file), "No row was dropped."))
    assert caught.value.hint
    assert caught.value.table == "events"
    assert count(connection, "events_2020_01") == 1000
    return said


def test_a_full_disk_is_named_and_leaves_nothing(connection: Connection, detached: str, tmp_path: Path) -> None:
    with mounted(tmp_path, "size=16k"):
        assert "the disk or the account's quota is full" in refused(connection, tmp_path / "a.parquet")
        assert list(tmp_path.iterdir()) == []


def test_a_file_system_mounted_read_only_is_named(connection: Connection, detached: str, tmp_path: Path) -> None:
    with mounted(tmp_path, "ro"):
        assert "the folder cannot be written to" in refused(connection, tmp_path / "a.parquet")


def test_a_file_that_may_not_grow_is_named_and_leaves_nothing(committed: Settings, tmp_path: Path) -> None:
    process = writer(committed, tmp_path / "a.parquet", limit=8192)
    _, complaints = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "ArchiveError: The partition events_2020_01 of events cannot be archived" in complaints
    assert "the disk or the account's quota is full. No row was dropped. Free space there" in complaints
    assert "Exception ignored" not in complaints
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_may_not_be_written_to_is_named(connection: Connection, detached: str) -> None:
    pyarrow()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o555)
        # nothing is closed to root
        as_root = os.geteuid() == 0
        if as_root:
            os.seteuid(65534)
        try:
            assert "the folder cannot be written to" in refused(connection, folder / "a.parquet")
        finally:
            if as_root:
                os.seteuid(0)
            folder.chmod(0o755)
        assert list(folder.iterdir()) == []


def test_a_missing_folder_is_named_and_not_made(connection: Connection, detached: str, tmp_path: Path) -> None:
    assert "the folder is not there" in refused(connection, tmp_path / "missing" / "a.parquet")
    assert not (tmp_path / "missing").exists()


def test_a_folder_that_is_a_file_is_named(connection: Connection, detached: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    assert "what should be the folder is none" in refused(connection, tmp_path / "file" / "a.parquet")
    assert (tmp_path / "file").read_text() == "mine"


def test_a_part_that_is_a_symbolic_link_is_not_written_through(
    connection: Connection, detached: str, tmp_path: Path
) -> None:
    (tmp_path / "precious").write_text("mine")
    (tmp_path / "a.parquet.part").symlink_to(tmp_path / "precious")
    refused(connection, tmp_path / "a.parquet")
    assert (tmp_path / "precious").read_text() == "mine"


def test_the_same_archive_twice_is_compared_and_kept(connection: Connection, detached: str, file: Path) -> None:
    first = write_archive(connection, detached, file, about=OF)
    before = file.stat()
    assert write_archive(connection, detached, file, about=OF) == first
    assert (file.stat().st_ino, file.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_an_archive_of_other_rows_is_refused_and_kept(connection: Connection, detached: str, file: Path) -> None:
    write_archive(connection, detached, file, about=OF)
    before = file.read_bytes()
    sql(connection, f"UPDATE {detached} SET activity_type = 'other' WHERE id = (SELECT id FROM {detached} LIMIT 1)")
    with pytest.raises(ArchiveError, match=r"events_2020_01 of events is not what .* holds \(checksum: .*hint|holds"):
        write_archive(connection, detached, file, about=OF)
    assert file.read_bytes() == before


def test_an_archive_of_another_partition_is_refused_and_kept(connection: Connection, detached: str, file: Path) -> None:
    write_archive(connection, detached, file, about=ArchiveOf("events", "events_2019_12"))
    before = file.read_bytes()
    assert "the archive of events_2019_12 of events" in refused(connection, file)
    assert file.read_bytes() == before


def test_any_other_file_in_the_place_is_refused_and_kept(connection: Connection, detached: str, file: Path) -> None:
    file.write_text("mine")
    assert "another file is there" in refused(connection, file)
    assert file.read_text() == "mine"


def test_an_archive_is_for_its_account_alone(connection: Connection, detached: str, file: Path) -> None:
    stale = file.with_name(f"{file.name}.part")
    stale.touch()
    stale.chmod(0o666)
    write_archive(connection, detached, file, about=OF)
    assert file.stat().st_mode & 0o777 == 0o600


def test_a_killed_archiving_leaves_no_archive_and_the_next_one_takes_over(committed: Settings, tmp_path: Path) -> None:
    with transaction(committed) as connection:
        sql(
            connection,
            "INSERT INTO events_2020_01 SELECT tenant_id, gen_random_uuid(), user_id, activity_type, metadata,"
            " created_at FROM events_2020_01 CROSS JOIN generate_series(1, 99)",
        )
    file, part = tmp_path / "a.parquet", tmp_path / "a.parquet.part"
    process = writer(committed, file)
    until = time.monotonic() + 60
    while not (part.exists() and part.stat().st_size) and time.monotonic() < until:
        assert process.poll() is None
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert part.exists()
    assert not file.exists()
    with transaction(committed) as connection:
        assert write_archive(connection, "events_2020_01", file, about=OF).rows == 100_000
    assert list(tmp_path.iterdir()) == [file]


def test_a_part_that_another_process_writes_is_left_to_it(
    connection: Connection, detached: str, tmp_path: Path
) -> None:
    import fcntl

    with (tmp_path / "a.parquet.part").open("wb") as part:
        fcntl.flock(part, fcntl.LOCK_EX)
        assert "another process is writing the same archive" in refused(connection, tmp_path / "a.parquet")
    assert [path.name for path in tmp_path.iterdir()] == ["a.parquet.part"]


def memory_of(settings: Settings, folder: Path, rows: int) -> int:
    """Return the most memory, in bytes, of a process that archives, compares and loads rows."""
    program = """
import resource, sys
from pathlib import Path
from partitions.archive.archive_support import OF, events, sql, transaction
from dataarch.database.settings import Settings
from dataarch.partitions.archive import load_archive, write_archive
url, file, rows = sys.argv[1:]
with transaction(Settings(database_url=url, owner_url=url)) as connection:
    sql(connection, "DROP TABLE IF EXISTS events_2020_01")
    events(connection, int(rows))
    write_archive(connection, "events_2020_01", Path(file), about=OF)
    sql(connection, "TRUNCATE events_2020_01")
    assert load_archive(connection, Path(file), "events_2020_01") == int(rows)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""
    assert settings.owner_url is not None
    done = subprocess.run(
        [sys.executable, "-c", program, settings.owner_url, str(folder / f"{rows}.parquet"), str(rows)],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return int(done.stdout) * (1 if sys.platform == "darwin" else 1024)


def test_memory_does_not_grow_with_the_rows(committed: Settings, tmp_path: Path) -> None:
    # both fill groups of rows; the rest of the rows alone would be some 34 MB more, were they kept
    few, many = (memory_of(committed, tmp_path, rows) for rows in (70_000, 200_000))
    assert many - few < 20 * 1024 * 1024
