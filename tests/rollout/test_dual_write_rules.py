"""Which form follows which, whoever writes; and what is a conflict."""

from __future__ import annotations

import pytest

from dataarch.database.error_mapping import named_error
from dataarch.errors import DualWriteConflict
from dataarch.rollout.dual_write import DualWrite
from fixtures.dual_writes import Ground

PEOPLE = "CREATE TABLE people (id int PRIMARY KEY, full_name text, display_name text, seen int DEFAULT 0)"
# lossy in both directions: the way back is seen
FORWARD, BACKWARD = {"display_name": "upper(full_name)"}, {"full_name": "lower(display_name)"}
BOTH_WAYS = DualWrite("people_name", "people", FORWARD, BACKWARD)
FORMS = "SELECT full_name, display_name FROM people ORDER BY id"

BEFORE = "INSERT INTO people (id, full_name) VALUES (1, 'Ann')"


def people(ground: Ground, write: DualWrite = BOTH_WAYS, before: str = "") -> None:
    ground.run(PEOPLE, *filter(None, [before]))
    ground.make(write)


@pytest.mark.parametrize(
    ("columns", "values", "kept"),
    [
        ("full_name", "'Ann'", ("Ann", "ANN")),
        ("display_name", "'Ann'", ("ann", "Ann")),
        ("full_name, display_name", "'Ann', 'ANN'", ("Ann", "ANN")),
        ("full_name, display_name", "'ann', 'Ann'", ("ann", "Ann")),
        ("full_name, display_name", "'Ann', NULL", ("Ann", "ANN")),
        ("full_name, display_name", "NULL, 'Ann'", ("ann", "Ann")),
        ("full_name, display_name", "NULL, NULL", (None, None)),
        ("seen", "1", (None, None)),
    ],
)
@pytest.mark.parametrize("way", ["insert", "copy", "upsert"])
def test_an_inserted_row_has_both_forms_whichever_was_given(
    ground: Ground, way: str, columns: str, values: str, kept: tuple[str | None, str | None]
) -> None:
    people(ground)
    if way == "copy":
        given = [None if value == "NULL" else value.strip("'") for value in values.split(", ")]
        ground.copy(f"people (id, {columns})", [[1, *given]])
    else:
        also = " ON CONFLICT (id) DO UPDATE SET seen = 1" if way == "upsert" else ""
        ground.run(f"INSERT INTO people (id, {columns}) VALUES (1, {values}){also}")
    assert ground.rows(FORMS) == [kept]


@pytest.mark.parametrize(
    ("change", "kept"),
    [
        ("full_name = 'Bob'", ("Bob", "BOB")),
        ("display_name = 'Bob'", ("bob", "Bob")),
        ("full_name = NULL", (None, None)),
        ("display_name = NULL", (None, None)),
        ("full_name = 'Bob', display_name = 'BOB'", ("Bob", "BOB")),
        ("full_name = 'bob', display_name = 'Bob'", ("bob", "Bob")),
        ("seen = 1", ("Ann", "ANN")),
        ("full_name = full_name", ("Ann", "ANN")),
        ("full_name = 'ann'", ("ann", "ANN")),
        ("display_name = 'Ann'", ("ann", "Ann")),
    ],
)
@pytest.mark.parametrize("way", ["update", "upsert", "merge"])
def test_an_updated_row_has_both_forms_whichever_was_changed(
    ground: Ground, way: str, change: str, kept: tuple[str | None, str | None]
) -> None:
    people(ground)
    ground.run(BEFORE)
    ground.run(
        {
            "update": f"UPDATE people SET {change}",
            "upsert": f"INSERT INTO people (id) VALUES (1) ON CONFLICT (id) DO UPDATE SET {change}".replace(
                "= full_name", "= people.full_name"
            ),
            "merge": "MERGE INTO people USING (VALUES (1)) AS given (n) ON id = n"
            f" WHEN MATCHED THEN UPDATE SET {change}",
        }[way]
    )
    assert ground.rows(FORMS) == [kept]


def test_an_upsert_of_one_form_writes_both_whether_the_row_is_there_or_not(ground: Ground) -> None:
    people(ground)
    for name in ("Ann", "Bob"):
        for column in ("full_name", "display_name"):
            ground.run(
                f"INSERT INTO people (id, {column}) VALUES (1, '{name}')"
                f" ON CONFLICT (id) DO UPDATE SET {column} = EXCLUDED.{column}"
            )
            expected = (name, name.upper()) if column == "full_name" else (name.lower(), name)
            assert ground.rows(FORMS) == [expected]


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO people (id, full_name, display_name) VALUES (2, 'Ann', 'Bob')",
        "UPDATE people SET full_name = 'Bob', display_name = 'Carl'",
        "UPDATE people SET full_name = NULL, display_name = 'Carl'",
    ],
)
def test_forms_that_were_both_given_and_differ_are_refused_by_name(ground: Ground, statement: str) -> None:
    people(ground)
    ground.run(BEFORE)
    named = named_error(ground.refused(statement))
    assert isinstance(named, DualWriteConflict)
    assert (named.table, named.constraint, named.sqlstate) == ("people", "people_name", "DA008")
    assert "Bob" not in str(named)
    assert ground.rows(FORMS) == [("Ann", "ANN")]


