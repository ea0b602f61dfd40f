"""What EXPLAIN says, as an object: which indexes, which partitions, how many pages, and what looks wrong."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from dataarch.database.plan_hints import Hint, hints_of
from dataarch.database.plan_nodes import Buffers, Catalog, PlanNode, node_of
from dataarch.database.plan_text import Fact, tree
from dataarch.errors import PlanNotRun

__all__ = ["Plan", "Trigger", "plan_of"]


@dataclass(frozen=True, slots=True)
class Trigger:
    """A trigger that the statement fired; a foreign key's is named by its constraint.

    Attributes:
        name: the constraint's, or the trigger's own.
        relation: the table, or the partition by its own name.
        calls: how often.
        milliseconds: how long, all calls together.
    """

    name: str
    relation: str | None
    calls: int
    milliseconds: float


@dataclass(frozen=True)
class Plan:
    """The plan of one statement.

    What only running it can tell (rows, pages, times, partitions that were touched) raises :class:`PlanNotRun` where
    it was not run, so that no test passes on numbers that nobody measured.

    Attributes:
        statement: its SQL, as the driver got it; values are not in it.
        root: the last step; the others are below.
        ran: whether it was run.
        planning_ms: how long planning took.
        planning_buffers: pages of the catalog that planning looked at.
        settings: the planner's settings that are not the server's default.
        raw: EXPLAIN's own JSON.
    """

    statement: str
    root: PlanNode
    ran: bool
    planning_ms: float
    planning_buffers: Buffers
    settings: Mapping[str, str] = field(hash=False, repr=False)
    raw: Mapping[str, Any] = field(hash=False, repr=False)
    catalog: Catalog = field(hash=False, repr=False)

    # ── what it reads ─────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def nodes(self) -> tuple[PlanNode, ...]:
        """Every step, each before those that it gets its rows from."""
        return tuple(self.root.walk())

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of steps, such as ``Sort`` or ``Index Scan``, sorted."""
        return _sorted(node.kind for node in self.nodes)

    @property
    def indexes(self) -> tuple[str, ...]:
        """Indexes in the plan, as the schema has them: a partition's index counts as the partitioned table's."""
        return _sorted(node.index for node in self.nodes)

    @property
    def index_names(self) -> tuple[str, ...]:
        """The same by the names that the partitions have for them."""
        return _sorted(node.index_name for node in self.nodes)

    @property
    def tables(self) -> tuple[str, ...]:
        """Tables in the plan, as the schema has them: a partition counts as its table."""
        return _sorted(node.table for node in self.nodes)

    @property
    def sequential_scans(self) -> tuple[str, ...]:
        """Tables that are read from end to end, or one of their partitions; empty ones do not count."""
        return _sorted(node.table for node in self.nodes if node.kind == "Seq Scan" and not node.idle)

    # ── partitions ────────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def partitions(self) -> tuple[str, ...]:
        """Partitions that the plan names; those that were pruned are in none."""
        return _sorted(node.relation for node in self.nodes if node.is_partition)

    @property
    def partitions_touched(self) -> tuple[str, ...]:
        """Partitions that were looked into; raises :class:`PlanNotRun`."""
        self._measured("partitions_touched")
        return _sorted(node.relation for node in self.nodes if node.is_partition and node.loops)

    @property
    def partitions_never_executed(self) -> tuple[str, ...]:
        """Partitions that were planned, and that nobody needed; raises :class:`PlanNotRun`."""
        touched = set(self.partitions_touched)
        return tuple(name for name in self.partitions if name not in touched)

    @property
    def pruned_when_planned(self) -> int:
        """Partitions that the planner left out: they cost nothing. Of tables that the plan names."""
        leaves = {node.facts.table: node.facts.leaves for node in self.nodes if node.facts is not None}
        return max(0, sum(leaves.values()) - len(self.partitions) - self.pruned_at_start)

    @property
    def pruned_at_start(self) -> int:
        """Partitions that were planned and locked, and left out only when the plan began to run."""
        return sum(node.details.get("Subplans Removed", 0) for node in self.nodes)

    # ── rows, pages, times ────────────────────────────────────────────────────────────────────────────────────────

    @property
    def rows_expected(self) -> int:
        """Rows that the planner expected."""
        return self.root.rows_expected

    @property
    def rows(self) -> int:
        """Rows that came; raises :class:`PlanNotRun`."""
        self._measured("rows")
        return self.root.rows

    @property
    def rows_read(self) -> int:
        """Rows that were taken from tables, wanted or not; raises :class:`PlanNotRun`."""
        self._measured("rows_read")
        return sum(node.rows + node.removed for node in self.nodes if node.facts is not None and not _writes(node))

    @property
    def buffers(self) -> Buffers:
        """Pages that it touched while it ran; raises :class:`PlanNotRun`."""
        self._measured("buffers")
        return self.root.buffers

    @property
    def execution_ms(self) -> float:
        """How long it ran, with its triggers; raises :class:`PlanNotRun`."""
        self._measured("execution_ms")
        return float(self.raw["Execution Time"])

    @property
    def wal_bytes(self) -> int:
        """What it wrote to the write-ahead log; raises :class:`PlanNotRun`."""
        self._measured("wal_bytes")
        return int(self.root.details.get("WAL Bytes", 0))

    @property
    def triggers(self) -> tuple[Trigger, ...]:
        """Triggers that it fired, foreign keys among them; raises :class:`PlanNotRun`."""
        self._measured("triggers")
        return tuple(
            Trigger(
                one.get("Constraint Name") or one["Trigger Name"],
                one.get("Relation"),
                int(one["Calls"]),
                float(one.get("Time", 0.0)),
            )
            for one in self.raw.get("Triggers", ())
        )

    # ── what looks wrong ──────────────────────────────────────────────────────────────────────────────────────────

    def filtered_out(self, at_least: int = 1000) -> tuple[PlanNode, ...]:
        """Return the steps that threw away more rows than they kept.

        Args:
            at_least: rows thrown away, over all loops, that count as many.

        Raises:
            PlanNotRun: it was not run.
        """
        self._measured("filtered_out")
        return tuple(node for node in self.nodes if node.removed >= at_least and node.removed > node.rows)

    @property
    def hints(self) -> tuple[Hint, ...]:
        """What looks wrong, and what to do about it; none where nothing does."""
        return hints_of(self.root, self.catalog)

    def __str__(self) -> str:
        return "\n".join((*self.tree, *(f"{name}: {value}" for name, value in self.summary)))

    @property
    def tree(self) -> tuple[str, ...]:
        """Its steps as lines of text; partitions that had nothing to read share one. Values may stand in conditions."""
        return tuple(tree(self.root))

    @property
    def summary(self) -> tuple[Fact, ...]:
        """What is worth knowing of it at a glance, in words."""
        found = [Fact("indexes", ", ".join(self.indexes) or "none")]
        if self.partitions:
            found.append(Fact("partitions", self._partitions_in_words()))
        if self.ran:
            used = self.buffers
            also = {"dirtied": used.dirtied, "written": used.written, "temp read": used.temp_read}
            also |= {"temp written": used.temp_written, "local": used.local_hit + used.local_read}
            more = "".join(f", {count:,} {what}" for what, count in also.items() if count)
            found.append(Fact("buffers", f"{used.hit:,} hit, {used.read:,} read{more}"))
            found += [
                Fact(f"trigger {one.name}", f"{one.milliseconds:.2f} ms, {one.calls:,} calls") for one in self.triggers
            ]
        ran = f", execution {self.execution_ms:.2f} ms" if self.ran else ""
        found.append(Fact("time", f"planning {self.planning_ms:.2f} ms{ran}"))
        found += [Fact(name, value) for name, value in self.settings.items()]
        return tuple(found)

    def _partitions_in_words(self) -> str:
        said = {"planned": len(self.partitions)}
        if self.ran:
            said |= {"touched": len(self.partitions_touched), "never executed": len(self.partitions_never_executed)}
        said |= {"pruned when planned": self.pruned_when_planned, "pruned at the start": self.pruned_at_start}
        return ", ".join(f"{count} {what}" for what, count in said.items() if count or what == "touched")

    def _measured(self, what: str) -> None:
        if not self.ran:
            raise PlanNotRun(f"The plan was made, and not run, so it has no {what}.")


def plan_of(statement: str, document: Mapping[str, Any], catalog: Catalog | None = None) -> Plan:
    """Return a plan as an object.

    Args:
        statement: the SQL that it is of.
        document: what EXPLAIN (FORMAT JSON) gave: the one object of its list.
        catalog: what its names stand for; without it each stands for itself.
    """
    known = catalog or Catalog()
    ran = "Execution Time" in document or "Actual Loops" in document["Plan"]
    return Plan(
        statement=statement,
        root=node_of(document["Plan"], known, ran=ran),
        ran=ran,
        planning_ms=float(document.get("Planning Time", 0.0)),
        planning_buffers=Buffers.of(document.get("Planning", {})),
        settings=MappingProxyType(dict(document.get("Settings", {}))),
        raw=MappingProxyType(dict(document)),
        catalog=known,
    )


def _writes(node: PlanNode) -> bool:
    return "Operation" in node.details


def _sorted(names: Iterable[str | None]) -> tuple[str, ...]:
    return tuple(sorted({name for name in names if name is not None}))
