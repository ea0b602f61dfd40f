"""A column that takes another's place sorts and compares as that one did, and forms are compared to the byte."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from dataarch.database.engine import owner_engine
from dataarch.errors import NotVerified
from dataarch.rollout.backfill import Options, run, verify
from dataarch.rollout.changes import ChangeType, DropColumn, MergeColumns, RenameColumn, SplitColumns
from dataarch.rollout.drafting.draft import Change
from fixtures.databases import new_database
from fixtures.servers import Servers
from rollout.changes.change_support import Project

pytestmark = pytest.mark.migration

COLLATION = """
SELECT collname FROM pg_attribute LEFT JOIN pg_collation ON pg_collation.oid = attcollation
WHERE attrelid = 'orders'::regclass AND attname = '{}'
"""


def collation(project: Project, column: str) -> str:
    [(name,)] = project.rows(COLLATION.format(column))
    return str(name)


def collate(project: Project, collation: str) -> None:
    project.sql(f'ALTER TABLE orders ALTER note TYPE text COLLATE "{collation}"')


def test_a_renamed_column_keeps_its_collation_there_and_back(project: Project) -> None:
    collate(project, "C")
    before = project.schema()
    project.write(RenameColumn("orders", "note", "remark"))
    project.up("0003")
    project.fill()
    project.up()
    assert collation(project, "remark") == "C"
    project.all_the_way_down()
    assert project.schema() == before
    assert collation(project, "note") == "C"


def test_a_dropped_column_comes_back_with_its_collation(project: Project) -> None:
    collate(project, "POSIX")
    project.write(DropColumn("orders", "note"))
    project.up()
    project.all_the_way_down()
    assert collation(project, "note") == "POSIX"


@pytest.mark.parametrize(
    ("kind", "wanted"),
    [("varchar(40)", "C"), ('varchar(40) COLLATE "POSIX"', "POSIX"), ('varchar(40) COLLATE "default"', "default")],
)
def test_another_type_has_the_collation_that_is_written_or_else_the_one_there_was(
    project: Project, kind: str, wanted: str
) -> None:
    collate(project, "C")
    project.write(ChangeType("orders", "note", kind))
    project.up("0003")
    project.fill()
    project.up()
    assert collation(project, "note") == wanted
    project.all_the_way_down()
    assert collation(project, "note") == "C"


def test_a_type_without_equality_is_compared_as_text(project: Project) -> None:
    before = project.schema()
    project.write(ChangeType("orders", "note", "json", using="to_json(note)", back="note_new #>> '{}'"))
    project.up("0003")
    project.fill()
    project.up()
    assert project.rows("SELECT note::text FROM orders WHERE id = 7") == [('"note 7"',)]
    project.all_the_way_down()
    assert project.schema() == before


@pytest.fixture
def caseless(with_icu: Servers, tmp_path: Path) -> Iterator[Project]:
    """A project whose column note calls texts equal that differ in case."""
    with new_database(with_icu) as settings:
        project = Project(tmp_path, settings)
        project.sql("CREATE COLLATION caseless (provider = icu, locale = 'und-u-ks-level2', deterministic = false)")
        collate(project, "caseless")
        yield project


SPLIT = SplitColumns(
    "orders",
    "note",
    into=("word=split_part(note COLLATE \"C\", ' ', 1)", "number=split_part(note COLLATE \"C\", ' ', 2)"),
    back="word || ' ' || number",
)
MERGED = MergeColumns(
    "orders",
    ("note", "Mixed %Case"),
    into='whole=(note COLLATE "C") || \'|\' || ("Mixed %Case" COLLATE "C")',
    back=("note=split_part(whole, '|', 1)", "Mixed %Case=split_part(whole, '|', 2)"),
)


@pytest.mark.parametrize(
    ("change", "tamper"),
    [
        (SPLIT, "UPDATE orders SET word = upper(word) WHERE id = 7"),
        (MERGED, "UPDATE orders SET whole = upper(whole) WHERE id = 7"),
        (ChangeType("orders", "note", "varchar(40)"), "UPDATE orders SET note_new = upper(note_new) WHERE id = 7"),
    ],
    ids=["split", "merge", "type"],
)
def test_forms_that_differ_in_what_a_collation_overlooks_are_found_and_filled(
    caseless: Project, change: Change, tamper: str
) -> None:
    caseless.write(change)
    caseless.up("0003")
    (name,) = caseless.unverified()
    engine = owner_engine(caseless.settings)
    assert run(engine, name).changed == 300
    caseless.sql(f"ALTER TABLE orders DISABLE TRIGGER USER; {tamper}; ALTER TABLE orders ENABLE TRIGGER USER")
    assert [one["key"] for one in verify(engine, name).differences] == [["7"]]
    with pytest.raises(NotVerified):
        caseless.up()
    assert run(engine, name, Options(again=True)).changed == 1
    engine.dispose()
    caseless.backfill(name)
    caseless.up()