@pytest.mark.parametrize(("winner", "kept"), [("old", ("Bob", "BOB")), ("new", ("carl", "Carl"))])
def test_a_conflict_is_won_by_the_form_that_shall_win(ground: Ground, winner: str, kept: tuple[str, str]) -> None:
    people(ground, DualWrite("people_name", "people", FORWARD, BACKWARD, on_conflict=winner))
    ground.run("INSERT INTO people (id, full_name, display_name) VALUES (1, 'Bob', 'Carl')", BEFORE.replace("(1", "(2"))
    ground.run("UPDATE people SET full_name = 'Bob', display_name = 'Carl' WHERE id = 2")
    assert ground.rows(FORMS) == [kept, kept]


def test_a_backfill_is_no_writer_of_the_new_form(ground: Ground) -> None:
    people(ground, before=BEFORE)
    assert ground.rows(FORMS) == [("Ann", None)]
    ground.run("UPDATE people SET display_name = upper(full_name)")
    assert ground.rows(FORMS) == [("Ann", "ANN")]


def test_a_row_that_is_not_filled_yet_is_filled_by_whoever_changes_its_old_form(ground: Ground) -> None:
    people(ground, before=BEFORE)
    ground.run("UPDATE people SET full_name = 'Bob'")
    assert ground.rows(FORMS) == [("Bob", "BOB")]


def test_a_new_form_that_was_not_given_is_computed_also_where_the_old_one_follows_from_null(ground: Ground) -> None:
    ground.run("CREATE TABLE t (id int, status text, active boolean)")
    back = {"status": "CASE WHEN active THEN 'on' ELSE 'off' END"}
    ground.make(DualWrite("switch", "t", {"active": "status = 'on'"}, back))
    ground.run("INSERT INTO t VALUES (1, 'off')", "INSERT INTO t (id, active) VALUES (2, false)")
    ground.run("UPDATE t SET active = NULL WHERE id = 2", "UPDATE t SET status = 'off' WHERE id = 1")
    assert ground.rows("SELECT status, active FROM t ORDER BY id") == [("off", False), ("off", None)]


def test_who_changes_neither_form_is_not_hindered_by_a_row_that_cannot_be_computed(ground: Ground) -> None:
    ground.run("CREATE TABLE logs (id int, at text, happened timestamptz, seen int)")
    ground.run("INSERT INTO logs VALUES (1, 'yesterday or so')")
    ground.make(DualWrite("logs_at", "logs", {"happened": "at::timestamptz"}, {"at": "happened::text"}))
    ground.run("UPDATE logs SET seen = 1", "UPDATE logs SET at = at")
    assert ground.rows("SELECT at, happened, seen FROM logs") == [("yesterday or so", None, 1)]


def test_who_changes_neither_form_does_not_shift_a_time_that_another_zone_wrote(ground: Ground) -> None:
    ground.run("CREATE TABLE logs (id int, at text, happened timestamptz, seen int)")
    ground.make(DualWrite("logs_at", "logs", {"happened": "at::timestamptz"}, {"at": "happened::text"}))
    ground.run("SET LOCAL TIME ZONE 'UTC'", "INSERT INTO logs (id, at) VALUES (1, '2026-01-01 00:00')")
    ground.run("SET LOCAL TIME ZONE 'Asia/Tokyo'", "UPDATE logs SET seen = 1")
    assert ground.rows("SELECT happened = '2026-01-01 00:00+00' FROM logs") == [(True,)]


@pytest.mark.parametrize(
    ("forward", "backward", "statement", "state"),
    [
        ({"happened": "at::timestamptz"}, {"at": "happened::text"}, "INSERT INTO t (at) VALUES ('soon')", "22007"),
        ({"large": "small"}, {"small": "large"}, "INSERT INTO t (large) VALUES (3000000000)", "22003"),
        ({"short": "at"}, {"at": "short"}, "INSERT INTO t (at) VALUES ('too long')", "22001"),
        ({"large": "small / 0"}, {}, "INSERT INTO t (small) VALUES (1)", "22012"),
    ],
    ids=["no time", "too large", "too long", "no expression of it"],
)
def test_a_value_that_the_other_form_cannot_hold_is_the_servers_own_error_to_its_writer(
    ground: Ground, forward: dict[str, str], backward: dict[str, str], statement: str, state: str
) -> None:
    ground.run("CREATE TABLE t (at text, happened timestamptz, small int, large bigint, short varchar(3))")
    ground.make(DualWrite("in_step", "t", forward, backward))
    refused = ground.refused(statement)
    assert refused.sqlstate == state
    assert "in_step" in (refused.diag.context or "")


