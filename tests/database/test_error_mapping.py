"""What the server refuses arrives under its own name, told apart by SQLSTATE and by the constraint's name."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from uuid import UUID

import pytest
from sqlalchemy import delete, insert, select, text, update
from sqlalchemy.exc import DataError

from dataarch import errors
from dataarch.database.error_mapping import CONSTRAINTS
from dataarch.database.tenancy import Isolation
from dataarch.database.unit_of_work import Database, TenantSession
from dataarch.errors import ConstraintError, DataArchError
from dataarch.models import Base, Inventory, InventoryMovement, Product, Tenant, User, UserActivity, UserProfile
from dataarch.models.base import new_id
from fixtures.tenants import Inhabited, inhabit


@dataclass(frozen=True)
class Refused:
    """What is done, and the error that must come of it."""

    run: Callable[[TenantSession, Inhabited], object]
    kind: type[ConstraintError]
    table: str
    constraint: str | None
    sqlstate: str
    column: str | None = None


def product(slug: str = "kettle", external_id: str | None = None) -> Product:
    return Product(slug=slug, external_id=external_id, name="Kettle", price=Decimal(1), currency="EUR")


def user(**given: str) -> User:
    return User(full_name="Grace", **given)


def movement(home: Inhabited, product_id: UUID | None = None, **given: int) -> InventoryMovement:
    numbers = {"sequence": 2, "quantity_before": 5, "change": -1, "quantity_after": 4} | given
    return InventoryMovement(product_id=product_id or home.product_id, reason="adjustment", **numbers)


def bare(statement: str) -> Callable[[TenantSession, Inhabited], object]:
    """Send SQL, past the types that refuse in Python."""
    return lambda session, home: session.execute(
        text(statement), {"home": home.id, "user": home.user_id, "product": home.product_id}
    )


REFUSED = {
    "slug of a product": Refused(
        lambda session, home: session.add(product("tea-pot")),
        errors.SlugTaken, "products", "uq_products_tenant_id_slug", "23505",
    ),
    "slug of a tenant": Refused(
        bare("INSERT INTO tenants (id, slug, name) SELECT id, slug || '', name FROM tenants"),
        errors.AlreadyExists, "tenants", "pk_tenants", "23505",
    ),
    "external id of a product": Refused(
        lambda session, home: session.add(product(external_id="T1")),
        errors.ExternalIdTaken, "products", "uq_products_tenant_id_external_id", "23505",
    ),
    "e-mail address": Refused(
        lambda session, home: session.add(user(email="ada@home.example.com")),
        errors.EmailTaken, "users", "uq_users_tenant_id_email", "23505",
    ),
    "external id of a user": Refused(
        lambda session, home: session.add(user(external_id="1")),
        errors.ExternalIdTaken, "users", "uq_users_tenant_id_external_id", "23505",
    ),
    "primary key": Refused(
        lambda session, home: session.execute(insert(UserProfile), {"tenant_id": home.id, "user_id": home.user_id}),
        errors.AlreadyExists, "user_profiles", "pk_user_profiles", "23505",
    ),
    "primary key of a partition": Refused(
        bare("INSERT INTO user_activity_log SELECT * FROM user_activity_log"),
        errors.AlreadyExists, "user_activity_log", "pk_user_activity_log", "23505",
    ),
    "primary key of a catch-all": Refused(
        bare(
            "INSERT INTO user_activity_log (tenant_id, id, user_id, activity_type, created_at)"
            " SELECT :home, 'a7a1b1d2-0000-7000-8000-000000000000', :user, 'x', '1960-01-01' FROM generate_series(1, 2)"
        ),
        errors.AlreadyExists, "user_activity_log", "pk_user_activity_log", "23505",
    ),
    "user of a profile": Refused(
        lambda session, home: session.add(UserProfile(user_id=new_id())),
        errors.UnknownUser, "user_profiles", "fk_user_profiles_users", "23503",
    ),
    "user of an activity": Refused(
        lambda session, home: session.add(UserActivity(user_id=new_id(), activity_type="login")),
        errors.UnknownUser, "user_activity_log", "fk_user_activity_log_users", "23503",
    ),
    "product of a stock": Refused(
        lambda session, home: session.add(Inventory(product_id=new_id(), quantity=0, last_sequence=1)),
        errors.UnknownProduct, "inventory", "fk_inventory_products", "23503",
    ),
    "last movement, at the commit": Refused(
        lambda session, home: session.execute(update(Inventory).values(quantity=7)),
        errors.LedgerBroken, "inventory", "fk_inventory_last_movement", "23503",
    ),
    "movement of no stock, at the commit": Refused(
        lambda session, home: session.add(
            movement(home, new_id(), sequence=1, quantity_before=0, change=1, quantity_after=1)
        ),
        errors.LedgerBroken, "inventory_movements", "fk_inventory_movements_inventory", "23503",
    ),
    "movement after none, at the commit": Refused(
        lambda session, home: session.add(movement(home, sequence=9)),
        errors.LedgerBroken, "inventory_movements", "fk_inventory_movements_previous", "23503",
    ),
    "less than nothing in stock": Refused(
        lambda session, home: session.execute(update(Inventory).values(quantity=-1)),
        errors.InsufficientStock, "inventory", "ck_inventory_quantity_not_negative", "23514",
    ),
    "less than nothing after a movement": Refused(
        lambda session, home: session.add(movement(home, change=-6, quantity_after=-1)),
        errors.InsufficientStock, "inventory_movements", "ck_inventory_movements_quantity_after_not_negative", "23514",
    ),
    "rule of a table": Refused(
        lambda session, home: session.add(User(full_name="Nobody")),
        errors.CheckFailed, "users", "ck_users_identified", "23514",
    ),
    "rule of a partition": Refused(
        bare("INSERT INTO user_activity_log (tenant_id, user_id, activity_type) VALUES (:home, :user, '')"),
        errors.CheckFailed, "user_activity_log", "ck_user_activity_log_activity_type_valid", "23514",
    ),
    "missing value": Refused(
        lambda session, home: session.add(User(email="grace@home.example.com")),
        errors.MissingValue, "users", None, "23502", "full_name",
    ),
    "missing value of a partition": Refused(
        bare("INSERT INTO user_activity_log (tenant_id, user_id, activity_type) VALUES (:home, :user, NULL)"),
        errors.MissingValue, "user_activity_log", None, "23502", "activity_type",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_a_constraint_refuses_has_its_name(name: str, shared_db: Database, home: Inhabited) -> None:
    expected = REFUSED[name]
    with pytest.raises(ConstraintError) as refused, shared_db.tenant(home.id) as session:
        expected.run(session, home)
    error = refused.value
    assert type(error) is expected.kind
    assert (error.table, error.constraint, error.column, error.sqlstate) == (
        expected.table,
        expected.constraint,
        expected.column,
        expected.sqlstate,
    )
    assert error.hint


def test_a_tenants_slug_is_taken_across_tenants(shared_db: Database, home: Inhabited) -> None:
    tenant_id = new_id()
    with pytest.raises(errors.SlugTaken) as refused, shared_db.tenant(tenant_id) as session:
        session.add(Tenant(slug=home.slug, name="Second"))
    assert refused.value.constraint == "uq_tenants_slug"


@pytest.mark.parametrize("row", [user(email="g@example.com"), product()], ids=["user", "product"])
def test_a_tenant_that_does_not_exist_is_unknown(row: Base, shared_db: Database) -> None:
    with pytest.raises(errors.UnknownTenant), shared_db.tenant(new_id()) as session:
        session.add(type(row)(**{key: value for key, value in vars(row).items() if key != "_sa_instance_state"}))


def test_a_row_that_others_refer_to_is_an_unknown_reference_when_it_is_removed(
    shared_db: Database, home: Inhabited
) -> None:
    with pytest.raises(errors.LedgerBroken), shared_db.owner() as session:
        session.execute(delete(InventoryMovement).where(InventoryMovement.tenant_id == home.id))


def test_every_constraint_that_has_an_error_of_its_own_exists() -> None:
    exist = {str(one.name) for table in Base.metadata.tables.values() for one in table.constraints}
    assert CONSTRAINTS.keys() <= exist


def test_every_reference_to_another_table_has_an_error_of_its_own() -> None:
    for table in Base.metadata.tables.values():
        for constraint in table.foreign_key_constraints:
            if table.name != "user_settings":
                assert constraint.name in CONSTRAINTS
    assert CONSTRAINTS["fk_user_settings_users"] is errors.UnknownUser


# ── as Citus says it, and as partitions do ────────────────────────────────────────────────────────────────────────


def raised(state: str, message: str, **about: str) -> str:
    """Return SQL that raises an error as another server would."""
    using = "".join(f", {name} = '{value}'" for name, value in about.items())
    quoted = message.replace("'", "''")
    return f"DO $do$ BEGIN RAISE EXCEPTION USING ERRCODE = '{state}', MESSAGE = '{quoted}'{using}; END $do$"


@pytest.mark.parametrize(
    ("state", "message", "kind", "constraint"),
    [
        (
            "23505",
            'duplicate key value violates unique constraint "uq_products_tenant_id_slug_102008"',
            errors.SlugTaken,
            "uq_products_tenant_id_slug",
        ),
        (
            "23503",
            'insert on table "user_profiles_102010" violates foreign key constraint "fk_user_profiles_users_102010"',
            errors.UnknownUser,
            "fk_user_profiles_users",
        ),
        (
            "23514",
            'relation "inventory_102012" violates check constraint "ck_inventory_quantity_not_negative_102012"',
            errors.InsufficientStock,
            "ck_inventory_quantity_not_negative",
        ),
        (
            "23505",
            'duplicate key value violates unique constraint "user_activity_log_2026_01_pkey_102033"',
            errors.AlreadyExists,
            "pk_user_activity_log",
        ),
        ("23505", "nothing is said", errors.AlreadyExists, None),
    ],
)
def test_a_constraint_that_only_the_message_names_is_found_without_its_shard(
    state: str, message: str, kind: type[ConstraintError], constraint: str | None, shared_db: Database, home: Inhabited
) -> None:
    with pytest.raises(ConstraintError) as refused, shared_db.tenant(home.id) as session:
        session.execute(text(raised(state, message)))
    assert type(refused.value) is kind
    assert (refused.value.constraint, refused.value.table) == (constraint, None)


@pytest.mark.parametrize(
    ("constraint", "table", "expected"),
    [
        ("user_activity_log_2026_01_pkey", "user_activity_log_2026_01", ("pk_user_activity_log", "user_activity_log")),
        (
            "user_activity_log_rest_before_pkey",
            "user_activity_log_rest_before",
            ("pk_user_activity_log", "user_activity_log"),
        ),
        (
            "fk_user_activity_log_users",
            "user_activity_log_2026_01",
            ("fk_user_activity_log_users", "user_activity_log"),
        ),
        ("uq_things_2026_01", "things_2026_01", ("uq_things_2026_01", "things_2026_01")),
        ("uq_things_1234", "things", ("uq_things_1234", "things")),
    ],
)
def test_a_partition_is_named_as_its_table_and_others_as_they_are(
    constraint: str, table: str, expected: tuple[str, str], shared_db: Database, home: Inhabited
) -> None:
    with pytest.raises(ConstraintError) as refused, shared_db.tenant(home.id) as session:
        session.execute(text(raised("23505", "refused", CONSTRAINT=constraint, TABLE=table)))
    assert (refused.value.constraint, refused.value.table) == expected


# ── privileges and policies ───────────────────────────────────────────────────────────────────────────────────────


def test_a_row_against_the_policy_is_a_tenant_mismatch(shared_db: Database, home: Inhabited, abroad: Inhabited) -> None:
    with pytest.raises(errors.TenantMismatch) as refused, shared_db.tenant(home.id) as session:
        session.execute(insert(Base.metadata.tables["users"]), {"tenant_id": abroad.id, "full_name": "Eve"})
    assert (refused.value.sqlstate, refused.value.table) == ("42501", None)


@pytest.mark.parametrize(
    "statement", ["TRUNCATE users", "DELETE FROM inventory_movements", "SELECT * FROM pg_authid", "CREATE TABLE x ()"]
)
def test_what_the_role_may_not_do_is_a_missing_privilege(statement: str, shared_db: Database, home: Inhabited) -> None:
    with pytest.raises(errors.PrivilegeMissing) as refused, shared_db.tenant(home.id) as session:
        session.execute(text(statement))
    assert refused.value.sqlstate == "42501"


def test_policy_and_privilege_are_not_told_apart_by_their_text(shared_db: Database, home: Inhabited) -> None:
    with pytest.raises(errors.PrivilegeMissing), shared_db.tenant(home.id) as session:
        session.execute(text(raised("42501", 'new row violates row-level security policy for table "users"')))


# ── concurrency and the rest ──────────────────────────────────────────────────────────────────────────────────────


def test_two_transactions_that_wait_for_each_other_are_a_deadlock(shared_db: Database, home: Inhabited) -> None:
    together = threading.Barrier(2)
    found: list[DataArchError | None] = []

    def work(*rows: type[Base]) -> None:
        try:
            with shared_db.tenant(home.id) as session:
                session.execute(select(rows[0]).with_for_update())
                together.wait()
                session.execute(select(rows[1]).with_for_update())
            found.append(None)
        except DataArchError as error:
            found.append(error)

    threads = [threading.Thread(target=work, args=rows) for rows in ((User, Product), (Product, User))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (deadlock,) = [error for error in found if error is not None]
    assert type(deadlock) is errors.Deadlock
    assert deadlock.sqlstate == "40P01"


@pytest.mark.parametrize("isolation", [Isolation.REPEATABLE_READ, Isolation.SERIALIZABLE])
def test_a_transaction_that_came_second_is_a_serialization_failure(
    isolation: Isolation, shared_db: Database, home: Inhabited
) -> None:
    with pytest.raises(errors.SerializationFailure) as refused, shared_db.tenant(home.id, isolation=isolation) as late:
        late.execute(select(Product))
        with shared_db.tenant(home.id) as early:
            early.execute(update(Product).values(name="Early"))
        late.execute(update(Product).values(name="Late"))
    assert refused.value.sqlstate == "40001"
    assert isinstance(refused.value, errors.Retryable)


STATES = {
    "22003": errors.InvalidValue,
    "42P05": errors.StatementLost,
    "26000": errors.StatementLost,
    "53100": errors.DiskFull,
    "42P01": errors.SchemaNotMigrated,
    "42703": errors.SchemaNotMigrated,
    "42883": errors.SchemaNotMigrated,
    "DA001": errors.TenantSwitchRefused,
    "DA002": errors.TenantNotSet,
    "DA003": errors.InvalidMonth,
    "DA004": errors.PartitionRefused,
    "DA005": errors.PartitionRefused,
    "DA006": errors.RoleBypassesRowSecurity,
    "57014": errors.StatementTimeout,
    "08006": errors.ServerUnreachable,
    "57P03": errors.ServerUnreachable,
    "23P01": errors.AlreadyExists,
}


@pytest.mark.parametrize("state", STATES)
def test_a_state_of_the_server_has_its_name(state: str, shared_db: Database, home: Inhabited) -> None:
    with pytest.raises(DataArchError) as refused, shared_db.tenant(home.id) as session:
        session.execute(text(raised(state, "refused.")))
    assert type(refused.value) is STATES[state]
    assert refused.value.sqlstate == state
    assert ".." not in str(refused.value)


def test_a_hint_of_the_server_is_passed_on(shared_db: Database, home: Inhabited) -> None:
    with pytest.raises(errors.PartitionRefused) as refused, shared_db.tenant(home.id) as session:
        session.execute(text(raised("DA004", "in the way", HINT="Move it.")))
    assert refused.value.hint == "Move it."


def test_a_full_disk_says_more_than_the_servers_hint(shared_db: Database, home: Inhabited) -> None:
    with pytest.raises(errors.DiskFull) as refused, shared_db.tenant(home.id) as session:
        session.execute(text(raised("53100", "No space left on device", HINT="Check free disk space.")))
    assert refused.value.hint == errors.DiskFull.default_hint


@pytest.mark.parametrize("role", ["application", "owner"])
def test_a_row_whose_period_has_no_partition_at_this_moment_may_be_tried_again(db: Database, role: str) -> None:
    acme = inhabit(db)
    unit_of_work = db.owner() if role == "owner" else db.tenant(acme.id)
    with db.owner() as session:
        session.execute(text("ALTER TABLE user_activity_log DETACH PARTITION user_activity_log_rest_min"))
    with pytest.raises(errors.PartitionMissing) as refused, unit_of_work as session:
        session.execute(
            insert(UserActivity),
            {
                "tenant_id": acme.id,
                "user_id": acme.user_id,
                "activity_type": "x",
                "created_at": datetime(1971, 1, 1, tzinfo=UTC),
            },
        )
    assert isinstance(refused.value, errors.Retryable)
    assert (refused.value.table, refused.value.sqlstate) == ("user_activity_log", "23514")
    assert refused.value.__cause__ is not None
    assert "1971" not in str(refused.value.__cause__)


def test_a_row_in_a_partition_of_another_period_is_refused_for_good(db: Database) -> None:
    acme = inhabit(db)
    with db.owner() as session, pytest.raises(errors.CheckFailed) as refused:
        session.execute(
            text(
                "INSERT INTO user_activity_log_rest_min (tenant_id, user_id, activity_type, created_at)"
                " VALUES (:home, :user, 'x', '2030-01-01')"
            ),
            {"home": acme.id, "user": acme.user_id},
        )
    assert refused.value.constraint is None


def test_an_error_without_a_better_name_stays_what_it_is(shared_db: Database, home: Inhabited) -> None:
    with pytest.raises(DataError), shared_db.tenant(home.id) as session:
        session.execute(text("SELECT 1 / 0"))
