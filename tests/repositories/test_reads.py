"""What every repository can be asked, as the application role and in the session of a tenant."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from uuid import UUID, uuid4

import pytest
from sqlalchemy.orm import Session

from dataarch.database.unit_of_work import AsyncDatabase, Database, TenantSession
from dataarch.errors import InvalidCursor, InvalidEmail, InvalidValue, TenantNotSet
from dataarch.models import Product
from dataarch.repositories import Count, ProductQueries, ProductRepository, TenantQueries, UserQueries
from database.opening import tuned
from database.wire import proxy
from fixtures.tenants import Inhabited, inhabit


def product(slug: str, price: str = "1.00") -> Product:
    return Product(slug=slug, external_id=f"x-{slug}", name=slug.title(), price=Decimal(price), currency="GBP")


@pytest.fixture
def session(shared_db: Database) -> Iterator[TenantSession]:
    """A session of a tenant that has five products beside the one it is made with."""
    home = inhabit(shared_db)
    with shared_db.tenant(home.id) as session:
        ProductRepository(session).add_many(product(f"p{number}", f"{number}.50") for number in range(5))
        yield session


def slugs(rows: object) -> list[str | None]:
    assert isinstance(rows, list)
    return [None if row is None else row.slug for row in rows]


def test_a_row_is_found_by_its_id(shared_db: Database, home: Inhabited) -> None:
    with shared_db.tenant(home.id) as session:
        found = ProductQueries(session).get(home.product_id)
        assert found is not None
        assert found.id == home.product_id
        assert ProductQueries(session).get(str(home.product_id)) is found
        assert ProductQueries(session).get(uuid4()) is None


def test_many_rows_come_in_the_order_of_their_ids_with_none_for_each_that_is_not_there(session: TenantSession) -> None:
    queries = ProductQueries(session)
    ids: list[UUID | str] = [row.id for row in queries.list(Product.slug.like("p_"), order=[Product.slug.desc()])]
    wanted = [ids[3], uuid4(), str(ids[0]), ids[3]]
    assert slugs(queries.get_many(wanted)) == ["p1", None, "p4", "p1"]
    assert queries.get_many([]) == []


def test_seventy_thousand_ids_are_one_parameter(session: TenantSession) -> None:
    queries = ProductQueries(session)
    there = [row.id for row in queries.list(Product.slug.like("p_"))]
    found = queries.get_many([*there, *(uuid4() for _ in range(70_000))])
    assert [row.id for row in found if row is not None] == there
    assert len(found) == 70_005


def test_a_row_of_another_tenant_is_not_there(shared_db: Database, home: Inhabited) -> None:
    other = inhabit(shared_db, "other")
    with shared_db.tenant(other.id) as session:
        queries = ProductQueries(session)
        assert queries.get(home.product_id) is None
        assert queries.get_many([home.product_id, other.product_id])[0] is None
        assert queries.find(id=home.product_id) is None
        assert not queries.exists(id=home.product_id)
        assert home.product_id not in {row.id for row in queries.list()}
        assert TenantQueries(session).get(home.id) is None
        current = TenantQueries(session).current()
        assert current is not None
        assert current.id == other.id


def test_one_row_is_found_by_what_is_equal(session: TenantSession) -> None:
    queries = ProductQueries(session)
    found = queries.find(slug="p2")
    assert found is not None
    assert (found.slug, queries.by_slug("p2"), queries.by_external_id("x-p2")) == ("p2", found, found)
    assert queries.find(Product.slug.like("p_"), Product.price > Decimal(4)) is queries.by_slug("p4")
    assert queries.by_slug("p9") is None


def test_several_rows_where_one_was_asked_for_are_an_error(session: TenantSession) -> None:
    with pytest.raises(InvalidValue, match=r"Several rows of Product meet the conditions"):
        ProductQueries(session).find(Product.slug.like("p_"))


def test_an_attribute_that_the_model_has_not_is_named_with_those_that_it_has(session: TenantSession) -> None:
    with pytest.raises(InvalidValue, match=r"Product has no attribute 'colour'.*It has tenant_id, id, slug") as caught:
        ProductQueries(session).list(colour="red")
    assert (caught.value.table, caught.value.column) == ("products", "colour")


def test_a_list_has_an_order_and_a_limit(session: TenantSession) -> None:
    queries = ProductQueries(session)
    mine = Product.slug.like("p_")
    assert slugs(list(queries.list(mine))) == ["p0", "p1", "p2", "p3", "p4"]
    assert slugs(list(queries.list(mine, order=[Product.price.desc()], limit=2))) == ["p4", "p3"]
    assert list(queries.list(mine, limit=0)) == []
    assert slugs(list(queries.list(mine, name="P3"))) == ["p3"]
    with pytest.raises(InvalidValue, match=r"cannot have -1 rows"):
        queries.list(limit=-1)


def test_whether_a_row_is_there_is_told_without_reading_it(session: TenantSession) -> None:
    queries = ProductQueries(session)
    assert queries.exists(slug="p1")
    assert not queries.exists(slug="p1", name="P2")
    assert queries.exists()


def test_rows_are_counted_exactly_or_about_and_the_count_says_which(session: TenantSession) -> None:
    queries = ProductQueries(session)
    assert queries.count(Product.slug.like("p_")) == Count(5, exact=True)
    assert not queries.count(exact=False).exact


def test_rows_are_streamed(session: TenantSession) -> None:
    assert sorted(row.slug for row in ProductQueries(session).stream(Product.slug.like("p_"), batch=2)) == [
        f"p{number}" for number in range(5)
    ]


def test_a_list_is_read_page_by_page_in_both_directions(session: TenantSession) -> None:
    queries = ProductQueries(session)
    mine, order = Product.slug.like("p_"), [Product.price.desc()]
    first = queries.page(mine, order=order, size=2)
    second = queries.page(mine, order=order, size=2, cursor=first.next)
    third = queries.page(mine, order=order, size=2, cursor=second.next)
    assert [[row.slug for row in page] for page in (first, second, third)] == [["p4", "p3"], ["p2", "p1"], ["p0"]]
    assert not third.has_next
    back = queries.page(mine, order=order, size=2, cursor=third.previous)
    assert [row.slug for row in back] == ["p2", "p1"]
    assert {row.slug for row in queries.page(mine)} == {f"p{number}" for number in range(5)}
    with pytest.raises(InvalidCursor):
        queries.page(order=order, size=2, cursor=first.next)


@pytest.mark.parametrize("bad", ["", "x", 7, None, b"0" * 16])
def test_what_is_no_id_is_refused_before_it_is_sent(session: TenantSession, bad: object) -> None:
    with pytest.raises(InvalidValue, match=r"is no id"):
        ProductQueries(session).get(bad)  # type: ignore[arg-type]
    with pytest.raises(InvalidValue, match=r"is no id"):
        ProductQueries(session).get_many([uuid4(), bad])  # type: ignore[list-item]


def test_users_are_found_by_their_address_however_it_is_written(shared_db: Database, home: Inhabited) -> None:
    with shared_db.tenant(home.id) as session:
        users = UserQueries(session)
        found = users.by_email("ada@HOME.example.com")
        assert found is not None
        assert found.id == home.user_id
        assert users.by_external_id("1") is found
        profile, settings = users.profile(home.user_id), users.settings(home.user_id)
        assert profile is not None
        assert settings is not None
        assert profile.user_id == settings.user_id == home.user_id
        assert users.profile(uuid4()) is None
        with pytest.raises(InvalidEmail):
            users.by_email("no address")


def test_a_session_of_no_tenant_is_refused(shared_db: Database) -> None:
    for opened in (shared_db.session, shared_db.owner):
        with opened() as session, pytest.raises(TenantNotSet, match=r"ProductQueries reads the rows of one tenant"):
            ProductQueries(session)


async def test_the_same_code_runs_under_asyncio(shared_db: Database, home: Inhabited) -> None:
    def names(session: Session) -> list[str]:
        products = ProductRepository(session)
        products.add(product("async"))
        return [row.slug for row in products.get_many([home.product_id]) if row is not None] + [
            row.slug for row in products.list(slug="async")
        ]

    async with AsyncDatabase(shared_db.settings) as db, db.tenant(home.id) as session:
        assert len(await session.run_sync(names)) == 2


def test_a_row_that_the_session_holds_costs_no_round_trip(shared_db: Database, home: Inhabited) -> None:
    with (
        proxy(shared_db.settings.application) as wire,
        Database(tuned(shared_db.settings, database_url=wire.url(), role="dataarch_app")) as db,
        db.tenant(home.id) as session,
    ):
        held = ProductQueries(session).get(home.product_id)
        trips = wire.trips
        assert ProductQueries(session).get(home.product_id) is held
        assert wire.trips == trips
        ProductQueries(session).get_many([uuid4() for _ in range(100)])
        assert wire.trips == trips + 1
