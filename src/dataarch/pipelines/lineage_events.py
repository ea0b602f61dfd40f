"""What is told to OpenLineage: events of runs, with the data sets that they read and wrote, as its naming rules say."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from typing import Any
from uuid import UUID

from dataarch.clock import utcnow
from dataarch.pipelines.books import KILLED
from dataarch.pipelines.datasets import input_name, output_name
from dataarch.pipelines.failure import said
from dataarch.pipelines.lineage_client import part
from dataarch.pipelines.observer import Begun
from dataarch.pipelines.outcome import Outcome

__all__ = ["Events"]

PARENT = re.compile(r"(?P<namespace>.+)/(?P<name>[^/]+)/(?P<run>[0-9a-fA-F-]{36})")
LONGEST_MESSAGE = 2_000


class Events:
    """Makes the events of runs; ``namespace`` is that of the jobs."""

    def __init__(self, namespace: str) -> None:
        self._namespace = namespace
        self._events, self._facets = part("event_v2"), part("facet_v2")
        self._client_version = version("openlineage-python")
        self._producer = {"producer": f"urn:dataarch:{version('dataarch')}"}

    def start(self, run: Begun) -> Any:
        """Return the event of a run that has begun; nothing is read yet."""
        return self._event("START", run, at=run.at.isoformat(), facets=self._about(run))

    def killed(self, run: Begun, run_id: UUID) -> Any:
        """Return the event of an earlier run of the same pipeline that never ended."""
        return self._event("ABORT", run, run_id=run_id, facets=self._wrong(KILLED))

    def end(self, run: Begun, outcome: Outcome, error: BaseException | None) -> Any:
        """Return the event of a run that has ended, with all that was committed."""
        facets, failure = self._about(run, outcome), outcome.failure
        if error is not None:
            failure = said(error)
        if failure:
            facets |= self._wrong(failure)
        state = "FAIL" if failure else "COMPLETE"
        if error is not None and not isinstance(error, Exception):
            state = "ABORT"
        event = self._event(state, run, facets=facets)
        event.inputs, event.outputs = list(self._inputs(run, outcome)), list(self._outputs(run, outcome))
        return event

    def _event(
        self, state: str, run: Begun, *, facets: Mapping[str, Any], run_id: UUID | None = None, at: str = ""
    ) -> Any:
        kind = self._facets.job_type_job.JobTypeJobFacet(
            processingType="BATCH", integration="DATAARCH", jobType="PIPELINE", **self._producer
        )
        return self._events.RunEvent(
            eventType=self._events.RunState[state],
            eventTime=at or utcnow().isoformat(),
            run=self._events.Run(runId=str(run_id or run.run.id), facets=dict(facets)),
            job=self._events.Job(namespace=self._namespace, name=run.pipeline.name, facets={"jobType": kind}),
            **self._producer,
        )

    # ── facets of the run ─────────────────────────────────────────────────────────────────────────────────────────

    def _about(self, run: Begun, outcome: Outcome | None = None) -> dict[str, Any]:
        facets = {
            "processing_engine": self._facets.processing_engine_run.ProcessingEngineRunFacet(
                version=version("dataarch"),
                name="dataarch",
                openlineageAdapterVersion=self._client_version,
                **self._producer,
            ),
            "dataarch_run": self._facets.RunFacet(**self._producer).with_additional_properties(**told(run, outcome)),
        }
        if run.run.scheduled_for is not None:
            facets["nominalTime"] = self._facets.nominal_time_run.NominalTimeRunFacet(
                nominalStartTime=run.run.scheduled_for.isoformat(), **self._producer
            )
        if parent := PARENT.fullmatch(os.environ.get("OPENLINEAGE_PARENT_ID", "")):
            facets["parent"] = self._facets.parent_run.ParentRunFacet(
                run=self._facets.parent_run.Run(runId=parent["run"]),
                job=self._facets.parent_run.Job(namespace=parent["namespace"], name=parent["name"]),
                **self._producer,
            )
        return facets

    def _wrong(self, message: str) -> dict[str, Any]:
        facet = self._facets.error_message_run.ErrorMessageRunFacet(
            message=message[:LONGEST_MESSAGE], programmingLanguage="PYTHON", **self._producer
        )
        return {"errorMessage": facet}

    # ── data sets ─────────────────────────────────────────────────────────────────────────────────────────────────

    def _inputs(self, run: Begun, outcome: Outcome) -> Iterator[Any]:
        for read in outcome.inputs.values():
            namespace, name = input_name(run.pipeline, read.source, self._namespace)
            statistics = self._facets.input_statistics_input_dataset.InputStatisticsInputDatasetFacet(
                rowCount=read.records, size=read.bytes, **self._producer
            )
            yield self._events.InputDataset(namespace, name, inputFacets={"inputStatistics": statistics})

    def _outputs(self, run: Begun, outcome: Outcome) -> Iterator[Any]:
        for table, rows in outcome.outputs.items():
            namespace, name = output_name(run.database, table)
            statistics = self._facets.output_statistics_output_dataset.OutputStatisticsOutputDatasetFacet(
                rowCount=rows, **self._producer
            )
            yield self._events.OutputDataset(namespace, name, outputFacets={"outputStatistics": statistics})


def told(run: Begun, outcome: Outcome | None) -> dict[str, Any]:
    """Return what only we know of a run; of rejects, how many there are, and nothing that was in them."""
    about: dict[str, Any] = {"version": run.run.version, "tenant": str(run.tenant_id)}
    if run.run.replay_of is not None:
        about["replay_of"] = str(run.run.replay_of)
    counts = outcome.counts if outcome is not None else None
    for name in ("read", "loaded", "updated", "unchanged", "rejected", "removed"):
        about[name] = getattr(counts, name, 0)
    if outcome is not None and outcome.reasons:
        rejects: Counter[tuple[str, str]] = Counter()
        for (stage, field, _), number in outcome.reasons.items():
            rejects[stage, field] += number
        about["rejects"] = [
            {"stage": str(stage), "field": field, "count": number} for (stage, field), number in sorted(rejects.items())
        ]
    return about
