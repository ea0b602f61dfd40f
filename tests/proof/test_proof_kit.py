"""The proof kit itself: it says which constraint it cannot prove, and who else would refuse a row."""

from __future__ import annotations

from uuid import UUID

import pytest
from sqlalchemy import BigInteger, CheckConstraint, Column, Engine, MetaData, Numeric, Table, UniqueConstraint, text

from dataarch.database.unit_of_work import Database
from dataarch.models.types import Text
from dataarch.proof import Judge, Violation, World, constraints_in_database, refusals, violations_of

pytestmark = pytest.mark.schema


def shelves(*more: CheckConstraint | UniqueConstraint) -> Table:
    number = Column("number", BigInteger(), nullable=False)
    return Table("shelves", MetaData(), number, Column("label", Text(10)), *more)


def found(db: Database, table: Table) -> dict[str, Violation]:
    with db.owner() as owner:
        table.create(owner.connection())
        return {each.constraint: each for each in violations_of(table, World(Judge(owner.connection())))}


def engine_of(db: Database) -> Engine:
    with db.owner() as owner:
        engine = owner.get_bind()
        assert isinstance(engine, Engine)
        return engine


def test_a_constraint_that_cannot_be_broken_alone_is_named(db: Database) -> None:
    implied = CheckConstraint("number > -5", name="implied")
    with pytest.raises(LookupError, match="breaks implied and nothing else"):
        found(db, shelves(implied, CheckConstraint("number >= 0", name="stronger")))


def test_a_constraint_that_is_only_in_the_database_stays_without_proof(db: Database) -> None:
    proven = found(db, shelves(CheckConstraint("number >= 0", name="not_negative")))
    with db.owner() as owner:
        owner.execute(text("ALTER TABLE shelves ADD CONSTRAINT forgotten CHECK (label <> 'x')"))
        assert constraints_in_database(owner.connection(), shelves()) - set(proven) == {"forgotten"}


def test_each_constraint_that_would_refuse_a_row_is_told(db: Database) -> None:
    one = UniqueConstraint("number", name="one")
    violation = found(db, shelves(one))["one"]
    with db.owner() as owner:
        owner.execute(text("ALTER TABLE shelves ADD CONSTRAINT same UNIQUE (number)"))
    assert refusals(engine_of(db), violation) == [("23505", "one"), ("23505", "same")]


def test_a_constraint_that_is_gone_refuses_nothing(db: Database) -> None:
    violation = found(db, shelves(CheckConstraint("number >= 0", name="not_negative")))["not_negative"]
    with db.owner() as owner:
        owner.execute(text("ALTER TABLE shelves DROP CONSTRAINT not_negative"))
    assert refusals(engine_of(db), violation) == []


def test_a_column_of_an_unknown_type_is_named(db: Database) -> None:
    table = Table("odd", MetaData(), Column("weight", Numeric(), nullable=False))
    with pytest.raises(LookupError, match=r"odd\.weight: no values are known for Numeric"):
        found(db, table)


def test_each_row_of_a_world_is_unlike_those_before(db: Database) -> None:
    table = shelves()
    with db.owner() as owner:
        table.create(owner.connection())
        world = World(Judge(owner.connection()))
        assert world.plain(table) != world.plain(table)


def test_the_last_movement_of_a_made_ledger_is_what_stock_refers_to(db: Database) -> None:
    with db.owner() as owner:
        *_, stock, first, last = World(Judge(owner.connection())).ledger([3, -1])
    assert (stock.row["quantity"], stock.row["last_sequence"]) == (2, 2)
    assert (first.row["next_sequence"], last.row["next_sequence"]) == (2, 0)
    assert isinstance(last.row["id"], UUID)
