"""Two tables of one name in two schemas are two tables; one in ``public`` is the one that is named without a schema."""

from __future__ import annotations

from pathlib import Path

import pytest
import sqlalchemy as sa

from dataarch.models.declared import RowPolicy, declare
from dataarch.rollout.checks.tokens import mentions, statements, table_of
from rollout.checks.lint_support import Folder, line_of

APART = """
op.execute("CREATE TABLE apart.users (id int PRIMARY KEY, price numeric, tags text[])")
op.execute("CREATE TABLE apart.orders (id int PRIMARY KEY, user_id int)")
op.execute("CREATE TABLE apart.tenants (tenant_id uuid, id int, PRIMARY KEY (tenant_id, id))")
op.create_partitioned_table("logs", sa.Column("tenant_id", sa.Uuid(), primary_key=True),
    sa.Column("at", sa.Date(), primary_key=True), by="at", schema="apart")
op.enable_tenant_isolation("logs", schema="apart")
"""
"""Of the same names as those of the shop, and neither of tenants nor partitioned where those are, or the reverse."""

NO_DANGER = {
    "an index where no policy is": 'op.execute("CREATE INDEX i ON apart.users (price)")',
    "an index of an operation where no policy is": "op.create_index('i', 'users', ['tags'], schema='apart')",
    "an index of a table without partitions": 'op.execute("CREATE INDEX i ON apart.orders (user_id)")',
    "a key of a table of nobody's": "op.create_unique_constraint('uq', 'users', ['price'], schema='apart')",
    "a foreign key between tables of nobody's": "op.create_foreign_key('fk', 'orders', 'users', ['user_id'], ['id'],"
    " source_schema='apart', referent_schema='apart')",
    "a partition of a table without policy": """
        op.execute("CREATE TABLE apart.days (at date) PARTITION BY RANGE (at)")
        op.execute("CREATE TABLE public.days (at date, tenant_id uuid) PARTITION BY RANGE (at)")
        op.enable_tenant_isolation("days")
        op.execute("CREATE TABLE apart.days_1 PARTITION OF apart.days DEFAULT")
    """,
    "rows of a table that is made with it": """
        op.execute("CREATE TABLE further.users (id int)")
        op.execute("UPDATE further.users SET id = 2")
    """,
}

DANGERS = {
    "rows of the other one": (
        """
        op.execute("CREATE TABLE further.users (id int)")
        op.execute("UPDATE users SET id = id")  # here
        """,
        "UPDATE writes rows of users, which was there before this revision.",
    ),
    "rows": (
        'op.execute("DELETE FROM ONLY apart.users")',
        "DELETE writes rows of apart.users, which was there before this revision.",
    ),
    "a key": (
        "op.create_unique_constraint('uq', 'tenants', ['id'], schema='apart')",
        "The unique key (id) of apart.tenants leaves the tenant out.",
    ),
    "a foreign key to another schema": (
        "op.create_foreign_key('fk', 'orders', 'tenants', ['user_id'], ['id'], referent_schema='apart')",
        "orders (user_id) refers to apart.tenants without its tenant.",
    ),
    "an index of partitions": (
        'op.execute("CREATE INDEX i ON \\"apart\\".logs (at)")',
        "i is built under a lock on apart.logs, which has partitions.",
    ),
    "a policy": (
        'op.execute("CREATE POLICY p ON apart.users USING (id = 1 OR true)")',
        "The policy p on apart.users has OR.",
    ),
    "a partition": (
        'op.execute("CREATE TABLE apart.logs_1 PARTITION OF apart.logs DEFAULT")',
        "apart.logs has a policy, and apart.logs_1 has none.",
    ),
    "a partition of the other one": (
        """
        op.execute("CREATE TABLE orders_1 PARTITION OF public.orders DEFAULT")  # here
        op.enable_tenant_isolation("orders", schema="apart")
        """,
        "orders has a policy, and orders_1 has none.",
    ),
    "a block that guards the partitions of the other one": (
        """
        op.execute("CREATE TABLE orders_1 PARTITION OF orders DEFAULT")  # here
        op.execute("DO $$ BEGIN PERFORM FROM pg_inherits WHERE inhparent = 'apart.orders'::regclass;"
                   " EXECUTE 'CREATE POLICY p ON apart.orders USING (true)'; END $$")
        """,
        "orders has a policy, and orders_1 has none.",
    ),
}


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    made = Folder(tmp_path / "revisions")
    made.write(APART)
    assert made.found() == []
    return made


@pytest.mark.parametrize("up", NO_DANGER.values(), ids=NO_DANGER)
def test_what_is_a_danger_for_a_table_of_that_name_elsewhere_is_none(folder: Folder, up: str) -> None:
    folder.write(up)
    assert folder.found() == []


