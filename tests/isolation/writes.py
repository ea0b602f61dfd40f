"""Statements that try to change, make, move, remove or refer to the rival's rows.

All are sent both as ``text()`` and past SQLAlchemy, and must come to the same: policies and keys alone hold.
"""

# ruff: noqa: E501  # a statement reads best on one line

from __future__ import annotations

from dataarch.errors import (
    LedgerBroken,
    PrivilegeMissing,
    SlugTaken,
    TenantMismatch,
    UnknownProduct,
    UnknownRun,
    UnknownUser,
)
from isolation.attack import OWN
from isolation.reads import Table

A_USER = "INSERT INTO users (tenant_id, id, email, full_name)"
A_MOVEMENT = (
    "INSERT INTO inventory_movements (tenant_id, product_id, sequence, quantity_before, change, quantity_after, reason)"
)
A_RESERVATION = "INSERT INTO inventory_reservations (tenant_id, product_id, quantity, expires_at)"

INSERTS: Table = [
    ("insert a user", f"{A_USER} VALUES ('<rival>', uuid_v7(), 'eve@example.com', 'Eve')", TenantMismatch),
    (
        "insert a profile",
        "INSERT INTO user_profiles (tenant_id, user_id) VALUES ('<rival>', '<rival_user>')",
        TenantMismatch,
    ),
    (
        "insert settings",
        "INSERT INTO user_settings (tenant_id, user_id) VALUES ('<rival>', '<rival_user>')",
        TenantMismatch,
    ),
    (
        "insert a session",
        "INSERT INTO user_sessions (tenant_id, token_hash, user_id, expires_at) VALUES ('<rival>', repeat('a', 64), '<rival_user>', 'infinity')",
        TenantMismatch,
    ),
    (
        "insert an activity",
        "INSERT INTO user_activity_log (tenant_id, user_id, activity_type) VALUES ('<rival>', '<rival_user>', 'login')",
        TenantMismatch,
    ),
    (
        "insert an old activity, into the catch-all",
        "INSERT INTO user_activity_log (tenant_id, user_id, activity_type, created_at) VALUES ('<rival>', '<rival_user>', 'login', '1999-01-01')",
        TenantMismatch,
    ),
    (
        "insert a product",
        "INSERT INTO products (tenant_id, slug, name, price, currency) VALUES ('<rival>', 'cup', 'Cup', 100, 'EUR')",
        TenantMismatch,
    ),
    (
        "insert an inventory row",
        "INSERT INTO inventory (tenant_id, product_id, quantity, last_sequence) VALUES ('<rival>', '<rival_product>', 9, 1)",
        TenantMismatch,
    ),
    (
        "insert a run of a pipeline",
        "INSERT INTO pipeline_runs (tenant_id, pipeline, pipeline_version, dataarch_version) VALUES ('<rival>', 'p', '1', '1')",
        TenantMismatch,
    ),
    (
        "insert how far a source is read",
        "INSERT INTO pipeline_sources (tenant_id, pipeline, source, records, bytes, checksum, begun_by, run_id) VALUES ('<rival>', 'p', 's', 0, 0, repeat('a', 64), uuid_v7(), uuid_v7())",
        TenantMismatch,
    ),
    (
        "insert where rows came from",
        "INSERT INTO pipeline_batches (tenant_id, run_id, number, source, first_record, first_byte, bytes, table_name, rows, least_id, greatest_id, extracted_at, transformed_at) VALUES ('<rival>', uuid_v7(), 1, 's', 1, 0, 0, 'users', '{}', uuid_v7(), uuid_v7(), now(), now())",
        TenantMismatch,
    ),
    (
        "insert a reject",
        "INSERT INTO pipeline_rejects (tenant_id, run_id, source, number, stage, reason, record) VALUES ('<rival>', uuid_v7(), 's', 1, 'load', 'r', '{}')",
        TenantMismatch,
    ),
    (
        "insert a reservation",
        f"{A_RESERVATION} VALUES ('<rival>', '<rival_product>', 1, 'infinity')",
        TenantMismatch,
    ),
    ("insert a movement", f"{A_MOVEMENT} VALUES ('<rival>', '<rival_product>', 2, 5, 1, 6, 'receipt')", TenantMismatch),
    ("insert a tenant", "INSERT INTO tenants (slug, name) VALUES ('eve', 'Eve')", TenantMismatch),
    (
        "insert a tenant over another",
        "INSERT INTO tenants (id, slug, name) VALUES ('<rival>', 'eve', 'Eve')",
        TenantMismatch,
    ),
    ("insert what one selects", f"{A_USER} SELECT '<rival>', uuid_v7(), email, full_name FROM users", TenantMismatch),
    (
        "copy another tenant's users",
        f"{A_USER} SELECT '<acme>', uuid_v7(), 'x' || email, full_name FROM users WHERE tenant_id = '<rival>'",
        0,
    ),
    (
        "insert and give back",
        f"{A_USER} VALUES ('<rival>', uuid_v7(), 'eve@example.com', 'Eve') RETURNING *",
        TenantMismatch,
    ),
]

