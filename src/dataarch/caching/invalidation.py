"""From what a transaction has written to what is no longer remembered: fenced before the commit, cleared after it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from sqlalchemy import Connection

from dataarch.caching.fencing import Fencing, Ticket
from dataarch.caching.keys import ALL, cache_key, lease_of, rows_tag, table_tag, tenant_tag
from dataarch.database.changes import Change
from dataarch.database.commit_hooks import Ending, Unit
from dataarch.database.tenancy import INTERNAL

__all__ = ["Invalidation", "names_of"]


def names_of(changes: Iterable[Change], makers: Mapping[str, tuple[tuple[str, int], ...]]) -> tuple[str, ...]:
    """Return the names of everything that depends on something that was written.

    Args:
        changes: what was written.
        makers: for each table, the kinds of value that are made from single rows of it.
    """
    return tuple(dict.fromkeys(name for change in changes for name in _names(change, makers)))


def _names(change: Change, makers: Mapping[str, tuple[tuple[str, int], ...]]) -> Iterator[str]:
    tenant = change.tenant_id
    if not change.of_nobody and tenant is None:
        yield ALL
    elif change.table is None:
        # and what is nobody's, which any tenant may write
        yield tenant_tag(tenant)
        yield tenant_tag(None)
    elif change.key is None:
        yield table_tag(tenant, change.table)
        yield rows_tag(tenant, change.table)
    else:
        yield table_tag(tenant, change.table)
        for kind, version in makers.get(change.table, ()):
            entry = cache_key(kind, *change.key, version=version, tenant=tenant)
            yield entry
            yield lease_of(entry)


class Invalidation:
    """Hears of commits and sees to it that nobody is served what was before them."""

    def __init__(self, fencing: Fencing) -> None:
        self.fencing = fencing

    def before_commit(self, unit: Unit, connection: Connection | None, /) -> object:
        """Announce what will have changed.

        Raises:
            CacheUnreachable: neither the cache nor the gate answers.
        """
        if unit.tenant_id is None and connection is not None:
            # the owner's transactions may idle for ever, and a fence does not last for ever
            allowed = self.fencing.timing.fence_ms // 2
            connection.exec_driver_sql(
                f"SET LOCAL idle_in_transaction_session_timeout = {allowed}", execution_options={INTERNAL: True}
            )
        changes = unit.changes
        return self.fencing.announce(lambda view: names_of(changes, view.makers))

    def after_end(self, ticket: object, ending: Ending, /) -> None:
        """Take the fences away; where nobody knows whether it was committed, they stay until their end."""
        if isinstance(ticket, Ticket) and ending is not Ending.UNKNOWN:
            self.fencing.over(ticket)
