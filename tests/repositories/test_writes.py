"""What every repository does to rows: named errors, a unit of work that goes on, and no lost update."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from decimal import Decimal
from threading import Barrier, Thread
from uuid import uuid4

import pytest
from sqlalchemy import func, select, text, update
from sqlalchemy.orm import Session

from dataarch.database.unit_of_work import AsyncDatabase, Database, TenantSession
from dataarch.errors import (
    CheckFailed,
    DataArchError,
    EmailTaken,
    ExternalIdTaken,
    InvalidMoney,
    InvalidText,
    InvalidValue,
    MissingValue,
    SlugTaken,
    StaleRow,
    TenantMismatch,
    UnknownUser,
)
from dataarch.models import Product, User, UserActivity
from dataarch.repositories import ActivityRepository, ProductRepository, TenantRepository, UserRepository
from fixtures.tenants import Inhabited, inhabit


def product(slug: str, **given: object) -> Product:
    return Product(**{"slug": slug, "name": slug.title(), "price": Decimal(1), "currency": "GBP", **given})


@pytest.fixture
def tenant(shared_db: Database) -> Inhabited:
    """A tenant of the test's own."""
    return inhabit(shared_db, "own")


@pytest.fixture
def session(shared_db: Database, tenant: Inhabited) -> Iterator[TenantSession]:
    """A session of that tenant."""
    with shared_db.tenant(tenant.id) as session:
        yield session


def versions(db: Database, tenant: Inhabited) -> dict[str, int]:
    with db.tenant(tenant.id) as session:
        return {row.slug: row.version for row in session.scalars(select(Product))}


# ── adding ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_row_is_added_and_is_there_after_the_commit(shared_db: Database, tenant: Inhabited) -> None:
    with shared_db.tenant(tenant.id) as session:
        added = ProductRepository(session).add(product("cup"))
        assert (added.tenant_id, added.version) == (tenant.id, 1)
    with shared_db.tenant(tenant.id) as session:
        found = ProductRepository(session).get(added.id)
        assert found is not None
        assert (found.slug, found.version) == ("cup", 1)