@pytest.mark.parametrize(
    ("winner", "insert", "update"),
    [("refuse", "DA008", "DA008"), ("old", "ANN", "ANN"), ("new", "queen", "queen")],
)
def test_one_way_forward_a_new_form_of_its_own_is_a_conflict(
    ground: Ground, winner: str, insert: str, update: str
) -> None:
    people(ground, DualWrite("people_name", "people", FORWARD, {}, on_conflict=winner))
    ground.run("INSERT INTO people (id, full_name) VALUES (1, 'Ann')")
    assert ground.rows(FORMS) == [("Ann", "ANN")]
    for statement, kept in (
        ("INSERT INTO people (id, full_name, display_name) VALUES (2, 'Ann', 'queen')", insert),
        ("UPDATE people SET display_name = 'queen' WHERE id = 1", update),
    ):
        if winner == "refuse":
            assert ground.refused(statement).sqlstate == kept
        else:
            ground.run(statement)
    if winner != "refuse":
        assert ground.rows(FORMS) == [("Ann", update), ("Ann", insert)]
    ground.run("UPDATE people SET full_name = 'Bob' WHERE id = 1", "UPDATE people SET seen = 9")
    assert ground.rows(FORMS)[0] == ("Bob", "BOB")


@pytest.mark.parametrize(("winner", "kept"), [("refuse", None), ("old", "mine"), ("new", "none")])
def test_one_way_backward_the_next_version_need_not_know_a_column_that_goes(
    ground: Ground, winner: str, kept: str | None
) -> None:
    ground.run("CREATE TABLE people (id int, legacy text NOT NULL)")
    ground.make(DualWrite("legacy_goes", "people", {}, {"legacy": "'none'"}, on_conflict=winner))
    ground.run("INSERT INTO people (id) VALUES (1)")
    statement = "INSERT INTO people (id, legacy) VALUES (2, 'mine')"
    if kept is None:
        assert ground.refused(statement).sqlstate == "DA008"
    else:
        ground.run(statement, "UPDATE people SET legacy = 'mine' WHERE id = 1")
        assert ground.rows("SELECT legacy FROM people") == [(kept,), (kept,)]


def test_columns_that_are_split_and_merged_are_kept_in_step(ground: Ground) -> None:
    ground.run("CREATE TABLE people (id int, first text, last text, whole text)")
    ground.make(
        DualWrite(
            "people_whole",
            "people",
            {"whole": "concat_ws(' ', first, last)"},
            {"first": "split_part(whole, ' ', 1)", "last": "nullif(split_part(whole, ' ', 2), '')"},
        )
    )
    whole = "SELECT first, last, whole FROM people ORDER BY id"
    ground.run("INSERT INTO people (id, first, last) VALUES (1, 'Ann', 'Lee'), (2, 'Bob', NULL)")
    ground.run("INSERT INTO people (id, whole) VALUES (3, 'Carl Moe'), (4, 'Dora')")
    assert ground.rows(whole) == [
        ("Ann", "Lee", "Ann Lee"),
        ("Bob", None, "Bob"),
        ("Carl", "Moe", "Carl Moe"),
        ("Dora", None, "Dora"),
    ]
    ground.run("UPDATE people SET last = 'Zed' WHERE id IN (1, 4)", "UPDATE people SET whole = 'Eve Fox' WHERE id = 2")
    assert ground.rows(whole)[:2] == [("Ann", "Zed", "Ann Zed"), ("Eve", "Fox", "Eve Fox")]
    assert ground.rows(whole)[3] == ("Dora", "Zed", "Dora Zed")


def test_what_both_forms_are_computed_from_belongs_to_neither(ground: Ground) -> None:
    ground.run("CREATE TABLE prices (id int, scale int, price numeric(12,2), minor bigint)")
    ground.make(
        DualWrite("minor_units", "prices", {"minor": "round(price * scale)"}, {"price": "minor::numeric / scale"})
    )
    ground.run("INSERT INTO prices (id, scale, price) VALUES (1, 100, 9.99)")
    ground.run("INSERT INTO prices (id, scale, minor) VALUES (2, 1000, 12)")
    assert ground.rows("SELECT price::text, minor FROM prices ORDER BY id") == [("9.99", 999), ("0.01", 12)]
    ground.run("UPDATE prices SET scale = 10", "UPDATE prices SET scale = 100, minor = 50 WHERE id = 1")
    assert ground.rows("SELECT price::text, minor FROM prices ORDER BY id") == [("0.50", 50), ("0.01", 0)]


def test_it_fires_once_for_a_row_and_makes_no_other_statement(ground: Ground) -> None:
    people(ground)
    ground.run("CREATE TABLE seen (event text)")
    ground.run(
        "CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS"
        " $$BEGIN INSERT INTO seen VALUES (TG_OP || pg_trigger_depth()); RETURN NULL; END$$",
        "CREATE TRIGGER zz_note AFTER INSERT OR UPDATE ON people FOR EACH ROW EXECUTE FUNCTION note()",
        BEFORE,
        "UPDATE people SET display_name = 'Bob'",
    )
    assert ground.rows("SELECT event FROM seen") == [("INSERT1",), ("UPDATE1",)]
