"""One row of a tenant that is added, or brought up to date where it is there."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar
from uuid import UUID

from sqlalchemy import Column, TypeDecorator, inspect, select
from sqlalchemy.orm import Session

from dataarch.database.row_keys import key_columns
from dataarch.database.unit_of_work import tenant_session
from dataarch.errors import AlreadyExists, InvalidValue, MissingValue, TenantMismatch
from dataarch.models import Base
from dataarch.repositories.bulk.rules import DIALECT
from dataarch.repositories.bulk.target import NEVER_UPDATED, key_of, names_of, table_written
from dataarch.repositories.bulk.upsert import NO_TENANT

__all__ = ["upsert"]

Model = TypeVar("Model", bound=Base)


def upsert(session: Session, model: type[Model], row: Mapping[str, Any], *, key: str | Sequence[str]) -> Model:
    """Add one row of a tenant, or bring it up to date if it is there.

    Args:
        session: a unit of work of the tenant.
        model: what it is.
        row: values by the names of attributes or of columns; what is not given stays as it is.
        key: as for :func:`upsert_many`.

    Returns:
        The object, as it is in the database. It is locked until the unit of work ends.

    Raises:
        ConstraintError: a constraint refuses it.
        InvalidValue: a type refuses a value, or no constraint has this key.
        TenantMismatch: it is a row of another tenant.
        TenantNotSet: the session is no tenant's.

    Nothing is committed; where it raises, nothing is written and the transaction goes on. Safe to repeat.
    """
    columns = key_of(model, key)
    values = _attributes(model, row, tenant_session(session, NO_TENANT).tenant_id)
    wanted = {attribute: values.get(attribute) for attribute in _attributes_of(model, columns)}
    if missing := next((name for name, value in wanted.items() if value is None), None):
        raise MissingValue(
            f"The row has no {missing}, which says which row is meant.",
            hint="Give it a value.",
            table=table_written(model).name,
            column=names_of(model)[missing].name,
        )
    meant = select(model).filter_by(**wanted).with_for_update(key_share=True).execution_options(populate_existing=True)
    session.flush()
    for last in (False, True):
        found = session.scalars(meant).one_or_none()
        try:
            with session.begin_nested():
                return _written(session, model, found, values)
        except AlreadyExists:
            # somebody may have added it in between; then it is there now
            if last or found is not None:
                raise
    raise AssertionError  # the loop ends by returning or by raising


def _written(session: Session, model: type[Model], found: Model | None, values: Mapping[str, Any]) -> Model:
    if found is None:
        found = model(**values)
        session.add(found)
    else:
        kept = {column.name for column in key_columns(table_written(model))} | {NEVER_UPDATED}
        for attribute, value in values.items():
            if names_of(model)[attribute].name not in kept and getattr(found, attribute) != value:
                setattr(found, attribute, value)
    session.flush()
    return found


def _attributes(model: type[Base], row: Mapping[str, Any], tenant_id: UUID) -> dict[str, Any]:
    """Return a row's values by the names of attributes, in the form in which they come back from the database."""
    mapper: Any = inspect(model)
    known, values = names_of(model), {}
    for name, value in row.items():
        column = known.get(name)
        if column is None:
            raise InvalidValue(
                f"A {model.__name__} has no {name!a}.", hint=f"Known are {', '.join(sorted(known))}.", value=name
            )
        values[mapper.get_property_by_column(column).key] = _as_stored(column, value)
    if values.setdefault("tenant_id", tenant_id) != tenant_id:
        raise TenantMismatch(
            f"The row belongs to tenant {values['tenant_id']}, and the session to tenant {tenant_id}.",
            table=table_written(model).name,
            column="tenant_id",
            value=values["tenant_id"],
            tenant_id=tenant_id,
        )
    return values


def _as_stored(column: Column[Any], value: Any) -> Any:
    kind = column.type
    if value is None or not isinstance(kind, TypeDecorator):
        return value
    stored = kind.process_bind_param(value, DIALECT)
    comes_back = type(kind).process_result_value is not TypeDecorator.process_result_value
    return kind.process_result_value(stored, DIALECT) if comes_back else stored


def _attributes_of(model: type[Base], columns: Iterable[Column[Any]]) -> Iterator[str]:
    mapper: Any = inspect(model)
    return (mapper.get_property_by_column(column).key for column in columns)