CONFLICTS: Table = [
    (
        "insert a user that is there, doing nothing",
        f"{A_USER} VALUES ('<rival>', '<rival_user>', 'eve@example.com', 'Eve') ON CONFLICT DO NOTHING",
        TenantMismatch,
    ),
    (
        "upsert over another tenant's user",
        f"{A_USER} VALUES ('<rival>', '<rival_user>', 'eve@example.com', 'Eve') ON CONFLICT (tenant_id, id) DO UPDATE SET full_name = 'Eve'",
        TenantMismatch,
    ),
    (
        "upsert over another tenant's slug",
        "INSERT INTO tenants (id, slug, name) VALUES ('<acme>', '<rival_slug>', 'Eve') ON CONFLICT (slug) DO UPDATE SET name = 'Eve'",
        TenantMismatch,
    ),
    (
        "upsert one's own tenant into another's slug",
        "INSERT INTO tenants (id, slug, name) VALUES ('<acme>', 'eve', 'Eve') ON CONFLICT (id) DO UPDATE SET slug = '<rival_slug>'",
        SlugTaken,
    ),
    (
        "upsert one's own user into another tenant",
        f"{A_USER} VALUES ('<acme>', '<acme_user>', 'eve@example.com', 'Eve') ON CONFLICT (tenant_id, id) DO UPDATE SET tenant_id = '<rival>'",
        TenantMismatch,
    ),
    ("take another tenant's slug", "UPDATE tenants SET slug = '<rival_slug>'", SlugTaken),
    (
        "take another tenant's e-mail address within one's own",
        f"{A_USER} VALUES ('<acme>', uuid_v7(), '<rival_email>', 'Eve')",
        1,
    ),
    (
        "take another tenant's user id within one's own",
        f"{A_USER} VALUES ('<acme>', '<rival_user>', 'eve@example.com', 'Eve')",
        1,
    ),
]

UPDATES: Table = [
    *(
        (f"update rows of {table} by the tenant's id", f"UPDATE {table} SET {change} WHERE {column} = '<rival>'", 0)
        for table, column, change in (
            ("tenants", "id", "name = 'owned'"),
            ("users", "tenant_id", "full_name = 'owned'"),
            ("user_profiles", "tenant_id", "bio = 'owned'"),
            ("user_settings", "tenant_id", "locale = 'xx'"),
            ("user_sessions", "tenant_id", "expires_at = 'infinity'"),
            ("user_activity_log", "tenant_id", "activity_type = 'owned'"),
            ("products", "tenant_id", "price = 0"),
            ("inventory", "tenant_id", "quantity = 0"),
            ("inventory_movements", "tenant_id", "next_sequence = 2"),
            ("inventory_reservations", "tenant_id", "state = 'held', ended_at = NULL"),
            ("pipeline_runs", "tenant_id", "state = 'failed', error = 'owned', finished_at = now()"),
            ("pipeline_sources", "tenant_id", "records = 0"),
            ("pipeline_rejects", "tenant_id", "replayed_by = NULL, handed_to = NULL"),
        )
    ),
    *(
        (f"move rows of {table} to another tenant", f"UPDATE {table} SET {column} = '<rival>'", TenantMismatch)
        for table, column in (
            ("tenants", "id"),
            ("users", "tenant_id"),
            ("user_profiles", "tenant_id"),
            ("user_settings", "tenant_id"),
            ("user_sessions", "tenant_id"),
            ("user_activity_log", "tenant_id"),
            ("products", "tenant_id"),
            ("inventory", "tenant_id"),
        )
    ),
    ("move a movement to another tenant", "UPDATE inventory_movements SET tenant_id = '<rival>'", PrivilegeMissing),
    (
        "move a reservation to another tenant",
        "UPDATE inventory_reservations SET tenant_id = '<rival>'",
        PrivilegeMissing,
    ),
    *(
        (f"move rows of {table} to another tenant", f"UPDATE {table} SET tenant_id = '<rival>'", PrivilegeMissing)
        for table in ("pipeline_runs", "pipeline_sources", "pipeline_batches", "pipeline_rejects")
    ),
    ("fetch rows from another tenant", "UPDATE users SET tenant_id = '<acme>' WHERE tenant_id = '<rival>'", 0),
    ("update every row", "UPDATE users SET full_name = 'owned'", 1),
    ("update every row and give it back", "UPDATE user_activity_log SET activity_type = 'owned' RETURNING *", OWN),
    (
        "update from a join",
        "UPDATE users SET full_name = 'owned' FROM products WHERE users.tenant_id <> products.tenant_id",
        0,
    ),
    (
        "update from another tenant's value",
        "UPDATE users SET full_name = (SELECT name FROM products WHERE tenant_id = '<rival>') WHERE false OR EXISTS (SELECT FROM products WHERE tenant_id = '<rival>')",
        0,
    ),
    (
        "move another tenant's activity into another month",
        "UPDATE user_activity_log SET created_at = '1999-01-01' WHERE tenant_id = '<rival>'",
        0,
    ),
    (
        "merge into another tenant's row",
        "MERGE INTO users USING (VALUES (1)) AS v ON users.id = '<rival_user>' WHEN MATCHED THEN UPDATE SET full_name = 'owned'",
        0,
    ),
    (
        "merge away another tenant's row",
        "MERGE INTO users USING (VALUES (1)) AS v ON users.id = '<rival_user>' WHEN MATCHED THEN DELETE",
        0,
    ),
    (
        "merge a new row into another tenant",
        "MERGE INTO users USING (VALUES (1)) AS v ON users.id = '<rival_user>' WHEN NOT MATCHED THEN INSERT (tenant_id, email, full_name) VALUES ('<rival>', 'eve@example.com', 'Eve')",
        TenantMismatch,
    ),
]

