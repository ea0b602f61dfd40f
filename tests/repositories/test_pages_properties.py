"""Pages of any table in any order: forwards, backwards and there again, they are the sorted list."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import func, insert, text
from sqlalchemy.orm import Session

from dataarch.database.unit_of_work import Database
from dataarch.models.base import new_id
from dataarch.repositories.pages import Page, read_page
from repositories.things import Thing, mine, walk, walk_back

WORDS = ["", "a", "A", "ä", "Ä", "b", "B", "-a", "a-b", "ab", "_", "é", "z", "Z", "\U0001f600", "10", "9", "a'b\\"]
INSTANTS = [datetime(2026, 1, 1, 0, 0, 0, micro, UTC) for micro in (0, 1, 999_999)]

rows = st.lists(
    st.fixed_dictionaries(
        {
            "colour": st.sampled_from(WORDS),
            "size": st.integers(0, 2),
            "status": st.booleans(),
            "name": st.none() | st.sampled_from(WORDS),
            "number": st.none() | st.integers(0, 2),
            "price": st.none() | st.integers(-3, 3),
            "seen": st.none() | st.sampled_from(INSTANTS),
            "weight": st.none() | st.sampled_from([-1.5, 0.0, -0.0, float("inf"), float("nan"), 0.1]),
            "email": st.none() | st.sampled_from(["ADA@example.test", "no address", "ada@example.com"]),
        }
    ),
    max_size=40,
)

COLUMNS = ["id", "colour", "size", "status", "name", "number", "price", "seen", "weight", "email"]


@dataclass(frozen=True)
class Ordered:
    """One column of an order, as SQLAlchemy and as SQL."""

    column: str
    descending: bool
    nulls: str | None

    @property
    def clause(self) -> Any:
        column = func.lower(Thing.name) if self.column == "lower(name)" else getattr(Thing, self.column)
        directed = column.desc() if self.descending else column.asc()
        return directed if self.nulls is None else getattr(directed, f"nulls_{self.nulls.lower()}")()

    @property
    def sql(self) -> str:
        nulls = "" if self.nulls is None else f" NULLS {self.nulls}"
        return f"{self.column}{' DESC' if self.descending else ''}{nulls}"


orders = st.lists(
    st.builds(
        Ordered,
        st.sampled_from([*COLUMNS, "lower(name)"]),
        st.booleans(),
        st.sampled_from([None, None, "FIRST", "LAST"]),
    ),
    max_size=4,
    unique_by=lambda one: one.column,
)


def put(session: Session, given_rows: list[dict[str, Any]]) -> None:
    """Write rows as somebody does who goes around the models' types."""
    tenant = session.info["tenant"]
    names = ["tenant_id", "id", *COLUMNS[1:]]
    marks = ", ".join(f"%({name})s" for name in names)
    if given_rows:
        session.connection().exec_driver_sql(
            f"INSERT INTO things ({', '.join(names)}) VALUES ({marks})",
            [{"tenant_id": tenant, "id": number * 7 % 101, **row} for number, row in enumerate(given_rows)],
        )


def sorted_ids(session: Session, order: list[Ordered]) -> list[int]:
    """Return what PostgreSQL says."""
    last = order[-1].descending if order else False
    clauses = [one.sql for one in order] + [f"id{' DESC' if last else ''}"]
    return list(session.scalars(text(f"SELECT id FROM things ORDER BY {', '.join(clauses)}")))


def ids(pages: list[Page[Any]]) -> list[int]:
    return [item.id for page in pages for item in page]


@settings(max_examples=40)
@given(rows, orders, st.integers(1, 9))
def test_pages_are_the_sorted_list_forwards_and_backwards(
    things: Database, given_rows: list[dict[str, Any]], order: list[Ordered], size: int
) -> None:
    with things.tenant(new_id()) as session:
        session.info["tenant"] = session.tenant_id
        put(session, given_rows)
        expected = sorted_ids(session, order)
        asked: dict[str, Any] = {"order": [one.clause for one in order], "size": size}
        columns = mine(Thing.name, Thing.id)
        pages = walk(session, columns, **asked)
        assert ids(pages) == expected
        assert all(len(page) == size for page in pages[:-1])
        assert pages[0].previous is None
        if pages[-1].previous is not None:
            before = walk_back(session, columns, pages[-1].previous, **asked)
            assert ids(before[::-1]) == expected[: -len(pages[-1])]
        for page, following in pairwise(pages):
            assert page.next is not None
            assert following.previous is not None
            back = read_page(session, columns, cursor=following.previous, **asked)
            # the way on from a page is the same however one came to it
            assert (back.items, back.next, back.previous) == (page.items, page.next, page.previous)
        session.rollback()


@given(rows.filter(bool), orders, st.integers(1, 4), st.data())
def test_no_row_that_stays_is_missed_or_seen_twice_while_others_come_and_go(
    things: Database, given_rows: list[dict[str, Any]], order: list[Ordered], size: int, data: st.DataObject
) -> None:
    with things.tenant(new_id()) as session:
        session.info["tenant"] = session.tenant_id
        put(session, given_rows)
        going = data.draw(st.sets(st.sampled_from(sorted_ids(session, order))), "going")
        asked: dict[str, Any] = {"order": [one.clause for one in order], "size": size}
        seen: list[int] = []
        cursor: str | None = None
        coming = iter(data.draw(rows, "coming"))
        number = 1000
        while True:
            page = read_page(session, mine(Thing), cursor=cursor, **asked)
            seen += [thing.id for thing in page]
            if page.next is None:
                break
            cursor = page.next
            if going:
                session.connection().exec_driver_sql("DELETE FROM things WHERE id = %s", (going.pop(),))
                session.expire_all()
            if (row := next(coming, None)) is not None:
                number += 1
                session.execute(insert(Thing), [{"tenant_id": session.tenant_id, **row, "id": number, "email": None}])
        stayed = sorted_ids(session, order)
        staying = [one for one in stayed if one < 1000]
        # all that were there before the first page and after the last, once each, in their order
        assert [one for one in seen if one in staying] == staying
        assert len(seen) == len(set(seen))
        session.rollback()
