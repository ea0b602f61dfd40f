"""``op.create_partitioned_table`` and ``op.drop_partitioned_table``."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa
from alembic.operations.ops import CreateTableOp

from dataarch.clock import Grain, Period, utcnow
from dataarch.database.settings import Settings
from dataarch.errors import InvalidPartitioning, InvalidValue, LockTimeout
from dataarch.models.partitioning import Policy, partitioned
from dataarch.partitions.naming import catch_all_name, partition_name
from dataarch.rollout.operations import CreatePartitionedTableOp, DropPartitionedTableOp
from fixtures.catalogs import owner_connection
from fixtures.servers import libpq
from migrations.operation_support import Revisions, answers, assert_goes_up_and_down, rendered, schema_of

pytestmark = pytest.mark.migration

ORDERS = """
op.create_partitioned_table(
    "orders",
    sa.Column("tenant_id", sa.Uuid(), nullable=False),
    sa.Column("id", sa.Integer(), nullable=False),
    sa.Column("created_at", sa.{type}, nullable=False),
    sa.PrimaryKeyConstraint("tenant_id", "id", "created_at", name="pk_orders"),{more}
)
"""

BOUNDS = """
SELECT relname || ' ' || pg_get_expr(relpartbound, pg_class.oid)
FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid WHERE inhparent = %s::regclass
ORDER BY pg_get_expr(relpartbound, pg_class.oid) LIKE '%%(MINVALUE)%%' DESC, relname LIKE '%%rest%%', relname
"""


def orders(more: str = "", kind: str = "DateTime(timezone=True)") -> str:
    return ORDERS.format(type=kind, more=f"\n    {more}," if more else "")


@pytest.fixture
def revisions(tmp_path: Path, empty_database: Settings) -> Revisions:
    return Revisions(tmp_path / "revisions", empty_database)


def expected(table: str, grain: Grain, premake: int) -> list[str]:
    """Return the partitions that there should be now, with their bounds in UTC."""
    present = Period.of(utcnow(), grain)
    periods = [present.plus(ahead) for ahead in range(premake + 1)]
    last = periods[-1].plus(1)
    return [
        f"{catch_all_name(table, None)} FOR VALUES FROM (MINVALUE) TO ('{present.first_day} 00:00:00+00')",
        *(
            f"{partition_name(table, one)} FOR VALUES FROM ('{one.first_day} 00:00:00+00')"
            f" TO ('{one.plus(1).first_day} 00:00:00+00')"
            for one in periods
        ),
        f"{catch_all_name(table, last.start, grain)} FOR VALUES FROM ('{last.first_day} 00:00:00+00') TO (MAXVALUE)",
    ]


@pytest.mark.parametrize("grain", list(Grain))
def test_it_makes_the_present_period_those_ahead_and_catch_alls_around_them(revisions: Revisions, grain: Grain) -> None:
    revisions.write(orders(f'grain="{grain}", premake=5'))
    revisions.up()
    assert answers(revisions.settings, BOUNDS, "orders") == expected("orders", grain, 5)


def test_by_default_there_are_twelve_months_ahead(revisions: Revisions) -> None:
    revisions.write(orders())
    revisions.up()
    assert answers(revisions.settings, BOUNDS, "orders") == expected("orders", Grain.MONTH, 12)


def test_no_row_is_refused_and_each_lies_in_the_period_of_its_instant(revisions: Revisions) -> None:
    revisions.write(orders())
    revisions.up()
    now = utcnow()
    with owner_connection(revisions.settings) as connection:
        for at in (datetime(1, 1, 1, tzinfo=now.tzinfo), now, now + timedelta(days=40), now + timedelta(days=9000)):
            connection.execute("INSERT INTO orders VALUES (gen_random_uuid(), 1, %s)", [at])
        places = [
            row[0] for row in connection.execute("SELECT tableoid::regclass::text FROM orders ORDER BY created_at")
        ]
    end = Period.of(now, Grain.MONTH).plus(13).start
    assert places == [
        "orders_rest_min",
        partition_name("orders", Period.of(now, Grain.MONTH)),
        partition_name("orders", Period.of(now + timedelta(days=40), Grain.MONTH)),
        catch_all_name("orders", end),
    ]


@pytest.mark.parametrize("kind", ["DateTime(timezone=True)", "DateTime()", "Date()"])
def test_the_zone_and_the_date_style_of_the_session_do_not_matter(revisions: Revisions, kind: str) -> None:
    # a zone where it is another day now
    zone = "Pacific/Kiritimati" if utcnow().hour >= 10 else "Etc/GMT+12"
    strange = f"SET timezone = '{zone}'; SET datestyle = 'SQL, DMY'; SET intervalstyle = 'iso_8601'"
    body = orders("grain='day'", kind)
    revisions.write(body, "op.drop_partitioned_table('orders')")
    revisions.write(f"op.drop_partitioned_table('orders')\nop.execute({strange!r})\n{body}")
    revisions.up("0001")
    plain = answers(revisions.settings, BOUNDS, "orders")
    assert len(plain) == 15
    revisions.up()
    assert answers(revisions.settings, BOUNDS, "orders") == plain


def test_partitions_have_no_grants_whatever_the_default_privileges_say(revisions: Revisions) -> None:
    with owner_connection(revisions.settings) as connection:
        connection.execute("ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO PUBLIC, pg_monitor")
    revisions.write(orders())
    revisions.up()
    held = """
        SELECT count(*)::int FROM pg_class, aclexplode(relacl)
        WHERE relkind = 'r' AND relispartition AND grantee <> relowner
    """
    assert answers(revisions.settings, held) == [0]
    assert answers(revisions.settings, "SELECT has_table_privilege('pg_monitor', 'orders', 'SELECT')") == [True]


def test_a_long_name_another_schema_and_odd_letters_are_no_trouble(revisions: Revisions) -> None:
    name = "Orders of 'Müller' : 100% \"" + "x" * 33
    body = orders('schema="Odd one"').replace('"orders"', repr(name))
    revisions.write(
        f"op.execute('CREATE SCHEMA \"Odd one\"')\n{body}", f"op.drop_partitioned_table({name!r}, schema='Odd one')"
    )
    revisions.up()
    quoted = '"Odd one"."{}"'.format(name.replace('"', '""'))
    assert answers(revisions.settings, BOUNDS, quoted) == expected(name, Grain.MONTH, 12)
    revisions.down()
    assert answers(revisions.settings, "SELECT to_regclass(%s) IS NULL", quoted) == [True]


def test_the_column_it_is_partitioned_by_is_checked_before_anything_is_made(revisions: Revisions) -> None:
    revisions.write(orders('by="at"'))
    with pytest.raises(InvalidPartitioning, match="cannot be partitioned by at"):
        revisions.up()
    assert answers(revisions.settings, "SELECT to_regclass('orders') IS NULL") == [True]


def test_it_goes_down_and_up_again(revisions: Revisions) -> None:
    revisions.write(orders(), "op.drop_partitioned_table('orders')")
    before = schema_of(revisions.settings)
    revisions.up()
    made = schema_of(revisions.settings)
    revisions.down()
    assert schema_of(revisions.settings) == before
    revisions.up()
    assert schema_of(revisions.settings) == made


def test_the_printed_sql_does_the_same_when_psql_runs_it(revisions: Revisions) -> None:
    revisions.write(orders(), "op.drop_partitioned_table('orders')")
    before = schema_of(revisions.settings)
    revisions.up()
    made = schema_of(revisions.settings)
    revisions.down()
    up, down = revisions.script("head"), revisions.script("0001:base", down=True)
    assert str(utcnow().year) not in up.replace(str(revisions.folder), "")
    with owner_connection(revisions.settings) as connection:
        connection.execute("DROP TABLE alembic_version")
    revisions.psql(up)
    assert schema_of(revisions.settings) == made
    revisions.psql(down)
    assert schema_of(revisions.settings) == before


def declared() -> sa.Table:
    return sa.Table(
        "orders",
        sa.MetaData(),
        sa.Column("tenant_id", sa.Uuid(), primary_key=True),
        sa.Column("at", sa.DateTime(timezone=True), primary_key=True, server_default=sa.text("now()")),
        sa.Column("note", sa.Text(), sa.CheckConstraint("note <> ''", name="ck_orders_note"), index=True),
        schema="public",
        comment="it's",
        **partitioned("at", grain=Grain.WEEK, policy=Policy(premake=3)),
    )


def test_a_declared_table_is_rendered_as_code_that_makes_it(revisions: Revisions) -> None:
    operation = CreatePartitionedTableOp.from_table(declared())
    code = rendered(operation)
    assert "op.create_partitioned_table('orders'," in code
    assert "by='at',\n" in code
    assert "grain='week',\n" in code
    assert "premake=3\n" in code
    assert "partition_by" not in code
    assert "info" not in code
    revisions.write(code, rendered(operation.reverse()))
    before = schema_of(revisions.settings)
    revisions.up()
    assert [
        str(line).replace("orders", "orders") for line in answers(revisions.settings, BOUNDS, "orders")
    ] == expected("orders", Grain.WEEK, 3)
    revisions.down()
    assert schema_of(revisions.settings) == before


def test_it_reverses_both_ways_and_says_what_differs() -> None:
    made = CreatePartitionedTableOp.from_table(declared())
    dropped = made.reverse()
    assert (dropped.table_name, dropped.schema) == ("orders", "public")
    assert dropped.reverse() is made
    assert rendered(dropped) == "op.drop_partitioned_table('orders', schema='public')"
    assert made.to_diff_tuple()[0] == "add_partitioned_table"
    assert dropped.to_diff_tuple()[0] == "remove_partitioned_table"
    assert DropPartitionedTableOp("orders").to_diff_tuple()[1].name == "orders"
    with pytest.raises(InvalidValue, match="which columns"):
        DropPartitionedTableOp("orders").reverse()
    with pytest.raises(InvalidValue, match="does not say how"):
        CreatePartitionedTableOp.from_table(sa.Table("plain", sa.MetaData(), sa.Column("id", sa.Integer())))


@pytest.mark.parametrize("wrong", [{"grain": "hour"}, {"premake": -1}])
def test_a_grain_or_a_number_that_cannot_be_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"hour|-1"):
        CreatePartitionedTableOp(CreateTableOp("orders", []), **wrong)  # type: ignore[arg-type]  # it is what is refused


def test_the_plain_functions_do_the_same(revisions: Revisions) -> None:
    into = "from dataarch.rollout.operations import create_partitioned_table, drop_partitioned_table\n"
    body = orders().replace("op.create", "table = create") + "op.bulk_insert(table, [])"
    revisions.write(into + body, f"{into}drop_partitioned_table('orders')")
    revisions.up()
    assert answers(revisions.settings, BOUNDS, "orders") == expected("orders", Grain.MONTH, 12)
    revisions.down()


def test_dropping_waits_for_readers_in_short_tries_and_gives_up_by_name(revisions: Revisions) -> None:
    revisions.settings = revisions.settings.model_copy(update={"upgrade_patience": 0.3})
    revisions.write(orders(), "op.drop_partitioned_table('orders')")
    revisions.up()
    with psycopg.connect(libpq(revisions.settings.owner)) as reader:
        reader.execute("SELECT FROM orders_rest_min")
        with pytest.raises(LockTimeout):
            revisions.down()
        assert reader.execute("SELECT to_regclass('orders') IS NOT NULL").fetchone() == (True,)
    revisions.down()


def test_the_example_on_its_page_goes_up_and_down(revisions: Revisions) -> None:
    revisions.write_page("create_partitioned_table")
    assert_goes_up_and_down(revisions)
