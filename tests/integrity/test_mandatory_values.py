"""What every row must have, what it gets by itself, and what only one row may have."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Table, select, text
from sqlalchemy.orm import Session

from dataarch.database.unit_of_work import Database
from dataarch.errors import EmailTaken, ExternalIdTaken, MissingValue, SlugTaken, TenantMismatch
from dataarch.models import Base, Product, Tenant, User, UserActivity
from dataarch.models.base import new_id
from dataarch.models.tenancy import tenant_column
from dataarch.proof import Judge, Placed, World, place
from fixtures.tenants import Inhabited

pytestmark = pytest.mark.integrity

TABLES = Base.metadata.sorted_tables
STAMPED = [table for table in TABLES if "created_at" in table.columns]


@pytest.fixture
def db(shared_db: Database) -> Database:
    """One database for this file: each test makes tenants of its own."""
    return shared_db


def owner_column(table: Table) -> str:
    column = tenant_column(table)
    assert column is not None
    return column.name


def valid(session: Session, table: Table) -> tuple[list[Placed], dict[str, object]]:
    world = World(Judge(session.connection()))
    placed = Placed(table, world.plain(table))
    return world.parents(placed), dict(placed.row)


def insert_without(session: Session, table: Table, column: str, *, how: str) -> None:
    parents, row = valid(session, table)
    for parent in parents:
        place(session, parent)
    place(
        session, Placed(table, row | {column: None} if how == "null" else {k: v for k, v in row.items() if k != column})
    )


@pytest.mark.parametrize("how", ["null", "left out"])
@pytest.mark.parametrize("table", [t for t in TABLES if t.name != "tenants"], ids=lambda table: table.name)
def test_m02_tenant_id_is_mandatory_for_whoever_writes(db: Database, table: Table, how: str) -> None:
    with pytest.raises(MissingValue) as refused, db.owner() as owner:
        insert_without(owner, table, "tenant_id", how=how)
    assert (refused.value.table, refused.value.column) == (table.name, "tenant_id")


@pytest.mark.parametrize("table", [t for t in TABLES if t.name != "tenants"], ids=lambda table: table.name)
def test_m02_the_application_cannot_write_a_row_of_no_tenant(db: Database, acme: Inhabited, table: Table) -> None:
    with db.owner() as owner:
        row = valid(owner, table)[1] | {"tenant_id": None}
    with pytest.raises(TenantMismatch) as refused, db.tenant(acme.id) as session:
        place(session, Placed(table, row))
    assert refused.value.table in (table.name, None)


def test_m02_every_table_belongs_to_a_tenant() -> None:
    assert all(not Base.metadata.tables[table.name].columns[owner_column(table)].nullable for table in TABLES)


def moment(session: Session) -> datetime:
    now = session.scalar(text("SELECT clock_timestamp()"))
    assert isinstance(now, datetime)
    return now


@pytest.mark.parametrize("table", STAMPED, ids=lambda table: table.name)
def test_m03_created_at_is_set_by_the_server_between_the_moment_before_and_after(db: Database, table: Table) -> None:
    with db.owner() as owner:
        parents, row = valid(owner, table)
        for parent in parents:
            place(owner, parent)
        before = moment(owner)
        del row["created_at"]
        place(owner, Placed(table, row))
        after = moment(owner)
        key = [column == row[column.name] for column in table.primary_key if column.name != "created_at"]
        created = owner.scalars(select(table.columns["created_at"]).where(*key)).one()
        owner.rollback()
    assert before <= created <= after


@pytest.mark.parametrize("make", [User, Product, UserActivity, Tenant])
def test_m03_created_at_is_set_by_python_between_the_moment_before_and_after(
    db: Database, acme: Inhabited, make: type[Any]
) -> None:
    tenant_id = new_id()
    given: dict[type[Any], dict[str, Any]] = {
        User: {"email": "new@example.com", "full_name": "New"},
        Product: {"slug": "new", "name": "New", "price": 1, "currency": "EUR"},
        UserActivity: {"user_id": acme.user_id, "activity_type": "login"},
        Tenant: {"id": tenant_id, "slug": "new", "name": "New"},
    }
    row = make(**given[make])
    before = datetime.now(UTC)
    with db.tenant(tenant_id if make is Tenant else acme.id) as session:
        session.add(row)
    assert before <= row.created_at <= datetime.now(UTC)


def product(**given: Any) -> Product:
    return Product(**{"slug": "kettle", "name": "Kettle", "price": 5, "currency": "EUR", **given})


def add(db: Database, tenant_id: UUID, row: Base) -> None:
    with db.tenant(tenant_id) as session:
        session.add(row)


def test_m09_a_slug_is_unique_within_its_tenant(db: Database, acme: Inhabited) -> None:
    with pytest.raises(SlugTaken) as refused:
        add(db, acme.id, product(slug="tea-pot"))
    assert refused.value.constraint == "uq_products_tenant_id_slug"


def test_m09_another_tenant_may_have_the_same_slug(db: Database, acme: Inhabited, rival: Inhabited) -> None:
    for tenant in (acme, rival):
        add(db, tenant.id, product())
        with db.tenant(tenant.id) as session:
            assert set(session.scalars(select(Product.slug))) == {"kettle", "tea-pot"}


def test_a_second_tenant_of_the_same_slug_is_refused(db: Database, acme: Inhabited) -> None:
    other = new_id()
    with pytest.raises(SlugTaken):
        add(db, other, Tenant(id=other, slug=acme.slug, name="Other"))


def test_an_external_id_and_an_address_are_unique_within_a_tenant(db: Database, acme: Inhabited) -> None:
    for row, error in (
        (product(external_id="T1"), ExternalIdTaken),
        (User(external_id="1", full_name="Other"), ExternalIdTaken),
        (User(email="ADA@Acme.example.com", full_name="Other"), EmailTaken),
    ):
        with pytest.raises(error):
            add(db, acme.id, row)
