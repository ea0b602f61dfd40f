"""What fails is named, nothing else is held up by it, and the next run goes on."""

from __future__ import annotations

from threading import Thread

import pytest

from dataarch.database.engine import owner_engine
from dataarch.errors import BackfillChanged, DiskFull, LockTimeout, PrivilegeMissing
from dataarch.rollout.backfill import Definition, Limits, Options, Progress, register, run
from fixtures.caches import until
from rollout.backfill.backfill_support import SETS, SMALL, Ground, count_updates, not_done

pytestmark = pytest.mark.migration

FAILURES = "SELECT key, sqlstate, reason FROM dataarch_rollout.backfill_failures WHERE name = '{}' ORDER BY key[1]::int"


def amounts(ground: Ground, table: str, bad: dict[int, str], rows: int = 1_000) -> str:
    """Make a table whose texts are to become integers, and register the backfill."""
    ground.do(
        f"CREATE TABLE {table} (id integer PRIMARY KEY, written text, amount integer CHECK (amount <> 13))",
        f"INSERT INTO {table} SELECT n, n + 10000 FROM generate_series(1, {rows}) AS n",
        *(f"UPDATE {table} SET written = '{value}' WHERE id = {at}" for at, value in bad.items()),
    )
    return ground.register(table, {"amount": "written::integer"})


BAD = {1: "one", 2: "two", 500: "half", 777: "13", 1_000: "all"}


def test_rows_that_fail_are_reported_the_rest_go_on_and_the_next_run_tries_them_again(ground: Ground) -> None:
    name = amounts(ground, "amounts", BAD)
    outcome = ground.run(name, pace=SMALL)
    assert (outcome.seen, outcome.changed, outcome.failed) == (1_000, 995, 5)
    assert ground.value("SELECT count(*) FROM amounts WHERE amount::text = written") == 995
    found = ground.rows(FAILURES.format(name))
    assert [(key, state) for key, state, _ in found] == [
        (["1"], "22P02"), (["2"], "22P02"), (["500"], "22P02"), (["777"], "23514"), (["1000"], "22P02"),
    ]  # fmt: skip
    assert found[0][2] == 'invalid input syntax for type integer: "one"'
    verified = ground.verify(name)
    assert verified.differing == 5
    reasons = {one["key"][0]: one.get("reason") for one in verified.differences}
    assert reasons["500"] == 'invalid input syntax for type integer: "half"'
    assert reasons["777"] is None
    count_updates(ground, "amounts")
    ground.do("UPDATE amounts SET written = '5' WHERE id IN (2, 777)", "DELETE FROM amounts WHERE id = 500")
    ground.do("TRUNCATE amounts_updates")
    assert ground.run(name).failed == 2
    assert ground.rows("SELECT id FROM amounts_updates ORDER BY id") == [("2",), ("777",)]
    ground.do("UPDATE amounts SET written = '5' WHERE id IN (1, 1000)")
    assert ground.run(name).failed == 0
    assert ground.verify(name).differing == 0
    assert ground.rows(FAILURES.format(name)) == []


def test_where_every_row_fails_each_is_reported(ground: Ground) -> None:
    name = amounts(ground, "hopeless", {}, rows=150)
    ground.do("UPDATE hopeless SET written = 'x'")
    assert ground.run(name).failed == 150
    assert ground.verify(name).differing == 150


def test_a_constraint_that_is_checked_at_the_commit_is_found_too(ground: Ground) -> None:
    ground.users("deferred", 500)
    ground.do(
        "ALTER TABLE deferred ADD UNIQUE (display_name) DEFERRABLE INITIALLY DEFERRED",
        "UPDATE deferred SET full_name = 'User 7' WHERE id = 300",
    )
    name = ground.register("deferred", SETS)
    outcome = ground.run(name)
    assert (outcome.changed, outcome.failed) == (499, 1)
    assert ground.rows(FAILURES.format(name).replace(", reason", "")) == [(["300"], "23505")]


def test_a_policy_makes_it_an_error_and_never_a_silent_nothing(ground: Ground, template: str) -> None:
    ground.users("guarded", 100)
    name = ground.register("guarded", SETS)
    ground.do(
        "ALTER TABLE guarded ENABLE ROW LEVEL SECURITY",
        "CREATE POLICY mine ON guarded USING (id = 0)",
        "GRANT ALL ON guarded TO dataarch_app",
        "GRANT USAGE ON SCHEMA dataarch_rollout TO dataarch_app",
        "GRANT ALL ON ALL TABLES IN SCHEMA dataarch_rollout TO dataarch_app",
    )
    as_application = owner_engine(ground.settings.model_copy(update={"owner_url": ground.settings.database_url}))
    with pytest.raises(PrivilegeMissing, match="row-level security"):
        run(as_application, name)
    as_application.dispose()
    assert not_done(ground, ["guarded"]) == 100
    assert ground.run(name).changed == 100


def test_a_row_that_somebody_holds_is_waited_for_a_moment_at_a_time(ground: Ground) -> None:
    ground.users("held", 1_000)
    name = ground.register("held", SETS)
    told: list[Progress] = []
    with ground.connect() as other:
        other.execute("BEGIN")
        other.execute("SELECT FROM held WHERE id = 700 FOR UPDATE")
        with pytest.raises(LockTimeout):
            ground.run(name, told=told, pace=SMALL, limits=Limits(patience=0.5))
        assert any("lock" in (one.waits or "") for one in told)
        assert 300 <= not_done(ground, ["held"]) <= 400
        # nobody queues behind it between its tries
        waiter = Thread(target=lambda: ground.run(name, told=told, pace=SMALL), daemon=True)
        waiter.start()
        until(lambda: len([one for one in told if one.waits]) > 3, "another wait")
        other.execute("COMMIT")
        waiter.join(timeout=60)
    assert not_done(ground, ["held"]) == 0


