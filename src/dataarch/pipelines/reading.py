"""Records are read, and taken through the steps, while the server works for those before."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import NamedTuple, TypeVar

from dataarch.clock import utcnow
from dataarch.errors import FeedError
from dataarch.pipelines.pipeline import Pipeline
from dataarch.pipelines.records import Batch, Position, Source, accounted

__all__ = ["Ready", "in_advance", "ready_batches"]

Item = TypeVar("Item")


class Ready(NamedTuple):
    """A batch that is ready to be loaded, and when it was extracted and transformed."""

    batch: Batch
    extracted_at: datetime
    transformed_at: datetime


def ready_batches(pipeline: Pipeline, source: Source, position: Position, size: int) -> Iterator[Ready | FeedError]:
    """Give the batches of a source from a position, and at last the error that stops it, if one does."""
    batches = pipeline.extract.read(source, position, size)
    while (found := _next(pipeline, batches)) is not None:
        yield found
        if not isinstance(found, Ready):
            return


def in_advance(items: Iterator[Item]) -> Generator[Item, None, None]:
    """Give what an iterator gives, each item made by a thread while the one before is used: memory holds two.

    None of them is None. Close it where its end is not reached: the thread has ended then.
    """
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="dataarch-read") as reader:
        ahead = reader.submit(next, items, None)
        while (found := ahead.result()) is not None:
            ahead = reader.submit(next, items, None)
            yield found


def _next(pipeline: Pipeline, batches: Iterator[Batch]) -> Ready | FeedError | None:
    try:
        batch = next(batches, None)
    except FeedError as broken:
        return broken
    if batch is None:
        return None
    extracted = utcnow()
    return Ready(accounted(pipeline.through(batch)), extracted, utcnow())
