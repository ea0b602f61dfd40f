"""Whoever keeps the lineage of a company is told of each run, as OpenLineage says, and never stops or slows one."""

from __future__ import annotations

import json
import logging
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import make_url, text

from dataarch.caching.database import Database as CachingDatabase
from dataarch.database.unit_of_work import Database
from dataarch.errors import ConfigurationError, DependencyMissing, InputMissing, PipelineBusy
from dataarch.models import PipelineRun, Product
from dataarch.models.base import new_id
from dataarch.pipelines.books import guarded
from dataarch.pipelines.extractors import CsvFiles, Query
from dataarch.pipelines.loaders.replace import Replace
from dataarch.pipelines.observer import Begun
from dataarch.pipelines.openlineage import OpenLineage
from dataarch.pipelines.outcome import Outcome
from dataarch.pipelines.pipeline import Pipeline
from dataarch.pipelines.records import Batch, Stage, each
from dataarch.pipelines.replay import replay
from dataarch.pipelines.runner import Runner, run
from pipelines.lineage_endpoint import Endpoint, endpoint, problems
from pipelines.listed import CUT_OFF, home, pipeline, product, stored

pytestmark = pytest.mark.pipeline

HEADER = "external_id,slug,name,price,currency\n"


@pytest.fixture
def db(shared_db: Database) -> Database:
    """One database for this file: each test makes tenants of its own."""
    return shared_db


@pytest.fixture
def tenant_id(db: Database) -> UUID:
    return home(db)


@pytest.fixture
def told() -> Iterator[Endpoint]:
    """An endpoint; whatever it was told must be what the specification asks for."""
    with endpoint() as server:
        yield server
    assert [problems(event) for event in server.events] == [[] for _ in server.events]


PRODUCTS = pipeline()


def observed(
    db: Database, tenant_id: UUID, given: Any, to: OpenLineage, pipeline: Pipeline = PRODUCTS, **options: Any
) -> Outcome:
    return Runner(db, pipeline, tenant_id, observer=to, **options).run(given)


def priced(batch: Batch) -> Batch:
    return each(batch, Stage.TRANSFORM, lambda row: {**row, "price": int(row["price"])})


def facet(event: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in event["run"]["facets"][name].items() if not key.startswith("_")}


def test_a_run_of_a_file_tells_its_start_and_its_end_with_what_was_read_and_written(
    db: Database, tenant_id: UUID, told: Endpoint, tmp_path: Path
) -> None:
    file = tmp_path / "products.csv"
    file.write_text(f"{HEADER}T1,tea-1,Tea,995,GBP\nT2,No Slug,Pot,995,GBP\nT3,tea-3,Cup,995,GBP\n")
    products = Pipeline("files", CsvFiles(), (priced,), pipeline().load, version="7")
    outcome = observed(db, tenant_id, file, OpenLineage(told.url, namespace="shop"), products)
    start, end = told.events
    assert told.paths == ["/api/v1/lineage", "/api/v1/lineage"]
    assert [event["eventType"] for event in (start, end)] == ["START", "COMPLETE"]
    assert {event["run"]["runId"] for event in (start, end)} == {str(outcome.run_id)}
    assert [(event["job"]["namespace"], event["job"]["name"]) for event in (start, end)] == [("shop", "files")] * 2
    assert start["eventTime"] <= end["eventTime"]
    [read] = end["inputs"]
    assert (read["namespace"], read["name"]) == ("file", str(file))
    statistics = read["inputFacets"]["inputStatistics"]
    assert (statistics["rowCount"], statistics["size"]) == (3, file.stat().st_size)
    [written] = end["outputs"]
    assert written["namespace"].startswith("postgres://")
    assert written["name"] == f"{make_url(str(db.settings.database_url)).database}.public.products"
    assert written["outputFacets"]["outputStatistics"]["rowCount"] == 2
    assert facet(end, "processing_engine")["name"] == "dataarch"
    assert facet(end, "dataarch_run") == {
        "read": 3, "loaded": 2, "updated": 0, "unchanged": 0, "rejected": 1, "removed": 0,
        "rejects": [{"stage": "load", "field": "slug", "count": 1}],
        "version": Runner(db, products, tenant_id).this.version, "tenant": str(tenant_id),
    }  # fmt: skip


