"""After a commit nobody gets the value from before it; what was rolled back, or is not committed, nobody gets."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from sqlalchemy import delete, select, text, update

from caching.doors import UserNames
from dataarch.caching.database import Database
from dataarch.caching.kinds import Kind
from dataarch.models import Product, User, UserProfile
from fixtures.caches import opened
from fixtures.tenants import Inhabited

pytestmark = pytest.mark.cache

CARD = Kind("user_card", ttl=60, rows=(User, UserProfile))
NAMES = Kind("user_names", ttl=60, reads=(User,))


@pytest.fixture
def cards(cached: Database) -> UserNames:
    return UserNames(cached, CARD)


def test_a_value_is_read_from_the_database_once(cards: UserNames, home: Inhabited) -> None:
    assert [cards.get(home.id, home.user_id) for _ in range(3)] == ["Ada Lovelace"] * 3
    assert cards.asked == 1


def by_orm(db: Database, home: Inhabited) -> None:
    with db.tenant(home.id) as session:
        user = session.get_one(User, (home.id, home.user_id))
        user.full_name = "Ada King"


def by_orm_in_a_savepoint(db: Database, home: Inhabited) -> None:
    with db.tenant(home.id) as session:
        with session.begin_nested():
            session.get_one(User, (home.id, home.user_id)).full_name = "Ada King"
        session.execute(text("SELECT 1"))


def by_update_of_the_row(db: Database, home: Inhabited) -> None:
    with db.tenant(home.id) as session:
        session.execute(update(User).where(User.id == home.user_id).values(full_name="Ada King"))


def by_update_of_all(db: Database, home: Inhabited) -> None:
    with db.tenant(home.id) as session:
        session.execute(update(User).values(full_name="Ada King"))


def by_core(db: Database, home: Inhabited) -> None:
    with db.tenant(home.id) as session:
        table = User.metadata.tables["users"]
        session.connection().execute(update(table).where(table.c.email.is_not(None)).values(full_name="Ada King"))


def by_bulk_update(db: Database, home: Inhabited) -> None:
    with db.tenant(home.id) as session:
        version = session.scalar(select(User.version).where(User.id == home.user_id))
        row = {"tenant_id": home.id, "id": home.user_id, "full_name": "Ada King", "version": version}
        session.execute(update(User), [row])


def by_text(db: Database, home: Inhabited) -> None:
    with db.tenant(home.id) as session:
        session.execute(text("UPDATE users SET full_name = 'Ada King'"))


def by_text_in_a_with(db: Database, home: Inhabited) -> None:
    with db.tenant(home.id) as session:
        session.execute(text("WITH u AS (UPDATE users SET full_name = 'Ada King' RETURNING 1) SELECT * FROM u"))


def by_select_with_an_update(db: Database, home: Inhabited) -> None:
    with db.tenant(home.id) as session:
        table = User.metadata.tables["users"]
        written = update(table).values(full_name="Ada King").returning(table.c.id).cte("written")
        session.execute(select(written.c.id))


def by_the_owner(db: Database, home: Inhabited) -> None:
    with db.owner() as session:
        session.execute(update(User).where(User.id == home.user_id).values(full_name="Ada King"))


def by_driver_sql(db: Database, home: Inhabited) -> None:
    with db.tenant(home.id) as session:
        session.connection().exec_driver_sql("UPDATE users SET full_name = 'Ada King'")


WAYS = [
    by_orm,
    by_orm_in_a_savepoint,
    by_update_of_the_row,
    by_update_of_all,
    by_core,
    by_bulk_update,
    by_text,
    by_text_in_a_with,
    by_select_with_an_update,
    by_the_owner,
    by_driver_sql,
]


@pytest.mark.parametrize("write", WAYS, ids=lambda way: way.__name__)
def test_m18_after_a_commit_no_reader_gets_the_old_value(
    cards: UserNames,
    home: Inhabited,
    another: Callable[[], Database],
    write: Callable[[Database, Inhabited], None],
) -> None:
    elsewhere = UserNames(another(), CARD)
    names = cards.db.cache.define(NAMES)

    def all_names() -> list[str]:
        with cards.db.tenant(home.id) as session:
            return list(session.scalars(select(User.full_name)))

    key = names.key(tenant=home.id)
    assert names.get_or_create(key, all_names) == ["Ada Lovelace"]
    assert cards.get(home.id, home.user_id) == elsewhere.get(home.id, home.user_id) == "Ada Lovelace"
    write(cards.db, home)
    assert elsewhere.get(home.id, home.user_id) == "Ada King"
    assert cards.get(home.id, home.user_id) == "Ada King"
    assert names.get_or_create(key, all_names) == ["Ada King"]


def test_m18_a_rollback_changes_nothing(cards: UserNames, home: Inhabited) -> None:
    cards.get(home.id, home.user_id)
    with pytest.raises(ZeroDivisionError), cards.db.tenant(home.id) as session:
        session.execute(update(User).values(full_name="Ada King"))
        raise ZeroDivisionError
    assert cards.get(home.id, home.user_id) == "Ada Lovelace"
    assert cards.asked == 1


def test_a_unit_of_work_that_has_written_reads_its_own_writes_and_keeps_none_of_them(
    cards: UserNames, home: Inhabited
) -> None:
    cards.get(home.id, home.user_id)
    key = cards.region.key(home.user_id, tenant=home.id)
    with pytest.raises(ZeroDivisionError), cards.db.tenant(home.id) as session:
        session.get_one(User, (home.id, home.user_id)).full_name = "Ada King"
        own = cards.region.get_or_create(key, lambda: session.scalar(select(User.full_name)))
        assert own == "Ada King"
        raise ZeroDivisionError
    assert cards.get(home.id, home.user_id) == "Ada Lovelace"


def test_a_value_taken_from_an_object_that_was_loaded_before_is_not_kept(
    cards: UserNames, home: Inhabited, another: Callable[[], Database]
) -> None:
    with cards.db.tenant(home.id) as session:
        user = session.get_one(User, (home.id, home.user_id))
        by_update_of_the_row(another(), home)
        key = cards.region.key(home.user_id, tenant=home.id)
        cards.region.get_or_create(key, lambda: user.full_name)
    assert cards.get(home.id, home.user_id) == "Ada King"


def test_what_a_deletion_takes_along_is_gone_too(cached: Database, home: Inhabited) -> None:
    profiles = cached.cache.define(Kind("profile_card", ttl=60, rows=(UserProfile,)))
    opened(cached)

    def read() -> str | None:
        with cached.tenant(home.id) as session:
            return session.scalar(select(UserProfile.display_name))

    key = profiles.key(home.user_id, tenant=home.id)
    assert profiles.get_or_create(key, read) == "Ada"
    with cached.tenant(home.id) as session:
        session.execute(delete(User).where(User.id == home.user_id))
    assert profiles.get_or_create(key, read) is None


def test_a_write_to_one_row_leaves_the_others_and_other_tables_remembered(cards: UserNames, home: Inhabited) -> None:
    with cards.db.tenant(home.id) as session:
        session.add(other := User(email="bob@example.com", full_name="Bob"))
    goods = cards.db.cache.define(Kind("goods", ttl=60, rows=(Product,)))
    opened(cards.db)
    goods_key = goods.key(home.product_id, tenant=home.id)
    cards.get(home.id, other.id)
    goods.get_or_create(goods_key, lambda: "tea pot")
    by_update_of_the_row(cards.db, home)
    before = cards.asked
    assert cards.get(home.id, other.id) == "Bob"
    assert cards.asked == before
    assert goods.get(goods_key) == "tea pot"
