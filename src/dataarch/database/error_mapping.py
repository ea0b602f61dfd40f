"""Turn the server's errors into named ones, by SQLSTATE and by the name of the constraint.

On Citus the diagnosis has no constraint name; it is then the quoted name in the primary message, without the shard's
number behind it. A partition is named as its table, and its primary key as that of the table.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import psycopg
from sqlalchemy.engine import ExceptionContext

from dataarch import errors
from dataarch.errors import DataArchError

__all__ = ["named_error", "translate"]

CONSTRAINTS: Mapping[str, type[errors.ConstraintError]] = {
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

CONSTRAINT_KINDS: Mapping[str, tuple[type[errors.ConstraintError], str]] = {
    "23502": (errors.MissingValue, "a value is missing"),
    "23503": (errors.UnknownReference, "the row it refers to is not there, or is still referred to"),
    "23505": (errors.AlreadyExists, "another row has the same key"),
    "23514": (errors.CheckFailed, "the row breaks a rule of the table"),
    "23P01": (errors.AlreadyExists, "another row excludes it"),
    "DA008": (errors.DualWriteConflict, "its old and its new form were both given, and say different things"),
}

SERVER_STATES: Mapping[str, tuple[type[DataArchError], str]] = {
    "55P03": (errors.LockTimeout, "A lock was not granted in time"),
    "57014": (errors.StatementTimeout, "The statement ran longer than it may, or was cancelled"),
    "25P03": (errors.StatementTimeout, "The transaction was idle longer than it may"),
    "40P01": (errors.Deadlock, "Two transactions waited for each other"),
    "40001": (errors.SerializationFailure, "A concurrent transaction came first"),
    "53100": (errors.DiskFull, "The server's disk is full"),
    "42P01": (errors.SchemaNotMigrated, "A table is not there"),
    "42703": (errors.SchemaNotMigrated, "A column is not there"),
    "42883": (errors.SchemaNotMigrated, "A function is not there"),
    "42P05": (errors.StatementLost, "A prepared statement is there already"),
    "26000": (errors.StatementLost, "A prepared statement is not there"),
    "25006": (errors.ReadOnlyUnit, "The transaction can only read"),
    "22003": (errors.InvalidValue, "A number is beyond what its column holds"),
    "DA001": (errors.TenantSwitchRefused, "The transaction belongs to another tenant"),
    "DA002": (errors.TenantNotSet, "No tenant is set in this transaction"),
    "DA003": (errors.InvalidMonth, "This month gets no partition of its own"),
    "DA004": (errors.PartitionRefused, "Another table is in the way of the partition"),
    "DA005": (errors.PartitionRefused, "The transaction's snapshot is too old to move rows"),
    "DA006": (errors.RoleBypassesRowSecurity, "The application's role is not bound by the policies"),
    "DA009": (errors.InvalidChange, "The change cannot be made"),
    "DA020": (errors.NotVerified, "A change may not be completed"),
    "DA021": (errors.BackfillChanged, "A backfill is not what it was"),
}

UNREACHABLE_CLASSES = ("08", "57P")
"""SQLSTATE classes of a connection that broke and of a server that shuts down or starts up."""

PARTITION_SEARCH = "ExecFindPartition"
"""The server's routine that finds a row's partition: SQLSTATE 23514 from there is no rule of the table."""

WRITE_CHECK = "ExecWithCheckOptions"
"""The server's routine that applies WITH CHECK: SQLSTATE 42501 from there is a policy, from elsewhere a privilege."""

SHARD_SUFFIX = re.compile(r"_\d{5,}$")
PARTITION_SUFFIX = re.compile(r"(?<=^user_activity_log)_(?:rest_\w+?|\d{4}_\d{2})(?=$|_pkey$)")
PARTITION_KEYS = {"user_activity_log_pkey": "pk_user_activity_log"}
KEY = re.compile(r"^[^(]*\((.+?)\)=\(")
QUOTED_NAME = re.compile(r'constraint "([^"]+)"')


