"""The clusters that tests make for themselves: they start, crash, recover, are copied and leave nothing behind."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from dataarch.database.embedded.binaries import PostgresPrograms
from dataarch.database.embedded.processes import command_of
from fixtures.clusters import Cluster, debian_postgres, own_cluster, own_replica, wheel_postgres
from fixtures.databases import new_database
from fixtures.servers import libpq


@pytest.fixture(scope="module", params=[debian_postgres, wheel_postgres])
def cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """A cluster of each installation, with one setting that needs a start."""
    binaries: Callable[[], PostgresPrograms] = request.param
    with own_cluster({"max_worker_processes": "11", "log_min_messages": "log"}, binaries()) as made:
        yield made


@pytest.fixture(autouse=True)
def _it_runs(cluster: Cluster) -> None:
    if cluster.pid is None:
        cluster.start()


def value(cluster: Cluster, statement: str) -> object:
    with cluster.connect() as connection:
        row = connection.execute(statement.encode()).fetchone()
    assert row is not None
    return row[0]


def test_a_cluster_runs_the_version_of_its_programs_with_the_settings_given(cluster: Cluster) -> None:
    with psycopg.connect(libpq(cluster.admin_url)) as connection:
        assert connection.info.server_version // 10_000 == cluster.programs.major
    assert value(cluster, "SHOW max_worker_processes") == "11"


def test_a_cluster_takes_no_port_and_lets_in_no_other_account(cluster: Cluster) -> None:
    assert value(cluster, "SHOW listen_addresses") == ""
    assert cluster.sockets.stat().st_mode & 0o077 == 0
    assert cluster.sockets.stat().st_uid == cluster.account.uid


def test_a_cluster_does_not_run_as_root(cluster: Cluster) -> None:
    assert cluster.data.stat().st_uid != 0


def test_a_killed_server_is_gone_with_all_its_processes_and_recovers_what_was_committed(cluster: Cluster) -> None:
    with cluster.connect() as connection:
        connection.execute("DROP TABLE IF EXISTS kept")
        connection.execute("CREATE TABLE kept AS SELECT generate_series(1, 1000) AS n")
        pid = connection.info.backend_pid
        connection.execute("BEGIN")
        connection.execute("INSERT INTO kept VALUES (1001)")
        said = len(cluster.log)
        cluster.kill()
        assert cluster.pid is None
        assert command_of(pid) is None
        with pytest.raises(psycopg.OperationalError):
            connection.execute("SELECT 1")
    with pytest.raises(psycopg.OperationalError):
        cluster.connect()
    cluster.start()
    assert "was not properly shut down" in cluster.log[said:]
    assert value(cluster, "SELECT count(*) FROM kept") == 1000


def test_a_server_that_was_stopped_in_order_needs_no_recovery(cluster: Cluster) -> None:
    said = len(cluster.log)
    cluster.stop()
    assert cluster.pid is None
    cluster.start()
    assert "was not properly shut down" not in cluster.log[said:]


def test_a_setting_changed_in_between_holds_after_a_restart(cluster: Cluster) -> None:
    cluster.settings["application_name"] = "it's new"
    cluster.restart()
    with cluster.connect() as connection:
        row = connection.execute("SELECT boot_val, setting FROM pg_settings WHERE name = 'max_worker_processes'")
        assert row.fetchone() == ("8", "11")
        assert connection.execute("SHOW application_name").fetchone() == ("it's new",)


def test_a_cluster_serves_the_databases_of_the_other_fixtures(cluster: Cluster) -> None:
    with new_database(cluster.servers()) as settings, psycopg.connect(libpq(settings.owner)) as connection:
        assert connection.execute("SELECT current_user").fetchone() == ("dataarch_owner",)


def test_a_replica_has_what_was_written_to_its_primary_and_takes_writes_when_it_is_promoted(cluster: Cluster) -> None:
    with cluster.connect() as primary, own_replica(cluster, {"hot_standby_feedback": "on"}) as replica:
        primary.execute("DROP TABLE IF EXISTS copied")
        primary.execute("CREATE TABLE copied AS SELECT 7 AS n")
        wait_until_replayed(primary, replica)
        assert value(replica, "SELECT n FROM copied") == 7
        assert value(replica, "SHOW hot_standby_feedback") == "on"
        with replica.connect() as connection, pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
            connection.execute("DROP TABLE copied")
        cluster.kill()
        replica.promote()
        with replica.connect() as connection:
            connection.execute("DROP TABLE copied")


def segments() -> list[str]:
    return subprocess.run(["ipcs", "-m"], capture_output=True, text=True, check=True).stdout.split()


def wait_until_replayed(primary: psycopg.Connection[tuple[object, ...]], replica: Cluster) -> None:
    lsn = primary.execute("SELECT pg_current_wal_lsn()::text").fetchone()
    assert lsn is not None
    with replica.connect() as connection:
        for _ in range(2000):
            if connection.execute("SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn", lsn).fetchone() == (True,):
                return
            connection.execute("SELECT pg_sleep(0.01)")
    raise AssertionError("The replica does not follow.")


def test_a_server_that_cannot_start_fails_with_the_words_of_its_log(cluster: Cluster) -> None:
    cluster.stop()
    cluster.settings["shared_preload_libraries"] = "no_such_library"
    with pytest.raises(AssertionError, match="no_such_library"):
        cluster.start()
    del cluster.settings["shared_preload_libraries"]
    cluster.start()


@pytest.mark.parametrize("left", ["running", "stopped", "killed"])
def test_a_cluster_leaves_neither_process_nor_file_nor_shared_memory_behind(cluster: Cluster, left: str) -> None:
    with own_cluster(binaries=cluster.programs) as made:
        pid, folder = made.pid, made.folder
        segment = (made.data / "postmaster.pid").read_text().splitlines()[6].split()[1]
        assert pid is not None
        assert segment in segments()
        assert value(made, "SHOW dynamic_shared_memory_type") == "mmap"
        if left != "running":
            made.stop() if left == "stopped" else made.kill()
    assert not folder.exists()
    assert command_of(pid) is None
    assert segment not in segments()


def test_a_test_that_fails_leaves_no_cluster_behind() -> None:
    folders: list[Path] = []
    with pytest.raises(ZeroDivisionError), own_cluster() as made:
        folders.append(made.folder)
        raise ZeroDivisionError
    assert not folders[0].exists()
