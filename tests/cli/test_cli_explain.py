"""`dataarch explain`: SQL from wherever it comes, the plan as a tree or as JSON, hints, and refusals in one line."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from sqlalchemy import text

from cli.cli_support import COMMAND, dataarch, dataarch_on_terminal, environment, refusal
from fixtures.busy_log import USERS, BusyLog

LATEST = "SELECT * FROM user_activity_log WHERE user_id = :user ORDER BY created_at DESC LIMIT 20"
SEARCH = """SELECT * FROM user_activity_log WHERE metadata @> '{"page":426}'"""
WIDE = {"COLUMNS": "200"}


def test_the_tree_comes_with_indexes_partitions_and_pages(busy_log: BusyLog, tmp_path: Path) -> None:
    user, tenant = f"user={busy_log.user}", str(busy_log.tenant)
    asked = ("explain", LATEST, "--tenant", tenant, "--param", user, "--analyze")
    shown = dataarch(busy_log.settings, tmp_path, *asked, **WIDE)
    assert (shown.code, shown.complaints) == (0, "")
    assert shown.printed.startswith("Limit  (20 rows, ")
    for said in ("│ indexes ", "idx_tenant_user_created", "│ partitions ", " touched", "│ buffers ", "│ time "):
        assert said in shown.printed
    assert "hint:" not in shown.printed


def test_it_is_planned_and_not_run_unless_asked_to(busy_log: BusyLog, tmp_path: Path) -> None:
    shown = dataarch(busy_log.settings, tmp_path, "explain", "SELECT id FROM users", "--owner")
    assert "expected, cost" in shown.printed
    assert "buffers" not in shown.printed


def test_a_search_that_no_index_can_serve_under_the_policies_is_explained(busy_log: BusyLog, tmp_path: Path) -> None:
    tenant = str(busy_log.tenant)
    for measured in ([], ["--analyze"]):
        shown = dataarch(busy_log.settings, tmp_path, "explain", SEARCH, "--tenant", tenant, *measured)
        (hint,) = [line for line in shown.printed.splitlines() if line.startswith("hint:")]
        for said in ("metadata @>", "leakproof", "idx_metadata_gin is there", "find_activity()"):
            assert said in hint
    as_owner = dataarch(busy_log.settings, tmp_path, "explain", SEARCH, "--owner", **WIDE)
    assert "idx_metadata_gin" in as_owner.printed
    assert "hint:" not in as_owner.printed


def test_json_holds_what_the_objects_say_and_the_servers_own_words(busy_log: BusyLog, tmp_path: Path) -> None:
    asked = ("explain", "SELECT id FROM users", "--tenant", str(busy_log.tenant), "--analyze", "--json")
    shown = json.loads(dataarch(busy_log.settings, tmp_path, *asked).printed)
    assert (shown["rows"], shown["tables"], shown["ran"]) == (USERS, ["users"], True)
    assert shown["buffers"]["hit"] + shown["buffers"]["read"] > 0
    assert "Node Type" in shown["plan"]["Plan"]
    assert shown["hints"] == []
    planned = json.loads(dataarch(busy_log.settings, tmp_path, *asked[:4], "--json").printed)
    assert planned["ran"] is False
    assert "rows" not in planned


def test_sql_comes_from_a_file_or_from_standard_input(busy_log: BusyLog, tmp_path: Path) -> None:
    (tmp_path / "latest.sql").write_text("SELECT id FROM users -- it's: all of them\n;\n")
    from_file = dataarch(busy_log.settings, tmp_path, "explain", "@latest.sql", "--owner")
    assert "on users" in from_file.printed
    piped = subprocess.run(
        [*COMMAND, "explain", "--owner"],
        input=b"SELECT id FROM products",
        env=environment(busy_log.settings, tmp_path),
        cwd=tmp_path,
        capture_output=True,
        check=True,
    )
    assert b"on products" in piped.stdout


def test_what_only_looks_like_a_parameter_is_none(busy_log: BusyLog, tmp_path: Path) -> None:
    sql = """SELECT '{"a":name}' AS ":x", '12:30'::time, :name::text /* :comment */"""
    shown = dataarch(busy_log.settings, tmp_path, "explain", sql, "--owner", "--param", "name=Ada", "--analyze")
    assert (shown.code, shown.complaints) == (0, "")


def test_what_it_runs_is_undone(busy_log: BusyLog, tmp_path: Path) -> None:
    asked = ("explain", "DELETE FROM users", "--tenant", str(busy_log.tenant), "--analyze")
    shown = dataarch(busy_log.settings, tmp_path, *asked, **WIDE)
    assert "Delete on users" in shown.printed
    assert "trigger fk_user_activity_log_users" in shown.printed
    with busy_log.db.tenant(busy_log.tenant) as session:
        assert session.scalar(text("SELECT count(*) FROM users")) == USERS


def test_what_comes_from_the_database_is_no_markup(busy_log: BusyLog, tmp_path: Path) -> None:
    sql = "SELECT id FROM users WHERE full_name = '[bold]\x1b[31mred'"
    shown = dataarch_on_terminal(busy_log.settings, tmp_path, "explain", sql, "--owner")
    assert "[bold]\\x1b[31mred" in shown.printed


REFUSED = {
    "nobody asks": (["SELECT 1"], 2, "--tenant"),
    "both ask": (["SELECT 1", "--tenant", "x", "--owner"], 2, "not both"),
    "no tenant": (["SELECT 1", "--tenant", "acme"], 1, "'acme' is not the id of a tenant"),
    "no file": (["@nowhere.sql", "--owner"], 2, "nowhere.sql"),
    "no parameter": (["SELECT :a", "--owner", "--param", "a"], 2, "--param name=value"),
    "no value": (["SELECT :a", "--owner"], 2, "--param a="),
    "a value too many": (["SELECT ':a'", "--owner", "--param", "a=1"], 2, "no parameter :a"),
    "no plan": (["VACUUM", "--owner"], 1, "has no plan"),
    "no SQL": (["SELECT FROM WHERE", "--owner"], 1, "syntax error"),
    "no table": (["SELECT * FROM nowhere", "--owner"], 1, "dataarch upgrade"),
    "nothing": (["", "--owner"], 1, "has no plan"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_explained_is_refused_in_one_line(busy_log: BusyLog, tmp_path: Path, case: str) -> None:
    arguments, code, said = REFUSED[case]
    assert said in refusal(dataarch(busy_log.settings, tmp_path, "explain", *arguments), code)