def test_a_full_disk_ends_it_by_name_and_the_next_run_goes_on(ground: Ground) -> None:
    ground.users("no_room", 1_000)
    name = ground.register("no_room", SETS)
    ground.do(
        "CREATE FUNCTION no_room() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN"
        " RAISE EXCEPTION 'could not extend file' USING ERRCODE = 'disk_full'; END$$",
        "CREATE TRIGGER no_room BEFORE UPDATE ON no_room FOR EACH ROW WHEN (OLD.id = 450) EXECUTE FUNCTION no_room()",
    )
    with pytest.raises(DiskFull, match="could not extend file"):
        ground.run(name, pace=SMALL)
    assert not_done(ground, ["no_room"]) == 600
    ground.do("DROP TRIGGER no_room ON no_room")
    outcome = ground.run(name, pace=SMALL)
    assert (outcome.seen, outcome.changed) == (600, 600)


def test_a_definition_that_changes_under_a_name_is_refused(ground: Ground) -> None:
    ground.users("changing", 300)
    name = ground.register("changing", SETS)
    ground.register("changing", SETS, name=name)
    with pytest.raises(BackfillChanged, match="registered with another definition"):
        ground.register("changing", {"display_name": "upper(full_name)"}, name=name)
    changed = 'UPDATE dataarch_rollout.backfills SET definition = definition || \'{"where": "id > 5"}\''
    ground.do(f"{changed} WHERE name = '{name}'")
    with pytest.raises(BackfillChanged):
        ground.run(name)
    assert not_done(ground, ["changing"]) == 300


def test_who_runs_a_backfill_that_is_forgotten_or_changed_stops(ground: Ground) -> None:
    ground.users("forgotten", 1_000)
    name = ground.register("forgotten", SETS)
    after: list[Progress] = []

    def forget(told: Progress) -> None:
        if told.seen == 300:
            after.append(told)
            ground.do(f"DELETE FROM dataarch_rollout.backfills WHERE name = '{name}'")

    with pytest.raises(BackfillChanged, match="was forgotten"):
        run(ground.engine, name, Options(pace=SMALL), on_progress=forget)
    assert len(after) == 1
    assert not_done(ground, ["forgotten"]) <= 700


def when_450_is_filled(ground: Ground, table: str, *statements: str) -> None:
    """Have something happen in the middle of the fifth batch of 100 rows."""
    ground.do(
        f"CREATE FUNCTION meanwhile_{table}() RETURNS trigger LANGUAGE plpgsql AS"
        f" $$BEGIN {'; '.join(statements)}; RETURN NEW; END$$",
        f"CREATE TRIGGER meanwhile AFTER UPDATE ON {table} FOR EACH ROW WHEN (NEW.id = 450)"
        f" EXECUTE FUNCTION meanwhile_{table}()",
    )


def test_a_key_that_is_changed_meanwhile_is_found_by_the_verification(ground: Ground) -> None:
    ground.users("moving", 1_000)
    name = ground.register("moving", SETS)
    # from ahead of the batch to behind it, and from behind it to ahead
    moves = ("UPDATE moving SET id = -id WHERE id IN (900, 901)", "UPDATE moving SET id = 5003 WHERE id = 3")
    when_450_is_filled(ground, "moving", *moves)
    assert ground.run(name, pace=SMALL).seen == 999
    verified = ground.verify(name)
    assert verified.rows == 1_000
    assert sorted(one["key"] for one in verified.differences) == [["-900"], ["-901"]]
    assert ground.run(name, again=True).changed == 2
    assert ground.verify(name).differing == 0


def test_a_trigger_that_keeps_rows_in_step_leaves_nothing_to_be_found(ground: Ground) -> None:
    ground.users("in_step", 1_000)
    ground.do(
        "CREATE FUNCTION in_step() RETURNS trigger LANGUAGE plpgsql AS"
        " $$BEGIN NEW.display_name := NEW.full_name; RETURN NEW; END$$",
        "CREATE TRIGGER in_step BEFORE INSERT OR UPDATE ON in_step FOR EACH ROW EXECUTE FUNCTION in_step()",
    )
    name = ground.register("in_step", SETS)
    moves = ("UPDATE in_step SET id = -id WHERE id > 900", "INSERT INTO in_step VALUES (0, 'New')")
    when_450_is_filled(ground, "in_step", *moves)
    assert ground.run(name, pace=SMALL).seen == 900
    assert ground.verify(name).rows == 1_001
    assert ground.verify(name).differing == 0


def test_an_expression_may_name_a_table_and_be_refused_only_where_it_fails(ground: Ground) -> None:
    ground.users("looked_up", 300)
    ground.do(
        "CREATE TABLE names (id bigint PRIMARY KEY, said text)",
        "INSERT INTO names SELECT n, 'n' || n FROM generate_series(1, 300) AS n",
    )
    looked_up = "(SELECT said FROM names WHERE names.id = looked_up.id)"
    name = ground.register("looked_up", {"display_name": looked_up})
    assert ground.run(name, pace=SMALL).changed == 300
    with ground.engine.begin() as connection:
        register(connection, Definition.of(name, "looked_up", {"display_name": looked_up}))
    assert ground.verify(name).differing == 0
