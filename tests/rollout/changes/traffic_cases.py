"""The changes that go there and back under traffic, each with both versions of the application: what each knows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, ColumnElement, Text, cast
from sqlalchemy.orm import Mapped, mapped_column, registry
from sqlalchemy.types import TypeDecorator

from dataarch.rollout import changes
from dataarch.rollout.drafting.draft import Change
from rollout.changes.change_support import index_of_log
from rollout.changes.traffic_books import SOMETHING, Fact, Facts, Form

__all__ = ["CASES", "GROUND", "Case", "facts_of"]

GROUND = {
    "customers": "CREATE TABLE customers (id bigint PRIMARY KEY, name text NOT NULL);"
    "INSERT INTO customers SELECT n, 'name ' || n FROM generate_series(1, {rows}) AS n",
    "orders": "CREATE TABLE orders (id bigint PRIMARY KEY, customer_id bigint NOT NULL, amount integer NOT NULL,"
    " note varchar(40) NOT NULL);"
    "INSERT INTO orders SELECT n, n % 20 + 1, n, 'note ' || n FROM generate_series(1, {rows}) AS n",
    "log": "CREATE TABLE log (id bigint, at timestamptz, customer_id bigint NOT NULL, amount integer NOT NULL,"
    " note text, PRIMARY KEY (id, at)) PARTITION BY RANGE (at);"
    "CREATE TABLE log_min PARTITION OF log FOR VALUES FROM (MINVALUE) TO ('2026-01-01 00:00+00');"
    "CREATE TABLE log_2026 PARTITION OF log FOR VALUES FROM ('2026-01-01 00:00+00') TO (MAXVALUE);"
    "INSERT INTO log SELECT n, timestamptz '2025-12-25 00:00+00' + n % 300 * interval '1 hour', n % 20 + 1, n,"
    " 'note ' || n FROM generate_series(1, {rows}) AS n",
    "visits": "CREATE TABLE visits (id bigint, at timestamptz, amount integer NOT NULL, note text,"
    " PRIMARY KEY (id, at));"
    "INSERT INTO visits SELECT n, timestamptz '2025-12-25 00:00+00' + n % 300 * interval '1 hour', n, 'note ' || n"
    " FROM generate_series(1, {rows}) AS n",
    "people": "CREATE TABLE people (id bigint PRIMARY KEY, name text NOT NULL, seen integer NOT NULL);"
    "INSERT INTO people SELECT n, 'First' || n || ' Last' || n, n FROM generate_series(1, {rows}) AS n",
    "places": "CREATE TABLE places (id bigint PRIMARY KEY, street text NOT NULL, city text NOT NULL,"
    " seen integer NOT NULL);"
    "INSERT INTO places SELECT n, 'Street ' || n, 'City ' || n, n FROM generate_series(1, {rows}) AS n",
}
"""How each table is made and filled."""


def words(what: str) -> Fact:
    """Return a fact that is text; the rows that were there have their number in it."""
    return Fact(lambda number: f"{what} {number}", lambda chance: f"{what} by {chance.randrange(10**9)}")


NUMBER = Fact(lambda number: number, lambda chance: chance.randrange(10**6))
CUSTOMER = Fact(lambda number: number % 20 + 1, lambda chance: chance.randint(1, 20))
NAME = Fact(lambda number: f"First{number} Last{number}", lambda chance: f"F{chance.random()} L{chance.random()}")

ROW = {"customer_id": CUSTOMER, "amount": NUMBER, "note": words("note")}
FACTS = {
    "customers": {"name": words("name")},
    "orders": ROW,
    "log": ROW,
    "visits": {"amount": NUMBER, "note": words("note")},
    "people": {"name": NAME, "seen": NUMBER},
    "places": {"street": words("Street"), "city": words("City"), "seen": NUMBER},
}


@dataclass(frozen=True)
class Case:
    """A change, and what both versions of the application know.

    Attributes:
        change: the change.
        previous: the version before it: a form for each table that it knows.
        following: the version after it.
        before: statements for the tables as they are before the change.
        also: facts of the changed table that one of the versions alone knows, or that are others than in most cases.
        lost: facts that are lost with the contract.
        waits: a step in which everybody waits for as long as it takes, as the revision's file says.
    """

    change: Change
    previous: tuple[Form, ...]
    following: tuple[Form, ...]
    before: str = ""
    also: Mapping[str, Fact] = field(default_factory=dict)
    lost: tuple[str, ...] = ()
    waits: str = ""

    @property
    def table(self) -> str:
        """The table that changes."""
        return str(self.change.table)  # type: ignore[attr-defined]

    @property
    def tables(self) -> list[str]:
        """The tables that a version knows; those that are referred to come first."""
        return [name for name in GROUND if name in {form.table for form in (*self.previous, *self.following)}]


def facts_of(case: Case, table: str) -> Mapping[str, Fact]:
    """Return what the rows of a table say."""
    return {**FACTS[table], **(case.also if table == case.table else {})}


class Customer:
    """A table that others refer to."""

    __tablename__ = "customers"
    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    name: Mapped[str]


class Order:
    """A table as most are."""

    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    customer_id: Mapped[int] = mapped_column(BigInteger)
    amount: Mapped[int]
    note: Mapped[str | None]


class Log:
    """A partitioned table."""

    __tablename__ = "log"
    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    at: Mapped[datetime] = mapped_column(primary_key=True)
    customer_id: Mapped[int] = mapped_column(BigInteger)
    amount: Mapped[int]
    note: Mapped[str | None]


class Visit:
    """A table that is to be partitioned."""

    __tablename__ = "visits"
    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    at: Mapped[datetime] = mapped_column(primary_key=True)
    amount: Mapped[int]
    note: Mapped[str | None]


class Person:
    """A table whose names are to be two columns."""

    __tablename__ = "people"
    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    seen: Mapped[int]


class Place:
    """A table whose addresses are to be one column."""

    __tablename__ = "places"
    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    seen: Mapped[int]


class Wide(TypeDecorator[int]):
    """A number that is read as bigint, whatever the column is: so a prepared statement's answer keeps its type."""

    impl = BigInteger
    cache_ok = True
    sql = "{}::bigint"

    def column_expression(self, column: ColumnElement[Any]) -> ColumnElement[Any]:
        """Return what stands in a SELECT."""
        return cast(column, BigInteger)


