"""Each rule sees its danger in a revision, at its line, and lets the gentle form pass."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from alembic.operations import MigrateOperation, Operations

from dataarch.rollout.checks import RULES
from rollout.checks.lint_support import Folder, line_of

DANGERS = {
    "gin of jsonb": (
        "index-unusable-with-policies",
        "op.create_partitioned_index('i', 'orders', ['extra'], postgresql_using='gin')",
        "i on orders (extra) is a GIN index of jsonb, and the table has a policy.",
    ),
    "trigrams": (
        "index-unusable-with-policies",
        "op.create_index('i', 'users', ['name'], postgresql_ops={'name': 'text_pattern_ops'})",
        "i on users (name) is an index for LIKE (text_pattern_ops), and the table has a policy.",
    ),
    "numeric": (
        "index-unusable-with-policies",
        'op.execute("CREATE INDEX i ON ONLY orders (tenant_id, price)")',
        "i on orders (price) is of a numeric, and the table has a policy.",
    ),
    "array": (
        "index-unusable-with-policies",
        'op.execute("CREATE INDEX i ON ONLY orders (tags)")',
        "i on orders (tags) is of an array, and the table has a policy.",
    ),
    "enum": (
        "index-unusable-with-policies",
        """
        op.execute("CREATE TYPE mood AS ENUM ('ok'); ALTER TABLE users ADD COLUMN mood mood")
        op.execute("CREATE INDEX i ON users (mood)")  # here
        """,
        "i on users (mood) is of an enum, and the table has a policy.",
    ),
    "policy with OR": (
        "policy-shape",
        'op.execute("CREATE POLICY p ON users USING (tenant_id IS NULL OR true)")',
        "The policy p on users has OR.",
    ),
    "policy with CASE": (
        "policy-shape",
        'op.execute("ALTER POLICY p ON users USING (CASE WHEN true THEN true END)")',
        "The policy p on users has CASE.",
    ),
    "policy with a sub-select": (
        "policy-shape",
        'op.execute("CREATE POLICY p ON public.users USING (tenant_id IN (SELECT id FROM tenants))")',
        "The policy p on users has a sub-select.",
    ),
    "partition without policy": (
        "policy-missing-on-partition",
        """
        op.execute("CREATE TABLE logs (tenant_id uuid, at date) PARTITION BY RANGE (at)")
        op.execute("CREATE TABLE logs_1 PARTITION OF logs FOR VALUES FROM (MINVALUE) TO (MAXVALUE)")  # here
        op.execute("CREATE POLICY p ON logs USING (tenant_id IS NOT NULL)")
        """,
        "logs has a policy, and logs_1 has none.",
    ),
    "partition that comes after the policies": (
        "policy-missing-on-partition",
        'op.execute("CREATE TABLE orders_1 PARTITION OF orders FOR VALUES FROM (MINVALUE) TO (MAXVALUE)")',
        "orders has a policy, and orders_1 has none.",
    ),
    "partitioned table without isolation": (
        "policy-missing-on-partition",
        """
        op.create_partitioned_table("logs", sa.Column("at", sa.Date(), primary_key=True), by="at")  # here
        op.execute("CREATE POLICY p ON logs USING (true)")
        """,
        "logs has a policy, and its partitions have none.",
    ),
    "foreign key by operation": (
        "tenant-foreign-key",
        "op.create_foreign_key('fk', 'orders', 'users', ['user_id'], ['id'])",
        "orders (user_id) refers to users without its tenant.",
    ),
    "foreign key of two columns": (
        "tenant-foreign-key",
        "op.create_foreign_key('fk', 'orders', 'users', ['user_id', 'kind'], ['id', 'kind'])",
        "orders (user_id, kind) refers to users without its tenant.",
    ),
    "foreign key of a column": (
        "tenant-foreign-key",
        """
        op.create_table("notes", sa.Column("tenant_id", sa.Uuid(), primary_key=True),
            sa.Column("id", sa.Uuid(), primary_key=True), sa.Column("user_id", sa.Uuid(), sa.ForeignKey("users.id")))
        """,
        "notes (user_id) refers to users without its tenant.",
    ),
    "primary key": (
        "tenant-in-key",
        'op.create_table("notes", sa.Column("tenant_id", sa.Uuid()), sa.Column("id", sa.Uuid(), primary_key=True))',
        "The primary key (id) of notes leaves the tenant out.",
    ),
    "unique constraint": (
        "tenant-in-key",
        "op.create_unique_constraint('uq', 'users', ['email'])",
        "The unique key (email) of users leaves the tenant out.",
    ),
    "unique index": (
        "tenant-in-key",
        "op.create_index('uq', 'users', ['email'], unique=True)",
        "The unique key (email) of users leaves the tenant out.",
    ),
    "concurrently on partitions": (
        "index-on-partitioned-table",
        """
        with op.get_context().autocommit_block():
            op.create_index("i", "orders", ["note"], postgresql_concurrently=True)  # here
        """,
        "i is built concurrently on orders, which has partitions.",
    ),
    "lock on partitions": (
        "index-on-partitioned-table",
        'op.execute("CREATE INDEX i ON public.orders USING btree (note)")',
        "i is built under a lock on orders, which has partitions.",
    ),
    "commit after something": (
        "commit-in-the-middle",
        """
        op.add_column("users", sa.Column("a", sa.Text()))
        with op.get_context().autocommit_block():  # here
            op.execute("VACUUM users")
        """,
        "It commits here, and line 12 is part of the same revision.",
    ),
    "commit before something": (
        "commit-in-the-middle",
        """
        op.create_partitioned_index("i", "orders", ["tenant_id", "note"])  # here
        op.add_column("users", sa.Column("a", sa.Text()))
        """,
        "It commits here, and line 13 is part of the same revision.",
    ),
    "update": (
        "backfill-in-schema-revision",
        'op.execute("UPDATE users SET id = id WHERE true")',
        "UPDATE writes rows of users, which was there before this revision.",
    ),
    "delete in a block": (
        "backfill-in-schema-revision",
        'op.execute("DO $$ BEGIN IF true THEN DELETE FROM ONLY users; END IF; END $$")',
        "DELETE writes rows of users, which was there before this revision.",
    ),
    "insert from a select": (
        "backfill-in-schema-revision",
        'op.execute("INSERT INTO users (id) SELECT id FROM tenants")',
        "INSERT writes rows of users, which was there before this revision.",
    ),
}

GENTLE = {
    "btree of text": "op.create_index('i', 'users', ['tenant_id', 'name'])",
    "gin where no policy is": "op.create_index('i', 'tenants', ['name'], postgresql_using='gin')",
    "policy of one condition": "op.execute(\"CREATE POLICY p ON users USING (tenant_id = 'or'::text::uuid)\")",
    "isolation": """
        op.create_partitioned_table("logs", sa.Column("tenant_id", sa.Uuid(), primary_key=True),
            sa.Column("at", sa.Date(), primary_key=True), by="at")
        op.enable_tenant_isolation("logs")
    """,
    "partition that is isolated with its table": """
        op.execute("CREATE TABLE orders_1 PARTITION OF orders FOR VALUES FROM (MINVALUE) TO (MAXVALUE)")
        op.enable_tenant_isolation("orders")
    """,
    "foreign key with the tenant": "op.create_foreign_key('fk', 'orders', 'users', ['tenant_id', 'user_id'],"
    " ['tenant_id', 'id'])",
    "foreign key to tenants": "op.create_foreign_key('fk', 'orders', 'tenants', ['tenant_id'], ['id'])",
    "unique with the tenant": "op.create_index('uq', 'users', ['tenant_id', 'email'], unique=True)",
    "two commits and no more": """
        op.execute("SET statement_timeout = 0")
        with op.get_context().autocommit_block():
            op.create_index("i", "users", ["tenant_id", "a"], postgresql_concurrently=True)
        op.create_partitioned_index("j", "orders", ["tenant_id", "note"])
    """,
    "index of a table that is made with it": """
        op.execute("CREATE TABLE logs (at date, note text, PRIMARY KEY (at)) PARTITION BY RANGE (at)")
        op.create_index("i", "logs", ["note"])
    """,
    "index of partitions": "op.create_partitioned_index('i', 'orders', ['tenant_id', 'note'])",
    "rows of a new table": 'op.execute("CREATE TABLE t AS SELECT 1 AS id"); op.execute("CREATE TABLE n (id int)");'
    ' op.execute("INSERT INTO n SELECT id FROM t"); op.execute("UPDATE n SET id = 2")',
    "a function that writes": 'op.execute("CREATE FUNCTION f() LANGUAGE sql AS $$ UPDATE users SET id = 1 $$")',
    "a comment that writes": 'op.execute("SELECT 1 /* ; UPDATE users SET id = 1 */ -- ; DELETE FROM users")',
}

LOSSES = {
    "a column": ("op.drop_column('users', 'name')", "The downgrade drops the column users.name, with what is in it."),
    "a table": ("op.drop_table('users')", "The downgrade drops users, with what is in it."),
    "partitions": ("op.drop_partitioned_table('orders')", "The downgrade drops orders, with what is in it."),
    "a schema": ('op.execute("DROP SCHEMA IF EXISTS s CASCADE")', "The downgrade drops s, with what is in it."),
    "rows": ('op.execute("DELETE FROM users")', "The downgrade drops users, with what is in it."),
}

KEPT = {
    "a table set aside": """
        from dataarch.rollout.set_aside import set_aside
        op.execute(set_aside(("users",)))
    """,
    "a column set aside": """
        op.execute("CREATE TABLE dataarch_set_aside.users_name AS SELECT id, name FROM users")
        op.drop_column("users", "name")
    """,
    "a constraint": "op.drop_constraint('fk', 'users')",
    "NOT NULL": "op.alter_column('users', 'name', nullable=True)",
    "an index of partitions comes back": "op.create_partitioned_index('i', 'orders', ['tenant_id', 'note'])",
    "a backfill forgotten": "op.forget_backfill('users_name', 'users', sets={'name': 'upper(name)'})",
}


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path / "revisions")


@pytest.mark.parametrize(("rule", "up", "what"), DANGERS.values(), ids=DANGERS)
def test_a_danger_is_found_at_its_line(folder: Folder, rule: str, up: str, what: str) -> None:
    path = folder.write(up)
    (found,) = folder.found()
    assert (found.rule, found.what) == (rule, what)
    assert found.file == path
    assert found.line == line_of(path, "# here" if "# here" in up else up.strip().split("\n")[0][:40])


@pytest.mark.parametrize("up", GENTLE.values(), ids=GENTLE)
def test_what_is_no_danger_is_not_found(folder: Folder, up: str) -> None:
    folder.write(up)
    assert folder.found() == []


@pytest.mark.parametrize(("down", "what"), LOSSES.values(), ids=LOSSES)
def test_a_downgrade_that_loses_data_is_found(folder: Folder, down: str, what: str) -> None:
    path = folder.write("pass", down)
    (found,) = folder.found()
    assert (found.rule, found.what, found.line) == ("downgrade-loses-data", what, line_of(path, down))


@pytest.mark.parametrize("down", KEPT.values(), ids=KEPT)
def test_a_downgrade_that_keeps_the_data_is_not(folder: Folder, down: str) -> None:
    folder.write("pass", down)
    assert folder.found() == []


def test_a_revision_called_backfill_writes_rows(folder: Folder) -> None:
    folder.write('op.execute("UPDATE users SET id = id")', name="backfill_users")
    assert folder.found() == []


@Operations.register_operation("write_gently")
class WriteGentlyOp(MigrateOperation):
    """An operation as this library's own are, which writes rows."""

    __module__ = "dataarch.rollout.operations.of_a_test"

    @classmethod
    def write_gently(cls, operations: Operations) -> None:
        operations.invoke(cls())


