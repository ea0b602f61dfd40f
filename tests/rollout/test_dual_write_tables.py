"""Dual writes on tables of every kind: partitions, defaults, generated and dropped columns, odd names, several."""

from __future__ import annotations

import pytest

from dataarch.database.error_mapping import named_error
from dataarch.errors import InvalidChange
from dataarch.rollout.dual_write import DualWrite
from fixtures.dual_writes import Ground

UPPER = {"b": "upper(a)"}
LOWER = {"a": "lower(b)"}


def test_partitions_are_covered_also_new_and_attached_ones_and_those_named_directly(ground: Ground) -> None:
    ground.run(
        "CREATE TABLE t (id int, a text, b text) PARTITION BY RANGE (id)",
        "CREATE TABLE t_1 PARTITION OF t FOR VALUES FROM (0) TO (10)",
    )
    ground.make(DualWrite("in_step", "t", UPPER, LOWER))
    ground.run(
        "CREATE TABLE t_2 PARTITION OF t FOR VALUES FROM (10) TO (20) PARTITION BY LIST (id)",
        "CREATE TABLE t_2_rest PARTITION OF t_2 DEFAULT",
        # its columns are in another order, and one was dropped
        "CREATE TABLE t_3 (gone int, b text, a text, id int)",
        "ALTER TABLE t_3 DROP COLUMN gone",
        "INSERT INTO t_3 (id, a) VALUES (29, 'early')",
        "ALTER TABLE t ATTACH PARTITION t_3 FOR VALUES FROM (20) TO (30)",
    )
    for number, table in ((1, "t"), (2, "t_1"), (11, "t"), (12, "t_2_rest"), (21, "t"), (22, "t_3")):
        ground.run(f"INSERT INTO {table} (id, a) VALUES ({number}, 'Ann')")
    ground.copy("t (id, b)", [[3, "Bob"], [13, "Bob"], [23, "Bob"]])
    ground.run("UPDATE t_3 SET a = 'late' WHERE id = 29")
    assert ground.rows("SELECT b FROM t WHERE a = 'Ann'") == [("ANN",)] * 6
    assert ground.rows("SELECT a FROM t WHERE b = 'Bob'") == [("bob",)] * 3
    assert ground.rows("SELECT a, b FROM t WHERE id = 29") == [("late", "LATE")]


def test_a_row_that_moves_to_another_partition_keeps_both_forms(ground: Ground) -> None:
    ground.run(
        "CREATE TABLE t (id int, a text, b text) PARTITION BY RANGE (id)",
        "CREATE TABLE t_1 PARTITION OF t FOR VALUES FROM (0) TO (10)",
        "CREATE TABLE t_2 PARTITION OF t FOR VALUES FROM (10) TO (20)",
    )
    ground.make(DualWrite("in_step", "t", UPPER, LOWER))
    ground.run("INSERT INTO t (id, a) VALUES (1, 'Ann')", "INSERT INTO t (id, b) VALUES (2, 'Bob')")
    ground.run("UPDATE t SET id = id + 10", "UPDATE t SET id = id - 10, a = 'Carl' WHERE id = 12")
    assert ground.rows("SELECT a, b FROM t ORDER BY id") == [("Carl", "CARL"), ("Ann", "ANN")]


