"""What a kill, a crash or a cleaner leaves behind is no obstacle, and no process of somebody else is ended."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from dataarch.database.embedded import EmbeddedServer, postgres, processes
from dataarch.database.embedded.account import account_for, run
from dataarch.database.embedded.binaries import find_postgres
from dataarch.database.embedded.folder import locked
from dataarch.errors import EmbeddedServerError
from database.embedded.embedded_support import (
    NewServer,
    alive,
    child,
    execute,
    postmaster_of,
    query,
    sockets_of,
    valkey_of,
    wait_until,
)

MOMENTS: dict[str, Callable[[Path], bool]] = {
    "the lock is taken": lambda folder: (folder / "lock").exists(),
    "initdb works": lambda folder: any(folder.glob("postgres.*.part/base")),
    "the data is there": lambda folder: (folder / "postgres").exists(),
    "PostgreSQL starts": lambda folder: (folder / "postgres" / "postmaster.pid").exists(),
    "Valkey starts": lambda folder: (folder / "log" / "valkey.log").exists(),
}


def test_the_command_of_a_process_is_read_with_and_without_proc(monkeypatch: pytest.MonkeyPatch) -> None:
    process = subprocess.Popen(["sleep", "60"])
    try:
        for proc in (processes.PROC, Path("/nowhere")):
            monkeypatch.setattr(processes, "PROC", proc)
            wait_until(lambda: processes.command_of(process.pid) == "sleep 60")
            assert processes.is_ours(process.pid, "sleep")
            assert not processes.is_ours(process.pid, "dataarch")
            assert not processes.works_in(process.pid, Path("/nowhere"))
            assert processes.command_of(99_999_999) is None
            assert processes.command_of(-1) is None
    finally:
        process.kill()
        process.wait(10)


def test_a_process_without_the_token_gets_no_signal(sleeper: subprocess.Popen[bytes]) -> None:
    assert processes.end(sleeper.pid, "dataarch_", [(signal.SIGKILL, 1.0)])
    assert sleeper.poll() is None


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    """A process of the account of the servers that has nothing to do with them."""
    account = account_for()
    process = subprocess.Popen(["sleep", "60"], user=account.uid if account.demoted else None)
    yield process
    process.kill()
    process.wait(10)


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_start_that_is_killed_leaves_nothing_half_made(server: EmbeddedServer, moment: str) -> None:
    starter = child(server.folder)
    wait_until(lambda: MOMENTS[moment](server.folder))
    starter.kill()
    starter.communicate(timeout=10)
    status = server.start()
    assert query(status.owner_url, "SELECT 1") == "1"
    assert status.valkey_running
    assert not list(server.folder.glob("*.part"))


def test_while_initdb_of_a_killed_start_still_works_no_other_start_begins(server: EmbeddedServer) -> None:
    starter = child(server.folder)
    wait_until(lambda: MOMENTS["initdb works"](server.folder))
    starter.kill()
    starter.communicate(timeout=10)
    with locked(server.folder):
        processes_now = subprocess.run(
            ["ps", "-A", "-ww", "-o", "command="], capture_output=True, text=True, check=True
        )
    assert f"--pgdata {server.folder}" not in processes_now.stdout


def test_servers_that_were_killed_start_again_with_their_data(new_server: NewServer) -> None:
    server = new_server(durable=True)
    status = server.start()
    execute(status.owner_url, "CREATE TABLE kept AS SELECT 42 AS answer")
    pids = postmaster_of(status), valkey_of(status)
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not any(map(alive, pids)))
    assert not server.status().postgres_running
    assert not server.status().valkey_running
    assert server.start() == status
    assert query(status.owner_url, "SELECT answer FROM kept") == "42"


def test_a_killed_valkey_alone_starts_again_beside_the_same_postgres(server: EmbeddedServer) -> None:
    status = server.start()
    before = postmaster_of(status)
    os.kill(valkey_of(status), signal.SIGKILL)
    wait_until(lambda: not server.status().valkey_running)
    assert server.start().valkey_running
    assert postmaster_of(status) == before


def test_a_child_that_outlives_a_killed_postgres_is_waited_for(server: EmbeddedServer) -> None:
    status = server.start()
    postmaster = postmaster_of(status)
    assert status.admin_url is not None
    connection = psycopg.connect(status.admin_url.replace("+psycopg", ""))
    orphan = connection.info.backend_pid
    os.kill(orphan, signal.SIGSTOP)
    os.kill(postmaster, signal.SIGKILL)
    wait_until(lambda: not alive(postmaster))
    threading.Timer(1.5, os.kill, (orphan, signal.SIGCONT)).start()
    assert server.start().postgres_running
    assert not alive(orphan)
    connection.close()


def test_a_child_that_stays_is_an_error_that_quotes_the_log(
    server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres, "ORPHAN_PATIENCE", 0.5)
    status = server.start()
    postmaster = postmaster_of(status)
    assert status.admin_url is not None
    connection = psycopg.connect(status.admin_url.replace("+psycopg", ""))
    orphan = connection.info.backend_pid
    os.kill(orphan, signal.SIGSTOP)
    os.kill(postmaster, signal.SIGKILL)
    wait_until(lambda: not alive(postmaster))
    with pytest.raises(EmbeddedServerError, match="still in use"):
        server.start()
    os.kill(orphan, signal.SIGCONT)
    wait_until(lambda: not alive(orphan))
    connection.close()
    assert server.start().postgres_running


def test_a_stale_pid_file_whose_pid_is_somebody_elses_is_removed_and_that_process_lives(
    server: EmbeddedServer, sleeper: subprocess.Popen[bytes]
) -> None:
    status = server.start()
    server.stop()
    pid_file = server.folder / "postgres" / "postmaster.pid"
    pid_file.write_text(f"{sleeper.pid}\n{server.folder}/postgres\n1700000000\n5432\n/nowhere\n\n  1  2\nready\n")
    (server.folder / "valkey.pid").write_text(str(sleeper.pid))
    assert not server.status().postgres_running
    server.stop()
    assert server.start() == status
    assert sleeper.poll() is None


def test_a_pid_file_that_names_the_server_of_another_folder_does_not_end_that(new_server: NewServer) -> None:
    first, second = new_server("first"), new_server("second")
    other = first.start()
    pids = postmaster_of(other), valkey_of(other)
    second.start()
    second.stop()
    shutil.copy(first.folder / "postgres" / "postmaster.pid", second.folder / "postgres" / "postmaster.pid")
    shutil.copy(first.folder / "valkey.pid", second.folder / "valkey.pid")
    second.stop()
    assert second.start().postgres_running
    assert all(map(alive, pids))


def test_a_broken_pid_file_or_record_is_no_obstacle(server: EmbeddedServer) -> None:
    status = server.start()
    for broken in ("", "x\n", "-1\n", "0\n", "99999999\n"):
        server.stop()
        (server.folder / "postgres" / "postmaster.pid").write_text(broken)
        (server.folder / "valkey.pid").write_text(broken)
        (server.folder / "state.json").write_text(broken)
        assert server.start() == status, broken


def test_a_server_that_somebody_started_by_hand_is_neither_ended_nor_doubled(server: EmbeddedServer) -> None:
    server.start()
    server.stop()
    account, data = account_for(), server.folder / "postgres"
    programs = find_postgres(account)
    arguments = [programs.path("pg_ctl"), "-w", "-s", "-D", str(data), "-l", str(data / "log"), "-o", "-h '' -k ."]
    assert run([*arguments, "start"], account=account, timeout=30, streams=(2, 2)).returncode == 0
    pid = int((data / "postmaster.pid").read_text().splitlines()[0])
    try:
        with pytest.raises(EmbeddedServerError, match=f"did not start uses .*{pid}"):
            server.start()
        server.stop()
        assert alive(pid)
    finally:
        run([*arguments, "stop"], account=account, timeout=30)


def test_servers_whose_sockets_were_removed_are_ended_and_started_again(server: EmbeddedServer) -> None:
    status = server.start()
    execute(status.owner_url, "CREATE TABLE kept AS SELECT 42 AS answer")
    before = postmaster_of(status), valkey_of(status)
    shutil.rmtree(sockets_of(status))
    assert not server.status().postgres_running
    again = server.start()
    assert query(again.owner_url, "SELECT answer FROM kept") == "42"
    assert not any(map(alive, before))
    assert again.valkey_running


def test_servers_whose_sockets_were_removed_can_be_stopped(server: EmbeddedServer) -> None:
    status = server.start()
    before = postmaster_of(status), valkey_of(status)
    shutil.rmtree(sockets_of(status))
    server.stop()
    assert not any(map(alive, before))


def test_a_lost_record_does_not_lose_the_servers(server: EmbeddedServer) -> None:
    status = server.start()
    before = postmaster_of(status), valkey_of(status)
    (server.folder / "state.json").unlink()
    assert server.start() == status
    assert (postmaster_of(status), valkey_of(status)) == before
    (server.folder / "state.json").unlink()
    (server.folder / "valkey.pid").unlink()
    server.start()
    server.stop()
    assert not any(map(alive, before))


def test_stale_sockets_are_no_obstacle(server: EmbeddedServer, sleeper: subprocess.Popen[bytes]) -> None:
    status = server.start()
    sockets = sockets_of(status)
    for pid in (pids := (postmaster_of(status), valkey_of(status))):
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not any(map(alive, pids)))
    assert (sockets / ".s.PGSQL.5432").exists()
    assert (sockets / "valkey.sock").exists()
    (sockets / ".s.PGSQL.5432.lock").write_text(f"{sleeper.pid}\n/elsewhere\n1\n5432\n{sockets}\n")
    assert server.start() == status
    assert sleeper.poll() is None
