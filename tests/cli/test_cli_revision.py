"""``dataarch revision``: the files of a change, as people have them written."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from cli.cli_support import dataarch, refusal
from dataarch.rollout import changes
from fixtures.databases import ROOT
from fixtures.servers import libpq
from rollout.changes.change_support import Project

pytestmark = pytest.mark.migration

RENAME = ("revision", "rename-column", "orders", "note", "remark")

RENAMED = """\
    # dataarch: allow downgrade-loses-data: what was written to the new form has been written to the old one too
    op.add_column("orders", sa.Column("remark", sa.Text(), nullable=True))
    op.create_dual_write("rename_orders_note", "orders", forward={"remark": "note"}, backward={"note": "remark"})


def downgrade() -> None:
    op.drop_dual_write("rename_orders_note", "orders")
    op.drop_column("orders", "remark")
"""

FOREIGN_ENV = """
from alembic import context
from sqlalchemy import create_engine

engine = create_engine(context.config.get_main_option("sqlalchemy.url"))
with engine.connect() as connection:
    context.configure(connection=connection, target_metadata=None)
    with context.begin_transaction():
        context.run_migrations()
engine.dispose()
"""

FOREIGN_TEMPLATE = '''# a template of somebody's own
"""${message}"""
from alembic import op
import sqlalchemy as sa
${imports if imports else ""}
revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}


def upgrade():
    ${upgrades if upgrades else "pass"}


def downgrade():
    ${downgrades if downgrades else "pass"}
'''


def files(project: Project) -> set[str]:
    return {path.name for path in project.versions.glob("*.py")} - {"0001_expand_tables.py"}


def test_rename_column_writes_its_files_in_the_projects_form(project: Project) -> None:
    ended = dataarch(project.settings, project.folder, *RENAME)
    assert (ended.code, ended.complaints) == (0, "")
    assert ended.printed.splitlines() == [
        "written: migrations/versions/0002_expand_rename_orders_note.py",
        "written: migrations/versions/0003_backfill_rename_orders_note.py",
        "written: migrations/versions/0004_contract_turn_rename_orders_note.py",
        "written: migrations/versions/0005_contract_rename_orders_note.py",
    ]
    body = project.text("0002_expand_rename_orders_note.py")
    assert re.fullmatch(r'"""Column remark of orders instead of note: both are there.*', body.splitlines()[0])
    assert body.split("def upgrade() -> None:\n")[1] == RENAMED
    for path in project.versions.glob("*.py"):
        text = path.read_text()
        assert "commands auto generated" not in text
        assert max(map(len, text.splitlines())) <= 120


def test_the_change_is_made_with_the_commands_alone(project: Project) -> None:
    for arguments in (RENAME, ("backfill", "list")):
        assert dataarch(project.settings, project.folder, *arguments).code == 0
    project.up("0003")
    assert dataarch(project.settings, project.folder, "backfill", "run", "rename_orders_note").code == 0
    assert dataarch(project.settings, project.folder, "backfill", "verify", "rename_orders_note").code == 0
    project.up()
    assert project.rows("SELECT remark FROM orders WHERE id = 7") == [("note 7",)]


def test_a_dry_run_prints_what_would_be_written_and_writes_nothing(project: Project) -> None:
    ended = dataarch(project.settings, project.folder, *RENAME, "--dry-run")
    assert ended.code == 0
    assert files(project) == set()
    assert "# migrations/versions/0003_backfill_rename_orders_note.py\n" in ended.printed
    assert dataarch(project.settings, project.folder, *RENAME).code == 0
    for path in project.versions.glob("000[234]_*.py"):
        undated = [line for line in path.read_text().splitlines() if not line.startswith("Create Date")]
        assert all(line in ended.printed for line in undated)


def test_no_file_is_overwritten(project: Project) -> None:
    taken = project.versions / "0003_backfill_rename_orders_note.py"
    first = project.versions / "0001_expand_tables.py"
    before = first.read_text()
    first.rename(taken)
    assert "is there already" in refusal(dataarch(project.settings, project.folder, *RENAME), 1)
    assert files(project) == {taken.name}
    assert taken.read_text() == before


