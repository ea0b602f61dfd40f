"""`dataarch partitions`: what it shows, what it does, and what it refuses."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from cli.cli_support import (
    COMMAND,
    cells,
    dataarch,
    dataarch_installed,
    dataarch_on_terminal,
    environment,
    refusal,
)
from cli.partitions_of_log import LOG, THIS_MONTH, WIDE, drop_month, filled_history, names
from dataarch.clock import utcnow
from dataarch.database.settings import Settings
from fixtures.months import add_writer, all_rows, assert_contiguous, owner, write

pytestmark = pytest.mark.schema


def test_the_list_shows_bounds_rows_size_indexes_and_policy(settings: Settings, tmp_path: Path) -> None:
    with owner(settings) as connection:
        connection.execute("SELECT create_activity_partition('2020-02-01')")
        connection.execute(f"CREATE TABLE naked (LIKE {LOG} INCLUDING DEFAULTS INCLUDING CONSTRAINTS)")
        connection.execute(
            f"DROP TABLE {LOG}_2020_02; ALTER TABLE {LOG} ATTACH PARTITION naked FOR VALUES"
            " FROM ('2020-02-01') TO ('2020-02-10')"
        )
        write(connection, add_writer(connection), "2020-02-03", "2020-02-04")
        connection.execute("ALTER TABLE naked DISABLE ROW LEVEL SECURITY")
        connection.execute(f"ALTER TABLE {LOG}_rest_min DISABLE ROW LEVEL SECURITY")
    listed = dataarch(settings, tmp_path, "partitions", "list", "--count", **WIDE)
    assert (listed.code, listed.complaints) == (0, "")
    assert cells(listed.printed, "naked")[1:4] == ["2020-02-01", "2020-02-10", "2"]
    assert cells(listed.printed, "naked")[5:] == ["yes", "MISSING", ""]
    assert cells(listed.printed, f"{LOG}_rest_min")[1] == "everything before"
    assert cells(listed.printed, f"{LOG}_rest_min")[6] == "MISSING"
    assert cells(listed.printed, f"{LOG}_{THIS_MONTH}")[3:7] == ["0", "48 kB", "yes", "yes"]


def test_the_list_tells_an_index_of_the_log_from_one_of_the_partitions_own(settings: Settings, tmp_path: Path) -> None:
    whole, own, none = (f"{LOG}_{THIS_MONTH.plus(ahead)}" for ahead in range(3))
    with owner(settings) as connection:
        connection.execute(
            f"CREATE INDEX by_type ON ONLY {LOG} (activity_type);"
            f"CREATE INDEX by_type_of_whole ON {whole} (activity_type);"
            "ALTER INDEX by_type ATTACH PARTITION by_type_of_whole;"
            f"CREATE INDEX of_its_own ON {own} (created_at, activity_type)"
        )
    listed = dataarch(settings, tmp_path, "partitions", "list", **WIDE).printed
    assert [cells(listed, name)[5] for name in (whole, own, none)] == ["yes", "MISSING", "MISSING"]


@pytest.mark.parametrize(
    ("changed", "shown"),
    [
        (
            "DROP POLICY {policy} ON {child}; CREATE POLICY {policy} ON {child} USING (true) WITH CHECK (true)",
            "MISSING",
        ),
        ("CREATE POLICY another ON {child} USING (true)", "MISSING"),
        ("ALTER POLICY {policy} ON {child} TO pg_monitor", "MISSING"),
        ("ALTER POLICY {policy} ON {child} WITH CHECK (true)", "MISSING"),
        ("ALTER POLICY {policy} ON {child} RENAME TO another", "yes"),
        ("CREATE POLICY another ON {child} AS RESTRICTIVE USING (false)", "yes"),
    ],
)
def test_the_list_says_that_a_partition_has_the_logs_policies_only_where_it_does(
    settings: Settings, tmp_path: Path, changed: str, shown: str
) -> None:
    child = f"{LOG}_{THIS_MONTH}"
    with owner(settings) as connection:
        found = connection.execute("SELECT polname FROM pg_policy WHERE polrelid = %s::regclass", [child]).fetchall()
        ((policy,),) = found
        connection.execute(changed.format(policy=policy, child=child))
    listed = dataarch(settings, tmp_path, "partitions", "list", **WIDE).printed
    assert cells(listed, child)[6] == shown
    assert cells(listed, f"{LOG}_{THIS_MONTH.plus(1)}")[6] == "yes"


def test_rows_that_were_not_counted_are_an_estimate_or_unknown(settings: Settings, tmp_path: Path) -> None:
    with owner(settings) as connection:
        write(connection, add_writer(connection), *[utcnow()] * 3)
        connection.execute(f"ANALYZE {LOG}_{THIS_MONTH}")
    listed = dataarch(settings, tmp_path, "partitions", "list", LOG, **WIDE).printed
    assert cells(listed, f"{LOG}_{THIS_MONTH}")[3] == "~3"
    assert cells(listed, f"{LOG}_{THIS_MONTH.plus(1)}")[3] == "?"


def test_a_plan_says_what_would_be_done_and_changes_nothing(settings: Settings, tmp_path: Path) -> None:
    assert dataarch(settings, tmp_path, "partitions", "plan").printed == f"{LOG}: every partition is there already.\n"
    missing = drop_month(settings, 3)
    before = names(settings)
    planned = dataarch(settings, tmp_path, "partitions", "plan", **WIDE)
    assert f"Make {missing}; nobody waits." in planned.printed
    assert names(settings) == before


def test_maintain_makes_what_is_missing_once(settings: Settings, tmp_path: Path) -> None:
    missing = drop_month(settings, 3)
    done = dataarch(settings, tmp_path, "partitions", "maintain", **WIDE)
    assert (done.code, cells(done.printed, missing)) == (0, [missing, "0", "none", "none"])
    again = dataarch(settings, tmp_path, "partitions", "maintain", LOG)
    assert (again.code, again.printed) == (0, f"{LOG}: every partition is there already.\n")


def test_maintain_says_what_was_in_its_way_and_what_it_did_all_the_same(settings: Settings, tmp_path: Path) -> None:
    missing, occupied = drop_month(settings, 3), THIS_MONTH.plus(5)
    with owner(settings) as connection:
        connection.execute(f"DROP TABLE {LOG}_{occupied}")
        connection.execute(
            f"CREATE TABLE by_hand PARTITION OF {LOG} FOR VALUES FROM ('{occupied.first_day} UTC')"
            f" TO ('{occupied.first_day.replace(day=20)} UTC')"
        )
    ended = dataarch(settings, tmp_path, "partitions", "maintain", **WIDE)
    assert "lies partly or wholly in the partition by_hand" in refusal(ended, 1)
    assert cells(ended.printed, missing)
    with owner(settings) as connection:
        assert_contiguous(connection)


def test_maintain_shows_on_a_terminal_what_it_did(settings: Settings, tmp_path: Path) -> None:
    missing = drop_month(settings, 1)
    ended = dataarch_on_terminal(settings, tmp_path, "partitions", "maintain", **WIDE)
    assert ended.code == 0
    assert missing in ended.printed


def test_old_rows_get_months_and_old_months_are_archived_and_come_back(settings: Settings, tmp_path: Path) -> None:
    rows = filled_history(settings)
    archives = tmp_path / "archives"
    archives.mkdir()
    moved = dataarch(settings, tmp_path, "partitions", "maintain", **WIDE)
    assert cells(moved.printed, f"{LOG}_2019_12")[1] == "5"
    retired = dataarch(settings, tmp_path, "partitions", "maintain", "--keep", "24", "--archive-dir", archives)
    assert retired.code == 0, retired.complaints
    files = sorted(archives.iterdir())
    assert [file.name for file in files] == [f"{LOG}_{month}.parquet" for month in ("2019_12", "2020_01", "2020_03")]
    back = dataarch(settings, tmp_path, "partitions", "restore", *files)
    assert back.printed.splitlines() == [f"{file.stem} has 1 rows again." for file in files]
    with owner(settings) as connection:
        assert all_rows(connection) == rows
        assert_contiguous(connection)
    out = dataarch(settings, tmp_path, "partitions", "retire", f"{LOG}_2020_01", DATAARCH_ARCHIVE_DIR=str(archives))
    assert out.code == 0, out.complaints
    assert f"{LOG}_2020_01" not in names(settings)


def test_ensure_makes_the_periods_that_are_named(settings: Settings, tmp_path: Path) -> None:
    done = dataarch(settings, tmp_path, "partitions", "ensure", "--period", "2015-02", "--period", "2015-04", **WIDE)
    assert done.code == 0, done.complaints
    assert {f"{LOG}_2015_02", f"{LOG}_2015_04"} <= set(names(settings))


@contextmanager
def maintaining(settings: Settings, folder: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Run `maintain --every 1s` in a process of its own."""
    with subprocess.Popen(
        [*COMMAND, "partitions", "maintain", "--every", "1s", *arguments],
        cwd=folder,
        env={**environment(settings, folder), "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def until(done: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    """Wait for something that a running process brings about."""
    deadline = time.monotonic() + 60
    while not done():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.2)


def test_maintain_every_so_often_goes_on_until_it_is_stopped(settings: Settings, tmp_path: Path) -> None:
    with maintaining(settings, tmp_path) as process:
        assert process.stdout is not None
        assert "every partition is there already" in process.stdout.readline()
        missing = drop_month(settings, 2)
        until(lambda: missing in names(settings), process)
        with owner(settings) as connection:
            connection.execute("ALTER TABLE user_activity_log RENAME TO elsewhere")
        assert process.stderr is not None
        assert "There is no table user_activity_log" in process.stderr.readline()
        assert process.poll() is None, "an error that may pass does not end the loop"
        process.send_signal(signal.SIGINT)
        _, complaints = process.communicate(timeout=60)
        assert process.returncode == 130
        assert complaints.splitlines()[-1].startswith("error: Stopped.")


def test_maintain_every_so_often_goes_on_while_the_archives_folder_is_away(settings: Settings, tmp_path: Path) -> None:
    archives, away = tmp_path / "archives", tmp_path / "away"
    archives.mkdir()
    with maintaining(settings, tmp_path, "--keep", "24", "--archive-dir", str(archives)) as process:
        assert process.stdout is not None
        assert "every partition is there already" in process.stdout.readline()
        archives.rename(away)
        filled_history(settings)
        missing = drop_month(settings, 2)
        assert process.stderr is not None
        assert f"cannot be archived to {archives}: No such file or directory" in process.stderr.readline()
        until(lambda: missing in names(settings), process)
        # and once more: what comes after the complaint has been made too
        missing = drop_month(settings, 3)
        until(lambda: missing in names(settings), process)
        assert f"{LOG}_2019_12" in names(settings)
        away.rename(archives)
        until(lambda: not {f"{LOG}_2019_12", f"{LOG}_2020_01", f"{LOG}_2020_03"} & set(names(settings)), process)
        retired = [f"{LOG}_{month}.parquet" for month in ("2019_12", "2020_01", "2020_03")]
        # a month leaves the log before it is in its archive
        until(lambda: sorted(file.name for file in archives.iterdir()) == retired, process)


def test_maintain_every_so_often_ends_at_once_where_its_settings_are_wrong_at_the_start(
    settings: Settings, tmp_path: Path
) -> None:
    filled_history(settings)
    with maintaining(settings, tmp_path, "--keep", "24", "--archive-dir", str(tmp_path / "nowhere")) as process:
        _, complaints = process.communicate(timeout=60)
        assert process.returncode == 2
        assert f"cannot be archived to {tmp_path / 'nowhere'}" in complaints


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("list", "users"), "'users' is no partitioned table of dataarch.models:Base. There are: user_activity_log."),
        (("maintain", "--every", "often"), "'often' is no length of time."),
        (("maintain", "--every", "0s"), "'0s' is no length of time."),
        (("maintain", "--keep", "-1"), "keep = -1"),
        (("retire", "users", "--table", "nothing"), "'nothing' is no partitioned table"),
    ],
)
def test_what_cannot_be_meant_is_one_line_and_2(
    settings: Settings, tmp_path: Path, arguments: tuple[str, ...], said: str
) -> None:
    assert said in refusal(dataarch(settings, tmp_path, "partitions", *arguments), 2)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("ensure", "--period", "2015-13"), "'2015-13' is no month. Write it as 2026-11."),
        (("ensure", "--period", "1969-12"), "before 1970 or more than 10 years ahead"),
        (("retire", "users"), "users is no partition of user_activity_log."),
        (("retire", f"{LOG}_rest_min"), "is not retired"),
        (("retire", f"{LOG}_{THIS_MONTH}"), "is not retired"),
    ],
)
def test_what_is_refused_is_one_line_and_1(
    settings: Settings, tmp_path: Path, arguments: tuple[str, ...], said: str
) -> None:
    assert said in refusal(dataarch(settings, tmp_path, "partitions", *arguments), 1)


@pytest.mark.parametrize("models", ["no.such.module:Base", "dataarch.models:Nothing", "dataarch.models:User.id", ":"])
def test_models_that_cannot_be_found_are_one_line_and_2(settings: Settings, tmp_path: Path, models: str) -> None:
    ended = dataarch(settings, tmp_path, "partitions", "list", DATAARCH_MODELS=models)
    assert "DATAARCH_MODELS" in refusal(ended, 2)


def test_models_of_another_project_are_looked_after(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(MODELS)
    with owner(settings) as connection:
        connection.execute("CREATE TABLE orders (id int, at timestamptz, PRIMARY KEY (id, at)) PARTITION BY RANGE (at)")
    given = {"DATAARCH_MODELS": "shop:Base", "PYTHONPATH": str(tmp_path)}
    done = dataarch_installed(settings, tmp_path, "partitions", "maintain", **given, **WIDE)
    assert done.code == 0, done.complaints
    with owner(settings) as connection, pytest.raises(psycopg.errors.UniqueViolation):
        connection.execute("INSERT INTO orders VALUES (1, now()), (1, '1900-01-01'), (1, '2900-01-01')")
        connection.execute("INSERT INTO orders VALUES (1, '1900-01-01')")


MODELS = """
from datetime import datetime
from sqlalchemy import DateTime
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from dataarch.clock import Grain
from dataarch.models import Policy, partitioned

class Base(DeclarativeBase):
    pass

class Order(Base):
    __tablename__ = "orders"
    __table_args__ = (partitioned("at", grain=Grain.DAY, policy=Policy(premake=3)),)
    id: Mapped[int] = mapped_column(primary_key=True)
    at: Mapped[datetime] = mapped_column(DateTime(timezone=True), primary_key=True)
"""
