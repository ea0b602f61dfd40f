"""What pages are, beside the sorted list: their ends, their kinds of items, and what they refuse."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from pydantic import SecretStr
from sqlalchemy import Integer, bindparam, func, insert, literal_column, outerjoin, select, text, union_all
from sqlalchemy.orm import Session, aliased, selectinload

from dataarch.clock import utcnow
from dataarch.database.settings import Settings
from dataarch.database.unit_of_work import AsyncDatabase, Database, TenantSession
from dataarch.errors import InvalidCursor, InvalidValue
from dataarch.models import Product, User, UserProfile
from dataarch.models.base import new_id
from dataarch.repositories.pages import LARGEST_PAGE, Page, read_page
from repositories.things import Part, Thing, statements, walk, walk_back

MANY = 12


def fill(session: TenantSession, many: int = MANY) -> None:
    rows = [
        {"tenant_id": session.tenant_id, "id": n, "colour": "red", "size": n % 3, "number": n % 4 or None}
        for n in range(many)
    ]
    session.execute(insert(Thing), rows)


@pytest.fixture
def session(things: Database) -> Iterator[TenantSession]:
    """A session of a tenant with twelve things."""
    with things.tenant(new_id()) as session:
        fill(session)
        yield session


def page_of(session: Session, statement: Any = None, **given: Any) -> Page[Any]:
    return read_page(session, select(Thing) if statement is None else statement, **{"size": 5, **given})


def ids(page: Page[Any]) -> list[int]:
    return [thing.id for thing in page]


# ── what is on a page ─────────────────────────────────────────────────────────────────────────────────────────────


def test_without_an_order_a_list_is_ordered_by_its_key(session: TenantSession) -> None:
    page = page_of(session)
    assert (ids(page), len(page), page.has_next, page.has_previous) == ([0, 1, 2, 3, 4], 5, True, False)
    last = page_of(session, cursor=page_of(session, cursor=page.next).next)
    assert (ids(last), last.has_next, last.has_previous) == ([10, 11], False, True)


def test_an_empty_list_has_one_empty_page(session: TenantSession) -> None:
    assert page_of(session, select(Thing).where(Thing.id < 0)) == Page((), None, None)


def test_a_list_that_fits_on_a_page_has_no_other(session: TenantSession) -> None:
    page = page_of(session, size=MANY)
    assert (len(page), page.next, page.previous) == (MANY, None, None)
    assert page_of(session, size=MANY - 1).has_next


def test_one_thing_selected_gives_things_and_several_give_rows(session: TenantSession) -> None:
    assert all(isinstance(thing, Thing) for thing in page_of(session, order=Thing.size.desc()))
    assert page_of(session, select(Thing.id)).items == (0, 1, 2, 3, 4)
    assert page_of(session, select(Thing.size), order=[Thing.size]).items == (0, 0, 0, 0, 1)
    rows = page_of(session, select(Thing.size.label("large"), Thing.colour), order=[Thing.number, Thing.size.desc()])
    assert (rows.items[0]._fields, tuple(rows.items[0]), rows.items[0].large) == (("large", "colour"), (2, "red"), 2)
    assert len(rows.items[0]) == 2


def test_a_table_an_alias_a_subquery_and_a_to_one_join_are_paged(session: TenantSession) -> None:
    session.execute(insert(Part), [{"tenant_id": session.tenant_id, "id": n + 100, "thing_id": n} for n in range(MANY)])
    table = Thing.__table__
    other: Any
    short: Any
    other, short = aliased(Thing), select(Thing).where(Thing.id >= 2).subquery()
    for statement, order, expected in (
        (select(table), [table.c.id.desc()], [11, 10, 9, 8, 7]),
        (select(table.alias("t")), [], [0, 1, 2, 3, 4]),
        (select(other), [other.size, other.id.desc()], [9, 6, 3, 0, 10]),
        (select(short), [short.c.id], [2, 3, 4, 5, 6]),
        (select(Thing, Part).join(Part, Part.thing_id == Thing.id), [Part.id.desc()], [11, 10, 9, 8, 7]),
        (select(Thing).options(selectinload(Thing.parts)), [Thing.id.desc()], [11, 10, 9, 8, 7]),
    ):
        pages = walk(session, statement, order=order, size=5)
        found = [row.id if hasattr(row, "id") else row.Thing.id for page in pages for row in page]
        assert found[:5] == expected
        assert len(found) == len(set(found)) >= MANY - 2
    assert page_of(session, select(Thing).options(selectinload(Thing.parts))).items[0].parts[0].id == 100


def test_columns_of_an_outer_join_may_order_a_list_though_they_are_never_null_themselves(
    session: TenantSession,
) -> None:
    session.execute(insert(Part), [{"tenant_id": session.tenant_id, "id": n, "thing_id": n} for n in range(0, MANY, 2)])
    statement = select(Thing).outerjoin(Part, Part.thing_id == Thing.id)
    for clause in (Part.id.asc(), Part.id.desc(), Part.id.nulls_first(), Part.id.desc().nulls_last()):
        pages = walk(session, statement, order=[clause], size=2)
        expected = list(
            session.scalars(statement.order_by(clause, Thing.id.desc() if "DESC" in str(clause) else Thing.id))
        )
        assert [thing for page in pages for thing in page] == expected


def test_nulls_inside_an_order_are_between_the_values_around_them(session: TenantSession) -> None:
    for order in ([Thing.size, Thing.number], [Thing.size.desc(), Thing.number.desc()]):
        pages = walk(session, select(Thing), order=order, size=2)
        last = Thing.id if order[0] is Thing.size else Thing.id.desc()
        assert [thing for page in pages for thing in page] == list(
            session.scalars(select(Thing).order_by(*order, last))
        )


def test_a_value_that_others_wrote_and_its_type_would_refuse_is_no_obstacle(session: TenantSession) -> None:
    session.connection().exec_driver_sql("UPDATE things SET email = 'No Address ' || id")
    pages = walk(session, select(Thing.id), order=[Thing.email], size=5)
    assert sum(len(page) for page in pages) == MANY


def test_a_column_given_twice_counts_once_and_what_follows_the_whole_key_not_at_all(session: TenantSession) -> None:
    with statements(session) as sent:
        page_of(session, order=[Thing.size, Thing.size.desc(), Thing.id, Thing.colour])
    assert sent[0].partition("ORDER BY ")[2].split() == [
        "things.size",
        "ASC,",
        "things.id",
        "ASC",
        "LIMIT",
        "%(param_1)s::INTEGER",
    ]


# ── the ends of a list, and what happens in between ───────────────────────────────────────────────────────────────


def test_rows_that_come_and_go_move_no_page(session: TenantSession) -> None:
    first = page_of(session, order=Thing.id)
    session.execute(insert(Thing), [{"tenant_id": session.tenant_id, "id": -1, "colour": "new", "size": 0}])
    session.connection().exec_driver_sql("DELETE FROM things WHERE id = 4")
    second = page_of(session, order=Thing.id, cursor=first.next)
    assert ids(second) == [5, 6, 7, 8, 9]
    assert ids(page_of(session, order=Thing.id, cursor=second.previous)) == [-1, 0, 1, 2, 3][-5:]


@pytest.mark.parametrize("order", [[Thing.id], [Thing.size, Thing.id.desc()], [Thing.number.desc()]])
def test_from_an_end_that_was_deleted_there_is_a_way_back_with_no_row_missed(
    session: TenantSession, order: list[Any]
) -> None:
    first = page_of(session, order=order)
    for thing in page_of(session, order=order, size=MANY).items[5:]:
        session.delete(thing)
    session.flush()
    beyond = page_of(session, order=order, cursor=first.next)
    assert (beyond.items, beyond.next) == ((), None)
    back = page_of(session, order=order, cursor=beyond.previous)
    assert (back.items, back.previous, back.next) == (first.items, None, None) or (
        back.items == first.items and back.previous is None
    )


def test_from_a_beginning_that_was_deleted_there_is_a_way_on_with_no_row_missed(session: TenantSession) -> None:
    second = page_of(session, cursor=page_of(session).next)
    session.connection().exec_driver_sql("DELETE FROM things WHERE id < 5")
    before = page_of(session, cursor=second.previous)
    assert (before.items, before.previous) == ((), None)
    assert ids(page_of(session, cursor=before.next)) == ids(second)


def test_a_page_may_be_of_another_size_than_the_one_before(session: TenantSession) -> None:
    first = page_of(session, size=2)
    second = page_of(session, size=7, cursor=first.next)
    assert ids(second) == [2, 3, 4, 5, 6, 7, 8]
    assert ids(page_of(session, size=1, cursor=second.previous)) == [1]


def test_a_page_costs_one_statement_where_the_order_has_one_direction(session: TenantSession) -> None:
    for order in ([Thing.size, Thing.id], [Thing.size.desc()], [Thing.number.desc()], [Thing.number.asc(), Thing.size]):
        first = page_of(session, order=order, size=4)
        with statements(session) as sent:
            page_of(session, order=order, size=3, cursor=first.next)
        assert len(sent) == 1, order


async def test_pages_are_read_under_asyncio(settings: Settings, db: Database, acme: Any) -> None:
    async with AsyncDatabase(settings) as async_db, async_db.tenant(acme.id) as session:
        page = await session.run_sync(lambda one: read_page(one, select(User), order=[User.email]))
        assert [user.full_name for user in page] == ["Ada Lovelace"]
    with db.tenant(acme.id) as again:
        assert walk_back(again, select(User), page_of(again, select(User)).next or "", order=[]) if page.next else True


# ── cursors that are none of this list ────────────────────────────────────────────────────────────────────────────


def refused(session: Session, message: str, statement: Any = None, **given: Any) -> InvalidCursor:
    with statements(session) as sent, pytest.raises(InvalidCursor, match=message) as caught:
        page_of(session, statement, **given)
    assert sent == []
    return caught.value


def test_a_cursor_of_another_tenant_is_refused(things: Database, session: TenantSession) -> None:
    cursor = page_of(session).next
    with things.tenant(new_id()) as rival:
        assert refused(rival, "another tenant", cursor=cursor).tenant_id == rival.tenant_id
    with things.owner() as owner:
        refused(owner, "another tenant", cursor=cursor)


@pytest.mark.parametrize(
    "other",
    [
        select(Thing).where(Thing.size >= 0),
        select(Thing).where(Thing.size >= 1),
        select(Thing.id),
        select(Thing).where(Thing.colour == "red"),
        select(aliased(Thing)),
    ],
)
def test_a_cursor_of_another_query_is_refused(session: TenantSession, other: Any) -> None:
    statement = select(Thing).where(Thing.size >= -1)
    cursor = page_of(session, statement).next
    assert len(page_of(session, statement, cursor=cursor)) == 5
    refused(session, "another query", other, cursor=cursor)


@pytest.mark.parametrize(
    "other",
    [[Thing.size.desc()], [Thing.size, Thing.colour], [Thing.number], [], [Thing.size, Thing.id.desc()]],
)
def test_a_cursor_of_another_order_is_refused(session: TenantSession, other: list[Any]) -> None:
    refused(session, "another order", order=other, cursor=page_of(session, order=[Thing.size]).next)


def test_values_in_the_order_are_part_of_it(session: TenantSession) -> None:
    first = page_of(session, order=[func.coalesce(Thing.number, 2)])
    assert len(page_of(session, order=[func.coalesce(Thing.number, 2)], cursor=first.next)) == 5
    refused(session, "another order", order=[func.coalesce(Thing.number, 3)], cursor=first.next)


def test_a_cursor_of_another_process_is_refused_and_says_how_to_share_them(
    things: Database, session: TenantSession
) -> None:
    cursor = page_of(session).next
    elsewhere = things.settings.model_copy(update={"cursor_secret": SecretStr("a secret of another process")})
    with Database(elsewhere) as other, other.tenant(session.tenant_id) as theirs:
        error = refused(theirs, "another secret", cursor=cursor)
    assert "DATAARCH_CURSOR_SECRET" in error.hint


def test_a_damaged_cursor_is_refused_before_anything_is_sent(session: TenantSession) -> None:
    cursor = page_of(session).next or ""
    refused(session, "changed", cursor=cursor[:-4] + ("AAAA" if cursor[-4:] != "AAAA" else "BBBB"))
    refused(session, "cut off", cursor=cursor[:-6])
    refused(session, "empty", cursor="")
    refused(session, "letters", cursor="ÄÖÜ")
    refused(session, "too long", cursor=cursor * 1000)


def test_a_refused_cursor_leaves_the_transaction_as_it_was(session: TenantSession) -> None:
    refused(session, "letters", cursor="?")
    assert ids(page_of(session)) == [0, 1, 2, 3, 4]


# ── statements and orders that have no pages ──────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("statement", "reason"),
    [
        (select(Thing).order_by(Thing.id), "its own order"),
        (select(Thing).limit(5), "its own order, limit"),
        (select(Thing).offset(5), "offset"),
        (select(Thing).fetch(5), "limit"),
        (select(Thing.id).group_by(Thing.id), "GROUP BY"),
        (select(Thing).distinct(), "DISTINCT"),
        (select(Thing.id, func.row_number().over(order_by=Thing.id)), "window function"),
        (select(Thing.id, (func.sum(Thing.size).over() + 1).label("n")), "window function"),
        (select(Thing).select_from(outerjoin(Part, Thing, Part.thing_id == Thing.id)), "outer join"),
        (select(Thing).outerjoin(Part, Part.thing_id == Thing.id, full=True), "outer join"),
    ],
)
def test_a_statement_whose_pages_would_be_wrong_is_refused(session: TenantSession, statement: Any, reason: str) -> None:
    # twice: what is remembered of a statement does not let it through
    for _ in range(2):
        with statements(session) as sent, pytest.raises(InvalidValue, match=reason) as caught:
            page_of(session, statement)
        assert sent == []
        assert caught.value.table == "things"


@pytest.mark.parametrize(
    "statement",
    [select(func.count()), select(literal_column("1")), select(func.now()), select(func.generate_series(1, 9))],
)
def test_a_statement_without_a_key_is_refused(session: TenantSession, statement: Any) -> None:
    with pytest.raises(InvalidValue, match=r"no.*primary key"):
        page_of(session, statement)


@pytest.mark.parametrize(
    "statement", [union_all(select(Thing.id), select(Thing.id)), text("SELECT 1"), Thing, "things"]
)
def test_what_is_no_select_is_refused(session: TenantSession, statement: Any) -> None:
    with pytest.raises(InvalidValue, match="Pages are read of a select"):
        page_of(session, statement)


@pytest.mark.parametrize("order", ["size", ["size"], [text("size")], [Thing], [Thing.parts], [None], [1], 7])
def test_what_is_no_column_orders_no_list(session: TenantSession, order: Any) -> None:
    with pytest.raises(InvalidValue, match="cannot be ordered by") as caught:
        page_of(session, order=order)
    assert "order=" in caught.value.hint


@pytest.mark.parametrize("size", [0, -1, LARGEST_PAGE + 1])
def test_a_page_of_no_rows_or_too_many_is_refused(session: TenantSession, size: int) -> None:
    with pytest.raises(InvalidValue, match="cannot be read") as caught:
        page_of(session, size=size)
    assert caught.value.value == size


def test_a_join_that_gives_a_row_twice_is_refused_where_one_would_be_lost(session: TenantSession) -> None:
    session.execute(insert(Part), [{"tenant_id": session.tenant_id, "id": n, "thing_id": 1} for n in range(4)])
    with pytest.raises(InvalidValue, match="twice"):
        page_of(session, select(Thing).join(Part, Part.thing_id == Thing.id), size=2)
    some = select(Thing).where(select(Part.id).where(Part.thing_id == Thing.id).exists())
    assert ids(page_of(session, some, size=2)) == [1]


def test_a_parameter_without_a_value_is_refused(session: TenantSession) -> None:
    statement = select(Thing).where(Thing.size == bindparam("size", type_=Integer))
    with pytest.raises(InvalidValue, match="no value"):
        page_of(session, statement)
    assert len(page_of(session, statement.params(size=1))) == 4
    cursor = page_of(session, statement.params(size=1), size=2).next
    refused(session, "another query", statement.params(size=2), cursor=cursor)
    assert len(page_of(session, statement.params(size=1), cursor=cursor)) == 2


def test_a_session_that_no_database_opened_has_no_pages(session: TenantSession) -> None:
    with Session(session.get_bind()) as own, pytest.raises(InvalidValue, match="opened by no Database"):
        page_of(own)


def test_the_owner_reads_pages_of_all_tenants(things: Database, session: TenantSession) -> None:
    session.commit()
    with things.tenant(new_id()) as other:
        fill(other)
    with things.owner() as owner:
        statement = select(Thing).where(Thing.tenant_id.in_([session.tenant_id, other.tenant_id]))
        pages = walk(owner, statement, order=[Thing.size], size=5)
        expected = list(owner.scalars(statement.order_by(Thing.size, Thing.tenant_id, Thing.id)))
        assert [thing for page in pages for thing in page] == expected


def test_what_lies_in_the_future_of_a_query_is_part_of_it(db: Database, acme: Any) -> None:
    now = utcnow()
    with db.tenant(acme.id) as session:
        session.add(Product(slug="b", external_id="b", name="B", price=1, currency="GBP"))
        session.flush()
        recent = select(Product).where(Product.created_at > now - timedelta(days=1))
        cursor = read_page(session, recent, order=[Product.price], size=1).next
        later = select(Product).where(Product.created_at > now - timedelta(hours=1))
        refused(session, "another query", later, order=[Product.price], cursor=cursor)
        assert len(read_page(session, recent, order=[Product.price], size=1, cursor=cursor)) == 1
        assert len(read_page(session, select(UserProfile))) == 1