REFUSED: dict[str, tuple[Callable[[], Product], type[DataArchError], str | None]] = {
    "a slug twice": (lambda: product("cup"), SlugTaken, "slug"),
    "an external id twice": (lambda: product("mug", external_id="e1"), ExternalIdTaken, "external_id"),
    "a price below nothing": (lambda: product("mug", price=Decimal(-1)), DataArchError, None),
    "a price that is no number": (lambda: product("mug", price=Decimal("NaN")), InvalidMoney, None),
    "a price beyond bigint": (lambda: product("mug", price=Decimal(10) ** 20), InvalidMoney, None),
    "a name with NUL": (lambda: product("mug", name="a\0b"), InvalidText, None),
    "a name with half a character": (lambda: product("mug", name="\ud800"), InvalidText, None),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_refused_has_a_name_and_leaves_the_unit_of_work_as_it_was(
    shared_db: Database, tenant: Inhabited, what: str
) -> None:
    make, error, column = REFUSED[what]
    with shared_db.tenant(tenant.id) as session:
        products = ProductRepository(session)
        products.add(product("cup", external_id="e1"))
        with pytest.raises(error) as caught:
            products.add(make())
        if column is not None:
            assert caught.value.table == "products"
            assert column in str(caught.value.constraint)
        products.add(product("jug"))
    assert {"cup", "jug"} <= versions(shared_db, tenant).keys()
    assert "mug" not in versions(shared_db, tenant)


def test_of_many_rows_all_are_added_or_none(shared_db: Database, tenant: Inhabited) -> None:
    with shared_db.tenant(tenant.id) as session:
        products = ProductRepository(session)
        with pytest.raises(SlugTaken):
            products.add_many([product("a"), product("b"), product("a")])
        assert len(products.add_many(product(f"n{number}") for number in range(3))) == 3
        assert products.add_many([]) == []
    assert {"n0", "n1", "n2"} <= versions(shared_db, tenant).keys()
    assert not {"a", "b"} & versions(shared_db, tenant).keys()


def test_an_iterator_that_fails_half_way_adds_nothing(shared_db: Database, tenant: Inhabited) -> None:
    def rows() -> Iterator[Product]:
        yield product("first")
        raise LookupError

    with shared_db.tenant(tenant.id) as session:
        with pytest.raises(LookupError):
            ProductRepository(session).add_many(rows())
        ProductRepository(session).add(product("second"))
    assert "first" not in versions(shared_db, tenant)
    assert "second" in versions(shared_db, tenant)


def test_a_reference_to_another_tenants_user_is_unknown(
    shared_db: Database, tenant: Inhabited, home: Inhabited
) -> None:
    with shared_db.tenant(tenant.id) as session:
        log = ActivityRepository(session)
        with pytest.raises(UnknownUser) as caught:
            log.add(UserActivity(user_id=home.user_id, activity_type="login"))
        assert caught.value.table == "user_activity_log"
        assert log.add(UserActivity(user_id=tenant.user_id, activity_type="login")).tenant_id == tenant.id


def test_another_tenants_row_is_refused_before_it_is_sent(session: TenantSession, home: Inhabited) -> None:
    products = ProductRepository(session)
    with pytest.raises(TenantMismatch):
        products.add(product("cup", tenant_id=home.id))
    products.add(product("cup"))


# ── changing ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_change_raises_the_version_and_a_change_to_the_same_does_not(session: TenantSession) -> None:
    products = ProductRepository(session)
    cup = products.add(product("cup"))
    assert products.update(cup.id, name="Mug").version == 2
    assert products.update(cup.id, version=2, price=Decimal(2)).version == 3
    cup.name = "Jug"
    assert products.save(cup).version == 4
    session.execute(text("UPDATE products SET name = 'Raw' WHERE id = :id"), {"id": cup.id})
    session.execute(update(Product).where(Product.id == cup.id).values(name="Bulk"))
    session.refresh(cup)
    assert (cup.version, cup.name) == (6, "Bulk")
    session.execute(text("UPDATE products SET name = name, version = 99 WHERE id = :id"), {"id": cup.id})
    session.refresh(cup)
    assert cup.version == 7, "nobody but the database says which version it is"


def test_the_object_of_the_session_has_what_was_changed(session: TenantSession) -> None:
    products = ProductRepository(session)
    cup = products.add(product("cup"))
    before = cup.updated_at
    assert products.update(cup.id, name="Mug") is cup
    assert (cup.name, cup.version) == ("Mug", 2)
    assert cup.updated_at > before


def test_a_version_that_is_not_there_any_more_is_stale(session: TenantSession) -> None:
    products = ProductRepository(session)
    cup = products.add(product("cup"))
    products.update(cup.id, version=1, name="Mug")
    with pytest.raises(StaleRow, match=r"has version 2, and version 1 was to be changed") as caught:
        products.update(cup.id, version=1, name="Jug")
    assert (caught.value.table, caught.value.value) == ("products", 2)
    with pytest.raises(StaleRow, match=r"has version 2"):
        products.remove(cup.id, version=1)
    with pytest.raises(StaleRow, match=r"There is no Product"):
        products.update(uuid4(), name="Jug")
    assert products.update(cup.id, version=2, name="Jug").version == 3


def test_an_object_that_somebody_else_has_changed_is_stale(shared_db: Database, tenant: Inhabited) -> None:
    with shared_db.tenant(tenant.id) as session:
        products = ProductRepository(session)
        mine = products.get(tenant.product_id)
        assert mine is not None
        with shared_db.tenant(tenant.id) as other:
            ProductRepository(other).update(tenant.product_id, name="Theirs")
        mine.name = "Mine"
        with pytest.raises(StaleRow, match=r"has version 2, and version 1 was to be changed"):
            products.save(mine)
        assert mine.name == "Theirs", "it is as the database has it"
        mine.name = "Mine, after theirs"
        products.save(mine)
    with pytest.raises(StaleRow, match=r"changed or removed since it was read"), shared_db.tenant(tenant.id) as session:
        kept = ProductRepository(session).get(tenant.product_id)
        assert kept is not None
        with shared_db.tenant(tenant.id) as other:
            assert ProductRepository(other).remove(tenant.product_id)
        kept.name = "Gone"


def test_of_many_who_change_one_version_at_once_one_succeeds(shared_db: Database, tenant: Inhabited) -> None:
    start, ended = Barrier(8), []

    def change(number: int) -> None:
        start.wait()
        try:
            with shared_db.tenant(tenant.id) as session:
                ProductRepository(session).update(tenant.product_id, version=1, name=f"by {number}")
            ended.append("changed")
        except StaleRow:
            ended.append("stale")

    threads = [Thread(target=change, args=[number]) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(ended) == ["changed", *["stale"] * 7]


@pytest.mark.parametrize("values", [{}, {"colour": "red"}, {"id": uuid4()}, {"tenant_id": uuid4()}, {"version": 9}])
def test_what_cannot_be_changed_is_refused(session: TenantSession, values: dict[str, object]) -> None:
    products = ProductRepository(session)
    cup = products.add(product("cup"))
    with pytest.raises(InvalidValue, match=r"cannot be changed|Nothing of Product"):
        products.update(cup.id, **values)  # type: ignore[arg-type]


def test_a_change_that_is_refused_leaves_the_row_as_it_was(session: TenantSession) -> None:
    products = ProductRepository(session)
    cup, _ = products.add_many([product("cup"), product("mug")])
    with pytest.raises(SlugTaken):
        products.update(cup.id, slug="mug")
    with pytest.raises(InvalidMoney):
        products.update(cup.id, price=Decimal("inf"))
    assert (cup.slug, cup.version) == ("cup", 1)
    assert products.update(cup.id, name="Still").version == 2


def test_a_bulk_update_by_primary_keys_must_say_which_versions_it_was_made_from(session: TenantSession) -> None:
    cup = ProductRepository(session).add(product("cup"))
    key = {"tenant_id": cup.tenant_id, "id": cup.id}
    with pytest.raises(MissingValue, match=r"bulk update of Product by primary keys gives no version"):
        session.execute(update(Product), [{**key, "name": "Mug"}])
    session.execute(update(Product), [{**key, "name": "Mug", "version": 1}])
    session.refresh(cup)
    assert (cup.name, cup.version) == ("Mug", 2)


# ── removing ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_row_is_removed_once(shared_db: Database, tenant: Inhabited) -> None:
    with shared_db.tenant(tenant.id) as session:
        products = ProductRepository(session)
        cup = products.add(product("cup"))
        assert products.remove(cup.id, version=1)
        assert not products.remove(cup.id)
        assert not products.remove(cup.id, version=1)
        assert products.get(cup.id) is None
        assert not products.remove(uuid4())


def test_another_tenants_row_cannot_be_changed_or_removed(
    shared_db: Database, session: TenantSession, home: Inhabited
) -> None:
    products = ProductRepository(session)
    with pytest.raises(StaleRow, match=r"There is no Product"):
        products.update(home.product_id, name="Mine")
    assert not products.remove(home.product_id)
    assert not TenantRepository(session).remove(home.id)
    with shared_db.tenant(home.id) as there:
        found = ProductRepository(there).get(home.product_id)
        assert found is not None
        assert found.version == 1


# ── users ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_profile_is_made_and_then_changed(session: TenantSession, home: Inhabited) -> None:
    users = UserRepository(session)
    ada = users.add(User(email="new@example.com", full_name="Ada"))
    assert users.set_profile(ada.id, bio="Mathematician").version == 1
    changed = users.set_profile(ada.id, display_name="Ada")
    assert (changed.bio, changed.display_name, changed.version) == ("Mathematician", "Ada", 2)
    assert users.set_settings(ada.id, locale="fr").timezone == "UTC"
    with pytest.raises(UnknownUser):
        users.set_profile(home.user_id, bio="of another tenant")
    with pytest.raises(InvalidValue, match=r"'tenant_id' of UserProfile cannot be changed"):
        users.set_profile(ada.id, tenant_id=uuid4())
    with pytest.raises(EmailTaken):
        users.add(User(email="NEW@example.com", full_name="Another"))
    with pytest.raises(CheckFailed):
        users.add(User(full_name="Nobody"))


async def test_the_same_code_writes_under_asyncio(shared_db: Database, tenant: Inhabited) -> None:
    def write(session: Session) -> int:
        products = ProductRepository(session)
        cup = products.add(product("cup"))
        with pytest.raises(SlugTaken):
            products.add(product("cup"))
        return products.update(cup.id, version=1, name="Mug").version

    async with AsyncDatabase(shared_db.settings) as db, db.tenant(tenant.id) as session:
        assert await session.run_sync(write) == 2
        assert await session.scalar(select(func.count()).where(Product.slug == "cup")) == 1


# ── many at once ──────────────────────────────────────────────────────────────────────────────────────────────────


def row(slug: str, price: str = "1.00") -> dict[str, object]:
    return {"slug": slug, "name": slug.title(), "price": Decimal(price), "currency": "GBP"}


def test_rows_are_inserted_in_bulk_and_those_that_are_refused_are_named(session: TenantSession) -> None:
    done = ProductRepository(session).insert_many([row("a"), row("b", "-1.00"), row("a"), row("c")])
    assert (done.read, done.inserted, [(bad.position, type(bad.error)) for bad in done.refused][1:]) == (
        4,
        2,
        [(2, SlugTaken)],
    )


def test_rows_are_upserted_by_a_key(session: TenantSession) -> None:
    products = ProductRepository(session)
    cup = products.upsert(row("cup"), key="slug")
    assert products.upsert(row("cup", "2.00"), key="slug").id == cup.id
    done = products.upsert_many([row("cup", "3.00"), row("mug")], key="slug")
    assert (done.inserted, done.updated) == (1, 1)
    session.refresh(cup)
    assert (cup.price, cup.version) == (Decimal("3.00"), 3)


def test_activities_are_ingested(session: TenantSession, tenant: Inhabited, home: Inhabited) -> None:
    log = ActivityRepository(session)
    given = {"user_id": tenant.user_id, "activity_type": "login", "metadata": {"number": 1}}
    done = log.ingest([given, {**given, "user_id": home.user_id}, given])
    assert (done.read, done.inserted) == (3, 2)
    assert [(bad.position, type(bad.error)) for bad in done.refused] == [(1, UnknownUser)]
    assert len(log.search({"number": 1})) == 2
