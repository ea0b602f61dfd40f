"""Entities by id: users with profile and settings, products, and whatever else has one row for each id.

::

    profile = db.cache.profiles.get(tenant_id, user_id)
    products = db.cache.products.get_many(tenant_id, product_ids)
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Generic, TypeVar
from uuid import UUID

from dogpile.cache.api import NO_VALUE
from sqlalchemy import ARRAY, Select, and_, any_, bindparam, select
from sqlalchemy.orm import Session

from dataarch.caching.backend import KindBackend
from dataarch.caching.batches import Batches
from dataarch.caching.kinds import Kind
from dataarch.caching.units import Units
from dataarch.database.row_keys import row_id
from dataarch.database.tenancy import tenant_uuid
from dataarch.errors import InvalidValue

__all__ = ["Entities"]

View = TypeVar("View")

MOST_TENANTS, MOST_KEYS = 64, 4096
"""Keys that are remembered, so that they are not put together at each read: of so many tenants, so many of each."""


class Entities(Generic[View]):
    """The values of a kind whose keys are one id; safe to share between threads.

    They are read as columns, never from objects of a session. So they are kept although the session holds objects, but
    not when its unit of work has written something, or sees the database as of one moment.
    """

    def __init__(self, backend: KindBackend, units: Units) -> None:
        """Take the kind's backend and the units of work.

        The kind's ``rows`` are tables of tenants with one id for key, its ``type`` is a Struct.

        Raises:
            InvalidValue: the kind is none of entities.
        """
        kind = backend.kind
        self._backend = backend
        self._batches = Batches(backend)
        self._units = units
        self._statement = _statement(kind)
        self._view: type[View] = kind.type
        self._before, self._after = f":{kind.name}:", f":v{kind.version}"
        self._keys: dict[UUID, dict[UUID, str]] = {}

    def key(self, tenant_id: UUID | str, id_: UUID | str) -> str:
        """Return the key of an entity, as :func:`dataarch.caching.keys.cache_key` makes it."""
        return self._keys_of(tenant_uuid(tenant_id), [row_id(id_)])[0]

    def _keys_of(self, tenant: UUID, ids: Sequence[UUID]) -> list[str]:
        known = self._keys.get(tenant)
        if known is None or len(known) > MOST_KEYS:
            if len(self._keys) >= MOST_TENANTS:
                self._keys = {}
            known = self._keys[tenant] = {}
        found = [known.get(one) for one in ids]
        if None in found:
            # a UUID has no character that would have to be replaced
            before, after = f"{{{tenant}}}{self._before}", self._after
            known.update({one: f"{before}{one}{after}" for one in ids})
            return [known[one] for one in ids]
        return found  # type: ignore[return-value]  # none of them is None

    def get(self, tenant_id: UUID | str, id_: UUID | str) -> View | None:
        """Return the entity, or None where the tenant has none of this id.

        Raises:
            TenantNotSet, InvalidValue: an id is no UUID.
            DataArchError: the database was asked, and does not answer.

        Guarantee: it is never older than a commit of a unit of work that returned before the call.
        """
        found = self._backend.get(self.key(tenant_id, id_))
        if found is not NO_VALUE:
            view: View | None = found.payload
            return view
        return self._made(tenant_uuid(tenant_id), [row_id(id_)])[row_id(id_)]

    def get_many(self, tenant_id: UUID | str, ids: Iterable[UUID | str]) -> list[View | None]:
        """Return entities in the order of their ids, None for each that the tenant has not; as :meth:`get`.

        One round trip to the cache finds all that are there, and one statement reads all that are not.
        """
        wanted = [row_id(one) for one in ids]
        tenant = tenant_uuid(tenant_id)
        distinct = list(dict.fromkeys(wanted))
        values = self._backend.look(self._keys_of(tenant, distinct)) if distinct else ()
        if NO_VALUE not in values and len(distinct) == len(wanted):
            return [value.payload for value in values]
        found = {one: value.payload for one, value in zip(distinct, values, strict=True) if value is not NO_VALUE}
        missing = [one for one in distinct if one not in found]
        if missing:
            found |= self._made(tenant, missing)
        return [found[one] for one in wanted]

    def _made(self, tenant: UUID, ids: Sequence[UUID]) -> dict[UUID, View | None]:
        self._units.ready()
        of_key = dict(zip(self._keys_of(tenant, ids), ids, strict=True))

        def read(keys: Sequence[str]) -> dict[str, View | None]:
            with self._units.session(tenant) as session:
                rows = self._rows(session, tenant, [of_key[key] for key in keys])
            return {key: rows.get(of_key[key]) for key in keys}

        return {of_key[key]: value for key, value in self._batches.make(list(of_key), read).items()}

    def _rows(self, session: Session, tenant: UUID, ids: Sequence[UUID]) -> dict[UUID, View]:
        rows = session.execute(self._statement, {"tenant": tenant, "ids": ids})
        return {row.id: self._view(**row._mapping) for row in rows}


def _statement(kind: Kind) -> Select[Any]:
    """Return the statement that reads the columns of a kind's rows: those of the first table, and what others add."""
    wanted: Sequence[str] = getattr(kind.type, "__struct_fields__", ())
    if not (wanted and kind.rows and all(len(table.primary_key.columns) == 2 for table in kind.rows)):
        raise InvalidValue(
            f"The kind {kind.name} is none of entities.",
            hint="Give it a msgspec.Struct as type, and as rows tables whose keys are a tenant and one id.",
            value=kind.name,
        )
    main, *others = kind.rows
    tenant, key = main.primary_key.columns
    source: Any = main
    for other in others:
        of_tenant, of_key = other.primary_key.columns
        source = source.outerjoin(other, and_(of_tenant == tenant, of_key == key))
    columns = {column.name: column for table in reversed(kind.rows) for column in table.columns}
    ids: Any = bindparam("ids", type_=ARRAY(key.type))
    mine = select(*(columns[name] for name in wanted)).select_from(source)
    return mine.where(tenant == bindparam("tenant"), key == any_(ids))
