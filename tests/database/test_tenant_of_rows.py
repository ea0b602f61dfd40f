"""Every row that a session writes is its tenant's: filled in where it is missing, refused where it is another's."""

from __future__ import annotations

from collections.abc import Callable
from uuid import UUID, uuid4

import pytest
from sqlalchemy import func, insert, literal, select, update
from sqlalchemy.dialects import postgresql
from sqlalchemy.orm import make_transient_to_detached

from dataarch.database.unit_of_work import Database, TenantSession
from dataarch.errors import MissingValue, TenantMismatch
from dataarch.models import Product, Tenant, User, UserActivity, UserProfile
from dataarch.models.base import new_id
from fixtures.tenants import Inhabited


def address() -> str:
    return f"{uuid4().hex}@example.com"


def test_a_new_row_gets_the_tenant_of_its_session(shared_db: Database, home: Inhabited) -> None:
    user = User(email=address(), full_name="Grace")
    user.profile = UserProfile(display_name="G")
    with shared_db.tenant(home.id) as session:
        session.add(user)
        session.flush()
        assert (user.tenant_id, user.profile.tenant_id, user.profile.user_id) == (home.id, home.id, user.id)


def test_a_new_tenant_gets_the_id_of_its_session(shared_db: Database) -> None:
    tenant_id = new_id()
    with shared_db.tenant(tenant_id) as session:
        session.add(Tenant(slug=f"t-{tenant_id.hex}", name="New"))
    with shared_db.tenant(tenant_id) as session:
        assert session.scalars(select(Tenant.id)).one() == tenant_id


def test_a_row_that_names_its_own_tenant_is_written(shared_db: Database, home: Inhabited) -> None:
    with shared_db.tenant(home.id) as session:
        session.add(User(tenant_id=home.id, email=address(), full_name="Grace"))


Act = Callable[[TenantSession, Inhabited, Inhabited], object]


def foreign(home: Inhabited, abroad: Inhabited) -> User:
    """Return the other tenant's user as an object that was loaded elsewhere."""
    user = User(tenant_id=abroad.id, id=abroad.user_id, email="ada@abroad.example.com", full_name="Ada")
    make_transient_to_detached(user)
    return user


def add_foreign(session: TenantSession, home: Inhabited, abroad: Inhabited) -> None:
    session.add(User(tenant_id=abroad.id, email=address(), full_name="Eve"))


def merge_foreign(session: TenantSession, home: Inhabited, abroad: Inhabited) -> None:
    session.merge(User(tenant_id=abroad.id, id=abroad.user_id, email=address(), full_name="Eve"))


def change_foreign(session: TenantSession, home: Inhabited, abroad: Inhabited) -> None:
    user = foreign(home, abroad)
    session.add(user)
    user.full_name = "Eve"


def delete_foreign(session: TenantSession, home: Inhabited, abroad: Inhabited) -> None:
    user = foreign(home, abroad)
    session.add(user)
    session.delete(user)


def change_tenant(session: TenantSession, home: Inhabited, abroad: Inhabited) -> None:
    session.get_one(User, (home.id, home.user_id)).tenant_id = abroad.id


def add_with_foreign_child(session: TenantSession, home: Inhabited, abroad: Inhabited) -> None:
    user = User(email=address(), full_name="Eve")
    user.profile = UserProfile(tenant_id=abroad.id, display_name="E")
    session.add(user)


@pytest.mark.parametrize(
    "act", [add_foreign, merge_foreign, change_foreign, delete_foreign, change_tenant, add_with_foreign_child]
)
def test_a_row_of_another_tenant_is_refused_before_a_write_is_sent(
    act: Act, shared_db: Database, home: Inhabited, abroad: Inhabited, executed: list[str]
) -> None:
    with pytest.raises(TenantMismatch) as refused, shared_db.tenant(home.id) as session:
        act(session, home, abroad)
    assert (refused.value.tenant_id, refused.value.value, refused.value.column) == (home.id, abroad.id, "tenant_id")
    assert refused.value.table in {"users", "user_profiles"}
    assert [sent for sent in executed if sent.startswith(("INSERT", "UPDATE", "DELETE"))] == []


@pytest.mark.parametrize("change", ["id of another", "renamed"])
def test_another_tenants_own_row_is_refused(
    change: str, shared_db: Database, home: Inhabited, abroad: Inhabited
) -> None:
    with pytest.raises(TenantMismatch) as refused, shared_db.tenant(home.id) as session:
        tenant = session.get_one(Tenant, home.id) if change == "renamed" else Tenant(slug="eve", name="Eve")
        session.add(tenant)
        tenant.id = abroad.id
    assert (refused.value.table, refused.value.column) == ("tenants", "id")