class Words(TypeDecorator[str]):
    """The same for text."""

    impl = Text
    cache_ok = True
    sql = "{}::text"

    def column_expression(self, column: ColumnElement[Any]) -> ColumnElement[Any]:
        """Return what stands in a SELECT."""
        return cast(column, Text)


@registry().mapped
class PlainVisit(Visit):
    """It, as it is before and after."""


@registry().mapped
class PlainCustomer(Customer):
    """As it is."""


@registry().mapped
class PlainOrder(Order):
    """As it is."""


@registry().mapped
class PlainLog(Log):
    """As it is."""


@registry().mapped
class RemarkedOrder(Order):
    """After rename-column."""

    note: Mapped[str] = mapped_column("remark")


@registry().mapped
class RemarkedLog(Log):
    """After rename-column."""

    note: Mapped[str | None] = mapped_column("remark")


@registry().mapped
class WideOrder(Order):
    """Of change-type, on both of its sides."""

    amount: Mapped[int] = mapped_column(Wide)


@registry().mapped
class WordyOrder(Order):
    """Of change-type at once, on both of its sides."""

    note: Mapped[str] = mapped_column(Words)


@registry().mapped
class StatedOrder(Order):
    """With one column more."""

    state: Mapped[str | None]


@registry().mapped
class StatedLog(Log):
    """With one column more."""

    state: Mapped[str]


@registry().mapped
class TokenOrder(Order):
    """With one column more, which the server fills."""

    token: Mapped[UUID]


@registry().mapped
class NamedPerson(Person):
    """Before split-columns."""

    name: Mapped[str]


@registry().mapped
class SplitPerson(Person):
    """After split-columns."""

    first_name: Mapped[str]
    last_name: Mapped[str]


@registry().mapped
class SplitPlace(Place):
    """Before merge-columns."""

    street: Mapped[str]
    city: Mapped[str]


@registry().mapped
class MergedPlace(Place):
    """After merge-columns."""

    address: Mapped[str]


def split_name(facts: Facts) -> Facts:
    """Return a person with two names."""
    first, last = facts["name"].split(" ")
    return {**facts, "first_name": first, "last_name": last}


def merged_address(facts: Facts) -> Facts:
    """Return a place with one address."""
    return {**facts, "address": f"{facts['street']}, {facts['city']}"}


ORDER, LOG, CUSTOMERS = Form(PlainOrder), Form(PlainLog), Form(PlainCustomer, deletes=False)

STATE = Fact(lambda _: "new", lambda chance: f"state {chance.randrange(10**9)}", otherwise="new")
TOKEN = Fact(lambda _: SOMETHING, lambda chance: UUID(int=chance.getrandbits(128)), otherwise=SOMETHING)
NOTED = Fact(lambda number: f"note {number}" if number % 10 else "none", words("note").fresh)


def alike(change: Change, *forms: Form, before: str = "") -> Case:
    """Return the case of a change that neither version has to know of."""
    return Case(change, forms, forms, before)