def translate(context: ExceptionContext) -> DataArchError | None:
    """Return the named error for what SQLAlchemy caught, or None where its own says enough.

    A listener for the engine event ``handle_error``.
    """
    original = context.original_exception
    # the pool judges a failed ping itself, and opens a new connection
    if context.is_pre_ping or not isinstance(original, psycopg.Error):
        return None
    named = named_error(original)
    if isinstance(named, errors.ConstraintError | errors.PartitionMissing):
        # a traceback shows the driver's error as the cause; its DETAIL, with the row's values, stays in its diag
        original.args = (original.diag.message_primary,)
    return named


def named_error(error: psycopg.Error) -> DataArchError | None:
    """Return the named error for one of the driver; None where there is no better name for it."""
    state = error.sqlstate or ""
    if state == "23514" and error.diag.source_function == PARTITION_SEARCH:
        table = table_name(error)
        return errors.PartitionMissing(
            f"No partition of {table or 'the table'} takes the row's period at this moment.",
            table=table,
            sqlstate=state,
        )
    if state in CONSTRAINT_KINDS:
        return _constraint_error(error, state)
    if state == "42501":
        return _refused(error)
    if state in SERVER_STATES:
        kind, what = SERVER_STATES[state]
        # what the server suggests for a name it does not know is a type cast, never a migration
        hint = None if kind is errors.SchemaNotMigrated else error.diag.message_hint
        return kind(f"{what}: {_said(error)}.", hint=hint, sqlstate=state)
    if _unreachable(error, state):
        return errors.ServerUnreachable(f"The database cannot be reached: {_said(error)}.", sqlstate=state or None)
    return None


def _unreachable(error: psycopg.Error, state: str) -> bool:
    # a connection that was never made has no SQLSTATE
    return state.startswith(UNREACHABLE_CLASSES) if state else isinstance(error, psycopg.OperationalError)


def _said(error: psycopg.Error) -> str:
    """Return what the server said, on one line and without its full stop or question mark."""
    said = error.diag.message_primary or " ".join(str(error).split()) or type(error).__name__
    return said.rstrip(".?")


def _constraint_error(error: psycopg.Error, state: str) -> DataArchError:
    kind, what = CONSTRAINT_KINDS[state]
    name = constraint_name(error)
    kind = CONSTRAINTS.get(name or "", kind)
    column = error.diag.column_name
    table = table_name(error)
    by = name or (f"column {column}" if column else "a constraint")
    return kind(
        f"The row was refused by {by} of {table or 'the table'}: {what}.{_key(error)}",
        hint="Correct the row; nothing of this transaction was written.",
        table=table,
        column=column,
        constraint=name,
        sqlstate=state,
    )


def _key(error: psycopg.Error) -> str:
    """Return the columns that the server's detail is about; their values are people's data, and belong in no log."""
    key = KEY.search(error.diag.message_detail or "")
    return f" The key is ({key.group(1)})." if key else ""


def table_name(error: psycopg.Error) -> str | None:
    """Return the table's name as the schema has it, for a partition and for a shard too."""
    return PARTITION_SUFFIX.sub("", SHARD_SUFFIX.sub("", error.diag.table_name or "")) or None


def constraint_name(error: psycopg.Error) -> str | None:
    """Return the constraint's name as the schema has it, on Citus too."""
    name = error.diag.constraint_name
    if not name and (quoted := QUOTED_NAME.search(error.diag.message_primary or "")):
        name = quoted.group(1)
    if not name:
        return None
    whole = PARTITION_SUFFIX.sub("", SHARD_SUFFIX.sub("", name))
    return PARTITION_KEYS.get(whole, whole)


def _refused(error: psycopg.Error) -> DataArchError:
    if error.diag.source_function == WRITE_CHECK:
        return errors.TenantMismatch(
            f"A row of another tenant, or of none, was to be written: {_said(error)}.",
            table=table_name(error),
            sqlstate="42501",
        )
    return errors.PrivilegeMissing(
        f"The role may not do this: {_said(error)}.", hint=error.diag.message_hint or None, sqlstate="42501"
    )