@Operations.implementation_for(WriteGentlyOp)
def _write(operations: Operations, _operation: WriteGentlyOp) -> None:
    operations.execute("UPDATE users SET id = id; CREATE INDEX i ON orders (note)")


def test_what_an_operation_of_the_library_sends_is_left_to_it(folder: Folder) -> None:
    folder.write("op.write_gently()")
    assert folder.found(with_squawk=True) == []


CITUS = {
    'op.execute("ALTER TABLE users ADD FOREIGN KEY (tenant_id) REFERENCES tenants ON DELETE SET NULL")': "SET NULL",
    'op.execute("ALTER TABLE users ADD FOREIGN KEY (tenant_id) REFERENCES tenants ON UPDATE CASCADE")': "CASCADE",
    'op.execute("ALTER TABLE users RENAME CONSTRAINT a TO b")': "A constraint is renamed.",
    'op.execute("ALTER TABLE orders DETACH PARTITION p CONCURRENTLY")': "detached concurrently",
    'op.execute("ALTER TABLE users ADD COLUMN n bigserial")': "serial column",
    'op.execute("ALTER TABLE users ADD COLUMN n int CHECK (n > 0)")': "CHECK without a name",
    'op.execute("INSERT INTO t VALUES (1) ON CONFLICT (id) DO UPDATE SET at = now()")': "present time",
    'op.execute("SELECT 1; SELECT 2")': "Several statements",
    'op.execute("CREATE TRIGGER t AFTER INSERT ON users EXECUTE FUNCTION f()")': "needs a setting",
    'op.execute("CREATE TABLE t (id int)")': "no primary key",
}


