"""Results of selects: asked once, gone with a commit that touches one of their tables, apart from other tenants'."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import delete, func, insert, select, text, union_all, update
from sqlalchemy.exc import MultipleResultsFound
from sqlalchemy.orm import Session

from dataarch.caching.database import AsyncDatabase, Database
from dataarch.caching.kinds import Kind
from dataarch.database.tenancy import Isolation
from dataarch.errors import InvalidValue, TenantNotSet
from dataarch.models import Inventory, Product, Tenant, User, UserProfile, UserSettings
from fixtures.caches import until
from fixtures.questions import Questions, counted
from fixtures.tenants import Inhabited, inhabit

pytestmark = pytest.mark.cache

NAMES = select(User.full_name).order_by(User.full_name)
PEOPLE = select(User.full_name, UserProfile.display_name).join(User.profile)
GOODS = select(Product.name, Product.price)


@pytest.fixture
def questions(cached: Database) -> Iterator[Questions]:
    with counted(cached.engine) as questions:
        yield questions


# ── what is given ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_one_column_gives_values_and_several_give_rows_with_names_the_same_from_the_cache(
    cached: Database, home: Inhabited, questions: Questions
) -> None:
    queries = cached.cache.queries
    for _ in range(3):
        assert queries.all(home.id, NAMES) == ["Ada Lovelace"]
        (row,) = queries.all(home.id, PEOPLE)
        assert row == ("Ada Lovelace", "Ada")
        assert (row.full_name, row._mapping["display_name"]) == ("Ada Lovelace", "Ada")
    assert len(questions) == 2


def test_values_come_back_as_what_they_were(cached: Database, home: Inhabited) -> None:
    everything: list[Any] = [select(model.__table__) for model in (User, UserProfile, UserSettings, Product, Inventory)]
    for statement in everything:
        first, again = (cached.cache.queries.all(home.id, statement) for _ in range(2))
        with cached.tenant(home.id) as session:
            plain = session.execute(statement).all()
        assert first == again == plain
        assert [type(value) for value in again[0]] == [type(value) for value in plain[0]]
        assert again[0]._fields == plain[0]._fields
    assert cached.cache.stats()["query"].hit == len(everything)


def test_amounts_and_minor_units_of_one_column_are_kept_apart(cached: Database, home: Inhabited) -> None:
    from sqlalchemy import BigInteger, type_coerce

    for _ in range(2):
        assert cached.cache.queries.all(home.id, select(Product.price)) == [Decimal("9.95")]
        assert cached.cache.queries.all(home.id, select(type_coerce(Product.price, BigInteger))) == [995]


def test_an_answer_without_rows_is_remembered_too(cached: Database, home: Inhabited, questions: Questions) -> None:
    nobody = NAMES.where(User.full_name == "Nobody")
    for _ in range(3):
        assert cached.cache.queries.all(home.id, nobody) == []
        assert cached.cache.queries.first(home.id, nobody) is None
        assert cached.cache.queries.one_or_none(home.id, nobody) is None
        assert cached.cache.queries.scalar(home.id, nobody) is None
    assert len(questions) == 1


def test_first_one_or_none_and_scalar_share_the_rows(cached: Database, home: Inhabited, questions: Questions) -> None:
    with cached.tenant(home.id) as session:
        session.add(User(email="bob@example.com", full_name="Bob"))
    queries = cached.cache.queries
    assert queries.first(home.id, NAMES) == "Ada Lovelace"
    assert queries.scalar(home.id, PEOPLE) == "Ada Lovelace"
    assert queries.one_or_none(home.id, PEOPLE) == ("Ada Lovelace", "Ada")
    with pytest.raises(MultipleResultsFound):
        queries.one_or_none(home.id, NAMES)
    assert len(questions) == 2


def test_an_aggregate_and_a_union_are_remembered(cached: Database, home: Inhabited, questions: Questions) -> None:
    both = select(union_all(select(User.full_name), select(Product.name)).subquery().c.full_name)
    for _ in range(2):
        assert cached.cache.queries.scalar(home.id, select(func.count()).select_from(User)) == 1
        assert sorted(cached.cache.queries.all(home.id, both)) == ["Ada Lovelace", "Tea pot"]
    assert len(questions) == 2


def test_what_a_caller_does_to_his_rows_nobody_else_sees(cached: Database, home: Inhabited) -> None:
    chosen = select(UserSettings.preferences)
    cached.cache.queries.all(home.id, chosen)[0]["theme"] = "light"
    cached.cache.queries.all(home.id, chosen).clear()
    assert cached.cache.queries.all(home.id, chosen) == [{"theme": "dark"}]


# ── invalidation ──────────────────────────────────────────────────────────────────────────────────────────────────


def by_orm(db: Database, home: Inhabited) -> None:
    with db.tenant(home.id) as session:
        session.get_one(User, (home.id, home.user_id)).full_name = "Ada King"


def by_core(db: Database, home: Inhabited) -> None:
    with db.tenant(home.id) as session:
        session.connection().execute(update(User.metadata.tables["users"]).values(full_name="Ada King"))


def by_text(db: Database, home: Inhabited) -> None:
    with db.tenant(home.id) as session:
        session.execute(text("UPDATE users SET full_name = 'Ada King'"))


def by_the_owner(db: Database, home: Inhabited) -> None:
    with db.owner() as session:
        session.execute(update(User).where(User.id == home.user_id).values(full_name="Ada King"))


def by_replacing(db: Database, home: Inhabited) -> None:
    with db.tenant(home.id) as session:
        session.execute(delete(User))
        session.execute(insert(User).values(tenant_id=home.id, email="ada@king.example.com", full_name="Ada King"))


@pytest.mark.parametrize("elsewhere", [False, True], ids=["here", "by another process"])
@pytest.mark.parametrize("write", [by_orm, by_core, by_text, by_the_owner, by_replacing], ids=lambda way: way.__name__)
def test_m18_after_a_commit_nobody_gets_the_result_from_before_it(
    cached: Database,
    home: Inhabited,
    another: Callable[[], Database],
    write: Callable[[Database, Inhabited], None],
    elsewhere: bool,
) -> None:
    other = another()
    doors = (cached, other)
    for db in doors:
        assert db.cache.queries.all(home.id, NAMES) == ["Ada Lovelace"]
    write(other if elsewhere else cached, home)
    for db in doors:
        assert db.cache.queries.all(home.id, NAMES) == ["Ada King"]


@pytest.mark.parametrize(
    "table",
    [
        select(User.full_name).where(User.profile.has(UserProfile.display_name == "Ada")),
        select(User.full_name).join(User.profile).where(UserProfile.display_name == "Ada"),
        select(User.full_name).where(
            User.id.in_(select(UserProfile.user_id).where(UserProfile.display_name == "Ada").cte("p").select())
        ),
    ],
    ids=["EXISTS", "JOIN", "WITH"],
)
def test_a_write_to_a_table_that_is_only_asked_beside_counts(cached: Database, home: Inhabited, table: Any) -> None:
    assert cached.cache.queries.all(home.id, table) == ["Ada Lovelace"]
    with cached.tenant(home.id) as session:
        session.execute(update(UserProfile).values(display_name="Countess"))
    assert cached.cache.queries.all(home.id, table) == []


def test_writes_to_other_tables_and_of_other_tenants_leave_a_result_remembered(
    cached: Database, home: Inhabited, questions: Questions
) -> None:
    abroad = inhabit(cached, "abroad")
    before = [cached.cache.queries.all(home.id, NAMES) for _ in range(2)]
    with cached.tenant(home.id) as session:
        session.execute(update(Product).values(name="Coffee pot"))
    with cached.tenant(abroad.id) as session:
        session.execute(update(User).values(full_name="Bob"))
    asked = len(questions)
    assert cached.cache.queries.all(home.id, NAMES) == before[0]
    assert len(questions) == asked


def test_m18_a_rollback_leaves_a_result_remembered_and_keeps_nothing_of_its_own(
    cached: Database, home: Inhabited, questions: Questions
) -> None:
    cached.cache.queries.all(home.id, NAMES)
    with pytest.raises(ZeroDivisionError), cached.tenant(home.id) as session:
        session.execute(update(User).values(full_name="Ada King"))
        assert cached.cache.queries.all(session, NAMES) == ["Ada King"]
        raise ZeroDivisionError
    asked = len(questions)
    assert cached.cache.queries.all(home.id, NAMES) == ["Ada Lovelace"]
    assert len(questions) == asked


def test_the_kind_the_tenant_and_the_table_are_made_invisible_by_hand(
    cached: Database, home: Inhabited, questions: Questions
) -> None:
    cache = cached.cache
    ways: list[Callable[[], None]] = [
        lambda: cache.invalidate_kind("query"),
        lambda: cache.invalidate_tenant(home.id),
        lambda: cache.invalidate_rows(User, home.id),
        cache.invalidate_all,
    ]
    for number, drop in enumerate(ways, 1):
        for _ in range(2):
            cache.queries.all(home.id, NAMES)
        assert len(questions) == number
        drop()


# ── units of work ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_session_that_has_objects_loaded_fills_the_cache_with_what_the_server_says(
    cached: Database, home: Inhabited, another: Callable[[], Database], questions: Questions
) -> None:
    with cached.tenant(home.id) as session:
        user = session.get_one(User, (home.id, home.user_id))
        by_core(another(), home)
        assert cached.cache.queries.all(session, NAMES) == ["Ada King"]
        assert user.full_name == "Ada Lovelace"
    asked = len(questions)
    assert cached.cache.queries.all(home.id, NAMES) == ["Ada King"]
    assert len(questions) == asked


@pytest.mark.parametrize("by_id", [False, True], ids=["by its session", "by the tenant's id"])
def test_a_unit_of_work_reads_what_it_has_written(cached: Database, home: Inhabited, by_id: bool) -> None:
    cached.cache.queries.all(home.id, NAMES)
    with cached.tenant(home.id) as session:
        session.add(User(email="bob@example.com", full_name="Bob"))
        within: Any = str(home.id) if by_id else session
        assert cached.cache.queries.all(within, NAMES) == ["Ada Lovelace", "Bob"]
    assert cached.cache.queries.all(home.id, NAMES) == ["Ada Lovelace", "Bob"]


def test_an_outer_unit_of_work_reads_its_own_writes_while_an_inner_one_is_open(
    cached: Database, home: Inhabited
) -> None:
    cached.cache.queries.all(home.id, NAMES)
    with cached.tenant(home.id) as outer:
        outer.execute(update(User).values(full_name="Ada King"))
        with cached.tenant(home.id) as inner:
            assert cached.cache.queries.all(outer, NAMES) == ["Ada King"]
            assert cached.cache.queries.all(inner, NAMES) == ["Ada Lovelace"]


def test_a_unit_of_work_of_one_moment_is_served_as_of_that_moment(
    cached: Database, home: Inhabited, another: Callable[[], Database]
) -> None:
    with cached.tenant(home.id, isolation=Isolation.REPEATABLE_READ) as session:
        session.execute(text("SELECT 1"))
        other = another()
        by_core(other, home)
        assert other.cache.queries.all(home.id, NAMES) == ["Ada King"]
        assert cached.cache.queries.all(session, NAMES) == ["Ada Lovelace"]
    assert cached.cache.queries.all(home.id, NAMES) == ["Ada King"]


async def test_under_asyncio_the_session_is_given_by_run_sync(cached: Database, home: Inhabited) -> None:
    async with AsyncDatabase(cached.settings) as db:
        until(db.cache.fencing.readable)
        for _ in range(2):
            async with db.tenant(home.id) as session:
                assert await session.run_sync(db.cache.queries.all, NAMES) == ["Ada Lovelace"]
                own = await session.run_sync(lambda _: db.cache.queries.all(home.id, NAMES))
                assert own == ["Ada Lovelace"]
        assert db.cache.stats()["query"].set == 1
        assert db.cache.stats()["query"].hit == 3
        with pytest.raises(TenantNotSet, match="run_sync"):
            db.cache.queries.all(home.id, GOODS)
        async with db.tenant(home.id) as session:
            with pytest.raises(InvalidValue, match="run_sync"):
                db.cache.queries.all(session, GOODS)  # type: ignore[arg-type]  # the mistake that is tested


# ── borders ───────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.isolation
def test_m18_each_tenant_gets_its_own_rows_of_the_same_statement(
    cached: Database, home: Inhabited, another: Callable[[], Database]
) -> None:
    abroad = inhabit(cached, "abroad")
    with cached.tenant(abroad.id) as session:
        session.execute(update(User).values(full_name="Bob"))
    other = another()
    ids = select(Tenant.id)
    for db in (cached, other, cached):
        assert db.cache.queries.all(home.id, NAMES) == ["Ada Lovelace"]
        assert db.cache.queries.all(abroad.id, NAMES) == ["Bob"]
        assert db.cache.queries.all(home.id, ids) == [home.id]
        assert db.cache.queries.all(abroad.id, ids) == [abroad.id]
        with db.tenant(abroad.id) as session:
            assert db.cache.queries.all(session, NAMES) == ["Bob"]
            assert db.cache.queries.all(home.id, NAMES) == ["Ada Lovelace"]


@pytest.mark.isolation
def test_m18_a_tenant_that_is_asked_for_within_anothers_unit_of_work_answers_itself(
    cached: Database, home: Inhabited
) -> None:
    abroad = inhabit(cached, "abroad")
    rows = select(User.tenant_id, User.full_name)
    with cached.tenant(abroad.id) as session:
        session.execute(update(User).values(full_name="Bob"))
        assert cached.cache.queries.all(home.id, rows) == [(home.id, "Ada Lovelace")]
        assert cached.cache.queries.all(abroad.id, rows) == [(abroad.id, "Bob")]
    assert cached.cache.queries.all(home.id, rows) == [(home.id, "Ada Lovelace")]


def test_without_a_tenant_a_tenants_table_is_not_read(cached: Database, home: Inhabited) -> None:
    cached.cache.queries.all(home.id, NAMES)
    with cached.session() as session, pytest.raises(TenantNotSet):
        cached.cache.queries.all(session, NAMES)
    with cached.owner() as session, pytest.raises(TenantNotSet):
        cached.cache.queries.all(session, NAMES)
    with pytest.raises(TenantNotSet):
        cached.cache.queries.all("nobody", NAMES)


def test_a_session_of_elsewhere_is_refused(cached: Database, home: Inhabited, another: Callable[[], Database]) -> None:
    with another().tenant(home.id) as session, pytest.raises(InvalidValue, match="none of this cache's database"):
        cached.cache.queries.all(session, NAMES)
    with Session(cached.engine) as session, pytest.raises(InvalidValue, match="neither a unit of work"):
        cached.cache.queries.all(session, NAMES)


def test_what_cannot_be_remembered_is_refused_before_anything_is_sent(
    cached: Database, home: Inhabited, questions: Questions
) -> None:
    for times in ({"ttl": 0.0}, {"ttl": 10.0, "soft_ttl": 20.0}):
        with pytest.raises(InvalidValue, match="ttl"):
            cached.cache.queries.all(home.id, NAMES, **times)
    with cached.tenant(home.id) as session:
        session.add(User(email="bob@example.com", full_name="Bob"))
        with pytest.raises(InvalidValue, match="whole User objects"):
            cached.cache.queries.all(session, select(User))
    assert len(questions) == 0


def test_no_other_kind_may_have_the_name_of_the_layer(cached: Database) -> None:
    with pytest.raises(InvalidValue, match="query is a layer"):
        cached.cache.define(Kind("query", ttl=60))
