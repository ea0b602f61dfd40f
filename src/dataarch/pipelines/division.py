"""Divide what was read among the tenants that it is of, and make it ready for their transactions.

This is done by the thread that reads, while the server works for what was read before.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple
from uuid import UUID

from dataarch.errors import InvalidValue
from dataarch.pipelines.pipeline import TenantName
from dataarch.pipelines.reading import Ready
from dataarch.pipelines.records import Batch, Row, Stage, rejected
from dataarch.pipelines.tenants import tenant_of
from dataarch.pipelines.work import Work

__all__ = ["Division", "Group", "Load", "Portion", "Share"]


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
    """A group in the portions of tenants: the run's own moves on with it, others only have rows of it."""

    group: Group
    own: Portion
    others: Mapping[UUID, Portion]


class Division:
    """Divides the groups of one run."""

    def __init__(self, work: Work) -> None:
        """Take the run."""
        self._work = work
        self._tenants: dict[str, UUID] = {}

    def of(self, group: Group) -> Load:
        """Return a group in portions, the rows of each prepared by the pipeline's loader."""
        mine: list[Share] = []
        others: dict[UUID, list[Share]] = {}
        for one in group:
            own, shares = self.shares(one.batch)
            mine.append(one.of(own))
            for tenant_id, share in shares.items():
                others.setdefault(tenant_id, []).append(one.of(share))
        theirs = {tenant_id: self.portion(shares, tenant_id) for tenant_id, shares in others.items()}
        return Load(group, self.portion(mine, self._work.tenant_id), theirs)

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