def test_the_limit_a_row_out_of_step_cannot_move_to_another_partition(ground: Ground) -> None:
    ground.run(
        "CREATE TABLE t (id int, a text, b text) PARTITION BY RANGE (id)",
        "CREATE TABLE t_1 PARTITION OF t FOR VALUES FROM (0) TO (10)",
        "CREATE TABLE t_2 PARTITION OF t FOR VALUES FROM (10) TO (20)",
        "INSERT INTO t VALUES (1, 'Ann', 'other'), (2, 'Bob', NULL)",
    )
    ground.make(DualWrite("in_step", "t", UPPER, LOWER))
    ground.run("UPDATE t SET id = id + 2")
    assert ground.refused("UPDATE t SET id = id + 10 WHERE id = 3").sqlstate == "DA008"
    ground.run("UPDATE t SET id = id + 10 WHERE id = 4")
    assert ground.rows("SELECT a, b FROM t ORDER BY id") == [("Ann", "other"), ("Bob", "BOB")]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("text DEFAULT 'nobody'", "text"),
        ("text", "text DEFAULT 'NOBODY' NOT NULL"),
        ("text DEFAULT lower('X')", "text DEFAULT upper('y') NOT NULL"),
        ("varchar(9) DEFAULT 'nobody'", "text DEFAULT current_user"),
        ("nobody DEFAULT 'x'", "nobody"),
    ],
)
def test_a_form_that_is_null_or_its_default_was_not_given(ground: Ground, old: str, new: str) -> None:
    ground.run("CREATE DOMAIN nobody AS text DEFAULT 'nobody'", f"CREATE TABLE t (id int, a {old}, b {new})")
    ground.make(DualWrite("in_step", "t", UPPER, LOWER))
    ground.run("INSERT INTO t (id, a) VALUES (1, 'Ann')", "INSERT INTO t (id, b) VALUES (2, 'Bob')")
    assert ground.rows("SELECT a, b FROM t ORDER BY id") == [("Ann", "ANN"), ("bob", "Bob")]


def test_the_limit_a_writer_that_gives_the_default_itself_has_not_given_it(ground: Ground) -> None:
    ground.run("CREATE TABLE t (id int, a text DEFAULT 'nobody', b text DEFAULT 'Somebody')")
    ground.make(DualWrite("in_step", "t", UPPER, LOWER))
    ground.run("INSERT INTO t (id, b) VALUES (1, 'Somebody')", "INSERT INTO t (id, a) VALUES (2, 'nobody')")
    # the first writer knows the new form alone, and meant it
    assert ground.rows("SELECT a, b FROM t ORDER BY id") == [("nobody", "NOBODY")] * 2


def test_the_limit_a_default_that_was_changed_later_counts_as_given(ground: Ground) -> None:
    ground.run("CREATE TABLE t (id int, a text DEFAULT 'nobody', b text)")
    ground.make(DualWrite("in_step", "t", UPPER, LOWER))
    ground.run("ALTER TABLE t ALTER a SET DEFAULT 'anybody'")
    assert ground.refused("INSERT INTO t (id, b) VALUES (1, 'Ann')").sqlstate == "DA008"


@pytest.mark.parametrize(
    ("old", "new", "winner", "column"),
    [
        ("text", "text DEFAULT gen_random_uuid()::text", "refuse", "b"),
        ("text", "text DEFAULT clock_timestamp()::text", "new", "b"),
        ("serial", "bigint", "refuse", "a"),
        ("int GENERATED BY DEFAULT AS IDENTITY", "bigint", "old", "a"),
        ("text", "text GENERATED ALWAYS AS ('x') STORED", "old", "b"),
        ("text GENERATED ALWAYS AS ('x') STORED", "text", "old", "b"),
    ],
)
def test_a_column_whose_value_nobody_could_tell_or_write_is_refused_when_it_is_made(
    ground: Ground, old: str, new: str, winner: str, column: str
) -> None:
    ground.run(f"CREATE TABLE t (id int, a {old}, b {new})")
    refused = ground.refused(DualWrite("in_step", "t", {"b": "a"}, {"a": "b"}, None, winner).create_sql())
    assert isinstance(named_error(refused), InvalidChange)
    assert refused.diag.table_name == "t"
    assert f"{column} of t" in str(refused).replace("public.", "")
    assert refused.diag.message_hint


def test_a_serial_key_is_kept_in_step_with_a_wider_one_where_the_new_form_wins(ground: Ground) -> None:
    ground.run("CREATE TABLE t (id serial PRIMARY KEY, wide bigint, note text)")
    ground.make(DualWrite("wider", "t", {"wide": "id"}, {"id": "wide"}, on_conflict="new"))
    ground.run("INSERT INTO t (note) VALUES ('old')", "INSERT INTO t (wide, note) VALUES (70, 'new')")
    assert ground.rows("SELECT id, wide FROM t ORDER BY id") == [(1, 1), (70, 70)]


