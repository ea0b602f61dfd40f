"""Records are read, and taken through the steps, while the server works for those before."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import NamedTuple

from dataarch.clock import utcnow
from dataarch.errors import FeedError
from dataarch.pipelines.pipeline import Pipeline
from dataarch.pipelines.records import Batch, Position, Source, accounted

__all__ = ["Ready", "read_ahead"]


class Ready(NamedTuple):
    """A batch that is ready to be loaded, and when it was extracted and transformed."""

    batch: Batch
    extracted_at: datetime
    transformed_at: datetime


def read_ahead(pipeline: Pipeline, source: Source, position: Position, size: int) -> Iterator[Ready | FeedError]:
    """Give the batches of a source from a position, and at last the error that stops it, if one does.

    One batch is made ready by a thread while the one before is loaded; memory holds two.
    """
    batches = pipeline.extract.read(source, position, size)
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="dataarch-read") as reader:
        ahead = reader.submit(_next, pipeline, batches)
        while (found := ahead.result()) is not None:
            if isinstance(found, Ready):
                ahead = reader.submit(_next, pipeline, batches)
            yield found
            if not isinstance(found, Ready):
                return


def _next(pipeline: Pipeline, batches: Iterator[Batch]) -> Ready | FeedError | None:
    try:
        batch = next(batches, None)
    except FeedError as broken:
        return broken
    if batch is None:
        return None
    extracted = utcnow()
    return Ready(accounted(pipeline.through(batch)), extracted, utcnow())
