"""What can be done to every entity: add, change and remove rows, in the unit of work of the caller.

Each write is tried inside a savepoint. So what the database refuses comes as a named error, and the unit of work goes
on as if it had not been tried.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, delete, inspect, select, update

from dataarch.database.row_keys import row_id
from dataarch.errors import InvalidValue, StaleRow, shown
from dataarch.models import Versioned
from dataarch.repositories.bulk.one_row import upsert
from dataarch.repositories.bulk.outcome import BulkResult
from dataarch.repositories.bulk.upsert import insert_many, upsert_many
from dataarch.repositories.queries import Queries, Row

__all__ = ["AppendRepository", "Repository"]

NEVER_CHANGED = frozenset({"id", "tenant_id", "version", "created_at"})


class AppendRepository(Queries[Row]):
    """Reads of one kind of row, and additions to it, in the session of a tenant; it never commits."""

    def add(self, row: Row) -> Row:
        """Write a new row.

        Returns:
            The same object, with what the database has filled in.

        Raises:
            ConstraintError: the database refuses it; the error knows the constraint, the table and the column, and has
                a name of its own where callers act on it (SlugTaken, EmailTaken, UnknownUser …).
            InvalidValue: a value that its column cannot hold.
            TenantMismatch: it is another tenant's.

        Guarantee: if it raises, nothing of it is written and the session goes on.
        """
        return self.add_many([row])[0]

    def add_many(self, rows: Iterable[Row]) -> list[Row]:
        """Write new rows, all of them or none; as :meth:`add`.

        For thousands of rows, and for rows of which some may be refused, there is ``insert_many``.
        """
        added = list(rows)
        with self.session.begin_nested():
            self.session.add_all(added)
        return added

    def insert_many(self, rows: Iterable[Any]) -> BulkResult:
        """Write many new rows by COPY; one that is refused costs the others nothing.

        See :func:`.bulk.upsert.insert_many`.

        Args:
            rows: mappings by attributes or columns, or objects of the model; any number.

        Returns:
            How many were written, and each row that was not, with its position and its error.
        """
        return insert_many(self.session, self.model, rows)


class Repository(AppendRepository[Row]):
    """Reads and writes of one kind of row, in the session of a tenant; it never commits."""

    def save(self, row: Row) -> Row:
        """Write what was changed in an object of the session, if its row still has the version that was read.

        Raises:
            StaleRow: somebody else changed or removed the row since it was read.
            InvalidValue: the object is none of this session.
            ConstraintError: as :meth:`add`.

        Guarantee: if it raises, the object is as the database has it, and the session goes on.
        """
        if row not in self.session or not inspect(row).persistent:
            raise InvalidValue(
                f"This {self.model.__name__} was not read by this session, so there is nothing to compare it with.",
                hint="Write a new one with add(); change another by update(id, …).",
                table=self.model.__tablename__,
            )
        state: Any = inspect(row)
        changes = {
            one.key: getattr(row, one.key) for one in state.mapper.column_attrs if one.key in state.committed_state
        }
        if not changes:
            return row
        version = state.dict["version"] if issubclass(self.model, Versioned) else None
        # a savepoint begins with a flush: what is written inside of it must not be pending before it
        self.session.expire(row)
        return self.update(state.identity[-1], version=version, **changes)

    def update(self, id_: UUID | str, *, version: int | None = None, **values: object) -> Row:
        """Change a row by one statement.

        Args:
            id_: whose.
            version: the version that the values were made from; None to change whichever there is.
            values: attributes and their new values.

        Returns:
            The row as it is now.

        Raises:
            StaleRow: there is no such row, or it has another version.
            InvalidValue: no values, an attribute that the model has not, or one that never changes.
            ConstraintError: as :meth:`add`.
        """
        self._refuse_unfit(values)
        key = row_id(id_)
        statement = update(self._rows).where(*self._of(key, version)).values(**values).returning(self._rows)
        with self.session.begin_nested():
            changed = self.session.scalar(statement, execution_options={"populate_existing": True})
        if changed is None:
            raise self._stale(key, version)
        return changed

    def upsert(self, row: Mapping[str, Any], *, key: str | Sequence[str]) -> Row:
        """Add a row, or bring it up to date if one with this key is there; see :func:`.bulk.one_row.upsert`.

        Args:
            row: values by attributes or columns; what is not given stays as it is.
            key: the attribute, or attributes, of a unique constraint beside the tenant.
        """
        return upsert(self.session, self._rows, row, key=key)

    def upsert_many(self, rows: Iterable[Any], *, key: str | Sequence[str]) -> BulkResult:
        """Do the same with many rows by COPY; one that is refused costs the others nothing.

        See :func:`.bulk.upsert.upsert_many`.
        """
        return upsert_many(self.session, self.model, rows, key=key)

    def remove(self, id_: UUID | str, *, version: int | None = None) -> bool:
        """Remove a row, and with it what belongs to it.

        Returns:
            Whether it was there.

        Raises:
            StaleRow: it is there, in another version than the one given.
            UnknownReference: other rows refer to it and do not go with it.
        """
        key = row_id(id_)
        with self.session.begin_nested():
            removed = self.session.scalar(
                delete(self.model).where(*self._of(key, version)).returning(*inspect(self.model).primary_key[-1:])
            )
        if removed is None and version is not None and self._version_of(key) is not None:
            raise self._stale(key, version)
        return removed is not None

    def _of(self, key: UUID, version: int | None) -> list[ColumnElement[bool]]:
        columns = inspect(self.model).primary_key
        found = [column == value for column, value in zip(columns, self._identity(key), strict=True)]
        if version is not None:
            found.append(self._versions() == version)
        return found

    def _versions(self) -> ColumnElement[int]:
        if not issubclass(self.model, Versioned):
            raise InvalidValue(
                f"Rows of {self.model.__name__} have no version.", hint="Leave the version out.", column="version"
            )
        versions: ColumnElement[int] = inspect(self.model).columns["version"]
        return versions

    def _refuse_unfit(self, values: dict[str, object], model: type[Any] | None = None) -> None:
        model = model or self.model
        if not values:
            raise InvalidValue(f"Nothing of {model.__name__} was to be changed.", hint="Give attribute=value.")
        columns = inspect(model).column_attrs
        for name in values:
            if name not in columns or name in NEVER_CHANGED or columns[name].columns[0].primary_key:
                raise InvalidValue(
                    f"The attribute {shown(name)} of {model.__name__} cannot be changed.",
                    hint="Change one of " + ", ".join(sorted(set(columns.keys()) - NEVER_CHANGED)) + ".",
                    table=model.__tablename__,
                    column=name,
                )

    def _version_of(self, key: UUID) -> int | None:
        return self.session.scalar(select(self._versions()).where(*self._of(key, None)))

    def _stale(self, key: UUID, version: int | None) -> StaleRow:
        there = self._version_of(key) if version is not None else None
        name = self.model.__name__
        if there is None:
            return StaleRow(f"There is no {name} {key}, or none any more.", table=self.model.__tablename__, value=key)
        return StaleRow(
            f"The {name} {key} has version {there}, and version {version} was to be changed: somebody else has "
            "written it since.",
            table=self.model.__tablename__,
            value=there,
        )
