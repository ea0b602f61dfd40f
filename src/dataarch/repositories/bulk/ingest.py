"""Write many rows at the speed of COPY, within the caller's unit of work.

::

    with db.tenant(tenant_id) as session:
        result = ingest(session, rows)
        for refused in result.refused:
            print(refused.position, refused.reason)
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sized
from itertools import islice
from typing import Any

from sqlalchemy.orm import Session

from dataarch.database.commit_hooks import Unit, UnitSession
from dataarch.errors import InvalidValue, TenantNotSet
from dataarch.models import Base, UserActivity
from dataarch.repositories.bulk.arrow import arrow_rows, is_arrow
from dataarch.repositories.bulk.batches import Batch, Plan
from dataarch.repositories.bulk.direct import copy_directly
from dataarch.repositories.bulk.encoding import Encoder
from dataarch.repositories.bulk.months import Months
from dataarch.repositories.bulk.outcome import BulkResult
from dataarch.repositories.bulk.staged import write_staged
from dataarch.repositories.bulk.wire import Wire

__all__ = ["BATCH", "ingest"]

BATCH = 10_000
"""Rows that are in memory at a time, twice."""

FIRST_BATCH = 2_000
"""Rows of a tenant's first batch: nothing is there yet to be done while they are encoded."""


def ingest(
    session: Session, rows: Iterable[Any], *, model: type[Base] = UserActivity, batch: int = BATCH
) -> BulkResult:
    """Write new rows in bulk; each is inserted, found to be there already, or refused with its reason.

    Args:
        session: of a tenant, whose rows these are; or the owner's (``db.owner()``), whose rows say themselves whose
            they are. Under asyncio: ``await session.run_sync(ingest, rows)``.
        rows: mappings by the names of attributes or of columns, instances of the model that are in no session,
            sequences in the order of the table's columns, or an Arrow table, batch or reader. An iterator is read
            batch by batch, and may itself read from the session. What is not given is the model's default: a new
            UUIDv7, the present instant, an empty object.
        model: whose table it is; one that is only ever inserted into.
        batch: most rows that are looked at together.

    Returns:
        What became of the rows. Duplicates are rows whose primary key is there already, or came before; a row with an
        id and without an instant is one where its id is.

    Raises:
        TenantNotSet: the session has neither a tenant nor is the owner's.
        InvalidValue: an Arrow table has a column that is none of the table's.
        Retryable: a deadlock or a lock that was not granted; do the whole unit of work again.

    Guarantee: nothing is committed here, and the transaction stays usable. Whatever is raised, the iterator's own
    errors among it, undoes the whole call and nothing else of the transaction. Safe to try again with the same rows:
    those that are there are duplicates.
    """
    if batch < 1:
        raise InvalidValue(f"A batch of {batch} rows is none.", value=batch)
    unit = _unit(session, model)
    as_owner = unit.origin is not None and unit.origin.owner
    # also sends what the session has not yet written, which rows may refer to
    with session.begin_nested():
        plan = _plan(session, model, unit)
        first = batch if as_owner else min(batch, FIRST_BATCH)
        # one batch is looked at before it is written, in any case
        if not isinstance(rows, Sized) or len(rows) > first:
            plan.months.foresee(rows, plan.encoder.names)
        batches = _batches(rows, plan.encoder, batch, first)
        result = copy_directly(plan, batches) if as_owner else write_staged(plan, batches)
        if result.inserted:
            unit.changed(plan.encoder.table)
    return result


def _unit(session: Session, model: type[Base]) -> Unit:
    """Return the unit of work of a session that may write rows of a model."""
    if not isinstance(session, UnitSession):
        raise TenantNotSet(f"Rows of {model.__name__} were to be written by a session of no unit of work.")
    unit = session.unit
    if unit.tenant_id is None and not (unit.origin is not None and unit.origin.owner):
        raise TenantNotSet(f"Rows of {model.__name__} were to be written, and no tenant is set.")
    return unit


def _plan(session: Session, model: type[Base], unit: Unit) -> Plan:
    table = Base.metadata.tables[str(model.__table__)]
    wire = Wire(session)
    return Plan(
        wire,
        Months(wire, table, unit.origin),
        Encoder(table, tenant_id=unit.tenant_id),
        Encoder(table, tenant_id=unit.tenant_id, numbered=True),
    )


def _batches(rows: Iterable[Any], encoder: Encoder, batch: int, first: int) -> Iterator[Batch]:
    start = 0
    lists = arrow_rows(rows, encoder.columns, encoder.names, batch) if is_arrow(rows) else _lists(rows, batch, first)
    for some in lists:
        encoder.names.loaded(some)
        yield Batch(start, some)
        start += len(some)


def _lists(rows: Iterable[Any], batch: int, first: int) -> Iterator[list[Any]]:
    iterator = iter(rows)
    while some := list(islice(iterator, first)):
        yield some
        first = min(2 * first, batch)