@pytest.mark.parametrize(("up", "what"), CITUS.items(), ids=list(CITUS.values()))
def test_what_citus_refuses_is_found_where_it_is_asked_for(folder: Folder, up: str, what: str) -> None:
    sequential = "op.execute(\"SET LOCAL citus.multi_shard_modify_mode = 'sequential'\")\n"
    folder.write(sequential + up)
    assert [one for one in folder.found() if one.rule == "citus"] == []
    (found,) = [one for one in folder.found(citus=True) if one.rule == "citus"]
    assert what in found.what
    folder.write('op.execute("ALTER TABLE users ADD COLUMN a int")')
    (found,) = folder.found(citus=True)
    assert "sequential" in found.instead


def test_a_revision_that_asks_the_database_is_named(folder: Folder) -> None:
    path = folder.write("op.get_bind().execute(sa.text('SELECT 1')).scalar_one()")
    (found,) = folder.found()
    assert (found.rule, found.line) == ("not-rendered", line_of(path, "scalar_one"))


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_each_rule_says_what_it_blocks_why_and_what_to_write_instead(rule: object) -> None:
    (one,) = [each for each in RULES if each is rule]
    assert "block" in one.blocks.lower() or "waits" in one.blocks or "fails" in one.blocks
    assert one.blocks.endswith(".")
    assert one.why.endswith(".")
    names = ("table", "column", "referred", "index", "columns")
    found = one.found(None, 1, "It is so.", instead="pass", **{name: name for name in names})
    assert "{" not in found.instead.replace("sets={", "")
    ast.parse(found.instead)
    assert str(found).endswith(f"Or: # dataarch: allow {one.name}: the reason")


def test_the_message_is_one_sentence_after_the_other(folder: Folder) -> None:
    path = folder.write("op.create_index('i', 'orders', ['note'])")
    (found,) = folder.found()
    assert str(found) == (
        f"{path}:{found.line}: index-on-partitioned-table: i is built under a lock on orders, which has partitions. "
        "With CONCURRENTLY PostgreSQL refuses it; without, everybody who writes waits (SHARE on the table and all of "
        "its partitions) until the index of the last partition is built. CREATE INDEX CONCURRENTLY does not exist for "
        'partitioned tables. Instead: op.create_partitioned_index("i", "orders", ["note"]) '
        "Or: # dataarch: allow index-on-partitioned-table: the reason"
    )