@pytest.mark.parametrize(("up", "what"), DANGERS.values(), ids=DANGERS)
def test_a_danger_names_the_table_with_its_schema(folder: Folder, up: str, what: str) -> None:
    path = folder.write(up)
    (found,) = folder.found()
    assert found.what == what
    assert found.line == line_of(path, "# here" if "# here" in up else up.strip().split("\n")[0][:40])


def test_the_replacement_names_the_schema(folder: Folder) -> None:
    folder.write('op.execute("CREATE INDEX i ON apart.logs (at)")')
    (found,) = folder.found()
    assert found.instead == 'op.create_partitioned_index("i", "logs", ["at"])\n# logs is in the schema apart: say so'
    folder.write('op.execute("CREATE INDEX i ON public.orders (note)")')
    (found,) = folder.found()
    assert found.instead == 'op.create_partitioned_index("i", "orders", ["note"])'


def test_what_citus_needs_names_the_schema(folder: Folder) -> None:
    folder.write('op.execute("CREATE TABLE apart.keyless (tenant_id uuid)")')
    (found,) = [one for one in folder.found(citus=True) if "primary key" in one.what]
    assert found.what == "apart.keyless has no primary key, so that its shards cannot be moved without blocking."
    assert found.instead == 'op.create_primary_key("pk_keyless", "keyless", ["tenant_id", "id"], schema="apart")'


def test_what_one_downgrade_keeps_of_a_table_is_not_kept_of_its_namesake(folder: Folder) -> None:
    folder.write(
        "pass",
        """
        op.execute("CREATE TABLE dataarch_set_aside.users AS SELECT FROM public.users")
        op.execute("DROP TABLE apart.users, users")
        """,
    )
    assert [one.what for one in folder.found()] == ["The downgrade drops apart.users, with what is in it."]
    folder.write("pass", "op.set_table_aside('users', schema='apart')\nop.drop_table('users', schema='apart')")
    assert folder.found() == []


def test_models_of_one_name_in_two_schemas_are_two(folder: Folder) -> None:
    metadata = sa.MetaData()
    for schema, kind in (("apart", "here"), ("public", "there")):
        sa.Table(
            "notes",
            metadata,
            *([sa.Column("tenant_id", sa.Uuid(), primary_key=True)] if schema == "apart" else []),
            sa.Column("id", sa.Uuid(), primary_key=True),
            sa.Column(kind, sa.Uuid(), unique=True),
            schema=schema,
        )
    sa.Table(
        "further",
        metadata,
        sa.Column("tenant_id", sa.Uuid(), primary_key=True),
        sa.Column("note", sa.Uuid(), sa.ForeignKey("apart.notes.id")),
        sa.Column("other", sa.Uuid(), sa.ForeignKey("public.notes.id")),
    )
    declare(metadata, RowPolicy("odd", "notes", "USING (true OR true)", schema="apart"))
    assert sorted(one.what for one in folder.found(models=metadata, only=())) == [
        "The policy odd on apart.notes has OR.",
        "The unique key (here) of apart.notes leaves the tenant out.",
        "further (note) refers to apart.notes without its tenant.",
    ]


def test_a_schema_of_the_whole_metadata_is_that_of_its_foreign_keys(folder: Folder) -> None:
    metadata = sa.MetaData(schema="apart")
    for name, referred in (("first", None), ("second", "first")):
        sa.Table(
            name,
            metadata,
            sa.Column("tenant_id", sa.Uuid(), primary_key=True),
            sa.Column("other", sa.Uuid(), *([sa.ForeignKey(f"{referred}.other")] if referred else [])),
        )
    assert [one.what for one in folder.found(models=metadata, only=())] == [
        "apart.second (other) refers to apart.first without its tenant."
    ]


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("users", "users"),
        ("PUBLIC.Users", "users"),
        ('"public"."Users" (', "Users"),
        ("apart . users", "apart.users"),
        ('base."Apart".users', "Apart.users"),
        ("(", "("),
        ("", ""),
    ],
)
def test_a_table_is_told_by_schema_and_name(written: str, name: str) -> None:
    assert table_of(next(statements(written), [])) == name


@pytest.mark.parametrize(
    ("text", "table", "does"),
    [
        ("select from users", "users", True),
        ("'public.users'::regclass", "users", True),
        ('"public"."users"', "users", True),
        ("like 'users_2026%'", "users", True),
        ("apart.users", "users", False),
        ('"apart"."users"', "users", False),
        ("apart.users, users", "users", True),
        ("all_users", "users", False),
        ("apart.users", "apart.users", True),
        ('"apart" . "users"', "apart.users", True),
        ("users", "apart.users", False),
        ("public.users", "apart.users", False),
        ("more_apart.users", "apart.users", False),
    ],
)
def test_a_text_mentions_a_table_by_its_own_schema(text: str, table: str, *, does: bool) -> None:
    assert mentions(text, table) is does
