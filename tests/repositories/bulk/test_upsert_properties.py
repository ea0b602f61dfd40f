"""Whatever is given: every row is accounted for, and the table is what writing row by row would have made of it."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import delete, select

from dataarch.database.unit_of_work import Database
from dataarch.models import Product
from dataarch.repositories.bulk.one_row import upsert
from dataarch.repositories.bulk.prepared import prepare
from dataarch.repositories.bulk.upsert import insert_many, upsert_many
from fixtures.tenants import Inhabited, inhabit

Row = dict[str, Any]

ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "external_id": st.sampled_from(["a", "b", "c", "d", "T1", None]),
            "slug": st.sampled_from(["s1", "s2", "s3", "s4", "tea-pot", "NO"]),
            "name": st.sampled_from(["One", "Two", ""]),
            "price": st.sampled_from([Decimal(1), Decimal("2.5"), Decimal(-1)]),
            "currency": st.just("GBP"),
        }
    ),
    max_size=12,
)


def valid(row: Row) -> bool:
    return row["external_id"] is not None and row["slug"] != "NO" and bool(row["name"]) and row["price"] >= 0


def last_of_their_keys(rows: list[tuple[int, Row]]) -> dict[str, tuple[int, Row]]:
    return {row["external_id"]: (at, row) for at, row in rows}


def expected(rows: list[Row], before: Mapping[str, str]) -> dict[str, tuple[int, Row]]:
    """What is written, by key, in plain words: of a key the last row, of a slug the first; none that is taken."""
    taken = {slug: key for key, slug in before.items()}
    good = [
        (at, row)
        for at, row in enumerate(rows)
        if valid(row) and taken.get(row["slug"], row["external_id"]) == row["external_id"]
    ]
    while True:
        written = last_of_their_keys(good)
        first: dict[str, int] = {}
        for at, row in sorted(written.values(), key=lambda one: one[0]):
            first.setdefault(row["slug"], at)
        lost = {at for at, row in written.values() if first[row["slug"]] != at}
        if not lost:
            return written
        good = [(at, row) for at, row in good if at not in lost]


def first_come(rows: list[Row]) -> dict[str, Row]:
    """What is added: the rows that want nothing that an earlier one wants."""
    written: dict[str, Row] = {}
    wanted: set[tuple[str, str]] = set()
    for row in rows:
        wishes = {("external_id", row["external_id"]), ("slug", row["slug"])}
        if wanted.isdisjoint(wishes):
            written[row["external_id"]] = row
            wanted |= wishes
    return written


def table(db: Database, tenant: Inhabited) -> dict[str | None, tuple[Any, ...]]:
    with db.tenant(tenant.id) as session:
        found = session.scalars(select(Product))
        return {one.external_id: (one.slug, one.name, one.price) for one in found}


@given(first=ROWS, second=ROWS, batch=st.sampled_from([3, 100, None]))
def test_any_mix_adds_up_and_gives_the_table_that_the_words_say(
    shared_db: Database, first: list[Row], second: list[Row], batch: int | None
) -> None:
    tenant = inhabit(shared_db)
    for rows in (first, second):
        before = table(shared_db, tenant)
        size = batch or 100
        prepared = rows if batch else prepare(Product, rows, key="external_id", tenant_id=tenant.id)
        with shared_db.tenant(tenant.id) as session:
            result = upsert_many(session, Product, prepared, key="external_id", batch=size)
        assert result.read == len(rows)
        assert [one.position for one in result.refused] == sorted({one.position for one in result.refused})
        assert all(one.row is rows[one.position] for one in result.refused)
        after = dict(before)
        for start in range(0, len(rows), size):
            slugs = {str(key): str(values[0]) for key, values in after.items()}
            for key, (_at, row) in expected(rows[start : start + size], slugs).items():
                after[key] = (row["slug"], row["name"], row["price"])
        assert table(shared_db, tenant) == after
        assert result.inserted == len(after) - len(before)


@given(rows=ROWS)
def test_any_mix_is_added_first_come_first_served(shared_db: Database, rows: list[Row]) -> None:
    tenant = inhabit(shared_db)
    with shared_db.tenant(tenant.id) as session:
        session.execute(delete(Product))
        result = insert_many(session, Product, [row for row in rows if row["external_id"] is not None])
    found = table(shared_db, tenant)
    assert result.inserted == len(found)
    good = [row for row in rows if row["external_id"] is not None and valid(row)]
    # each value that a good row wants has gone to somebody: to that row, or to one that came before
    assert set(found) == first_come(good).keys()


@given(row=st.fixed_dictionaries({"slug": st.sampled_from(["s1", "tea-pot"]), "price": st.sampled_from([Decimal(1)])}))
def test_one_row_is_written_as_many_would_be(shared_db: Database, row: Row) -> None:
    one, many = inhabit(shared_db), inhabit(shared_db)
    whole = {"external_id": "T1", "name": "N", "currency": "EUR", **row}
    with shared_db.tenant(one.id) as session:
        upsert(session, Product, whole, key="external_id")
    with shared_db.tenant(many.id) as session:
        upsert_many(session, Product, [whole], key="external_id")
    assert table(shared_db, one) == table(shared_db, many)
