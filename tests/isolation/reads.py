"""Statements that try to see the rival's rows, and statements that try to learn of them by an error or a count.

All are sent both as ``text()`` and past SQLAlchemy, and must come to the same: the policies alone hold.
"""

# ruff: noqa: E501  # a statement reads best on one line

from __future__ import annotations

from dataarch.errors import PrivilegeMissing
from isolation.attack import OWN

TENANTS_TABLES = {
    "tenants": "id",
    "users": "tenant_id",
    "user_profiles": "tenant_id",
    "user_settings": "tenant_id",
    "user_sessions": "tenant_id",
    "user_activity_log": "tenant_id",
    "products": "tenant_id",
    "inventory": "tenant_id",
    "inventory_movements": "tenant_id",
    "inventory_reservations": "tenant_id",
    "pipeline_runs": "tenant_id",
    "pipeline_sources": "tenant_id",
    "pipeline_batches": "tenant_id",
    "pipeline_rejects": "tenant_id",
}

Table = list[tuple[str, str, object]]

BY_TENANT: Table = [
    (f"read the rows of {table} by the tenant's id", f"SELECT * FROM {table} WHERE {column} = '<rival>'", [])
    for table, column in TENANTS_TABLES.items()
]

WHOLE: Table = [(f"read all of {table}", f"SELECT * FROM {table}", OWN) for table in TENANTS_TABLES]

READS: Table = [
    *BY_TENANT,
    *WHOLE,
    ("read with TABLE", "TABLE users", OWN),
    ("read with a condition that is always true", "SELECT * FROM users WHERE tenant_id = '<acme>' OR true", OWN),
    ("read every tenant but one's own", "SELECT * FROM users WHERE tenant_id <> '<acme>'", []),
    ("read by e-mail address", "SELECT * FROM users WHERE email = '<rival_email>'", []),
    ("read by a pattern", "SELECT * FROM users WHERE email LIKE '%rival%'", []),
    ("read a tenant by its slug", "SELECT * FROM tenants WHERE slug = '<rival_slug>'", []),
    (
        "read activity by containment",
        """SELECT * FROM user_activity_log WHERE metadata @> '{"secret": "<rival_slug>"}'""",
        [],
    ),
    (
        "read by physical address",
        "SELECT * FROM users WHERE ctid = ANY (SELECT format('(%s,%s)', p, n)::tid FROM generate_series(0, 20) AS p, generate_series(1, 99) AS n)",
        OWN,
    ),
    ("read a sample of the pages", "SELECT * FROM users TABLESAMPLE SYSTEM (100)", OWN),
    ("read hidden columns", "SELECT tableoid, xmin, xmax, users::text FROM users", OWN),
    ("count another tenant's rows", "SELECT count(*) FROM user_activity_log WHERE tenant_id = '<rival>'", [(0,)]),
    ("count all rows", "SELECT count(*) FROM users", [(1,)]),
    ("count by a window", "SELECT count(*) OVER () FROM users", [(1,)]),
    (
        "aggregate all rows",
        "SELECT array_agg(users::text), jsonb_agg(users), string_agg(full_name, ','), max(email) FROM users",
        OWN,
    ),
    ("join a table to itself", "SELECT b.* FROM users AS a JOIN users AS b ON a.email <> b.email OR a.id = b.id", OWN),
    ("join to another tenant's user", "SELECT * FROM products CROSS JOIN users WHERE users.tenant_id = '<rival>'", []),
    (
        "join from the outside",
        "SELECT users.full_name FROM products LEFT JOIN users ON users.tenant_id = '<rival>'",
        [(None,)],
    ),
    (
        "read through a lateral join",
        "SELECT u.* FROM tenants, LATERAL (SELECT * FROM users WHERE users.tenant_id <> tenants.id) AS u",
        [],
    ),
    (
        "read through a common table expression",
        "WITH all_of_them AS MATERIALIZED (SELECT * FROM users) SELECT * FROM all_of_them WHERE tenant_id = '<rival>'",
        [],
    ),
    (
        "read through recursion",
        "WITH RECURSIVE r AS (SELECT id FROM users UNION SELECT users.id FROM users, r WHERE users.id <> r.id) SELECT * FROM r",
        OWN,
    ),
    (
        "read through a union",
        "SELECT full_name FROM users WHERE tenant_id = '<acme>' UNION ALL SELECT name FROM products WHERE tenant_id = '<rival>'",
        OWN,
    ),
    ("read through a difference", "SELECT id FROM users EXCEPT SELECT id FROM users WHERE tenant_id = '<acme>'", []),
    ("ask whether a row exists", "SELECT EXISTS (SELECT FROM users WHERE id = '<rival_user>')", [(False,)]),
    ("read in a scalar sub-select", "SELECT (SELECT full_name FROM users WHERE id = '<rival_user>')", [(None,)]),
    (
        "read through a query given as text",
        "SELECT word FROM ts_stat('SELECT to_tsvector(''simple'', users::text) FROM users')",
        OWN,
    ),
    (
        "read the log through a query given as text",
        "SELECT word FROM ts_stat('SELECT to_tsvector(''simple'', metadata::text) FROM user_activity_log')",
        OWN,
    ),
    ("lock a row for update", "SELECT * FROM users WHERE id = '<rival_user>' FOR UPDATE", []),
    (
        "lock a row for no key update",
        "SELECT * FROM inventory WHERE tenant_id = '<rival>' FOR NO KEY UPDATE NOWAIT",
        [],
    ),
    ("lock a row for share", "SELECT * FROM users WHERE id = '<rival_user>' FOR SHARE SKIP LOCKED", []),
    ("lock a row for key share", "SELECT * FROM tenants WHERE id = '<rival>' FOR KEY SHARE", []),
    ("lock every row", "SELECT * FROM users FOR UPDATE NOWAIT", OWN),
    ("search activity without a filter", "SELECT * FROM find_activity('{}', max_rows => NULL)", OWN),
    ("search activity for another tenant's value", """SELECT * FROM find_activity('{"secret": "<rival_slug>"}')""", []),
    (
        "search activity once for each row",
        "SELECT f.* FROM users, LATERAL find_activity('{}', '-infinity', 'infinity') AS f",
        OWN,
    ),
    ("search activity in the select list", "SELECT (find_activity('{}')).*", OWN),
]

