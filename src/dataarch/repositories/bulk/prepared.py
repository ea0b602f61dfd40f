"""Rows that are put in order and encoded before the connection is asked for anything: by another thread, if need be."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, overload
from uuid import UUID

from sqlalchemy import Column

from dataarch.errors import DataArchError
from dataarch.models import Base
from dataarch.repositories.bulk.encoding import Encoder
from dataarch.repositories.bulk.outcome import Refused
from dataarch.repositories.bulk.portions import Batch, Given, portions
from dataarch.repositories.bulk.target import Target, key_of, table_written

__all__ = ["Part", "Prepared", "parts", "prepare"]

PIECE = 5_000
"""Rows that are encoded together: while the server digests the ones before, where they are sent at once."""


@dataclass(frozen=True)
class Part:
    """Rows of a batch that give the same columns, as the bytes that they travel as.

    Attributes:
        target: what they do.
        places: where they are among the rows of the batch.
        pieces: the bytes; made when they are asked for, or there already.
        refused: why a type refuses rows, by their numbers in the part; whole once all pieces are made.
    """

    target: Target
    places: Sequence[int]
    pieces: Iterable[bytes]
    refused: dict[int, DataArchError] = field(default_factory=dict)


class Prepared(Sequence[Any]):
    """The rows of one batch, with all that can be done for them without a database; see :func:`prepare`."""

    def __init__(self, rows: Sequence[Any], model: type[Base], key: tuple[Column[Any], ...], tenant_id: UUID) -> None:
        self.batch = Batch(0, rows)
        self.parts: list[Part] = []
        self.refused: list[Refused] = []
        if rows:
            found, self.refused = parts(self.batch, model, key, tenant_id)
            self.parts = [Part(one.target, one.places, list(one.pieces), one.refused) for one in found]
        self._made_for = model, key, tenant_id

    def made_for(self, model: type[Base], key: tuple[Column[Any], ...], tenant_id: UUID) -> bool:
        """Return whether the rows were prepared for just this; else they are rows like any others."""
        return self._made_for == (model, key, tenant_id)

    def __len__(self) -> int:
        return len(self.batch.rows)

    @overload
    def __getitem__(self, at: int) -> Any: ...

    @overload
    def __getitem__(self, at: slice) -> Sequence[Any]: ...

    def __getitem__(self, at: int | slice) -> Any:
        return self.batch.rows[at]

    def __iter__(self) -> Iterator[Any]:
        return iter(self.batch.rows)


def prepare(
    model: type[Base], rows: Sequence[Any], *, tenant_id: UUID, key: str | Sequence[str] | None = None
) -> Prepared:
    """Make rows ready for :func:`~dataarch.repositories.bulk.upsert.upsert_many`, or for ``insert_many`` without a key.

    Args:
        model: what the rows are.
        rows: as these take them; they stay as they are until they are written.
        tenant_id: whose rows.
        key: as for ``upsert_many``.

    Returns:
        The same rows, to be given to the one or the other in their place, and as often as need be: they are written as
        one batch. Given for another model, key or tenant, they are rows like any others.

    Raises:
        InvalidValue: no constraint has this key, or the model is none of a tenant's.

    Asks no server for anything: a thread may do it while the connection is busy with other rows. Instances of a model
    are read, so they must not belong to a session that is in use.
    """
    table_written(model)
    return Prepared(rows, model, () if key is None else key_of(model, key), tenant_id)


def parts(
    batch: Batch, model: type[Base], key: tuple[Column[Any], ...], tenant_id: UUID
) -> tuple[list[Part], list[Refused]]:
    """Return the rows of a batch in the parts in which they must be written, and what is no row at all."""
    found, refused = portions(batch, model, key)
    return [_part(one, tenant_id) for one in found], refused


def _part(given: Given, tenant_id: UUID) -> Part:
    refused: dict[int, DataArchError] = {}
    pieces = _encoded(given, tenant_id, refused)
    return Part(given.target, given.positions or range(len(given.rows)), pieces, refused)


def _encoded(given: Given, tenant_id: UUID, refused: dict[int, DataArchError]) -> Iterator[bytes]:
    names = [column.name for column in given.target.travelling]
    encoder = Encoder(given.target.table, names, tenant_id=tenant_id, numbered=True)
    for start in range(0, len(given.rows), PIECE):
        encoded = encoder.encode(given.rows[start : start + PIECE], start)
        refused.update((one.position, one.error) for one in encoded.refused)
        yield encoded.data