def test_a_second_run_tells_only_what_is_new(db: Database, tenant_id: UUID, told: Endpoint, tmp_path: Path) -> None:
    file = tmp_path / "products.csv"
    file.write_text(f"{HEADER}T1,tea-1,Tea,995,GBP\n")
    products = Pipeline("files", CsvFiles(), (priced,), pipeline().load)
    lineage = OpenLineage(told.url)
    observed(db, tenant_id, file, lineage, products)
    observed(db, tenant_id, file, lineage, products)
    before = file.stat().st_size
    with file.open("a") as stream:
        stream.write("T2,tea-2,Pot,995,GBP\n")
    observed(db, tenant_id, file, lineage, products, batch=1)
    nothing, grown = told.events[3], told.events[5]
    assert (nothing["inputs"], nothing["outputs"]) == ([], [])
    [read] = grown["inputs"]
    assert read["inputFacets"]["inputStatistics"]["rowCount"] == 1
    assert read["inputFacets"]["inputStatistics"]["size"] == file.stat().st_size - before


def test_a_run_that_was_due_at_a_time_tells_that_time(db: Database, tenant_id: UUID, told: Endpoint) -> None:
    due = datetime(2026, 11, 26, 3, 15, tzinfo=UTC)
    observed(db, tenant_id, {"a": [product(1)]}, OpenLineage(told.url), scheduled_for=due)
    for event in told.events:
        assert facet(event, "nominalTime") == {"nominalStartTime": "2026-11-26T03:15:00+00:00"}


def test_a_run_that_fails_tells_why_and_what_was_committed_before(
    db: Database, tenant_id: UUID, told: Endpoint
) -> None:
    def broken(batch: Batch) -> Batch:
        return batch if batch.numbers == [1] else 1 / 0  # type: ignore[return-value]

    with pytest.raises(ZeroDivisionError):
        observed(
            db, tenant_id, {"a": [product(1), product(2)]}, OpenLineage(told.url),
            replace(pipeline(), steps=(broken,)), batch=1,
        )  # fmt: skip
    observed(db, home(db), {"a": [product(1), CUT_OFF]}, OpenLineage(told.url))
    _, mistake, _, cut_off = told.events
    assert [event["eventType"] for event in (mistake, cut_off)] == ["FAIL", "FAIL"]
    assert facet(mistake, "errorMessage") == {
        "message": "ZeroDivisionError: division by zero", "programmingLanguage": "PYTHON",
    }  # fmt: skip
    assert facet(cut_off, "errorMessage")["message"] == "1 of its sources failed: The source a is cut off."
    for event in (mistake, cut_off):
        assert event["outputs"][0]["outputFacets"]["outputStatistics"]["rowCount"] == 1


def test_an_error_of_the_database_tells_neither_the_statement_nor_its_values(
    db: Database, tenant_id: UUID, told: Endpoint
) -> None:
    class Broken(Replace):
        def begin(self, session: Any) -> int:
            session.execute(text("SELECT :value / 0"), {"value": 4711})
            return 0

    with pytest.raises(Exception, match="division by zero"):
        observed(
            db,
            tenant_id,
            {"a": [product(1)]},
            OpenLineage(told.url),
            pipeline(load=Broken(Product, {"currency": "GBP"})),
        )
    message = facet(told.events[1], "errorMessage")["message"]
    assert "division by zero" in message
    assert "SELECT" not in message
    assert "4711" not in message


