"""Whether a dual write is in force: there, fires everywhere, and is as it was made."""

from __future__ import annotations

import pytest
from sqlalchemy import Connection, Engine, text

from dataarch.rollout.dual_write import DualWrite, faults, in_force
from dataarch.rollout.operations.statements import verbatim
from fixtures.dual_writes import Ground

WRITE = DualWrite("in_step", "t", {"b": "upper(a)"}, {"a": "lower(b)"})


@pytest.fixture
def connection(ground: Ground) -> Connection:
    """The same transaction, as SQLAlchemy has it; a partitioned table with a dual write."""
    ground.run(
        "CREATE TABLE t (id int, a text, b text) PARTITION BY RANGE (id)",
        "CREATE TABLE t_1 PARTITION OF t FOR VALUES FROM (0) TO (10) PARTITION BY RANGE (id)",
        "CREATE TABLE t_1_1 PARTITION OF t_1 FOR VALUES FROM (0) TO (5)",
    )
    ground.make(WRITE)
    return ground.alchemy


def test_one_that_was_just_made_is_in_force_and_the_search_path_stays(ground: Ground, connection: Connection) -> None:
    ground.run("SET LOCAL search_path = public, pg_temp")
    assert faults(connection, "in_step") == []
    assert in_force(connection, "in_step", schema="public")
    assert connection.scalar(text("SHOW search_path")) == "public, pg_temp"


def test_one_is_in_force_whatever_the_search_path_also_where_each_statement_commits(
    dual_write_engine: Engine,
) -> None:
    make, drop = (verbatim(statement) for statement in (WRITE.create_sql(), WRITE.drop_sql()))
    with dual_write_engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("CREATE SCHEMA theirs")
        connection.exec_driver_sql(
            "CREATE FUNCTION theirs.upper(text) RETURNS text LANGUAGE sql AS 'SELECT pg_catalog.upper($1)'"
        )
        connection.exec_driver_sql("CREATE TABLE public.t (a text, b text)")
        connection.exec_driver_sql("SET search_path = theirs, pg_catalog, public")
        connection.execute(make)
        try:
            for path in ("theirs, pg_catalog, public", "public", "''"):
                connection.exec_driver_sql(f"SET search_path = {path}")
                assert faults(connection, "in_step") == []
                assert connection.scalar(text("SHOW search_path")) == path.replace("''", '""')
        finally:
            connection.exec_driver_sql("SET search_path = public")
            connection.execute(drop)
            connection.exec_driver_sql("DROP TABLE t")
            connection.exec_driver_sql("DROP SCHEMA theirs CASCADE")


@pytest.mark.parametrize(
    ("done", "said"),
    [
        ("DROP TRIGGER in_step ON t", "There is no dual write in_step."),
        ("ALTER TABLE t DISABLE TRIGGER in_step", "The trigger in_step does not fire on public.t."),
        ("ALTER TABLE t_1_1 DISABLE TRIGGER in_step", "The trigger in_step does not fire on public.t_1_1."),
        ("ALTER TABLE t_1_1 ENABLE REPLICA TRIGGER in_step", "The trigger in_step does not fire on public.t_1_1."),
        (
            "CREATE OR REPLACE FUNCTION in_step() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'",
            "The trigger in_step of public.t, or a function of it, was changed after it was made.",
        ),
        (
            "CREATE OR REPLACE FUNCTION in_step_forward_1(a text) RETURNS text LANGUAGE sql RETURN 'x'",
            "The trigger in_step of public.t, or a function of it, was changed after it was made.",
        ),
        (
            "CREATE OR REPLACE TRIGGER in_step BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION in_step()",
            "The trigger in_step of public.t, or a function of it, was changed after it was made.",
        ),
    ],
    ids=["dropped", "disabled", "one partition", "replica", "function", "expression", "trigger"],
)
def test_one_that_leaves_rows_out_of_step_says_why(
    ground: Ground, connection: Connection, done: str, said: str
) -> None:
    ground.run(done)
    assert said in faults(connection, "in_step")
    assert not in_force(connection, "in_step")


def test_a_trigger_that_always_fires_is_in_force(ground: Ground, connection: Connection) -> None:
    ground.run("ALTER TABLE t ENABLE ALWAYS TRIGGER in_step")
    assert in_force(connection, "in_step")


def test_somebody_elses_trigger_of_that_name_is_no_dual_write(ground: Ground, connection: Connection) -> None:
    ground.run("CREATE TABLE other (a text, b text)")
    ground.run("CREATE TRIGGER theirs BEFORE INSERT ON other FOR EACH ROW EXECUTE FUNCTION in_step()")
    assert faults(connection, "theirs") == ["There is no dual write theirs."]
    assert ground.refused(DualWrite("theirs", "other", {"b": "a"}).drop_sql()).sqlstate == "DA009"


def test_each_of_the_same_name_must_be_in_force(ground: Ground, connection: Connection) -> None:
    ground.run("CREATE SCHEMA apart", "CREATE TABLE apart.t (a text, b text)")
    ground.make(DualWrite("in_step", "t", {"b": "a"}, {"a": "b"}, "apart"))
    assert in_force(connection, "in_step")
    ground.run("ALTER TABLE apart.t DISABLE TRIGGER ALL")
    assert faults(connection, "in_step") == ["The trigger in_step does not fire on apart.t."]
    assert in_force(connection, "in_step", schema="public")


def test_a_role_under_which_triggers_are_silent_is_told(ground: Ground, connection: Connection) -> None:
    ground.run("RESET ROLE", "ALTER ROLE dataarch_owner SET session_replication_role = replica")
    said = "Triggers are silent for dataarch_owner: session_replication_role is replica."
    assert faults(connection, "in_step") == [said]


def test_the_limit_a_session_under_which_triggers_are_silent_leaves_no_trace(
    ground: Ground, connection: Connection
) -> None:
    ground.run("RESET ROLE", "SET LOCAL session_replication_role = replica", "INSERT INTO t VALUES (1, 'Ann')")
    ground.run("SET LOCAL session_replication_role = origin")
    assert ground.rows(f"SELECT count(*) FROM t WHERE NOT ({WRITE.consistent_sql()})") == [(1,)]
    assert in_force(connection, "in_step")


def test_it_is_gone_without_a_trace_when_it_was_dropped(ground: Ground, connection: Connection) -> None:
    ground.run(WRITE.drop_sql())
    assert not in_force(connection, "in_step")
    assert ground.rows("SELECT proname FROM pg_proc WHERE proname LIKE 'in\\_step%'") == []
    ground.run("INSERT INTO t (id, a) VALUES (1, 'Ann')")
    assert ground.rows("SELECT b FROM t") == [(None,)]
    ground.make(WRITE)
    assert in_force(connection, "in_step")


def test_what_is_left_of_one_whose_trigger_is_gone_is_taken_away(ground: Ground, connection: Connection) -> None:
    ground.run("DROP TRIGGER in_step ON t", WRITE.drop_sql())
    ground.make(WRITE)
    assert in_force(connection, "in_step")
