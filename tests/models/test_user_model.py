"""Users, profiles and settings."""

from __future__ import annotations

import pytest
from sqlalchemy import Table, func, select

from dataarch.database.unit_of_work import Database
from dataarch.models import Base, Tenant, User
from fixtures.tenants import Inhabited

pytestmark = pytest.mark.integrity


def owner_column(table: Table) -> str:
    return "id" if table.name == "tenants" else "tenant_id"


def count_rows(db: Database, tenant: Inhabited) -> dict[str, int]:
    """Count the rows that a tenant has in each table, as the owner."""
    with db.owner() as session:
        return {
            table.name: session.scalars(
                select(func.count()).select_from(table).where(table.c[owner_column(table)] == tenant.id)
            ).one()
            for table in Base.metadata.sorted_tables
        }


def test_m05_deleting_a_user_deletes_its_activity(db: Database, acme: Inhabited) -> None:
    before = count_rows(db, acme)
    with db.tenant(acme.id) as session:
        session.delete(session.get_one(User, (acme.id, acme.user_id)))
    after = count_rows(db, acme)
    gone = {"users", "user_profiles", "user_settings", "user_sessions", "user_activity_log"}
    assert after == {table: 0 if table in gone else rows for table, rows in before.items()}


def test_m05_deleting_a_tenant_deletes_all_of_its_data_and_nothing_else(
    db: Database, acme: Inhabited, rival: Inhabited
) -> None:
    of_rival = count_rows(db, rival)
    with db.tenant(acme.id) as session:
        session.delete(session.get_one(Tenant, acme.id))
    assert set(count_rows(db, acme).values()) == {0}
    assert count_rows(db, rival) == of_rival
    assert set(of_rival.values()) == {1}