ORACLES: Table = [
    (
        "divide by zero on another tenant's row",
        "SELECT 1 / (CASE WHEN tenant_id = '<rival>' THEN 0 ELSE 1 END) FROM users",
        [(1,)],
    ),
    (
        "divide by zero in a condition",
        "SELECT count(*) FROM users WHERE 1 / (CASE WHEN tenant_id = '<rival>' THEN 0 ELSE 1 END) = 1",
        [(1,)],
    ),
    (
        "cast another tenant's text in a condition",
        "SELECT count(*) FROM users WHERE CASE WHEN tenant_id = '<acme>' THEN true ELSE full_name::int = 1 END",
        [(1,)],
    ),
    (
        "cast another tenant's text in an ordering",
        "SELECT count(*) FROM (SELECT 1 FROM users WHERE tenant_id = '<rival>' ORDER BY full_name::int) AS x",
        [(0,)],
    ),
    (
        "cast another tenant's text in a join",
        "SELECT count(*) FROM tenants JOIN users ON CASE WHEN users.tenant_id = tenants.id THEN true ELSE users.full_name::int = 1 END",
        [(1,)],
    ),
    (
        "cast JSON inside an aggregate's filter",
        "SELECT count(*) FILTER (WHERE CASE WHEN tenant_id = '<acme>' THEN true ELSE (metadata ->> 'hidden')::int = 1 END) FROM user_activity_log",
        [(1,)],
    ),
    ("fail on the existence of a row", "SELECT 1 / (SELECT 1 - count(*) FROM users WHERE id = '<rival_user>')", [(1,)]),
    (
        "read the planner's common values",
        "SELECT tablename, attname, most_common_vals::text, histogram_bounds::text FROM pg_stats WHERE schemaname = 'public'",
        [],
    ),
    ("read the planner's extended statistics", "SELECT * FROM pg_stats_ext WHERE schemaname = 'public'", []),
    ("read the planner's raw statistics", "SELECT * FROM pg_statistic", PrivilegeMissing),
    ("read the planner's raw extended statistics", "SELECT stxdmcv FROM pg_statistic_ext_data", PrivilegeMissing),
    ("find a sequence that tenants share", "SELECT * FROM pg_sequences", []),
    ("read large objects", "SELECT * FROM pg_largeobject", PrivilegeMissing),
    ("read the roles' passwords", "SELECT rolpassword FROM pg_authid", PrivilegeMissing),
]
