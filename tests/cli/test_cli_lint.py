"""``dataarch lint`` as people and programs run it, in pytest and in pre-commit too."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from cli.cli_support import dataarch, dataarch_on_terminal, refusal
from dataarch.database.settings import Settings
from fixtures.databases import ROOT
from rollout.checks.lint_support import Folder, line_of

DANGER = "op.create_index('i', 'orders', ['note'])"


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


def test_a_finding_is_one_line_in_a_pipe_and_the_exit_code_says_so(folder: Folder) -> None:
    path = folder.write(DANGER)
    ended = dataarch(None, folder.folder, "lint", "0002")
    assert ended.code == 1
    line, summary = ended.printed.splitlines()
    assert line.startswith(f"versions/{path.name}:{line_of(path, DANGER)}: index-on-partitioned-table: ")
    assert line.endswith("# dataarch: allow index-on-partitioned-table: the reason")
    assert summary == "1 finding in 1 revision and no tables"


def test_where_nothing_is_found_it_ends_well(folder: Folder) -> None:
    path = folder.write("op.create_partitioned_index('i', 'orders', ['tenant_id', 'note'])")
    ended = dataarch(None, folder.folder, "lint", str(path))
    assert (ended.code, ended.printed) == (0, "no findings in 1 revision and no tables\n")


def test_programs_get_json(folder: Folder) -> None:
    path = folder.write(DANGER)
    ended = dataarch(None, folder.folder.parent, "lint", "-c", str(folder.folder / "alembic.ini"), "0002", "--json")
    (found,) = json.loads(ended.printed)
    assert (ended.code, found["rule"], found["line"]) == (1, "index-on-partitioned-table", line_of(path, DANGER))
    assert found["instead"] == 'op.create_partitioned_index("i", "orders", ["note"])'
    assert found.keys() == {"rule", "file", "line", "what", "blocks", "why", "instead", "override"}


def test_a_terminal_shows_each_finding_in_a_frame_with_its_code(folder: Folder, empty_database: Settings) -> None:
    path = folder.write(DANGER)
    ended = dataarch_on_terminal(empty_database, folder.folder, "lint", "0002", COLUMNS="120", NO_COLOR="1")
    assert ended.code == 1
    printed = re.sub(r"\x1b\[[\d;]*m", "", ended.printed)
    assert f"versions/{path.name}:{line_of(path, DANGER)} ─" in printed
    for word in ("╭─ index-on-partitioned-table", "blocks ", "why ", "instead", "op.create_partitioned_index("):
        assert word in printed


def test_the_configuration_leaves_history_out_and_says_what_is_always_meant(folder: Folder) -> None:
    folder.write(DANGER)
    path = folder.write('op.execute("ALTER TABLE users RENAME CONSTRAINT a TO b")', name="expand_names")
    ini = folder.folder / "alembic.ini"
    ini.write_text(ini.read_text() + "\n[dataarch]\nafter = 0002\ncitus = true\n")
    ended = dataarch(None, folder.folder, "lint", "--json")
    assert ended.code == 1
    found = json.loads(ended.printed)
    assert {one["file"] for one in found} == {f"versions/{path.name}"}
    assert "citus" in {one["rule"] for one in found}
    ini.write_text(ini.read_text().replace("0002", "0099"))
    assert "0099" in refusal(dataarch(None, folder.folder, "lint"), 2)


BAD = {
    "no such file": (("-c", "nowhere.ini"), {}, "nowhere.ini"),
    "no such revision": (("0099",), {}, "0099"),
    "no such models": ((), {"DATAARCH_MODELS": "nowhere:Base"}, "DATAARCH_MODELS"),
    "no base": ((), {"DATAARCH_MODELS": "json:dumps"}, "DATAARCH_MODELS"),
}


@pytest.mark.parametrize(("arguments", "variables", "named"), BAD.values(), ids=BAD)
def test_bad_usage_is_one_line_and_code_2(
    folder: Folder, arguments: tuple[str, ...], variables: dict[str, str], named: str
) -> None:
    assert named in refusal(dataarch(None, folder.folder, "lint", *arguments, **variables), 2)


def test_revisions_that_cannot_be_read_are_bad_usage(folder: Folder) -> None:
    (folder.folder / "versions" / "0002_expand_broken.py").write_text("revision = '0002\n")
    assert "alembic history" in refusal(dataarch(None, folder.folder, "lint"), 2)


def test_models_of_the_project_are_checked_with_its_revisions(folder: Folder) -> None:
    (folder.folder / "shop.py").write_text(
        "from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column\n\n\n"
        "class Base(DeclarativeBase):\n    pass\n\n\n"
        "class Note(Base):\n    __tablename__ = 'notes'\n    tenant_id: Mapped[int]\n"
        "    id: Mapped[int] = mapped_column(primary_key=True)\n"
    )
    ended = dataarch(None, folder.folder, "lint", DATAARCH_MODELS="shop:Base")
    assert ended.code == 1
    assert "shop.py:8: tenant-in-key: The primary key (id) of notes leaves the tenant out." in ended.printed


def test_the_projects_own_revisions_and_models_are_clean(tmp_path: Path) -> None:
    ended = dataarch(None, tmp_path, "lint")
    assert ended.code == 0, ended.printed


def test_a_project_has_it_as_a_test_by_one_import(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    from dataarch.rollout.checks.suite import test_the_schema_is_safe as suite

    monkeypatch.chdir(folder.folder)
    monkeypatch.setenv("DATAARCH_MODELS", "dataarch.models:Base")
    suite()
    folder.write(DANGER)
    with pytest.raises(AssertionError, match="index-on-partitioned-table"):
        suite()


def test_the_hook_of_pre_commit_runs_a_command_that_there_is() -> None:
    hook = (ROOT / ".pre-commit-hooks.yaml").read_text()
    assert "entry: dataarch lint\n" in hook
    assert "id: dataarch-lint\n" in hook