def test_a_generated_column_sees_the_form_that_was_computed(ground: Ground) -> None:
    ground.run("CREATE TABLE t (id int, a text, b text, size int GENERATED ALWAYS AS (length(b)) STORED)")
    ground.make(DualWrite("in_step", "t", UPPER, LOWER))
    ground.run("INSERT INTO t (id, a) VALUES (1, 'Ann')")
    assert ground.rows("SELECT size FROM t") == [(3,)]
    read = DualWrite("from_size", "t", {"b": "size::text"}, {}).create_sql()
    assert ground.refused(read).sqlstate == "DA009"


def test_columns_are_found_by_name_whatever_was_dropped_before_or_comes_after(ground: Ground) -> None:
    ground.run("CREATE TABLE t (gone int, b text, id int, gone_too int, a text)", "ALTER TABLE t DROP COLUMN gone")
    ground.make(DualWrite("in_step", "t", UPPER, LOWER))
    ground.run("INSERT INTO t (id, a) VALUES (1, 'Ann')")
    ground.run("ALTER TABLE t DROP COLUMN gone_too", "ALTER TABLE t ADD COLUMN more int DEFAULT 7")
    ground.run("INSERT INTO t (id, a) VALUES (2, 'Bob')", "UPDATE t SET b = 'Carl' WHERE id = 1")
    assert ground.rows("SELECT a, b, more FROM t ORDER BY id") == [("carl", "Carl", 7), ("Bob", "BOB", 7)]


def test_names_need_not_be_plain(ground: Ground) -> None:
    name, table, schema = 'Ann\'s "50%s" $1 :dual', 'se"lect %', "Odd.Place %I"
    quoted = '"Odd.Place %I"."se""lect %"'
    ground.run(
        'CREATE SCHEMA "Odd.Place %I"',
        f'CREATE TABLE {quoted} (id int, "from" text DEFAULT \'100%\', "To %s :x" text, "new" text, "OLD" text)',
    )
    ground.make(
        DualWrite(name, table, {"To %s :x": "upper(\"from\" || '%s :x ''') -- x"}, {"from": '"To %s :x"'}, schema)
    )
    ground.make(DualWrite("new", table, {"new": '"OLD"'}, {"OLD": '"new"'}, schema))
    ground.run(f"INSERT INTO {quoted} (id, \"from\", \"OLD\") VALUES (1, 'a', 'b')")
    ground.run(f"INSERT INTO {quoted} (id, \"To %s :x\", \"new\") VALUES (2, 'a', 'b')")
    found = ground.rows(f'SELECT "from", "To %s :x", "new", "OLD" FROM {quoted} ORDER BY id')
    assert found == [("a", "A%S :X '", "b", "b"), ("a", "a", "b", "b")]
    refused = ground.refused(f"INSERT INTO {quoted} (id, \"OLD\", \"new\") VALUES (1, 'a', 'b')")
    assert (refused.diag.constraint_name, refused.diag.table_name) == ("new", table)
    ground.run(DualWrite(name, table, {"new": "1"}, {}, schema).drop_sql())
    assert ground.rows("SELECT tgname FROM pg_trigger WHERE NOT tgisinternal") == [("new",)]


def test_two_on_one_table_run_in_the_order_of_their_names(ground: Ground) -> None:
    ground.run("CREATE TABLE t (id int, a text, b text, small int, large bigint)")
    ground.make(DualWrite("z_text", "t", UPPER, LOWER))
    ground.make(DualWrite("m_width", "t", {"large": "small"}, {"small": "large"}))
    ground.run("INSERT INTO t (id, a, large) VALUES (1, 'Ann', 5)")
    ground.run("INSERT INTO t (id, b, small) VALUES (2, 'Bob', 6)")
    ground.run("UPDATE t SET b = 'Carl', small = 8 WHERE id = 1")
    assert ground.rows("SELECT a, b, small, large FROM t ORDER BY id") == [("carl", "Carl", 8, 8), ("bob", "Bob", 6, 6)]
    refused = ground.refused("INSERT INTO t (a, b, small, large) VALUES ('x', 'y', 1, 2)")
    assert refused.diag.constraint_name == "m_width"