CASES = {
    "add-column": Case(
        changes.AddColumn("orders", "state", "text", default="'new'", not_null=True),
        (ORDER,),
        (Form(StatedOrder),),
        also={"state": STATE},
    ),
    "add-column, partitioned": Case(
        changes.AddColumn("log", "state", "text", default="'new'"),
        (LOG,),
        (Form(StatedLog),),
        also={"state": STATE},
    ),
    "add-column, filled": Case(
        changes.AddColumn("orders", "token", "uuid", default="gen_random_uuid()", not_null=True),
        (ORDER,),
        (Form(TokenOrder, unfilled=("token",)),),
        also={"token": TOKEN},
    ),
    "rename-column": Case(
        changes.RenameColumn("orders", "note", "remark"),
        (ORDER,),
        (Form(RemarkedOrder, unfilled=("note",)),),
        "CREATE INDEX ix_orders_note ON orders (note); ALTER TABLE orders ADD CONSTRAINT uq UNIQUE (id, note),"
        " ADD CONSTRAINT ck_orders_note CHECK (note IS NOT NULL AND note <> '')",
    ),
    "rename-column, partitioned": Case(
        changes.RenameColumn("log", "note", "remark"),
        (LOG,),
        (Form(RemarkedLog, unfilled=("note",)),),
        index_of_log("note"),
    ),
    "change-type": Case(
        changes.ChangeType("orders", "amount", "bigint"),
        (ORDER,),
        (Form(WideOrder),),
        "ALTER TABLE orders ALTER amount SET DEFAULT 1; CREATE INDEX ix_orders_amount ON orders (amount)",
    ),
    "change-type, at once": Case(
        changes.ChangeType("orders", "note", "text"),
        (Form(WordyOrder),),
        (Form(WordyOrder),),
        waits="expand_type_orders_note, down",
    ),
    "split-columns": Case(
        changes.SplitColumns(
            "people",
            "name",
            into=("first_name=split_part(name, ' ', 1)", "last_name=split_part(name, ' ', 2)"),
            back="first_name || ' ' || last_name",
            not_null=True,
        ),
        (Form(NamedPerson),),
        (Form(SplitPerson, split_name, unfilled=("first_name", "last_name")),),
        "CREATE INDEX ix_people_name ON people (name)",
    ),
    "merge-columns": Case(
        changes.MergeColumns(
            "places",
            ("street", "city"),
            into="address=street || ', ' || city",
            back=("street=split_part(address, ', ', 1)", "city=split_part(address, ', ', 2)"),
            not_null=True,
        ),
        (Form(SplitPlace),),
        (Form(MergedPlace, merged_address, unfilled=("address",)),),
    ),
    "set-not-null": Case(
        changes.SetNotNull("orders", "note", fill="'none'"),
        (Form(PlainOrder, unfilled=("note",)),),
        (Form(PlainOrder, unfilled=("note",)),),
        "ALTER TABLE orders ALTER note DROP NOT NULL; UPDATE orders SET note = NULL WHERE id % 10 = 0",
        also={"note": NOTED},
    ),
    "set-not-null, partitioned": alike(changes.SetNotNull("log", "note"), LOG),
    "add-check": alike(changes.AddCheck("orders", "ck", "amount >= 0"), ORDER),
    "add-foreign-key": alike(changes.AddForeignKey("orders", "customer_id", "customers"), CUSTOMERS, ORDER),
    "add-foreign-key, partitioned": alike(changes.AddForeignKey("log", "customer_id", "customers"), CUSTOMERS, LOG),
    "add-unique": alike(changes.AddUnique("orders", ("id", "note")), ORDER),
    "add-index": alike(changes.AddIndex("orders", ("note", "amount")), ORDER),
    "add-index, partitioned": alike(changes.AddIndex("log", ("note", "amount")), LOG),
    "drop-index": alike(changes.DropIndex("orders", "by_note"), ORDER, before="CREATE INDEX by_note ON orders (note)"),
    "drop-index, partitioned": alike(changes.DropIndex("log", "log_x"), LOG, before=index_of_log("note")),
    "drop-column": Case(
        changes.DropColumn("orders", "state"),
        (Form(StatedOrder),),
        (ORDER,),
        "ALTER TABLE orders ADD state text; UPDATE orders SET state = 'new'; CREATE INDEX by_state ON orders (state)",
        also={"state": replace(STATE, otherwise=None)},
        lost=("state",),
    ),
    "drop-table": Case(changes.DropTable("orders"), (CUSTOMERS, ORDER), (CUSTOMERS,)),
    "partition-table": alike(changes.PartitionTable("visits", "at"), Form(PlainVisit)),
}