def test_a_run_that_is_interrupted_tells_that_it_was_aborted(db: Database, tenant_id: UUID, told: Endpoint) -> None:
    def stop(_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        observed(db, tenant_id, {"a": [product(1)]}, OpenLineage(told.url), on_progress=stop)
    assert [event["eventType"] for event in told.events] == ["START", "ABORT"]


def test_a_run_that_was_killed_is_told_as_aborted_by_the_next_one(
    db: Database, tenant_id: UUID, told: Endpoint
) -> None:
    killed = new_id()
    with db.tenant(tenant_id) as session:
        session.execute(
            text(
                "INSERT INTO pipeline_runs (tenant_id, id, pipeline, pipeline_version, dataarch_version)"
                " VALUES (:t, :id, 'products', '1', '1')"
            ),
            {"t": tenant_id, "id": killed},
        )
    outcome = observed(db, tenant_id, {"a": [product(1)]}, OpenLineage(told.url))
    assert [(event["eventType"], event["run"]["runId"]) for event in told.events] == [
        ("ABORT", str(killed)),
        ("START", str(outcome.run_id)),
        ("COMPLETE", str(outcome.run_id)),
    ]
    assert facet(told.events[0], "errorMessage")["message"] == "It was killed."


def test_an_observer_hears_of_the_end_when_it_is_stored_and_the_lock_is_gone(db: Database, tenant_id: UUID) -> None:
    class Curious:
        def begun(self, _run: Begun, /) -> None:
            with pytest.raises(PipelineBusy), guarded(db, tenant_id, "products"):
                pass

        def ended(self, run: Begun, _outcome: Outcome, _error: BaseException | None, /) -> None:
            with guarded(db, tenant_id, "products"), db.tenant(tenant_id) as session:
                states.append(session.get_one(PipelineRun, (tenant_id, run.run.id)).state)

    states: list[str] = []
    Runner(db, PRODUCTS, tenant_id, observer=Curious()).run({"a": [product(1)]})
    with pytest.raises(ZeroDivisionError):
        Runner(db, replace(PRODUCTS, steps=(lambda _: 1 / 0,)), tenant_id, observer=Curious()).run({"b": [product(1)]})  # type: ignore[arg-type]
    assert states == ["finished", "failed"]


def test_a_run_that_never_begins_tells_nothing(db: Database, tenant_id: UUID, told: Endpoint) -> None:
    with guarded(db, tenant_id, "products"), pytest.raises(PipelineBusy):
        observed(db, tenant_id, {"a": [product(1)]}, OpenLineage(told.url))
    with pytest.raises(InputMissing):
        observed(db, tenant_id, "/nowhere.csv", OpenLineage(told.url), replace(pipeline(), extract=CsvFiles()))
    assert told.events == []


def test_a_source_that_is_loaded_as_a_whole_is_told_when_it_is_committed(
    db: Database, tenant_id: UUID, told: Endpoint
) -> None:
    whole = pipeline(load=Replace(Product, {"currency": "GBP"}))
    given = {"a": [product(1), product(2)], "b": [product(3), CUT_OFF]}
    observed(db, tenant_id, given, OpenLineage(told.url, namespace="shop"), whole, batch=1)
    end = told.events[1]
    [read] = end["inputs"]
    assert (read["namespace"], read["name"]) == ("shop", "products.a")
    assert read["inputFacets"]["inputStatistics"]["rowCount"] == 2
    assert end["outputs"][0]["outputFacets"]["outputStatistics"]["rowCount"] == 2


def test_a_query_is_named_by_its_database_and_without_the_values_it_was_given(
    db: Database, tenant_id: UUID, told: Endpoint, tmp_path: Path
) -> None:
    statement = "SELECT 1 AS id, 'T1' AS external_id, 'tea-1' AS slug, 'Tea' AS name, 5 AS price, :c AS currency"
    url = make_url(str(db.settings.database_url))
    for where in (url, f"sqlite:///{tmp_path}/a.db"):
        rows = Pipeline("query", Query(where, statement, name="tea"), (without_id,), pipeline().load)
        observed(db, tenant_id, {"c": "GBP"}, OpenLineage(told.url), rows)
    postgres, sqlite = told.events[1]["inputs"][0], told.events[3]["inputs"][0]
    assert postgres["namespace"] == told.events[1]["outputs"][0]["namespace"]
    assert postgres["name"] == f"{url.database}.tea"
    assert (sqlite["namespace"], sqlite["name"]) == ("sqlite", f"{tmp_path}/a.db.tea")


def without_id(batch: Batch) -> Batch:
    return each(batch, Stage.TRANSFORM, lambda row: {name: value for name, value in row.items() if name != "id"})


def test_a_replay_tells_which_run_it_takes_again(db: Database, tenant_id: UUID, tmp_path: Path) -> None:
    first = run(db, pipeline(), {"a": [product(1, slug="No Slug")]}, tenant_id=tenant_id)
    file = tmp_path / "events.jsonl"
    settings = db.settings.model_copy(update={"openlineage": str(file), "openlineage_namespace": "shop"})
    with CachingDatabase(settings) as watched:
        again = replay(watched, pipeline(), first.run_id, tenant_id=tenant_id)
    events = [json.loads(line) for line in file.read_text().splitlines()]
    assert [problems(event) for event in events] == [[], []]
    assert [event["run"]["runId"] for event in events] == [str(again.run_id)] * 2
    assert [event["job"]["namespace"] for event in events] == ["shop"] * 2
    assert facet(events[0], "dataarch_run")["replay_of"] == str(first.run_id)


def test_a_run_below_another_one_names_it(
    db: Database, tenant_id: UUID, told: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    parent = new_id()
    for value in (f"airflow/nightly.load/{parent}", "no parent at all"):
        monkeypatch.setenv("OPENLINEAGE_PARENT_ID", value)
        observed(db, home(db), {"a": [product(1)]}, OpenLineage(told.url))
    below = facet(told.events[0], "parent")
    assert {name: {**of, "facets": {}} for name, of in below.items()} == {
        "run": {"runId": str(parent), "facets": {}},
        "job": {"namespace": "airflow", "name": "nightly.load", "facets": {}},
    }  # fmt: skip
    assert "parent" not in told.events[2]["run"]["facets"]


# ── an endpoint that is not there ─────────────────────────────────────────────────────────────────────────────────


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [one.getMessage() for one in caplog.records if one.name.startswith("dataarch")]


def test_an_endpoint_that_is_down_is_warned_of_once_and_all_is_loaded(
    db: Database, tenant_id: UUID, caplog: pytest.LogCaptureFixture
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        port = nobody.getsockname()[1]
    with caplog.at_level(logging.WARNING):
        outcome = observed(db, tenant_id, {"a": [product(1)]}, OpenLineage(f"http://user:geheim@127.0.0.1:{port}"))
    assert outcome.counts.loaded == 1
    [said] = warnings_of(caplog)
    assert str(outcome.run_id) in said
    assert "not told" in said
    assert "geheim" not in said


def test_an_endpoint_that_refuses_is_warned_of_once(
    db: Database, tenant_id: UUID, caplog: pytest.LogCaptureFixture
) -> None:
    with endpoint(status=503) as refusing, caplog.at_level(logging.WARNING):
        outcome = observed(db, tenant_id, {"a": [product(1)]}, OpenLineage(refusing.url))
    assert outcome.counts.loaded == 1
    assert len(warnings_of(caplog)) == 1
    assert [event["eventType"] for event in refusing.events] == ["START"]


def test_an_endpoint_that_never_answers_is_waited_for_no_longer_than_the_patience(
    db: Database, tenant_id: UUID, caplog: pytest.LogCaptureFixture
) -> None:
    with endpoint() as silent, caplog.at_level(logging.WARNING):
        silent.hold.clear()
        outcome = observed(db, tenant_id, {"a": [product(1)]}, OpenLineage(silent.url, patience=0.05))
        [said] = warnings_of(caplog)
    assert outcome.counts.loaded == 1
    assert "0.05 seconds" in said


def test_what_goes_wrong_in_telling_is_not_raised_in_place_of_the_runs_own_error(
    db: Database, tenant_id: UUID, caplog: pytest.LogCaptureFixture
) -> None:
    with (
        endpoint(status=500) as refusing,
        caplog.at_level(logging.WARNING),
        pytest.raises(ZeroDivisionError),
    ):
        observed(
            db,
            tenant_id,
            {"a": [product(1)]},
            OpenLineage(refusing.url),
            replace(pipeline(), steps=(lambda _: 1 / 0,)),  # type: ignore[arg-type]
        )
    assert len(warnings_of(caplog)) == 1


# ── where to ──────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("form", ["{}", "file://{}"])
def test_events_go_to_a_file_one_a_line(db: Database, tenant_id: UUID, tmp_path: Path, form: str) -> None:
    file = tmp_path / "events.jsonl"
    for _ in range(2):
        observed(db, tenant_id, {"a": [product(1)]}, OpenLineage(form.format(file)))
    events = [json.loads(line) for line in file.read_text().splitlines()]
    assert [event["eventType"] for event in events] == ["START", "COMPLETE"] * 2
    assert [problems(event) for event in events] == [[]] * 4


def test_the_clients_own_configuration_is_used_where_it_is_asked_for(
    db: Database, tenant_id: UUID, told: Endpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "openlineage.yml"
    config.write_text(f"transport:\n  type: http\n  url: {told.url}\n  endpoint: lineage\n")
    monkeypatch.setenv("OPENLINEAGE_CONFIG", str(config))
    observed(db, tenant_id, {"a": [product(1)]}, OpenLineage("client"))
    assert told.paths == ["/lineage", "/lineage"]


def test_nothing_is_told_where_the_client_is_disabled(
    db: Database, tenant_id: UUID, told: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENLINEAGE_DISABLED", "true")
    observed(db, tenant_id, {"a": [product(1)]}, OpenLineage(told.url))
    assert told.events == []


@pytest.mark.parametrize("to", ["ftp://me:geheim@host/x", "http://", "", "http:///path", "http://[::1"])
def test_a_place_that_is_none_is_refused_before_anything_runs(to: str) -> None:
    with pytest.raises(ConfigurationError, match="DATAARCH_OPENLINEAGE") as refused:
        OpenLineage(to)
    assert "geheim" not in f"{refused.value} {refused.value.value}"


def test_without_the_client_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("openlineage")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "openlineage", None)
    with pytest.raises(DependencyMissing, match=r"pip install 'dataarch\[lineage\]'"):
        OpenLineage("http://127.0.0.1:1")


def test_nothing_of_the_client_is_imported_by_a_run_that_tells_nobody() -> None:
    code = "import sys, dataarch.pipelines.runner; sys.exit('openlineage' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_a_process_ends_though_the_endpoint_never_answers(db: Database, tenant_id: UUID, tmp_path: Path) -> None:
    code = """
import sys
from uuid import UUID
from dataarch.caching.database import Database
from dataarch.pipelines.runner import run
from pipelines.listed import pipeline, product
with Database() as db:
    print(run(db, pipeline(), {"a": [product(1)]}, tenant_id=UUID(sys.argv[1])).counts.loaded)
"""
    with endpoint() as silent:
        silent.hold.clear()
        config = tmp_path / "openlineage.yml"
        config.write_text(f"transport:\n  type: http\n  url: {silent.url}\n  timeout: 600\n")
        variables = {
            **os.environ,
            "PYTHONPATH": str(Path(__file__).resolve().parents[1]),
            "DATAARCH_DATABASE_URL": str(db.settings.database_url),
            "DATAARCH_OPENLINEAGE": "client",
            "OPENLINEAGE_CONFIG": str(config),
        }
        ended = subprocess.run(
            [sys.executable, "-c", code, str(tenant_id)], env=variables, capture_output=True, text=True, timeout=60
        )
    assert (ended.returncode, ended.stdout) == (0, "1\n"), ended.stderr
    assert len(ended.stderr.splitlines()) == 1
    assert len(stored(db, tenant_id, Product, "name")) == 1