def test_a_tenant_that_was_changed_and_changed_back_is_no_change(
    shared_db: Database, home: Inhabited, abroad: Inhabited
) -> None:
    with shared_db.tenant(home.id) as session:
        user = session.get_one(User, (home.id, home.user_id))
        user.tenant_id = abroad.id
        user.tenant_id = home.id
        user.full_name = "Ada Lovelace"


def rows(tenant_id: UUID | None, count: int = 3) -> list[dict[str, object]]:
    """Return rows for a bulk insert."""
    own: dict[str, object] = {} if tenant_id is None else {"tenant_id": tenant_id}
    return [own | {"email": address(), "full_name": f"Bulk {n}"} for n in range(count)]


BULK_WITHOUT_TENANT: dict[str, Callable[[TenantSession, Inhabited], object]] = {
    "many": lambda session, home: session.execute(insert(User), rows(None)),
    "one of many": lambda session, home: session.execute(insert(User), rows(home.id) + rows(None, 1)),
    "many that return": lambda session, home: session.scalars(insert(User).returning(User.id), rows(None)),
    "one": lambda session, home: session.execute(insert(User), rows(None, 1)[0]),
    "values": lambda session, home: session.execute(insert(User).values(rows(None, 1)[0])),
    "lists of values": lambda session, home: session.execute(insert(User).values(rows(None))),
}


@pytest.mark.parametrize("form", BULK_WITHOUT_TENANT)
def test_a_bulk_insert_without_a_tenant_is_a_missing_value(
    form: str, shared_db: Database, home: Inhabited, executed: list[str]
) -> None:
    with pytest.raises(MissingValue) as refused, shared_db.tenant(home.id) as session:
        BULK_WITHOUT_TENANT[form](session, home)
    error = refused.value
    assert (error.table, error.column, error.tenant_id) == ("users", "tenant_id", home.id)
    assert [sent for sent in executed if "INSERT" in sent] == []


BULK_WITH_TENANT: dict[str, Callable[[TenantSession, Inhabited], object]] = {
    "many": lambda session, home: session.execute(insert(User), rows(home.id)),
    "many that return": lambda session, home: session.scalars(insert(User).returning(User.id), rows(home.id)).all(),
    "one": lambda session, home: session.execute(insert(User), rows(home.id, 1)[0]),
    "values": lambda session, home: session.execute(insert(User).values(rows(home.id, 1)[0])),
    "values by attribute": lambda session, home: session.execute(
        insert(User).values({User.tenant_id: home.id, User.email: address(), User.full_name: "By attribute"})
    ),
    "lists of values": lambda session, home: session.execute(insert(User).values(rows(home.id))),
    "from a select": lambda session, home: session.execute(
        insert(User).from_select(
            ["tenant_id", "external_id", "full_name"],
            select(User.tenant_id, literal(address()), User.full_name).limit(1),
        )
    ),
    "on conflict": lambda session, home: session.execute(
        postgresql.insert(User).on_conflict_do_nothing(), rows(home.id)
    ),
}


@pytest.mark.parametrize("form", BULK_WITH_TENANT)
def test_a_bulk_insert_that_names_the_tenant_is_written(form: str, shared_db: Database, home: Inhabited) -> None:
    with shared_db.tenant(home.id) as session:
        before = session.scalar(select(func.count()).select_from(User)) or 0
        BULK_WITH_TENANT[form](session, home)
        assert (session.scalar(select(func.count()).select_from(User)) or 0) > before


def test_a_bulk_insert_of_another_tenants_rows_is_refused(
    shared_db: Database, home: Inhabited, abroad: Inhabited
) -> None:
    with pytest.raises(TenantMismatch), shared_db.tenant(home.id) as session:
        session.execute(insert(User), rows(abroad.id))


def test_a_bulk_update_by_key_changes_its_own_rows(shared_db: Database, home: Inhabited) -> None:
    with shared_db.tenant(home.id) as session:
        version = session.get_one(Product, (home.id, home.product_id)).version
        row = {"tenant_id": home.id, "id": home.product_id, "name": "Kettle", "version": version}
        session.execute(update(Product), [row])
    with shared_db.tenant(home.id) as session:
        assert session.get_one(Product, (home.id, home.product_id)).name == "Kettle"


def test_bulk_save_objects_cannot_write_another_tenants_rows(
    shared_db: Database, home: Inhabited, abroad: Inhabited
) -> None:
    with pytest.raises(TenantMismatch), shared_db.tenant(home.id) as session:
        session.bulk_save_objects(
            [UserActivity(tenant_id=abroad.id, user_id=abroad.user_id, activity_type="login", metadata_={})]
        )