DELETES: Table = [
    *(
        (f"delete rows of {table} by the tenant's id", f"DELETE FROM {table} WHERE {column} = '<rival>'", 0)
        for table, column in (
            ("tenants", "id"),
            ("users", "tenant_id"),
            ("user_profiles", "tenant_id"),
            ("user_settings", "tenant_id"),
            ("user_sessions", "tenant_id"),
            ("user_activity_log", "tenant_id"),
            ("products", "tenant_id"),
            ("pipeline_sources", "tenant_id"),
        )
    ),
    *(
        (f"delete rows of {table}", f"DELETE FROM {table}", PrivilegeMissing)
        for table in ("inventory", "inventory_movements", "inventory_reservations")
    ),
    *(
        (f"delete rows of {table}", f"DELETE FROM {table}", PrivilegeMissing)
        for table in ("pipeline_runs", "pipeline_batches", "pipeline_rejects")
    ),
    ("delete every tenant, with all below", "DELETE FROM tenants", 1),
    ("delete every user, with all below", "DELETE FROM users", 1),
    ("delete every activity", "DELETE FROM user_activity_log", 1),
    ("delete by a join", "DELETE FROM users USING tenants WHERE tenants.id = '<rival>'", 0),
    (
        "delete in a common table expression",
        "WITH gone AS (DELETE FROM users WHERE id = '<rival_user>' RETURNING *) SELECT * FROM gone",
        [],
    ),
]

REFERENCES: Table = [
    (
        "count a reject for another tenant's run",
        "INSERT INTO pipeline_rejects (tenant_id, run_id, source, number, stage, reason, record) VALUES ('<acme>', '<rival_run>', 's', 1, 'load', 'r', '{}')",
        UnknownRun,
    ),
    (
        "give another tenant's user a profile",
        "INSERT INTO user_profiles (tenant_id, user_id) VALUES ('<acme>', '<rival_user>')",
        UnknownUser,
    ),
    (
        "give another tenant's user settings",
        "INSERT INTO user_settings (tenant_id, user_id) VALUES ('<acme>', '<rival_user>')",
        UnknownUser,
    ),
    (
        "open a session for another tenant's user",
        "INSERT INTO user_sessions (tenant_id, token_hash, user_id, expires_at) VALUES ('<acme>', repeat('a', 64), '<rival_user>', 'infinity')",
        UnknownUser,
    ),
    (
        "log another tenant's user",
        "INSERT INTO user_activity_log (tenant_id, user_id, activity_type) VALUES ('<acme>', '<rival_user>', 'login')",
        UnknownUser,
    ),
    (
        "stock another tenant's product",
        "INSERT INTO inventory (tenant_id, product_id, quantity, last_sequence) VALUES ('<acme>', '<rival_product>', 5, 1)",
        UnknownProduct,
    ),
    (
        "move another tenant's product",
        f"{A_MOVEMENT} VALUES ('<acme>', '<rival_product>', 1, 0, 5, 5, 'receipt')",
        LedgerBroken,
    ),
    (
        "reserve another tenant's product",
        f"{A_RESERVATION} VALUES ('<acme>', '<rival_product>', 1, 'infinity')",
        UnknownProduct,
    ),
    (
        "follow another tenant's movement",
        f"{A_MOVEMENT} VALUES ('<acme>', '<rival_product>', 2, 5, 1, 6, 'receipt')",
        LedgerBroken,
    ),
    (
        "turn one's own activity to another tenant's user",
        "UPDATE user_activity_log SET user_id = '<rival_user>'",
        UnknownUser,
    ),
    (
        "turn one's own inventory to another tenant's product",
        "UPDATE inventory SET product_id = '<rival_product>'",
        UnknownProduct,
    ),
]

WRITES: Table = [*INSERTS, *CONFLICTS, *UPDATES, *DELETES, *REFERENCES]
