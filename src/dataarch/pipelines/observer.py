"""Who is told of runs: when one has begun, and how it has ended."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol
from uuid import UUID

from sqlalchemy import URL

from dataarch.pipelines.books import Run
from dataarch.pipelines.outcome import Outcome
from dataarch.pipelines.pipeline import Pipeline

__all__ = ["Begun", "Observer"]


@dataclass(frozen=True, slots=True)
class Begun:
    """A run that has begun.

    Attributes:
        run: the run, as it is stored.
        pipeline: what it does.
        tenant_id: the tenant that it is for.
        database: where it writes.
        at: when it began.
        killed: earlier runs of the pipeline that never ended.
    """

    run: Run
    pipeline: Pipeline
    tenant_id: UUID
    database: URL
    at: datetime
    killed: tuple[UUID, ...] = ()


class Observer(Protocol):
    """Is told of runs, outside of their transactions; it raises nothing, and keeps nobody waiting for long."""

    def begun(self, run: Begun, /) -> None:
        """Hear that a run has begun."""
        ...

    def ended(self, run: Begun, outcome: Outcome, error: BaseException | None, /) -> None:
        """Hear what became of a run, and the error that stopped it, if one did."""
        ...
