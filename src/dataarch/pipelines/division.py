"""Divide what was read among the tenants that it is of, and make it ready for their transactions.

This is done by the thread that reads, while the server works for what was read before.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple
from uuid import UUID

from dataarch.errors import InvalidValue
from dataarch.pipelines.pipeline import AllOrNothing, TenantName
from dataarch.pipelines.reading import Ready
from dataarch.pipelines.records import Batch, Row, Stage, rejected
from dataarch.pipelines.tenants import tenant_of
from dataarch.pipelines.work import Work

__all__ = ["Division", "Group", "Load", "Portion", "Share", "records"]

FEW = 1_000
"""Rows of a tenant that wait for more to come."""

BEHIND = 4
"""Batches that the run's own tenant is behind at the most: a run that was killed is gone on with from there."""


class Share(NamedTuple):
    """A batch of a source, and the run that has begun to read it."""

    ready: Ready
    begun_by: UUID

    @property
    def batch(self) -> Batch:
        """The batch."""
        return self.ready.batch

    def of(self, batch: Batch) -> Share:
        """Return a part of it."""
        return self._replace(ready=self.ready._replace(batch=batch))


Group = Sequence[Share]
"""Batches that are loaded together, in the order in which they were read."""


class Portion(NamedTuple):
    """What one transaction of a tenant loads: its shares of batches, and all of their rows, prepared."""

    shares: Group
    rows: Sequence[Row]

    @property
    def ready(self) -> list[Ready]:
        """The shares as batches."""
        return [one.ready for one in self.shares]


class Load(NamedTuple):
    """What is loaded at the same time, in the portions of tenants.

    Attributes:
        group: the batches that it is of, without their rows.
        others: what other tenants have.
        own: what the run's own tenant has, which moves on with it once the others have all of theirs; None where some
            of the group is still to come.
    """

    group: Group
    others: Mapping[UUID, Portion]
    own: Portion | None = None


class Divided(NamedTuple):
    """A group, without its rows, and which of its shares are whose."""

    group: list[Share]
    own: list[Share]
    others: dict[UUID, list[Share]]


@dataclass
class _Held:
    """Shares that wait for the next groups: what the run's own tenant has, and what others have."""

    group: list[Share] = field(default_factory=list)
    own: list[Share] = field(default_factory=list)
    others: dict[UUID, list[Share]] = field(default_factory=dict)

    def records_with(self, divided: Divided, few: int) -> int:
        """Return how many records would wait with those of one more group, where nobody waits with more than a few."""
        rows = Counter({tenant_id: _rows(shares) for tenant_id, shares in self.others.items()})
        rows.update({tenant_id: _rows(shares) for tenant_id, shares in divided.others.items()})
        return _own(self.own) + _own(divided.own) + sum(count for count in rows.values() if count <= few)

    def add(self, divided: Divided) -> None:
        """Let the shares of one more group wait."""
        self.group += divided.group
        self.own += divided.own
        for tenant_id, shares in divided.others.items():
            self.others.setdefault(tenant_id, []).extend(shares)

    def has_more_than(self, few: int) -> bool:
        """Return whether another tenant has more rows than a few."""
        return any(_rows(shares) > few for shares in self.others.values())

    def taken(self, few: int) -> dict[UUID, list[Share]]:
        """Take out the shares of others who have more rows than a few."""
        taken = {tenant_id: shares for tenant_id, shares in self.others.items() if _rows(shares) > few}
        self.others = {tenant_id: shares for tenant_id, shares in self.others.items() if tenant_id not in taken}
        return taken

    def all(self) -> Divided:
        """Take out everything."""
        taken = Divided(self.group, self.own, self.others)
        self.group, self.own, self.others = [], [], {}
        return taken


