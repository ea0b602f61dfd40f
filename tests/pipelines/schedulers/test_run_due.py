"""What is due runs once, whoever looks; what was killed is due again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import select, text

from dataarch.caching.database import Database as CachingDatabase
from dataarch.database.unit_of_work import Database
from dataarch.errors import ConfigurationError, InvalidValue, ServerUnreachable
from dataarch.models import PipelineRun, Product
from dataarch.models.base import new_id
from dataarch.pipelines.books import KILLED, guarded
from dataarch.pipelines.extractors import JsonLines
from dataarch.pipelines.records import Batch
from dataarch.pipelines.runner import run
from dataarch.pipelines.schedulers.run_due import PAST, Ran, past_of, run_due
from dataarch.pipelines.schedulers.schedule import Missed, Past, Schedule
from pipelines.listed import CUT_OFF, home, pipeline, product, stored
from pipelines.schedulers.due_pipelines import NAMES

pytestmark = pytest.mark.pipeline

TESTS = Path(__file__).resolve().parents[2]
NOW = datetime(2026, 11, 26, 12, 20, tzinfo=UTC)
LATEST = datetime(2026, 11, 26, 12, 15, tzinfo=UTC)
HOUR = timedelta(hours=1)


@pytest.fixture
def db(shared_db: Database) -> Database:
    """One database for this file: each test makes tenants of its own."""
    return shared_db


@pytest.fixture
def tenant_id(db: Database) -> UUID:
    return home(db, "due")


def slug(tenant_id: UUID) -> str:
    return f"due-{tenant_id.hex[-12:]}"


def hourly(tenant_id: UUID, **changed: Any) -> Schedule:
    values = {"pipeline": pipeline(), "given": {"a": [product(1)]}, "tenant": slug(tenant_id), **changed}
    return Schedule(cron="15 * * * *", **values)


def due_runs(db: Database, schedules: list[Schedule], now: datetime = NOW) -> list[Ran]:
    return list(run_due(db, schedules, now))


def runs(db: Database, tenant_id: UUID) -> list[PipelineRun]:
    with db.tenant(tenant_id) as session:
        return list(session.scalars(select(PipelineRun).order_by(PipelineRun.started_at)))


def test_a_run_is_done_once_for_each_time(db: Database, tenant_id: UUID) -> None:
    schedule = hourly(tenant_id)
    [first] = due_runs(db, [schedule])
    assert first.outcome is not None
    assert (first.outcome.counts.loaded, first.failed) == (1, False)
    assert due_runs(db, [schedule]) == []
    assert due_runs(db, [schedule], NOW - HOUR) == []
    assert len(due_runs(db, [schedule], NOW + 3 * HOUR)) == 1
    assert [one.scheduled_for for one in runs(db, tenant_id)] == [LATEST, LATEST + 3 * HOUR]


def test_a_run_by_hand_is_none_of_the_schedule(db: Database, tenant_id: UUID) -> None:
    schedule = hourly(tenant_id)
    run(db, schedule.pipeline, schedule.given, tenant_id=tenant_id)
    assert past_of(db, tenant_id, schedule) == Past()
    due_runs(db, [schedule])
    run(db, schedule.pipeline, schedule.given, tenant_id=tenant_id)
    assert past_of(db, tenant_id, schedule) == Past(done=LATEST, state="finished")


def killed(db: Database, tenant_id: UUID, at: datetime) -> None:
    """Leave what a run leaves that was killed at work."""
    with db.tenant(tenant_id) as session:
        session.execute(
            text(
                "INSERT INTO pipeline_runs (tenant_id, id, pipeline, pipeline_version, dataarch_version, scheduled_for)"
                " VALUES (:tenant, :id, 'products', '1', '1', :at)"
            ),
            {"tenant": tenant_id, "id": new_id(), "at": at},
        )


@pytest.mark.parametrize("missed", Missed)
@pytest.mark.parametrize("by_hand", [False, True])
def test_a_run_that_was_killed_is_due_again_also_after_one_by_hand(
    db: Database, tenant_id: UUID, missed: Missed, by_hand: bool
) -> None:
    schedule = hourly(tenant_id, missed=missed)
    killed(db, tenant_id, LATEST)
    if by_hand:
        run(db, schedule.pipeline, schedule.given, tenant_id=tenant_id)
    assert past_of(db, tenant_id, schedule).killed == LATEST
    assert len(due_runs(db, [schedule])) == 1
    assert due_runs(db, [schedule]) == []
    last = runs(db, tenant_id)[-1]
    assert (last.scheduled_for, last.state) == (LATEST, "finished")


def test_a_run_that_fails_is_done_and_the_others_run(db: Database, tenant_id: UUID) -> None:
    def broken(batch: Batch) -> Batch:
        raise ZeroDivisionError

    schedules = [
        hourly(tenant_id, pipeline=replace(pipeline("broken"), steps=(broken,))),
        hourly(tenant_id, pipeline=pipeline("cut"), given={"a": [product(2), CUT_OFF]}),
        hourly(tenant_id),
    ]
    mistake, cut, good = due_runs(db, schedules)
    assert isinstance(mistake.error, ZeroDivisionError)
    assert (mistake.failed, cut.failed, good.failed) == (True, True, False)
    assert due_runs(db, schedules) == []
    assert [one.state for one in runs(db, tenant_id)] == ["failed", "failed", "finished"]


def test_where_there_is_nothing_to_read_the_run_is_done_with_nothing(
    db: Database, tenant_id: UUID, tmp_path: Path
) -> None:
    files = hourly(tenant_id, pipeline=replace(pipeline(), extract=JsonLines()), given=str(tmp_path / "*.jsonl"))
    [ran] = due_runs(db, [files])
    assert "No file fits the pattern" in ran.nothing
    assert not ran.failed
    assert due_runs(db, [files]) == []
    [row] = runs(db, tenant_id)
    assert (row.state, row.read, row.scheduled_for) == ("finished", 0, LATEST)


def test_while_the_pipeline_runs_that_is_said_and_it_stays_due(db: Database, tenant_id: UUID) -> None:
    schedule = hourly(tenant_id)
    for name in ("products", "products on schedule"):
        with guarded(db, tenant_id, name):
            [ran] = due_runs(db, [schedule])
        assert (ran.busy, ran.failed, ran.outcome, ran.due) == (True, False, None, LATEST)
    assert len(due_runs(db, [schedule])) == 1


def test_a_tenant_that_is_not_there_is_an_error_of_its_schedule_alone(db: Database, tenant_id: UUID) -> None:
    nobody, good = due_runs(db, [replace(hourly(tenant_id), tenant="nobody-at-all"), hourly(tenant_id)])
    assert isinstance(nobody.error, ConfigurationError)
    assert good.outcome is not None


def test_two_schedules_for_one_pipeline_and_tenant_run_nothing(db: Database, tenant_id: UUID) -> None:
    with pytest.raises(InvalidValue, match="scheduled twice"):
        due_runs(db, [hourly(tenant_id), hourly(tenant_id)])
    assert runs(db, tenant_id) == []


def test_a_server_that_is_away_stops_all(db: Database, tenant_id: UUID) -> None:
    settings = db.settings.model_copy(update={"database_url": "postgresql://127.0.0.1:1/nowhere"})
    with CachingDatabase(settings) as away, pytest.raises(ServerUnreachable):
        due_runs(away, [hourly(tenant_id), hourly(tenant_id, pipeline=pipeline("others"))])


def test_a_run_that_somebody_did_since_it_was_looked_at_is_not_done_again(
    db: Database, tenant_id: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    others: list[Ran] = []

    @contextmanager
    def late(*of: Any) -> Iterator[None]:
        monkeypatch.undo()
        others.extend(due_runs(db, [hourly(tenant_id)]))
        with guarded(*of):
            yield

    monkeypatch.setattr("dataarch.pipelines.schedulers.run_due.guarded", late)
    assert due_runs(db, [hourly(tenant_id)]) == []
    assert len(others) == len(runs(db, tenant_id)) == 1


def test_what_is_known_of_a_schedule_is_read_from_a_few_of_its_runs(db: Database, tenant_id: UUID) -> None:
    with db.tenant(tenant_id) as session:
        session.execute(
            text(
                "INSERT INTO pipeline_runs (tenant_id, id, pipeline, pipeline_version, dataarch_version, state,"
                " scheduled_for, started_at, finished_at)"
                " SELECT :tenant, gen_random_uuid(), 'products', '1', '1', 'finished', t, t, t"
                " FROM generate_series(CAST(:now AS timestamptz) - interval '3000 hours', :now, '1 hour') AS t"
            ),
            {"tenant": tenant_id, "now": LATEST},
        )
    with db.owner() as owner:
        owner.execute(text("ANALYZE pipeline_runs"))
    parameters = {"tenant": tenant_id, "pipeline": "products", "killed": KILLED}
    plan = db.explain(str(PAST), parameters, tenant_id=tenant_id, analyze=True)
    assert past_of(db, tenant_id, hourly(tenant_id)) == Past(done=LATEST, state="finished")
    assert "pipeline_runs" not in plan.sequential_scans
    assert plan.buffers.hit + plan.buffers.read < 60, "\n".join(map(str, plan.tree))


# ── real processes ────────────────────────────────────────────────────────────────────────────────────────────────


def started(db: Database, tenant_id: UUID, seconds: float) -> subprocess.Popen[str]:
    """Start a process that runs what is due."""
    variables = {
        **os.environ,
        "PYTHONPATH": str(TESTS),
        "DATAARCH_DATABASE_URL": str(db.settings.database_url),
        "STEP_SECONDS": str(seconds),
    }
    return subprocess.Popen(
        [sys.executable, "-m", "pipelines.schedulers.due_pipelines", slug(tenant_id)],
        env=variables, cwd=TESTS, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def test_of_processes_that_look_at_the_same_time_one_does_each_run(db: Database, tenant_id: UUID) -> None:
    processes = [started(db, tenant_id, 0.2) for _ in range(3)]
    said = Counter[str]()
    for process in processes:
        printed, complaints = process.communicate(timeout=60)
        assert process.returncode == 0, complaints
        said.update(printed.splitlines())
    assert {name: said[f"{name} ran"] for name in NAMES} == dict.fromkeys(NAMES, 1)
    assert Counter(one.pipeline for one in runs(db, tenant_id)) == Counter(NAMES)
    assert len(stored(db, tenant_id, Product, "external_id")) == 3 * len(NAMES)


def test_a_process_that_is_killed_leaves_its_run_due_and_another_one_does_it(db: Database, tenant_id: UUID) -> None:
    process = started(db, tenant_id, 600)
    assert process.stdout is not None
    assert process.stdout.readline() == "at work\n"
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    printed, complaints = started(db, tenant_id, 0).communicate(timeout=60)
    assert [line for line in printed.splitlines() if line != "at work"] == [f"{name} ran" for name in NAMES], complaints
    first, second, *_ = runs(db, tenant_id)
    assert (first.pipeline, first.error) == (second.pipeline, "It was killed.")
    assert (second.state, second.scheduled_for) == ("finished", first.scheduled_for)
