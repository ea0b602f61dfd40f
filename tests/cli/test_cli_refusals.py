"""Whatever goes wrong is one line on stderr with what to do, and exit code 1, or 2 where the settings are at fault."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import pytest

from cli.cli_support import EXAMPLES, dataarch, dataarch_installed, numbers, order_lines, refusal
from dataarch.database.settings import Settings
from fixtures.catalogs import contents
from fixtures.servers import Servers

CLOSED = "postgresql://dataarch_app@127.0.0.1:1/app"


@pytest.mark.parametrize("command", [("demo",), ("load", "retail")])
@pytest.mark.parametrize("name", ["missing", "no-csv", "[/x\n"])
def test_data_without_csv_files_is_refused_with_2_before_any_server_is_asked(
    tmp_path: Path, name: str, command: tuple[str, ...]
) -> None:
    (tmp_path / "no-csv").mkdir()
    (tmp_path / "no-csv" / "x.csv").mkdir()
    ended = dataarch(None, tmp_path, *command, tmp_path / name, DATAARCH_DATABASE_URL=CLOSED)
    line = refusal(ended, 2)
    assert "Check" in line or ".csv" in line
    assert not (tmp_path / "servers").exists()


def test_each_broken_file_is_named_on_one_line_and_the_others_are_loaded(settings: Settings, tmp_path: Path) -> None:
    whole = order_lines(*(f"{n},A1,TEA POT,2,2025-01-01 08:00:00,2.50,7,France" for n in range(50))).encode()
    broken = {
        "[b].csv": b"hello\n",
        "binary.csv": bytes(range(256)) * 20,
        "cut.csv": whole[:-10],
        "empty.csv": b"",
        "x\\[i].csv": b"hello\n",
    }
    data = tmp_path / "data"
    data.mkdir()
    for name, content in broken.items():
        (data / name).write_bytes(content)
    (data / "good.csv").write_text(order_lines("1,B1,TEA POT,2,2025-01-01 08:00:00,2.50,7,Spain"))
    ended = dataarch(settings, tmp_path, "demo", data)
    assert ended.code == 1
    lines = ended.complaints.splitlines()
    names = [name.replace("\\", "\\\\") for name in broken]
    assert [line.startswith(f"error: {name} ") for name, line in zip(names, lines, strict=True)] == [True] * 5, lines
    assert all("all whole records before are read" in line for line in lines)
    # the whole lines of the one that is cut off are there
    assert numbers(ended.printed)["loaded"] == contents(settings)["user_activity_log"][0] == 1 + 49


def test_a_truncated_gzip_file_is_named_on_one_line_and_goes_on_when_it_is_whole(
    settings: Settings, tmp_path: Path
) -> None:
    file = tmp_path / "lines.csv.gz"
    packed = gzip.compress((EXAMPLES / "2025-01-30.csv").read_bytes())
    file.write_bytes(packed[:-20])
    ended = dataarch(settings, tmp_path, "demo", file)
    assert "lines.csv.gz is cut off" in refusal(ended, 1)
    file.write_bytes(packed)
    again = dataarch(settings, tmp_path, "load", "retail", file)
    assert numbers(ended.printed)["loaded"] + numbers(again.printed)["loaded"] == 171


def test_a_server_that_is_down_is_one_line_and_1(tmp_path: Path) -> None:
    for arguments in (("demo", EXAMPLES), ("upgrade",)):
        line = refusal(dataarch_installed(None, tmp_path, *arguments, DATAARCH_DATABASE_URL=CLOSED), 1)
        assert "cannot be reached" in line
        assert "dataarch server status" in line


@pytest.mark.parametrize(
    "url", ["mysql://localhost/x", "postgresql+asyncpg://localhost/x", "nonsense", "postgresql://"]
)
def test_a_url_that_names_no_postgresql_is_one_line_and_2(tmp_path: Path, url: str) -> None:
    line = refusal(dataarch(None, tmp_path, "partitions", "list", DATAARCH_DATABASE_URL=url), 2)
    assert "postgresql://user@host:5432/database" in line


def test_a_setting_that_is_no_number_is_named_in_one_line_and_2(tmp_path: Path) -> None:
    line = refusal(dataarch(None, tmp_path, "demo", EXAMPLES, DATAARCH_LOCK_TIMEOUT="soon"), 2)
    assert "Correct DATAARCH_LOCK_TIMEOUT" in line


def test_no_url_and_no_embedded_server_is_one_line_and_2(tmp_path: Path) -> None:
    for command in ("list", "maintain"):
        line = refusal(dataarch(None, tmp_path, "partitions", command), 2)
        assert "Set DATAARCH_DATABASE_URL" in line
        assert "dataarch server start" in line


def test_a_database_that_is_not_migrated_is_one_line_with_the_upgrade_and_1(
    empty_database: Settings, template: str, tmp_path: Path
) -> None:
    for arguments in (("demo", EXAMPLES), ("partitions", "list"), ("partitions", "maintain")):
        assert "dataarch upgrade" in refusal(dataarch(empty_database, tmp_path, *arguments), 1)


def test_a_role_that_the_policies_do_not_bind_is_one_line_with_what_to_do_and_1(
    settings: Settings, servers: Servers, tmp_path: Path
) -> None:
    admin = servers.admin.set(database=settings.owner.database).render_as_string(hide_password=False)
    line = refusal(dataarch(settings, tmp_path, "demo", EXAMPLES, DATAARCH_DATABASE_URL=admin), 1)
    assert "Connect as dataarch_app" in line
    assert "user_activity_log" not in contents(settings)


def test_a_demonstration_without_the_owner_says_so_instead_of_showing_empty_tables(
    settings: Settings, tmp_path: Path
) -> None:
    app_only = settings.model_copy(update={"owner_url": settings.database_url})
    ended = dataarch(app_only, tmp_path, "demo", EXAMPLES)
    assert "DATAARCH_OWNER_URL" in refusal(ended, 1)
    assert numbers(ended.printed)["loaded"] == 501


@pytest.mark.parametrize("where", ["folder", "a file/x.csv"])
def test_a_file_for_rejects_that_cannot_be_written_is_one_line_and_nothing_is_loaded(
    settings: Settings, tmp_path: Path, where: str
) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "a file").write_text("")
    line = refusal(dataarch(settings, tmp_path, "demo", EXAMPLES, "--rejects", tmp_path / where), 2)
    assert "--rejects" in line
    assert "user_activity_log" not in contents(settings)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a device that is always full")
def test_a_disk_that_fills_up_is_one_line_and_1(settings: Settings, tmp_path: Path) -> None:
    ended = dataarch(settings, tmp_path, "demo", EXAMPLES, "--rejects", "/dev/full")
    assert "No space left on device" in refusal(ended, 1)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere, whatever the permissions")
def test_a_folder_for_rejects_without_permission_is_one_line_and_2(settings: Settings, tmp_path: Path) -> None:
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o500)
    assert "Permission denied" in refusal(
        dataarch(settings, tmp_path, "demo", EXAMPLES, "--rejects", locked / "x.csv"), 2
    )


@pytest.mark.parametrize(
    "arguments", [["nonsense"], ["demo"], ["demo", "a", "b"], ["upgrade", "--wrong"], ["server", "x"]]
)
def test_a_command_line_that_makes_no_sense_is_told_so_with_2(tmp_path: Path, arguments: list[str]) -> None:
    ended = dataarch(None, tmp_path, *arguments)
    assert ended.code == 2
    assert ended.printed == ""
    assert "Usage:" in ended.complaints