class Division:
    """Divides the groups of one run."""

    def __init__(self, work: Work) -> None:
        """Take the run."""
        self._work = work
        self._tenants: dict[str, UUID] = {}
        load = work.pipeline.load
        self._keeps_originals = not (isinstance(load, AllOrNothing) and load.all_or_nothing)

    def loads(self, groups: Iterable[Group]) -> Iterator[Load]:
        """Give groups in portions, the rows of each prepared by the pipeline's loader.

        A transaction has a cost of its own, whatever is in it. So a tenant with few rows of a group waits for those of
        the next ones, where sources may be loaded together; and so does the run's own tenant, which has to move on
        behind all others. No more records wait than a batch may have, and for no more than four batches.
        """
        pipeline = self._work.pipeline
        few = FEW if pipeline.together and pipeline.tenant_by is not None else 0
        held = _Held()
        for divided in map(self._divided, groups):
            group = divided.group
            if held.group and held.records_with(divided, few) > self._work.batch:
                yield self._load(held.all())
            held.add(divided)
            # what it was divided into is in memory no longer than it takes to load it
            del divided
            if not few or _rows(held.own) > few or records(held.group) >= BEHIND * self._work.batch:
                yield self._load(held.all())
            elif held.has_more_than(few):
                yield Load(group, self._portions(held.taken(few)))
        if held.group:
            yield self._load(held.all())

    def _load(self, divided: Divided) -> Load:
        return Load(divided.group, self._portions(divided.others), self.portion(divided.own, self._work.tenant_id))

    def _portions(self, others: Mapping[UUID, Group]) -> dict[UUID, Portion]:
        return {tenant_id: self.portion(shares, tenant_id) for tenant_id, shares in others.items()}

    def _divided(self, group: Group) -> Divided:
        divided = Divided(list(map(_without_rows, group)), [], {})
        for one in group:
            own, shares = self.shares(one.batch)
            divided.own.append(one.of(own))
            for tenant_id, share in shares.items():
                kept = share if self._keeps_originals else replace(share, originals=share.rows)
                divided.others.setdefault(tenant_id, []).append(one.of(kept))
        return divided

    def shares(self, batch: Batch) -> tuple[Batch, Mapping[UUID, Batch]]:
        """Return what stays with the run's own tenant, and what others have of a batch; they are made where need be.

        What has no tenant is rejected, and stays, and so does what was rejected before.
        """
        whose = self._work.pipeline.tenant_by
        return (batch, {}) if whose is None else self._shares(batch, whose)

    def portion(self, shares: Group, tenant_id: UUID) -> Portion:
        """Return shares as one transaction of a tenant loads them."""
        return Portion(shares, self._work.prepared([one.ready for one in shares], tenant_id))

    def _shares(self, batch: Batch, whose: Callable[[Row], TenantName]) -> tuple[Batch, dict[UUID, Batch]]:
        # by their slugs: names that differ in more than that are one tenant
        names: dict[str, TenantName] = {}
        places: dict[str, list[int]] = defaultdict(list)
        rejects = list(batch.rejects)
        for at, row in enumerate(batch.rows):
            try:
                name = whose(row)
            except InvalidValue as error:
                rejects.append(rejected(batch, at, Stage.LOAD, error))
                continue
            if name.slug not in places:
                names[name.slug] = name
            places[name.slug].append(at)
        shares = {self._tenant(names[slug]): batch.part(some) for slug, some in places.items()}
        own = shares.pop(self._work.tenant_id, batch.part(()))
        return replace(own, rejects=rejects), shares

    def _tenant(self, name: TenantName) -> UUID:
        if name.slug not in self._tenants:
            self._tenants[name.slug] = tenant_of(self._work.db, *name)
        return self._tenants[name.slug]


def records(group: Group) -> int:
    """Return how many records of their sources batches are."""
    return sum(one.batch.read for one in group)


def _without_rows(one: Share) -> Share:
    """Return what is still to be known of a batch when it is loaded: rows are in memory no longer than it takes."""
    return one.of(one.batch.part(()))


def _rows(shares: Group) -> int:
    return sum(len(one.batch.rows) for one in shares)


def _own(shares: Group) -> int:
    """Return how many records the run's own tenant has of batches: to load, and to keep as rejected."""
    return sum(len(one.batch.rows) + len(one.batch.rejects) for one in shares)