def test_the_limit_a_chain_of_two_is_followed_in_the_order_of_their_names_alone(ground: Ground) -> None:
    ground.run("CREATE TABLE t (id int, a text, b text, c text)")
    ground.make(DualWrite("chain_1", "t", UPPER, LOWER))
    ground.make(DualWrite("chain_2", "t", {"c": "b || '!'"}, {"b": "rtrim(c, '!')"}))
    ground.run("INSERT INTO t (id, a) VALUES (1, 'Ann')", "INSERT INTO t (id, c) VALUES (2, 'Bob!')")
    assert ground.rows("SELECT a, b, c FROM t ORDER BY id") == [("Ann", "ANN", "ANN!"), (None, "Bob", "Bob!")]


@pytest.mark.parametrize(
    ("types", "given", "kept"),
    [
        (("json", "jsonb"), '{"x": 1}', '{"x": 1}'),
        (("numeric(6,3)", "numeric(6,1)"), "1.234", "1.2"),
        (("int[]", "text[]"), "{1,2}", "{1,2}"),
        (("text", "timestamptz(0)"), "2026-01-01 00:00:00.6+00", "2026-01-01 00:00:01+00"),
        (("char(5)", "varchar(5)"), "x", "x"),
        (("text", "point"), "(1,2)", "(1,2)"),
        (("text", "box"), "(1,1),(0,0)", "(1,1),(0,0)"),
    ],
    ids=["json", "numeric", "array", "time", "char", "point", "box"],
)
def test_values_are_compared_as_their_types_do_also_where_a_type_has_no_equality(
    ground: Ground, types: tuple[str, str], given: str, kept: str
) -> None:
    old, new = types
    forward = f"a::{new.split('(')[0]}"
    ground.run("SET LOCAL TIME ZONE 'UTC'", f"CREATE TABLE t (id int, a {old}, b {new}, seen int)")
    ground.make(DualWrite("in_step", "t", {"b": forward}, {"a": f"b::{old.split('(')[0]}"}))
    ground.run(f"INSERT INTO t (id, a) VALUES (1, '{given}')")
    # what is rounded is consistent all the same: a backfill that writes it is no writer of the new form
    ground.run(f"UPDATE t SET b = {forward}, seen = 1", f"INSERT INTO t (a, b) VALUES ('{given}', '{kept}')")
    assert ground.rows("SELECT rtrim(a::text), b::text FROM t") == [(given, kept)] * 2


@pytest.mark.parametrize(
    ("table", "forward", "state"),
    [
        ("nowhere", {"b": "a"}, "42P01"),
        ("t", {"nowhere": "a"}, "DA009"),
        ("t", {"b": "nowhere"}, "42703"),
        ("t", {"b": "b || a"}, "42703"),
        ("t", {"b": "nothing(a)"}, "42883"),
        ("t", {"b": "a +"}, "42601"),
    ],
    ids=["no table", "no column", "reads no column", "reads itself", "no function", "no SQL"],
)
def test_what_cannot_work_is_refused_when_it_is_made_and_nothing_stays(
    ground: Ground, table: str, forward: dict[str, str], state: str
) -> None:
    ground.run("CREATE TABLE t (id int, a text, b text)")
    assert ground.refused(DualWrite("in_step", table, forward, {}).create_sql()).sqlstate == state
    assert ground.rows("SELECT proname FROM pg_proc WHERE proname LIKE 'in_step%'") == []


def test_a_second_one_of_the_name_is_refused_and_what_a_dropped_table_left_is_cleared_away(ground: Ground) -> None:
    ground.run("CREATE TABLE t (a text, b text)", "CREATE TABLE other (a text, b text)")
    for table in ("t", "other"):
        if table == "other":
            again = ground.refused(DualWrite("in_step", table, {"b": "a"}, {}).create_sql())
            assert isinstance(named_error(again), InvalidChange)
            assert "in_step already, on t" in str(again)
            ground.run("DROP TABLE t")
        ground.make(DualWrite("in_step", table, UPPER, LOWER))
    ground.run("INSERT INTO other (a) VALUES ('Ann')")
    assert ground.rows("SELECT b FROM other") == [("ANN",)]
