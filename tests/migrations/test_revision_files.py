"""Each revision has one purpose, and says which; the revisions are one chain."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
from alembic.script import ScriptDirectory

from dataarch.database.settings import Settings
from fixtures.alembic_runs import run
from fixtures.databases import ROOT, alembic_config

pytestmark = pytest.mark.migration

VERSIONS = sorted((ROOT / "alembic" / "versions").glob("*.py"))
NAME = re.compile(r"(?P<id>\d{4})_(?P<phase>expand|backfill|contract)_[a-z0-9]+(_[a-z0-9]+)*\.py")
ROWS = re.compile(r"\b(UPDATE(?!\s+ON\b)|DELETE FROM|INSERT INTO)\s+(?:public\.)?[a-z_]+\b(?!\s*\()", re.IGNORECASE)


def each_revision() -> pytest.MarkDecorator:
    return pytest.mark.parametrize("file", VERSIONS, ids=lambda file: file.stem)


@each_revision()
def test_m31_a_revision_names_its_number_its_phase_and_its_one_purpose(file: Path) -> None:
    named = NAME.fullmatch(file.name)
    assert named, file.name
    tree = ast.parse(file.read_text())
    docstring = ast.get_docstring(tree) or ""
    assert docstring.splitlines()[0].endswith(".")
    assert f"Revision ID: {named['id']}" in docstring
    assert re.search(rf"Revises: ({int(named['id']) - 1:04d}|none)$", docstring, re.MULTILINE)


@each_revision()
def test_m27_a_revision_defines_how_to_go_up_and_how_to_go_down(file: Path) -> None:
    functions = {node.name: node for node in ast.parse(file.read_text()).body if isinstance(node, ast.FunctionDef)}
    for name in ("upgrade", "downgrade"):
        assert not all(isinstance(step, ast.Pass | ast.Raise) for step in functions[name].body), name


@each_revision()
def test_m31_a_revision_of_rows_is_apart_from_revisions_of_tables(file: Path) -> None:
    text = file.read_text()
    if "_backfill_" in file.name:
        assert not re.search(r"\b(CREATE|ALTER|DROP)\s+(TABLE|INDEX|FUNCTION|POLICY)\b", text)
    else:
        tree = ast.parse(text)
        upgrade = next(node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "upgrade")
        assert not ROWS.search(ast.unparse(upgrade))


@each_revision()
def test_a_revision_is_frozen_and_asks_no_model_what_it_is_now(file: Path) -> None:
    imported = {
        node.module
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("dataarch")
    }
    assert imported <= {"dataarch.rollout.operations", "dataarch.rollout.set_aside"}


def test_the_revisions_are_one_chain_in_the_order_of_their_numbers() -> None:
    script = ScriptDirectory.from_config(alembic_config(Settings()))
    chain = list(script.walk_revisions())[::-1]
    numbers = [f"{number:04d}" for number in range(1, len(VERSIONS) + 1)]
    assert [revision.revision for revision in chain] == numbers
    assert [revision.down_revision for revision in chain] == [None, *numbers[:-1]]
    assert [file.name[:4] for file in VERSIONS] == numbers


def test_alembic_knows_one_head() -> None:
    assert run(None, "heads").split() == [VERSIONS[-1].name[:4], "(head)"]


def test_the_folder_of_the_revisions_does_not_shadow_the_library_alembic() -> None:
    assert not list((ROOT / "alembic").rglob("__init__.py"))