def test_another_projects_environment_template_and_ids_are_used(project: Project) -> None:
    ini = project.folder / "other.ini"
    url = libpq(project.settings.owner).replace("postgresql://", "postgresql+psycopg://").replace("%", "%%")
    ini.write_text(f"[alembic]\nscript_location = %(here)s/migrations\nsqlalchemy.url = {url}\npath_separator = os\n")
    (project.folder / "migrations" / "env.py").write_text(FOREIGN_ENV)
    (project.folder / "migrations" / "script.py.mako").write_text(FOREIGN_TEMPLATE)
    first = project.versions / "0001_expand_tables.py"
    first.write_text(first.read_text().replace('revision = "0001"', 'revision = "3f2a91bc77de"'))
    project.sql("UPDATE alembic_version SET version_num = '3f2a91bc77de'")
    ended = dataarch(None, project.folder, *RENAME, "--config", "other.ini")
    assert (ended.code, ended.complaints) == (0, "")
    names = sorted(files(project))
    assert all(
        re.fullmatch(r"[0-9a-f]{12}_(expand|backfill|contract|contract_turn)_rename_orders_note\.py", name)
        for name in names
    )
    assert all((project.versions / name).read_text().startswith("# a template") for name in names)


def test_the_first_revision_of_a_project_can_be_a_change(project: Project) -> None:
    (project.versions / "0001_expand_tables.py").unlink()
    project.sql("DELETE FROM alembic_version")
    assert dataarch(project.settings, project.folder, "revision", "add-column", "orders", "extra", "text").code == 0
    assert files(project) == {"0001_expand_add_orders_extra.py"}
    project.up()


def test_what_does_not_fit_is_one_line_with_a_hint(project: Project) -> None:
    line = refusal(dataarch(project.settings, project.folder, *RENAME[:3], "notes", "remark"), 1)
    assert line == "error: The table orders has no column notes. Did you mean note?"
    assert files(project) == set()


def test_the_database_has_to_be_at_the_newest_revision(project: Project) -> None:
    assert dataarch(project.settings, project.folder, *RENAME).code == 0
    line = refusal(dataarch(project.settings, project.folder, "revision", "drop-table", "log"), 1)
    assert "is at revision 0001, the newest is 0005" in line
    assert "alembic upgrade head" in line


def test_several_heads_have_to_be_joined_first(project: Project) -> None:
    first = (project.versions / "0001_expand_tables.py").read_text()
    (project.versions / "other.py").write_text(first.replace('revision = "0001"', 'revision = "other"'))
    assert "alembic merge heads" in refusal(dataarch(project.settings, project.folder, *RENAME), 2)


def test_without_an_alembic_ini_it_says_how_to_name_one(
    project: Project, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("elsewhere")
    assert "--config" in refusal(dataarch(project.settings, folder, *RENAME), 2)
    ended = dataarch(project.settings, folder, *RENAME, "-c", project.folder / "alembic.ini")
    assert (ended.code, len(files(project))) == (0, 4)


OPTIONS = {
    "add-check": ("orders", "ck", "amount > 0"),
    "add-column": ("orders", "x", "integer", "--default", "0", "--not-null"),
    "add-foreign-key": ("orders", "customer_id", "customers", "--on-delete", "cascade", "--to", "id"),
    "add-index": ("orders", "note", "lower(note)", "--unique", "--where", "amount > 0", "--name", "i"),
    "add-unique": ("orders", "note", "amount"),
    "change-type": ("orders", "note", "integer", "--using", "length(note)", "--back", "note_new::text"),
    "drop-column": ("Order", "100%", "--schema", "shop"),
    "drop-index": ("orders", "to_drop"),
    "drop-table": ("log",),
    "merge-columns": ("orders", "note", "--into", "x=note || 'x'", "--back", "note=x"),
    "partition-table": ("Order", "at", "--schema", "shop"),
    "rename-column": ("Order", "100%", "percent", "--schema", "shop"),
    "set-not-null": ("orders", "note", "--fill", "''"),
    "split-columns": ("orders", "note", "--into", "a=note", "--into", "b=note", "--back", "a"),
}


def test_every_change_is_a_command_and_has_a_page(project: Project) -> None:
    assert len(OPTIONS) == len(changes.__all__)
    project.sql('CREATE INDEX to_drop ON orders (note); ALTER TABLE shop."Order" ADD at date NOT NULL DEFAULT now()')
    for name, arguments in OPTIONS.items():
        ended = dataarch(project.settings, project.folder, "revision", name, *arguments, "--dry-run")
        assert (ended.code, ended.complaints) == (0, ""), name
        assert "def downgrade" in ended.printed
        page = ROOT / "docs" / "reference" / "changes" / f"{name.replace('-', '_')}.md"
        assert f"dataarch revision {name} " in page.read_text()
    assert files(project) == set()


def test_the_help_says_what_each_argument_is(tmp_path: Path) -> None:
    printed = dataarch(None, tmp_path, "revision", "rename-column", "--help", COLUMNS="120").printed
    for said in ("What the column is called now.", "What it is to be called.", "--schema", "--dry-run", "--config"):
        assert said in printed
