"""Steps tried on records, without a database."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from dataarch.pipelines.pipeline import Extractor, Loader, Pipeline, Step
from dataarch.pipelines.records import Batch, Row

NOTHING: Any = None
"""Stands for an extractor and a loader that nobody asks."""


def checked(records: Sequence[Row], *steps: Step) -> Batch:
    """Return what steps make of records."""
    return Pipeline("tried", cast("Extractor", NOTHING), steps, cast("Loader", NOTHING)).check(records)


def told(batch: Batch) -> list[tuple[int, str, str]]:
    """Return number, field and reason of each reject."""
    return [(one.number, one.field, one.reason) for one in batch.rejects]
