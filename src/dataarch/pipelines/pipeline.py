"""A pipeline as a value: what it extracts, what every record goes through, and where it is loaded.

::

    PRODUCTS = Pipeline(
        "products",
        extract=CsvFiles(),
        steps=(renamed(Code="external_id", Title="name"), valid(Product)),
        load=Upsert(Product, key="external_id"),
    )
    checked = PRODUCTS.check([{"Code": "T1", "Title": "Tea pot"}])  # needs no database

Nothing here touches a database; :mod:`dataarch.pipelines.runner` runs it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Protocol, runtime_checkable
from uuid import UUID

from dataarch.database.unit_of_work import TenantSession
from dataarch.errors import InvalidValue, shown
from dataarch.pipelines.records import Batch, Position, Row, Source, accounted
from dataarch.repositories.bulk.outcome import BulkResult, WrittenIds

__all__ = [
    "AllOrNothing",
    "EagerLoader",
    "Extractor",
    "Loaded",
    "Loader",
    "Pipeline",
    "Referred",
    "Step",
    "TenantName",
    "Written",
]

NAME = re.compile(r"[a-z0-9]+([._-][a-z0-9]+)*")
LONGEST_NAME = 100


class Extractor(Protocol):
    """Reads records, and finds its way back to where it stopped."""

    def sources(self, given: Any) -> list[Source]:
        """Return what is to be read, in order; raises :class:`InputMissing` where there is nothing."""
        ...

    def resume(self, source: Source, position: Position) -> Position:
        """Return where to go on in a source that was read this far before.

        That is ``position`` itself where the source still begins with what was read, and its beginning where it does
        not: then it was corrected, and all of it counts again.
        """
        ...

    def read(self, source: Source, position: Position, size: int) -> Iterator[Batch]:
        """Read a source from a position, at most ``size`` records at a time, in memory that does not grow with it.

        Raises:
            FeedError: it cannot be read any further; what was given before is right.

        The last batch, maybe an empty one, ends at a position whose ``end`` is true.
        """
        ...

    def parse(self, text: str) -> Row:
        """Return the record of a text that was rejected; raises :class:`InvalidValue` where it still is none."""
        ...


class Step(Protocol):
    """What records go through: a validator rejects or gives typed values, a transformer gives other records.

    A pure function of the batch, safe to call from any thread.
    """

    def __call__(self, batch: Batch) -> Batch:
        """Return the batch with what became of its records."""
        ...


class Written(NamedTuple):
    """Rows that a load has written, by the name of their table; the lineage has their ids."""

    table: str
    ids: WrittenIds


class Loaded(NamedTuple):
    """What a loader has done: the result of all rows, what was written, and how many rows were taken away."""

    result: BulkResult
    written: tuple[Written, ...] = ()
    removed: int = 0


class Loader(Protocol):
    """Writes rows within a unit of work of their tenant; commits nothing."""

    @property
    def whole(self) -> bool:
        """Whether a source is loaded in one transaction, from its beginning."""
        ...

    def begin(self, session: TenantSession) -> int:
        """Do what has to be done before the first rows of a source that is loaded as a whole; return rows removed."""
        ...

    def prepare(self, rows: Sequence[Row], tenant_id: UUID) -> Sequence[Row]:
        """Return the rows of a transaction with all done for them that needs no database, for :meth:`load`.

        The thread that reads ahead calls it, while the server is busy with the rows before. Which rows they are, and
        their order, stay the same.
        """
        ...

    def load(self, session: TenantSession, rows: Sequence[Row]) -> Loaded:
        """Write rows, prepared or not; each is inserted, updated, unchanged, a duplicate, or refused and why."""
        ...


@runtime_checkable
class AllOrNothing(Loader, Protocol):
    """A loader that may say that it never refuses a row: it writes all that it is given, or raises."""

    @property
    def all_or_nothing(self) -> bool:
        """Whether it does so. Records are not kept as they were extracted then, once they have passed all steps."""
        ...


@runtime_checkable
class EagerLoader(Loader, Protocol):
    """A loader that can begin with rows while those before them, of the same tenant, are not committed yet.

    What two tenants do at the same time, one then does, too: the server works for it on two connections.
    """

    def refer(self, session: TenantSession, rows: Sequence[Row]) -> Referred:
        """Make what rows refer to, to be committed before rows that come earlier.

        Nothing is to be made twice, by whoever: two transactions that make the same would wait for each other.
        """
        ...

    def start(self, session: TenantSession, rows: Sequence[Row]) -> Callable[[], Loaded]:
        """Do the first half of :meth:`load`, and return what does the second, once rows before are committed.

        The first half locks nothing that the second of rows before could need; the second reads what they have written.
        """
        ...


class Referred(NamedTuple):
    """Rows that refer to what is there, as :meth:`EagerLoader.start` takes them, and what was written for that."""

    rows: Sequence[Row]
    written: tuple[Written, ...] = ()


class TenantName(NamedTuple):
    """The tenant that a record belongs to, by its slug; the name is for one that has to be made."""

    slug: str
    name: str


@dataclass(frozen=True, slots=True)
class Pipeline:
    """A pipeline.

    Attributes:
        name: what it is known by from run to run: a-z, 0-9, and single ``-``, ``.`` or ``_`` between them.
        extract: reads the records.
        steps: what every record goes through, in this order.
        load: writes them.
        tenant_by: says for each record whose it is; without it, all are of the tenant that the run is for.
        version: of the code; kept with each run.
        together: whether batches of several sources may be one transaction: many small files are loaded as fast as a
            large one. What comes twice in them is then told apart by the loader, as within one batch.
    """

    name: str
    extract: Extractor
    steps: tuple[Step, ...]
    load: Loader
    tenant_by: Callable[[Row], TenantName] | None = None
    version: str = "1"
    together: bool = False

    def __post_init__(self) -> None:
        if not NAME.fullmatch(self.name) or len(self.name) > LONGEST_NAME:
            raise InvalidValue(
                f"{shown(self.name)} is not a pipeline's name.",
                hint=f"Use at most {LONGEST_NAME} of a-z and 0-9, with single '-', '.' or '_' between them.",
                value=self.name,
            )

    def through(self, batch: Batch) -> Batch:
        """Return what the steps make of a batch."""
        for step in self.steps:
            batch = step(batch)
        return batch

    def check(self, records: Iterable[Row]) -> Batch:
        """Return what the steps make of records, without a database: for tests, and for a look before a run."""
        rows = list(records)
        return accounted(self.through(of_records("records", rows)))


def of_records(name: str, rows: list[Row]) -> Batch:
    """Return a batch of records that come from nowhere."""
    before = Position()
    after = replace(before, records=len(rows), end=True)
    return Batch(Source(name, None), before, after, rows, list(range(1, len(rows) + 1)), rows)
