"""The steps of a plan as EXPLAIN describes them, with the names that the schema has for what they read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

__all__ = ["Buffers", "Catalog", "IndexFacts", "PlanNode", "TableFacts", "node_of"]

KINDS = {
    ("Aggregate", "Hashed"): "HashAggregate",
    ("Aggregate", "Sorted"): "GroupAggregate",
    ("Aggregate", "Mixed"): "MixedAggregate",
}
"""PostgreSQL's own names for a step with its strategy, as its text format has them."""


@dataclass(frozen=True, slots=True)
class Buffers:
    """Pages that were touched, each of 8 kB on an ordinary server.

    Attributes:
        hit: found in the shared buffers.
        read: fetched from the operating system.
        dirtied: changed for the first time since they were last written.
        written: written out to make room.
        local_hit, local_read, local_dirtied, local_written: the same of temporary tables.
        temp_read, temp_written: of what did not fit in ``work_mem``: sorts, hashes, materialised rows.
    """

    hit: int = 0
    read: int = 0
    dirtied: int = 0
    written: int = 0
    local_hit: int = 0
    local_read: int = 0
    local_dirtied: int = 0
    local_written: int = 0
    temp_read: int = 0
    temp_written: int = 0

    @classmethod
    def of(cls, details: Mapping[str, Any]) -> Buffers:
        """Read them from a part of EXPLAIN's JSON; what it does not name is 0."""
        kinds = {"": "Shared", "local_": "Local", "temp_": "Temp"}
        doings = ("hit", "read", "dirtied", "written")
        found = {
            f"{prefix}{doing}": details.get(f"{kind} {doing.capitalize()} Blocks", 0)
            for prefix, kind in kinds.items()
            for doing in doings
            if (prefix, doing) not in {("temp_", "hit"), ("temp_", "dirtied")}
        }
        return cls(**found)

    @property
    def touched(self) -> int:
        """Shared pages that were looked at, wherever they came from: the cost that does not depend on luck."""
        return self.hit + self.read


@dataclass(frozen=True, slots=True)
class TableFacts:
    """A table that a plan reads or writes.

    Attributes:
        name: as the plan has it; a partition's own.
        table: the table as the schema has it; a partition's is the one that it belongs to.
        rows: by the statistics; None before the first ANALYZE.
        leaves: partitions that hold rows; 0 for a table without any.
        guarded: whether a policy filters its rows for this role.
    """

    name: str
    table: str
    rows: int | None = None
    leaves: int = 0
    guarded: bool = False


@dataclass(frozen=True, slots=True)
class IndexFacts:
    """An index that a table of the plan has, used or not.

    Attributes:
        name: as the schema has it.
        table: the table as the schema has it.
        method: btree, gin, …
        columns: its columns, or the expressions in their place.
    """

    name: str
    table: str
    method: str
    columns: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Catalog:
    """What the server's catalog says of the names in a plan.

    Attributes:
        tables: by the name in the plan.
        indexes: by the name in the plan, the name that the schema has: that of the partitioned table's index, where a
            partition's index is attached to one.
        available: every index of the tables.
    """

    tables: Mapping[str, TableFacts] = field(default_factory=dict)
    indexes: Mapping[str, str] = field(default_factory=dict)
    available: tuple[IndexFacts, ...] = ()


@dataclass(frozen=True, slots=True)
class PlanNode:
    """One step of a plan.

    Attributes:
        details: all that EXPLAIN says of it, by PostgreSQL's own keys, without the steps below.
        nodes: the steps that it gets its rows from.
        facts: the table that it reads or writes, if it does.
        index: the index that it reads, as the schema has it.
        ran: whether the plan was run.
    """

    details: Mapping[str, Any] = field(hash=False, repr=False)
    nodes: tuple[PlanNode, ...] = field(repr=False)
    facts: TableFacts | None
    index: str | None
    ran: bool

    @property
    def kind(self) -> str:
        """What it does, for example ``Index Scan`` or ``HashAggregate``."""
        kind: str = self.details["Node Type"]
        operation: str = self.details.get("Operation", kind)
        return KINDS.get((kind, self.details.get("Strategy", "")), operation)

    @property
    def relation(self) -> str | None:
        """The table's or the partition's own name."""
        return None if self.facts is None else self.facts.name

    @property
    def table(self) -> str | None:
        """The table as the schema has it."""
        return None if self.facts is None else self.facts.table

    @property
    def is_partition(self) -> bool:
        """Whether it reads or writes a partition."""
        return self.facts is not None and self.facts.name != self.facts.table

    @property
    def index_name(self) -> str | None:
        """The index by its own name; a partition's has one that nobody gave it."""
        name: str | None = self.details.get("Index Name")
        return name

    @property
    def filters(self) -> tuple[str, ...]:
        """Conditions that rows were thrown away by after they had been read; they may hold people's data."""
        keys = ("Filter", "Join Filter", "Recheck Cond", "Index Recheck Cond")
        present = (self.details[key] for key in keys[:2] if key in self.details)
        return (*present, *(self.details[key] for key in keys[2:] if self.details.get("Rows Removed by Index Recheck")))

    @property
    def rows_expected(self) -> int:
        """Rows that the planner expected each time that it runs."""
        return int(self.details.get("Plan Rows", 0))

    @property
    def loops(self) -> int:
        """How often it ran; 0 where it was never executed, or the plan was not run."""
        return int(self.details.get("Actual Loops", 0))

    @property
    def never_executed(self) -> bool:
        """Whether the plan was run and this step of it was not."""
        return self.ran and not self.loops

    @property
    def rows(self) -> int:
        """Rows that it gave, over all loops."""
        return self._total("Actual Rows")

    @property
    def removed(self) -> int:
        """Rows that it read and threw away, over all loops."""
        kinds = ("Filter", "Join Filter", "Index Recheck")
        return sum(self._total(f"Rows Removed by {kind}") for kind in kinds)

    @property
    def idle(self) -> bool:
        """Whether it did nothing: it was never executed, or found nothing to read, or is not expected to find any."""
        if self.ran:
            return not (self.rows or self.removed or self.buffers.touched)
        return self.facts is not None and self.facts.rows == 0

    @property
    def milliseconds(self) -> float:
        """How long it and the steps below took, over all loops, as the processes of a parallel plan count it."""
        return float(self.details.get("Actual Total Time", 0.0)) * self.loops

    @property
    def buffers(self) -> Buffers:
        """Pages that it and the steps below touched."""
        return Buffers.of(self.details)

    def walk(self) -> Iterator[PlanNode]:
        """Give it and all steps below, each before those that it gets its rows from."""
        yield self
        for node in self.nodes:
            yield from node.walk()

    def _total(self, key: str) -> int:
        # EXPLAIN gives averages of a loop
        average: float = self.details.get(key, 0)
        return round(average * self.loops)


def node_of(raw: Mapping[str, Any], catalog: Catalog, *, ran: bool) -> PlanNode:
    """Return a step and those below as objects.

    Args:
        raw: its part of EXPLAIN's JSON.
        catalog: what the names stand for; a name that it lacks stands for itself.
        ran: whether the plan was run.
    """
    relation = raw.get("Relation Name")
    index = raw.get("Index Name")
    return PlanNode(
        details=MappingProxyType({key: value for key, value in raw.items() if key != "Plans"}),
        nodes=tuple(node_of(one, catalog, ran=ran) for one in raw.get("Plans", ())),
        facts=None if relation is None else catalog.tables.get(relation, TableFacts(relation, relation)),
        index=None if index is None else catalog.indexes.get(index, index),
        ran=ran,
    )
