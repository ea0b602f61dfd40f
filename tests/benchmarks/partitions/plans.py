"""What the statements of a read really touch, from EXPLAIN (ANALYZE, BUFFERS), as the role that sends them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sqlalchemy import event
from sqlalchemy.orm import Session

from dataarch.database.explain import explain_each

__all__ = ["Cost", "Planned", "Sent", "costs", "sent_by"]


class Planned(StrEnum):
    """Which plan of a prepared statement runs; values of ``plan_cache_mode``."""

    FOR_THESE_VALUES = "force_custom_plan"
    FOR_ALL_VALUES = "force_generic_plan"


@dataclass(frozen=True)
class Sent:
    """A statement with its parameters, as the driver got it."""

    statement: str
    parameters: dict[str, Any]


@dataclass(frozen=True)
class Cost:
    """What a read touched: pages while it ran, partitions that it looked into, and those that its plans name.

    ``pruned_late`` counts partitions that were planned and left out only when the plan began to run; ``rows`` those
    that were read, wanted or not.
    """

    trips: int
    buffers: int
    partitions: int
    planned: int
    pruned_late: int
    rows: int


def sent_by(session: Session, read: Callable[[], object]) -> list[Sent]:
    """Return the reads of the log that a function sends."""
    sent: list[Sent] = []

    def note(_connection: object, _cursor: object, statement: str, parameters: Any, *_rest: object) -> None:
        if "FROM user_activity_log" in statement:
            sent.append(Sent(statement, dict(parameters)))

    # SQLAlchemy 2.0.24 takes no listener on the connection
    engine = session.connection().engine
    event.listen(engine, "before_cursor_execute", note)
    try:
        read()
    finally:
        event.remove(engine, "before_cursor_execute", note)
    return sent


def costs(session: Session, read: Callable[[], object], planned: Planned = Planned.FOR_THESE_VALUES) -> Cost:
    """Explain each statement of a read right before it is sent, and add up what they touch."""
    generic = planned is Planned.FOR_ALL_VALUES
    plans = [
        plan
        for plan in explain_each(session, read, analyze=True, generic=generic)
        if "FROM user_activity_log" in plan.statement
    ]
    scans = [node for plan in plans for node in plan.nodes if node.is_partition]
    return Cost(
        trips=len(plans),
        buffers=sum(plan.buffers.touched for plan in plans),
        partitions=sum(len(plan.partitions_touched) for plan in plans),
        planned=sum(len(plan.partitions) for plan in plans),
        pruned_late=sum(plan.pruned_at_start for plan in plans),
        rows=sum(node.rows for node in scans),
    )
