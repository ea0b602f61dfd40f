"""Exceptions need a reason; models are checked as revisions are; squawk's findings lead to the revision's line."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from dataarch.database.settings import Settings
from dataarch.errors import ConfigurationError, DependencyMissing
from dataarch.models import Base
from dataarch.models.declared import RowPolicy, declare
from dataarch.rollout.checks import NOT_RENDERED, RULES, Project, Rule, findings
from dataarch.rollout.checks.exceptions import RULE as EXCEPTION
from dataarch.rollout.revisions import revisions
from fixtures.databases import ROOT
from rollout.checks.lint_support import Folder, line_of

UPDATE = 'op.execute("UPDATE users SET id = id")'
RULE = "backfill-in-schema-revision"


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path / "revisions")


def test_an_exception_with_a_reason_is_one(folder: Folder) -> None:
    folder.write(UPDATE, comment=f"# dataarch: allow {RULE}: ten rows")
    assert folder.found() == []


@pytest.mark.parametrize("comment", [f"# dataarch: allow {RULE}", f"# dataarch: allow {RULE}:  ", "# dataarch: allow"])
def test_an_exception_without_a_reason_is_refused_and_named(folder: Folder, comment: str) -> None:
    path = folder.write(UPDATE, comment=comment)
    danger, refused = folder.found()
    assert danger.rule == RULE
    assert (refused.rule, refused.line) == ("exception-without-reason", line_of(path, "allow"))
    assert refused.what.startswith("Nothing says why")


def test_an_exception_from_a_rule_that_is_none_is_named(folder: Folder) -> None:
    folder.write("pass", comment="# dataarch: allow backfil: a slip of the pen")
    (found,) = folder.found()
    assert found.what == "There is no rule backfil, or it has found nothing here."


def models() -> sa.MetaData:
    metadata = sa.MetaData()
    tenant: list[Any] = [sa.Column("tenant_id", sa.Uuid(), primary_key=True)]
    sa.Table("users", metadata, *tenant, sa.Column("id", sa.Uuid(), primary_key=True))
    sa.Table(
        "notes",
        metadata,
        sa.Column("tenant_id", sa.Uuid()),
        sa.Column("id", sa.Uuid(), primary_key=True),
        sa.Column("user_id", sa.Uuid(), sa.ForeignKey("users.id")),
        sa.Column("slug", sa.Text(), unique=True),
        sa.Column("price", sa.Numeric(), index=True),
        sa.Column("mood", sa.Enum("ok", name="mood"), index=True),
        sa.Column("tags", sa.ARRAY(sa.Text()), index=True),
        sa.Column("extra", postgresql.JSONB()),
        sa.Column("weight", sa.Float(), index=True),
        sa.Index("gin", "extra", postgresql_using="gin"),
    )
    declare(metadata, RowPolicy("odd", "notes", "USING (id IS NULL OR true)"))
    return metadata


def test_models_are_checked_too(folder: Folder) -> None:
    found = folder.found(models=models(), only=())
    assert sorted((one.rule, one.what.split(" ")[0]) for one in found) == [
        ("index-unusable-with-policies", "gin"),
        ("index-unusable-with-policies", "ix_notes_mood"),
        ("index-unusable-with-policies", "ix_notes_price"),
        ("index-unusable-with-policies", "ix_notes_tags"),
        ("policy-shape", "The"),
        ("tenant-foreign-key", "notes"),
        ("tenant-in-key", "The"),
        ("tenant-in-key", "The"),
    ]
    assert {one.place for one in found} == {"models:1"}


def test_a_finding_in_a_model_leads_to_its_class_and_an_exception_there_holds_there(
    tmp_path: Path, folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = """
        class {name}(Base):
            __tablename__ = "{table}"
            {comment}
            tenant_id: Mapped[int] = mapped_column()
            id: Mapped[int] = mapped_column(primary_key=True)
    """
    written = "from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column\nclass Base(DeclarativeBase): pass\n"
    for name, comment in (("Odd", "pass"), ("Even", "# dataarch: allow tenant-in-key: one server")):
        lines = model.format(name=name, table=name.lower(), comment=comment).splitlines()
        written += "\n".join(line[8:] for line in lines) + "\n"
    path = tmp_path / "models_of_a_test.py"
    path.write_text(written)
    monkeypatch.syspath_prepend(tmp_path)
    from models_of_a_test import Base as Theirs  # type: ignore[import-not-found]

    (found,) = folder.found(models=Theirs, only=())
    assert (found.file, found.line) == (path, line_of(path, "class Odd"))


SQUAWKED = """
op.add_column("users", sa.Column("a", sa.Text()))
op.execute('''
    ALTER TABLE users
        ADD CONSTRAINT c CHECK (a <> '')
''')
op.create_index("i", "users", ["a"])
"""


def test_what_squawk_finds_leads_to_the_line_of_the_revision(folder: Folder) -> None:
    path = folder.write(SQUAWKED)
    found = {one.rule: one for one in folder.found(with_squawk=True)}
    assert found.keys() == {"constraint-missing-not-valid", "require-concurrent-index-creation"}
    assert found["constraint-missing-not-valid"].line == line_of(path, "op.execute(")
    assert found["require-concurrent-index-creation"].line == line_of(path, "op.create_index")
    assert found["require-concurrent-index-creation"].blocks.endswith("until the index is built (SHARE).")
    folder.write(
        SQUAWKED,
        comment="# dataarch: allow constraint-missing-not-valid: no rows\n"
        "# dataarch: allow require-concurrent-index-creation: no rows",
    )
    assert folder.found(with_squawk=True) == []


def test_squawk_says_nothing_of_what_is_done_gently(folder: Folder) -> None:
    folder.write(
        """
        op.execute("CREATE TABLE new (tenant_id uuid, id uuid, note text, PRIMARY KEY (tenant_id, id))")
        op.create_index("ix_new", "new", ["note"])
        op.enable_tenant_isolation("new")
        """
    )
    assert folder.found(with_squawk=True) == []
    folder.write(
        """
        with op.get_context().autocommit_block():
            op.create_index("i", "users", ["id"], postgresql_concurrently=True, if_not_exists=True)
        op.create_partitioned_index("j", "orders", ["note"])
        """
    )
    assert folder.found(with_squawk=True) == []


def test_without_squawk_it_says_what_to_install(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(DependencyMissing, match=r"dataarch\[lint\]"):
        folder.found(with_squawk=True)


def test_a_revision_that_is_not_there_is_refused(folder: Folder) -> None:
    with pytest.raises(ConfigurationError, match="There is no revision '0099'"):
        folder.found(only=("0099",))


def test_the_projects_own_revisions_and_models_pass_or_have_reasons() -> None:
    assert findings(Project(revisions(Settings()), Base)) == []


PAGE = " ".join((ROOT / "docs" / "reference" / "lint.md").read_text().split())


@pytest.mark.parametrize("rule", [*RULES, NOT_RENDERED, EXCEPTION], ids=lambda rule: str(rule.name))
def test_each_rule_has_its_section_on_the_page_in_the_same_words(rule: Rule) -> None:
    assert f"## {rule.name} {rule.blocks} {rule.why}" in PAGE
    if rule.name != "citus":
        assert " ".join(rule.instead.split()) in PAGE
