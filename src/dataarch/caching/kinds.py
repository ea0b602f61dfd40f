"""Kinds of values: how long they last, and what they are made from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import Table

from dataarch.caching.keys import (
    ALL,
    Part,
    cache_key,
    kind_tag,
    parts_of_text,
    rows_tag,
    table_tag,
    tenant_of_key,
    tenant_tag,
)
from dataarch.caching.store import STAMP_MS
from dataarch.caching.views import SessionView
from dataarch.database.row_keys import row_key
from dataarch.errors import InvalidValue
from dataarch.models import UserSession
from dataarch.models.tenancy import tenant_column

__all__ = ["SESSION", "Kind"]

LONGEST_TTL = STAMP_MS / 1000


@dataclass(frozen=True)
class Kind:
    """A kind of value. All times are seconds.

    Attributes:
        name: part of every key; see :func:`dataarch.caching.keys.cache_key`.
        ttl: for how long a value is served at the most; no longer than 7 days.
        soft_ttl: from when on one caller reads it anew while the others are served the old one; shorter than ``ttl``.
        negative_ttl: for how long it is remembered that there is nothing (None); 0 for never.
        jitter: the part of ``ttl`` and ``soft_ttl`` by which they are shortened at random, so that what was kept
            together does not end together; 0 to 0.5.
        version: of the value's form; a new one makes all older entries invisible.
        rows: models or tables, each with one row for a key: its primary key without the tenant are the key's parts. For
            a key of other parts than these, values depend on the table as a whole.
        reads: models or tables that the values depend on as a whole: any row written in them makes all values of the
            tenant invisible.
        type: of the value, of msgspec's kinds; without one a value is plain data.

    Raises:
        InvalidValue: the times do not fit together, or a table is given that is none.
    """

    name: str
    ttl: float
    soft_ttl: float | None = None
    negative_ttl: float = 30.0
    jitter: float = 0.1
    version: int = 1
    rows: tuple[Any, ...] = ()
    reads: tuple[Any, ...] = ()
    type: Any = None

    def __post_init__(self) -> None:
        cache_key(self.name, version=self.version)
        if not 0 < self.ttl <= LONGEST_TTL:
            raise self._unfit(f"its ttl of {self.ttl} seconds is not between 0 and {LONGEST_TTL:.0f}")
        if self.soft_ttl is not None and not 0 < self.soft_ttl < self.ttl:
            raise self._unfit(f"its soft_ttl of {self.soft_ttl} seconds is not between 0 and its ttl of {self.ttl}")
        if not 0 <= self.negative_ttl <= self.ttl:
            raise self._unfit(f"its negative_ttl of {self.negative_ttl} seconds is not between 0 and its ttl")
        if not 0 <= self.jitter <= 0.5:
            raise self._unfit(f"its jitter of {self.jitter} is not between 0 and 0.5")
        object.__setattr__(self, "rows", tuple(self._table(one) for one in self.rows))
        object.__setattr__(self, "reads", tuple(self._table(one) for one in self.reads))

    def _unfit(self, why: str) -> InvalidValue:
        return InvalidValue(f"The kind {self.name} cannot be: {why}.", value=self.name)

    def _table(self, given: Any) -> Table:
        table = getattr(given, "__table__", given)
        if not isinstance(table, Table):
            raise self._unfit(f"{given!r} is neither a model nor a table")
        return table

    @property
    def declaration(self) -> str | None:
        """What every writer has to know of it: its name, version and tables, where it is made from single rows."""
        tables = ",".join(table.fullname for table in self.rows)
        return f"{self.name}:{self.version}:{tables}" if tables else None

    @property
    def owned(self) -> bool:
        """Whether its values are a tenant's: they are made from a tenant's tables."""
        return any(tenant_column(table) is not None for table in (*self.rows, *self.reads))

    def key(self, *parts: Part, tenant: UUID | str | None = None) -> str:
        """Return the key of a value; ``tenant`` is whose it is."""
        return cache_key(self.name, *parts, version=self.version, tenant=tenant)

    def tags(self, key: str) -> tuple[str, ...]:
        """Return the tags of the value of a key.

        Raises:
            InvalidValue: the key is none of this kind, or does not say whose the value is.
        """
        tenant = tenant_of_key(key)
        self._refuse_foreign(key, tenant)
        if tenant is None and self.owned:
            raise InvalidValue(
                f"The key {key} does not say whose value it is, and {self.name} is made from tenants' tables.",
                hint=f"Make it with cache_key({self.name!r}, …, tenant=tenant_id).",
                value=key,
            )
        tags = [ALL, kind_tag(self.name), tenant_tag(tenant)]
        for table in self.rows:
            whose = None if tenant_column(table) is None else tenant
            # a writer of a row that is nobody's does not know whose values were made from it
            named = whose == tenant and self._names_row(table, key, tenant)
            tags.append((rows_tag if named else table_tag)(whose, table.fullname))
        for table in self.reads:
            whose = None if tenant_column(table) is None else tenant
            tags.append(table_tag(whose, table.fullname))
        if not all(tenant_column(table) is not None for table in (*self.rows, *self.reads)) and tenant is not None:
            tags.append(tenant_tag(None))
        # those of nobody first: in a cluster they lie elsewhere, and are learned before the others
        return tuple(sorted(tags, key=lambda tag: tag.startswith("{")))

    def _names_row(self, table: Table, key: str, tenant: UUID | None) -> bool:
        """Return whether a key is, to the letter, the one that a writer of a row of the table makes."""
        body = key[key.index(f"{self.name}:") + len(self.name) + 1 : -len(f":v{self.version}")]
        parts = parts_of_text(body)
        row = None if parts is None else row_key(table, parts)
        return row is not None and self.key(*row, tenant=tenant) == key

    def _refuse_foreign(self, key: str, tenant: UUID | None) -> None:
        before = f"{self.name}:" if tenant is None else f"{{{tenant}}}:{self.name}:"
        after = f":v{self.version}"
        if not (key.startswith(before) and key.endswith(after)) and key != before[:-1] + after:
            raise InvalidValue(
                f"The key {key} is none of the kind {self.name}, version {self.version}.",
                hint=f"Make it with cache_key({self.name!r}, …, version={self.version}).",
                value=key,
            )


SESSION = Kind("session", ttl=300.0, negative_ttl=0.0, rows=(UserSession,), type=SessionView)
"""A user's session, by the hash of its token. What is no session is not remembered: tokens can be made up for ever."""
