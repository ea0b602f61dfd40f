"""Hints: what looks wrong in a plan is said once, with what to do, and a good plan gets none."""

from __future__ import annotations

import pytest
from sqlalchemy import text

from dataarch.database.explain import explain
from dataarch.database.plan_hints import Hint
from dataarch.database.plans import plan_of
from dataarch.database.unit_of_work import Database
from fixtures.busy_log import BusyLog

LOG = "user_activity_log"


def hints(log: BusyLog, query: str, *, owner: bool = False, analyze: bool = True) -> tuple[Hint, ...]:
    return log.db.explain(query, tenant_id=None if owner else log.tenant, owner=owner, analyze=analyze).hints


@pytest.mark.parametrize("analyze", [True, False], ids=["run", "planned"])
@pytest.mark.parametrize(
    ("condition", "said"),
    [
        ("""metadata @> '{"page": 7}'""", "metadata @>"),
        ("metadata ? 'nothing'", "metadata ?"),
        ("metadata ->> 'order' = '7'", "metadata ->>"),
        ("activity_type LIKE 'vie%'", "activity_type LIKE"),
        ("activity_type ILIKE 'VIE%' AND user_id IS NOT NULL", "activity_type ILIKE"),
        ("activity_type ~ '^vie'", "activity_type ~"),
    ],
)
def test_an_operator_that_is_not_leakproof_is_named_with_its_column(
    busy_log: BusyLog, condition: str, said: str, *, analyze: bool
) -> None:
    (hint,) = hints(busy_log, f"SELECT id FROM {LOG} WHERE {condition}", analyze=analyze)
    assert hint.table == LOG
    assert hint.message.startswith(f"{said} is asked of each row")
    assert hint.advice
    assert ("idx_metadata_gin is there" in hint.message) == said.startswith("metadata")


def test_a_text_that_looks_like_an_operator_is_none(busy_log: BusyLog) -> None:
    assert hints(busy_log, f"SELECT id FROM {LOG} WHERE metadata::text = 'metadata @> page'") == ()


@pytest.mark.parametrize("analyze", [True, False], ids=["run", "planned"])
def test_outside_the_policies_any_operator_may_use_an_index(busy_log: BusyLog, *, analyze: bool) -> None:
    assert (
        hints(busy_log, f"""SELECT id FROM {LOG} WHERE metadata @> '{{"page": 7}}'""", owner=True, analyze=analyze)
        == ()
    )


@pytest.mark.parametrize("analyze", [True, False], ids=["run", "planned"])
def test_a_table_that_is_read_in_vain_is_named_with_the_indexes_that_it_has(
    busy_log: BusyLog, *, analyze: bool
) -> None:
    (hint,) = hints(busy_log, f"SELECT id FROM {LOG} WHERE metadata ->> 'order' = '7'", owner=True, analyze=analyze)
    assert hint.message.startswith(f"{LOG} is read from one end to the other")
    assert "idx_tenant_user_created (tenant_id, user_id, created_at)" in hint.advice


def test_a_table_of_which_all_rows_are_wanted_is_no_mistake(busy_log: BusyLog) -> None:
    assert hints(busy_log, f"SELECT metadata FROM {LOG}", owner=True) == ()


def test_a_sort_that_does_not_fit_is_told(busy_log: BusyLog) -> None:
    with busy_log.db.owner() as session:
        session.execute(text("SET LOCAL work_mem = '64kB'"))
        (hint,) = explain(session, f"SELECT metadata FROM {LOG} ORDER BY metadata", analyze=True).hints
    assert "work_mem" in hint.message


def test_a_table_without_statistics_is_told(busy_log: BusyLog) -> None:
    with busy_log.db.owner() as session:
        session.execute(text("CREATE TABLE fresh (id int)"))
        (hint,) = explain(session, "SELECT id FROM fresh").hints
        assert hint == Hint("fresh", "fresh has parts without statistics.", "Run ANALYZE fresh.")
        session.execute(text("INSERT INTO fresh SELECT generate_series(1, 5000)"))
        assert [one.advice for one in explain(session, "SELECT id FROM fresh", analyze=True).hints] == [hint.advice]
        session.execute(text("ANALYZE fresh"))
        assert explain(session, "SELECT id FROM fresh", analyze=True).hints == ()
        session.rollback()


def test_partitions_that_were_made_ahead_need_no_statistics(db: Database) -> None:
    assert db.explain(f"SELECT id FROM {LOG}", owner=True).hints == ()
    assert db.explain(f"SELECT id FROM {LOG}", owner=True, analyze=True).hints == ()


def test_a_plan_from_elsewhere_is_read_too() -> None:
    """As auto_explain writes it: nothing was measured, and nobody knows what the names stand for."""
    scan = {"Node Type": "Seq Scan", "Relation Name": "users", "Plan Rows": 5}
    aggregate = {"Node Type": "Aggregate", "Strategy": "Hashed", "Plan Rows": 1, "Plans": [scan]}
    plan = plan_of("SELECT", {"Plan": aggregate})
    assert plan.kinds == ("HashAggregate", "Seq Scan")
    assert (plan.tables, plan.sequential_scans, plan.partitions) == (("users",), ("users",), ())
    assert not plan.ran


def test_rows_are_those_of_all_loops_together() -> None:
    scan = {"Node Type": "Seq Scan", "Plan Rows": 5, "Actual Rows": 2.5, "Actual Loops": 4, "Rows Removed by Filter": 3}
    plan = plan_of("SELECT", {"Plan": scan, "Execution Time": 1.5})
    assert (plan.rows, plan.root.removed) == (10, 12)


def test_rows_far_beyond_the_estimate_are_told() -> None:
    scan = {"Node Type": "Seq Scan", "Relation Name": "users", "Plan Rows": 5, "Actual Rows": 9000, "Actual Loops": 1}
    plan = plan_of("SELECT", {"Plan": scan, "Execution Time": 1.5})
    (hint,) = plan.hints
    assert hint.message == "9,000 rows came from users, and 5 were expected."
