"""Every constraint of every table is refused by exactly that constraint, and none is without proof."""

from __future__ import annotations

import time
from itertools import count
from uuid import UUID

import pytest
from sqlalchemy import Engine, Table
from sqlalchemy.orm import Session

from dataarch import errors
from dataarch.database.unit_of_work import Database
from dataarch.errors import ConstraintError, DataArchError, TenantMismatch
from dataarch.models import Base
from dataarch.models.base import new_id
from dataarch.models.tenancy import tenant_column
from dataarch.proof import Judge, Placed, Violation, World, constraints_in_database, place, refusals, violations_of

pytestmark = pytest.mark.integrity

NOT_NULL = "23502"
TABLES = Base.metadata.sorted_tables
BY_STATE = {
    "23502": errors.MissingValue,
    "23503": errors.UnknownReference,
    "23505": errors.AlreadyExists,
    "23514": errors.CheckFailed,
}
NAMED = {
    "uq_tenants_slug": errors.SlugTaken,
    "uq_products_tenant_id_slug": errors.SlugTaken,
    "uq_products_tenant_id_external_id": errors.ExternalIdTaken,
    "uq_users_tenant_id_email": errors.EmailTaken,
    "uq_users_tenant_id_external_id": errors.ExternalIdTaken,
    "fk_users_tenants": errors.UnknownTenant,
    "fk_products_tenants": errors.UnknownTenant,
    "fk_pipeline_runs_tenants": errors.UnknownTenant,
    "fk_pipeline_sources_tenants": errors.UnknownTenant,
    "fk_pipeline_batches_pipeline_runs": errors.UnknownRun,
    "fk_pipeline_rejects_pipeline_runs": errors.UnknownRun,
    "fk_user_profiles_users": errors.UnknownUser,
    "fk_user_settings_users": errors.UnknownUser,
    "fk_user_sessions_users": errors.UnknownUser,
    "fk_user_activity_log_users": errors.UnknownUser,
    "fk_inventory_products": errors.UnknownProduct,
    "fk_inventory_last_movement": errors.LedgerBroken,
    "fk_inventory_movements_previous": errors.LedgerBroken,
    "fk_inventory_movements_inventory": errors.LedgerBroken,
    "fk_inventory_reservations_inventory": errors.UnknownProduct,
    "ck_inventory_quantity_not_negative": errors.InsufficientStock,
    "ck_inventory_reserved_within_quantity": errors.InsufficientStock,
    "ck_inventory_movements_quantity_after_not_negative": errors.InsufficientStock,
}
CLEARED = {
    # nothing but NULL lies in no partition, and the search for one comes first
    "user_activity_log.created_at",
    # computed, and never NULL
    "inventory.next_sequence",
    # wider than the primary key: it is there for foreign keys to refer to
    "uq_inventory_movements_ledger_entry",
}


def violations(owner: Session, table: Table) -> dict[str, Violation]:
    world = World(Judge(owner.connection()), count(time.time_ns()))
    return {each.constraint: each for each in violations_of(table, world)}


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_every_constraint_has_a_row_that_it_alone_refuses(shared_db: Database, table: Table) -> None:
    with shared_db.owner() as owner:
        found = violations(owner, table)
        assert constraints_in_database(owner.connection(), table) == set(found)
        engine = owner.get_bind()
    assert isinstance(engine, Engine)
    for each in found.values():
        assert refusals(engine, each) == [(each.sqlstate, each.constraint)], each


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_the_application_is_told_by_class_and_name_which_constraint_refused(shared_db: Database, table: Table) -> None:
    with shared_db.owner() as owner:
        found = [each for each in violations(owner, table).values() if not each.clearing]
    for each in found:
        refused = refused_to_application(shared_db, each)
        if each.sqlstate == NOT_NULL and owner_of(each.broken) is None:
            assert type(refused) is TenantMismatch  # the policy comes before NOT NULL
        else:
            assert type(refused) is NAMED.get(each.constraint, BY_STATE[each.sqlstate])
            assert refused.table == table.name
            assert refused.sqlstate == each.sqlstate
            assert each.constraint in (refused.constraint, f"{refused.table}.{refused.column}")


def refused_to_application(db: Database, violation: Violation) -> DataArchError:
    owners = [owner_of(each) for each in (violation.broken, *violation.given)]
    tenant_id = next((owner for owner in owners if owner is not None), new_id())
    with db.owner() as owner:
        for each in violation.given:
            if owner_of(each) != tenant_id:
                place(owner, each)
    with pytest.raises((ConstraintError, TenantMismatch)) as refused:
        break_as(db, tenant_id, violation)
    return refused.value


def break_as(db: Database, tenant_id: UUID, violation: Violation) -> None:
    with db.tenant(tenant_id) as session:
        for each in violation.given:
            if owner_of(each) == tenant_id:
                place(session, each, once=True)
        place(session, violation.broken)


def owner_of(placed: Placed) -> UUID | None:
    column = tenant_column(placed.table)
    assert column is not None
    owner = placed.row[column.name]
    assert owner is None or isinstance(owner, UUID)
    return owner


def test_only_three_constraints_need_something_else_out_of_their_way(shared_db: Database) -> None:
    with shared_db.owner() as owner:
        cleared = {each.constraint for table in TABLES for each in violations(owner, table).values() if each.clearing}
    assert cleared == CLEARED
