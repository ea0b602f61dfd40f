"""Many rows of a tenant that are added, or brought up to date where they are there; each is told what became of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import Column, inspect
from sqlalchemy.orm import Session

from dataarch.database.commit_hooks import MOST_ROWS
from dataarch.database.row_keys import row_key
from dataarch.database.unit_of_work import tenant_session
from dataarch.models import Base
from dataarch.repositories.bulk.outcome import BulkResult, Refused, WrittenIds
from dataarch.repositories.bulk.portion import Portion
from dataarch.repositories.bulk.portions import Batch, batches
from dataarch.repositories.bulk.prepared import Part, Prepared, parts
from dataarch.repositories.bulk.stage import framed
from dataarch.repositories.bulk.target import checks_of_database, key_of, table_written
from dataarch.repositories.bulk.wire import Wire

__all__ = ["BATCH", "NO_TENANT", "insert_many", "upsert_many"]

BATCH = 100_000
"""Rows that are written together."""

NO_TENANT = "Rows of a tenant were to be written in a session of no tenant."


def upsert_many(
    session: Session,
    model: type[Base],
    rows: Iterable[Any],
    *,
    key: str | Sequence[str],
    batch: int = BATCH,
    written: WrittenIds | None = None,
) -> BulkResult:
    """Add rows of a tenant, and bring those up to date that are there.

    Args:
        session: a unit of work of the tenant.
        model: what the rows are.
        rows: mappings by the names of attributes or of columns, or instances of the model. What a row does not give,
            stays as it is, or is the default in a new row. Of rows with the same key, the later one counts. Rows that
            were prepared (:func:`~dataarch.repositories.bulk.prepared.prepare`) are one batch, however many they are.
        key: the attributes, beside the tenant, that say which row is meant; a unique constraint must have just these.
        batch: rows that are written together; with more, each batch is one step.
        written: is told the ids of the rows that are new or changed.

    Returns:
        What became of each row; one that is refused costs the others nothing.

    Raises:
        InvalidValue: no constraint has this key, or the model is none of a tenant's.
        TenantNotSet: the session is no tenant's.
        Retryable: others held locks for too long.

    Nothing is committed; where it raises, also from within ``rows``, nothing of it is written and the transaction goes
    on. A row's id and ``created_at`` never change, and its ``updated_at`` does only where something else does. Rows of
    a batch are locked in the order of their keys, so that batches of the same rows wait for each other and never in a
    circle. Safe to repeat.
    """
    return _write_many(_Writer(session, model, key_of(model, key), written), rows, batch)


def insert_many(
    session: Session,
    model: type[Base],
    rows: Iterable[Any],
    *,
    batch: int = BATCH,
    written: WrittenIds | None = None,
) -> BulkResult:
    """Add rows of a tenant; one whose id, or another unique value, is taken is refused.

    Args:
        session: a unit of work of the tenant.
        model: what the rows are.
        rows: as for :func:`upsert_many`. Of rows that want the same value, the earlier one has it.
        batch: rows that are written together.
        written: is told the ids of the new rows.

    Returns:
        What became of each row.

    Raises:
        InvalidValue: the model is none of a tenant's.
        TenantNotSet: the session is no tenant's.
        Retryable: others held locks for too long.

    Nothing is committed; where it raises, nothing of it is written and the transaction goes on.
    """
    return _write_many(_Writer(session, model, (), written), rows, batch)


def _write_many(writer: _Writer, rows: Iterable[Any], batch: int) -> BulkResult:
    session = writer.session
    session.flush()
    result = BulkResult(read=0)
    with session.connection().begin_nested():
        if isinstance(rows, Prepared) and writer.takes(rows):
            result += writer.write(rows.batch, rows.parts, rows.refused)
        else:
            for some in batches(rows, batch):
                result += writer.write(some, *writer.parts(some))
    if result.inserted or result.updated:
        writer.note()
    return result


class _Writer:
    """Writes the batches of one call."""

    def __init__(
        self, session: Session, model: type[Base], key: tuple[Column[Any], ...], written: WrittenIds | None
    ) -> None:
        self._table = table_written(model)
        self.session, self._model, self._key = tenant_session(session, NO_TENANT), model, key
        self._tenant_id = self.session.tenant_id
        self._written = written
        self._checks: tuple[tuple[str, str], ...] | None = None
        self._identities: list[tuple[Any, ...]] | None = []

    def takes(self, prepared: Prepared) -> bool:
        """Return whether rows were prepared for what this one does."""
        return prepared.made_for(self._model, self._key, self._tenant_id)

    def parts(self, batch: Batch) -> tuple[list[Part], list[Refused]]:
        """Return the rows of a batch in parts, and what is no row."""
        return parts(batch, self._model, self._key, self._tenant_id)

    def write(self, batch: Batch, some: Sequence[Part], refused: Sequence[Refused]) -> BulkResult:
        """Write one batch."""
        if self._checks is None:
            self._checks = checks_of_database(self.session.connection(), self._table)
        result = BulkResult(read=len(refused), refused=tuple(refused))
        for part in some:
            result += self._write(batch, replace(part, target=replace(part.target, checks=self._checks)))
        in_order = tuple(sorted(result.refused, key=lambda one: one.position))
        return replace(result, refused=in_order)

    def note(self) -> None:
        """Tell the cache, and the objects of the session, which rows were written."""
        table, known = self._table, self._identities
        for identity in known if known is not None else [None]:
            self.session.unit.changed(table, identity)
        wanted = None if known is None else {row_key(table, identity) for identity in known}
        for entity in list[Any](self.session.identity_map.values()):
            meant = isinstance(entity, self._model)
            if meant and (wanted is None or row_key(table, _identity(table, entity)) in wanted):
                self.session.expire(entity)

    def _write(self, batch: Batch, part: Part) -> BulkResult:
        connection = self.session.connection()
        portion = Portion(connection, part.target, self._tenant_id)
        portion.open(len(part.places))
        Wire(self.session).copy(portion.statements.copy, framed(part.pieces))
        written = portion.write()
        if written.inserted or written.updated:
            self._remember(portion, written.inserted + written.updated)
        places = part.places
        if self._written is not None and (found := portion.ids()):
            self._written.add(*found, batch.start, places)
        portion.close()
        refused = part.refused | written.refused
        told = (Refused(batch.start + places[at], batch.rows[places[at]], error) for at, error in refused.items())
        return BulkResult(
            read=len(places),
            inserted=written.inserted,
            updated=written.updated,
            unchanged=written.unchanged,
            duplicate=written.outdone,
            refused=tuple(told),
        )

    def _remember(self, portion: Portion, rows: int) -> None:
        known = self._identities
        if known is not None:
            more = portion.identities() if len(known) + rows <= MOST_ROWS else None
            self._identities = None if more is None else known + more


def _identity(table: Any, entity: Base) -> list[Any]:
    found = inspect(entity).identity or ()
    return [
        value for column, value in zip(table.primary_key.columns, found, strict=False) if column.name != "tenant_id"
    ]
