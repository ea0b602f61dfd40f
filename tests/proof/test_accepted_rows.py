"""Rows that must be accepted are, by Python's way in and by that of raw SQL."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, Table, Uuid, insert, select
from sqlalchemy.orm import Session

from dataarch.database.unit_of_work import Database
from dataarch.models import Base, Inventory, InventoryMovement
from dataarch.models.base import new_id
from dataarch.proof import Judge, Placed, Row, World, ledgers, place, rows, stored

pytestmark = pytest.mark.integrity

IN_LEDGER = {"inventory", "inventory_movements"}
TABLES = [table for table in Base.metadata.sorted_tables if table.name not in IN_LEDGER]


@pytest.fixture(scope="module")
def judging(shared_db: Database) -> Iterator[Connection]:
    """A connection of the owner, which judges rows."""
    with shared_db.owner() as owner:
        yield owner.connection()


def tenant_of(placed: Placed) -> UUID:
    owner = placed.row["id" if placed.table.name == "tenants" else "tenant_id"]
    assert isinstance(owner, UUID)
    return owner


def with_ids(table: Table, row: Row) -> Row:
    """Give the ids that the strategy left to the server, so that the row can be found again."""
    return {**{c.name: new_id() for c in table.primary_key if isinstance(c.type, Uuid)}, **row}


def read_back(session: Session, table: Table, row: Row) -> Row:
    keys = [column for column in table.primary_key if column.name in row]
    found = session.execute(select(table).where(*(column == row[column.name] for column in keys))).one()._mapping
    return {name: found[name] for name in row}


def in_utc(row: Row) -> Row:
    """Python finds no two instants equal in different zones where one of them is in the hour that a clock skips."""
    return {name: value.astimezone(UTC) if isinstance(value, datetime) else value for name, value in row.items()}


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
@given(data=st.data())
def test_a_valid_row_is_accepted_and_comes_back_equal(
    shared_db: Database, judging: Connection, table: Table, data: st.DataObject
) -> None:
    judge = Judge(judging)
    row = with_ids(table, data.draw(rows(table, judge)))
    placed = Placed(table, row)
    with shared_db.tenant(tenant_of(placed)) as session:
        for each in World(judge).parents(placed):
            place(session, each)
        session.execute(insert(table), [dict(row)])
        assert read_back(session, table, row) == in_utc(row)
        session.rollback()


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
@given(data=st.data())
def test_the_same_rows_are_accepted_from_those_who_go_around_the_types(
    shared_db: Database, judging: Connection, table: Table, data: st.DataObject
) -> None:
    judge = Judge(judging)
    row = {name: value for name, value in with_ids(table, data.draw(rows(table, judge))).items() if value is not None}
    placed = Placed(table, stored(table, row))
    with shared_db.tenant(tenant_of(placed)) as session:
        for each in World(judge).parents(placed):
            place(session, each)
        place(session, placed)
        assert read_back(session, table, row) == in_utc(row)
        session.rollback()


@pytest.mark.parametrize("table", [Base.metadata.tables[name] for name in sorted(IN_LEDGER)], ids=lambda t: t.name)
@settings(max_examples=25)
@given(data=st.data())
def test_no_check_refuses_a_valid_row_of_the_ledger(
    shared_db: Database, judging: Connection, table: Table, data: st.DataObject
) -> None:
    judge = Judge(judging)
    row = with_ids(table, data.draw(rows(table, judge)))
    placed = Placed(table, stored(table, row))
    with shared_db.tenant(tenant_of(placed)) as session:
        for each in World(judge).parents(placed):
            place(session, each)
        session.execute(insert(table), [dict(row)])
        session.rollback()


@given(changes=ledgers())
def test_a_ledger_that_adds_up_is_committed(shared_db: Database, judging: Connection, changes: list[int]) -> None:
    placed = World(Judge(judging)).ledger(changes)
    tenant_id = tenant_of(placed[0])
    with shared_db.owner() as owner:
        owner.execute(Base.metadata.tables["tenants"].delete())
    with shared_db.tenant(tenant_id) as session:
        for each in placed:
            place(session, each)
    with shared_db.tenant(tenant_id) as session:
        assert session.scalars(select(Inventory.quantity)).one() == sum(changes)
        assert session.scalars(select(InventoryMovement.change).order_by("sequence")).all() == changes


def test_a_row_whose_sum_is_beyond_its_type_is_refused_and_the_next_one_is_judged(judging: Connection) -> None:
    judge, runs = Judge(judging), Base.metadata.tables["pipeline_runs"]
    counts = {"updated": 0, "unchanged": 0, "rejected": 0, "removed": 0}
    beyond = {**counts, "read": 2**63 - 1, "loaded": 2**63 - 1, "updated": 1}
    good = {**counts, "read": 2, "loaded": 2}
    found = judge.broken(runs, [beyond, good])
    assert [name for name in ("ck_pipeline_runs_adds_up", "ck_pipeline_runs_not_negative") if name in found[0]] == [
        "ck_pipeline_runs_adds_up"
    ]
    assert found[1] == frozenset()
