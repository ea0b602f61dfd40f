"""What can be asked of every entity: by id, by what is equal, and in lists.

``XQueries`` reads, and ``XRepository`` writes as well. Both work in the session of a tenant and never commit: the unit
of work that opened the session does. The same code runs under asyncio, in ``await session.run_sync(…)``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Any, ClassVar, Generic, TypeVar, cast
from uuid import UUID

from sqlalchemy import ARRAY, ColumnElement, Select, any_, bindparam, exists, inspect, select
from sqlalchemy.orm import Mapper, Session
from sqlalchemy.orm.interfaces import ORMOption

from dataarch.database.row_keys import row_id
from dataarch.database.unit_of_work import tenant_session
from dataarch.errors import InvalidValue, shown
from dataarch.models import Base, TenantOwned
from dataarch.repositories.counts import Count, count
from dataarch.repositories.pages import Page, read_page
from dataarch.repositories.streams import stream

__all__ = ["OfTenant", "Queries", "Row"]

Row = TypeVar("Row", bound=Base)


class OfTenant:
    """What works in the session of a tenant, and in no other."""

    def __init__(self, session: Session) -> None:
        """Take the session of a unit of work.

        Raises:
            TenantNotSet: the session is of no tenant.
        """
        otherwise = f"{type(self).__name__} reads the rows of one tenant, and this session has none."
        self.session = tenant_session(session, otherwise)
        self.tenant_id: UUID = self.session.tenant_id


class Queries(OfTenant, Generic[Row]):
    """Reads of one kind of row, in the session of a tenant.

    Conditions are given as for a select: expressions on the model's attributes, and ``attribute=value`` for what is
    equal. Rows are returned as objects of the session.
    """

    model: ClassVar[type[Base]]

    options: ClassVar[tuple[ORMOption, ...]] = ()
    """What is loaded along with each row."""

    def get(self, id_: UUID | str) -> Row | None:
        """Return the row with this id, or None; one that the session holds is not read again.

        Raises:
            InvalidValue: the id is no UUID.
        """
        return self.session.get(self._rows, self._identity(row_id(id_)), options=self.options)

    def get_many(self, ids: Iterable[UUID | str]) -> list[Row | None]:
        """Return rows in the order of their ids, None for each that the tenant has not; one round trip for all.

        Raises:
            InvalidValue: an id is no UUID.
        """
        wanted = [row_id(one) for one in ids]
        if not wanted:
            return []
        statement, key = _of_ids(self.model)
        rows = self.session.scalars(statement.options(*self.options), {"ids": list(dict.fromkeys(wanted))})
        found: dict[UUID, Row] = {getattr(row, key): row for row in rows}
        return [found.get(one) for one in wanted]

    def find(self, *conditions: ColumnElement[bool], **equal: object) -> Row | None:
        """Return the one row that meets the conditions, or None.

        Raises:
            InvalidValue: there are several, or the model has no such attribute.
        """
        rows: Sequence[Row] = self.session.scalars(self.select(*conditions, **equal).limit(2)).all()
        if len(rows) > 1:
            raise InvalidValue(
                f"Several rows of {self.model.__name__} meet the conditions, and one was asked for.",
                hint="Add a condition that tells them apart, or use list().",
                table=self.model.__tablename__,
            )
        return rows[0] if rows else None

    def list(
        self,
        *conditions: ColumnElement[bool],
        order: Sequence[Any] = (),
        limit: int | None = None,
        **equal: object,
    ) -> Sequence[Row]:
        """Return the rows that meet the conditions.

        Args:
            conditions: expressions on the model's attributes.
            order: attributes or expressions; by default the primary key, which for ids made here is the order of
                their making.
            limit: how many at the most; a list without one is read whole into memory, see :meth:`stream`.
            equal: attributes and the values that they have.
        """
        if limit is not None and limit < 0:
            raise InvalidValue(f"A list cannot have {limit} rows.", hint="Give a limit of 0 or more.", value=limit)
        by = order or inspect(self.model).primary_key
        rows: Sequence[Row] = self.session.scalars(self.select(*conditions, **equal).order_by(*by).limit(limit)).all()
        return rows

    def exists(self, *conditions: ColumnElement[bool], **equal: object) -> bool:
        """Return whether any row meets the conditions."""
        asked = self.select(*conditions, **equal).options()
        return bool(self.session.scalar(select(exists(asked.with_only_columns(*inspect(self.model).primary_key)))))

    def count(self, *conditions: ColumnElement[bool], exact: bool = True, **equal: object) -> Count:
        """Return how many rows meet the conditions; ``exact=False`` for the planner's estimate, which costs a plan."""
        return count(self.session, self.select(*conditions, **equal).options(), exact=exact)

    def stream(self, *conditions: ColumnElement[bool], batch: int = 1000, **equal: object) -> Iterator[Row]:
        """Give the rows that meet the conditions one by one, in constant memory; see :func:`.streams.stream`.

        Args:
            conditions: as of :meth:`list`.
            batch: how many rows are fetched in one round trip, and held at a time.
            equal: as of :meth:`list`.
        """
        return stream(self.session, self.select(*conditions, **equal), batch=batch)

    def page(
        self,
        *conditions: ColumnElement[bool],
        order: Sequence[Any] = (),
        size: int = 50,
        cursor: str | None = None,
        **equal: object,
    ) -> Page[Row]:
        """Return a page of the rows that meet the conditions, and cursors of the pages beside it.

        Args:
            conditions: as of :meth:`list`; the same for each page of a list.
            order: as of :meth:`list`, ``.desc()`` and ``.nulls_last()`` included; the same for each page of a list.
            size: how many rows a page has, 1 to 10,000.
            cursor: ``next`` or ``previous`` of another page; None for the first one.
            equal: as of :meth:`list`.

        Raises:
            InvalidCursor: the cursor was damaged, or is one of another list, tenant or secret.

        Guarantee: a row that is there all the time is on one page, whatever is written meanwhile.
        """
        by = order or inspect(self.model).primary_key[-1:]
        return read_page(self.session, self.select(*conditions, **equal), order=by, size=size, cursor=cursor)

    def select(self, *conditions: ColumnElement[bool], **equal: object) -> Select[Row]:
        """Return the select of the rows that meet conditions, for whatever the other methods do not offer.

        Raises:
            InvalidValue: the model has no such attribute.
        """
        statement = select(self._rows).options(*self.options)
        known = _attributes(self.model)
        for name, value in equal.items():
            if name not in known:
                raise InvalidValue(
                    f"{self.model.__name__} has no attribute {shown(name)}.",
                    hint=f"It has {', '.join(known)}.",
                    table=self.model.__tablename__,
                    column=name,
                )
            statement = statement.where(getattr(self.model, name) == value)
        return statement.where(*conditions) if conditions else statement

    @property
    def _rows(self) -> type[Row]:
        return cast("type[Row]", self.model)

    def _identity(self, id_: UUID) -> tuple[UUID, ...]:
        return (self.tenant_id, id_) if issubclass(self.model, TenantOwned) else (id_,)


@lru_cache(maxsize=256)
def _attributes(model: type[Base]) -> tuple[str, ...]:
    """Return the names of a model's columns, as attributes."""
    mapper: Mapper[Any] = inspect(model)
    return tuple(mapper.column_attrs.keys())


@lru_cache(maxsize=256)
def _of_ids(model: type[Base]) -> tuple[Select[Any], str]:
    """Return the select of a model's rows by ids, and the attribute that holds the id."""
    mapper: Mapper[Any] = inspect(model)
    key = next(column for column in mapper.primary_key if column.name != "tenant_id")
    name = mapper.get_property_by_column(key).key
    attribute = getattr(model, name)
    # an array is one parameter: 65,535 are all that a statement can have
    ids: Any = bindparam("ids", type_=ARRAY(key.type))
    return select(model).where(attribute == any_(ids)), name
