"""Rows as the bytes of COPY BINARY: in every form, each bad one refused by name, the good ones as they are."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, NamedTuple
from uuid import UUID

import pytest
from sqlalchemy import Column, LargeBinary, MetaData, Table, inspect, select
from sqlalchemy.orm import Session

from dataarch.database.unit_of_work import Database
from dataarch.errors import (
    ConfigurationError,
    DataArchError,
    InvalidJson,
    InvalidSlug,
    InvalidText,
    InvalidValue,
    MissingValue,
    NaiveDatetime,
    TenantMismatch,
)
from dataarch.models import Product, User, UserActivity
from dataarch.models.base import new_id
from dataarch.repositories.bulk.encoding import HEADER, TRAILER, Encoded, Encoder
from fixtures.tenants import inhabit

pytestmark = pytest.mark.pipeline

ACTIVITY: Any = UserActivity.__table__
TENANT = UUID(int=7)
AT = datetime(2025, 1, 15, 10, 30, tzinfo=UTC)


def good(**changed: Any) -> dict[str, Any]:
    row = {"id": new_id(), "user_id": UUID(int=1), "activity_type": "view", "metadata_": {"n": 1}, "created_at": AT}
    return {**row, **changed}


def encoded(*rows: Any, **options: Any) -> Encoded:
    return Encoder(ACTIVITY, tenant_id=TENANT, **options).encode(rows)


REFUSED: list[tuple[dict[str, Any], str, type[DataArchError]]] = [
    ({"activity_type": "a\x00b"}, "activity_type", InvalidText),
    ({"activity_type": "\ud800"}, "activity_type", InvalidText),
    ({"activity_type": "x" * 101}, "activity_type", InvalidText),
    ({"activity_type": ""}, "activity_type", InvalidText),
    ({"activity_type": 5}, "activity_type", InvalidText),
    ({"activity_type": None}, "activity_type", MissingValue),
    ({"created_at": datetime(2025, 1, 1)}, "created_at", NaiveDatetime),  # noqa: DTZ001  # that is the point
    ({"created_at": "2025-01-01"}, "created_at", InvalidValue),
    ({"metadata_": {"a": float("nan")}}, "metadata", InvalidJson),
    ({"metadata_": {"a": float("inf")}}, "metadata", InvalidJson),
    ({"metadata_": {"a": "\x00"}}, "metadata", InvalidJson),
    ({"metadata_": {"a": "\udfff"}}, "metadata", InvalidJson),
    ({"metadata_": {1: 1}}, "metadata", InvalidJson),
    ({"metadata_": {"a": (1,)}}, "metadata", InvalidJson),
    ({"metadata_": {"a": 10**5000}}, "metadata", InvalidJson),
    ({"user_id": "nobody"}, "user_id", InvalidValue),
    ({"user_id": 5}, "user_id", InvalidValue),
    ({"tenant_id": UUID(int=8)}, "tenant_id", TenantMismatch),
]


@pytest.mark.parametrize(("change", "column", "error"), REFUSED, ids=range(len(REFUSED)))
def test_a_bad_value_refuses_its_row_by_name_and_no_other(
    change: dict[str, Any], column: str, error: type[DataArchError]
) -> None:
    rows = [good(), good(**change), good()]
    found = encoded(*rows)
    (refused,) = found.refused
    assert type(refused.error) is error
    assert (refused.position, refused.row, refused.column) == (1, rows[1], column)
    assert refused.error.table == "user_activity_log"
    assert found.rows == 2
    assert found.data == encoded(rows[0], rows[2]).data


@pytest.mark.parametrize("row", ["text", b"bytes", None, 5, (1, 2), User(), object()])
def test_what_is_no_row_is_refused(row: Any) -> None:
    found = encoded(good(), row)
    assert [(type(one.error), one.position) for one in found.refused] == [(InvalidValue, 1)]
    assert found.rows == 1


def test_a_name_that_is_no_column_refuses_the_row() -> None:
    found = encoded(good(), good(activity_typ="view"))
    assert "'activity_typ'" in found.refused[0].reason
    assert found.rows == 1


def test_of_several_reasons_the_first_is_told() -> None:
    (refused,) = encoded(good(user_id="x", activity_type="")).refused
    assert refused.column == "user_id"


class Named(NamedTuple):
    tenant_id: UUID
    id: UUID
    user_id: UUID
    activity_type: str
    metadata: Any
    created_at: datetime


def test_dicts_instances_and_sequences_are_the_same_rows() -> None:
    row = good()
    by_columns = {name.rstrip("_"): value for name, value in row.items()}
    values = (TENANT, *row.values())
    expected = encoded(row).data
    for form in (by_columns, UserActivity(**row), values, list(values), Named(*values)):
        assert encoded(form).data == expected, form
    assert encoded(row, values, UserActivity(**row)).data == expected * 3


def test_what_is_not_given_has_the_defaults_of_the_model() -> None:
    encoder = Encoder(ACTIVITY, ["id", "metadata", "created_at"])
    found = encoder.encode([{}, {"id": None, "metadata_": None, "created_at": None}])
    assert (found.rows, found.refused) == (2, ())
    assert b"{}" in found.data
    # None is a value of JSON
    assert b"\x00\x00\x00\x05\x01null" in found.data
    assert len(set(found.instants["created_at"])) <= 2


def test_rows_know_their_positions_where_asked() -> None:
    encoder = Encoder(ACTIVITY, ["activity_type"], numbered=True)
    found = encoder.encode([{"activity_type": "a"}, {"activity_type": ""}, {"activity_type": "b"}], 40)
    field = b"\x00\x02\x00\x00\x00\x08%s\x00\x00\x00\x01%s"
    assert found.data == b"".join(field % (at.to_bytes(8, "big"), word) for at, word in ((40, b"a"), (42, b"b")))
    assert [one.position for one in found.refused] == [41]


def test_the_instants_are_those_of_the_good_rows() -> None:
    found = encoded(good(), good(activity_type=""), good(created_at=datetime(2000, 1, 1, 0, 0, 1, tzinfo=UTC)))
    assert found.instants["created_at"] == [790252200 * 10**6, 10**6]


def test_nothing_is_encoded_of_nothing() -> None:
    assert encoded().data == b""


def test_a_column_that_is_not_there_or_of_an_unknown_type_is_refused_before_any_row() -> None:
    with pytest.raises(ConfigurationError, match="has no column colour"):
        Encoder(ACTIVITY, ["colour"])
    table = Table("pictures", MetaData(), Column("picture", LargeBinary))
    with pytest.raises(ConfigurationError, match="LargeBinary"):
        Encoder(table)


def copied(session: Session, table: Any, encoder: Encoder, rows: list[Any]) -> Encoded:
    found = encoder.encode(rows)
    driver: Any = session.connection().connection.driver_connection
    columns = ", ".join(column.name for column in encoder.columns)
    with driver.cursor() as cursor, cursor.copy(f"COPY {table.name} ({columns}) FROM STDIN (FORMAT binary)") as copy:
        copy.write(HEADER + found.data + TRAILER)
    return found


def test_rows_come_back_as_those_that_the_session_writes(shared_db: Database) -> None:
    acme = inhabit(shared_db)
    many: list[dict[str, Any]] = [
        {
            "slug": f"p-{n}",
            "external_id": None if n % 3 else f"E{n}",
            "name": "Tea ☕ " * (n + 1),
            "price": Decimal(n) / 100,
            "currency": "EUR",
        }
        for n in range(50)
    ]
    table: Any = Product.__table__
    with shared_db.tenant(acme.id) as session:
        session.add_all(Product(**{**row, "slug": f"orm-{row['slug']}", "external_id": None}) for row in many)
    with shared_db.owner() as session:
        assert copied(session, table, Encoder(table, tenant_id=acme.id), [*many, {**many[0], "slug": "No"}]).rows == 50
    with shared_db.tenant(acme.id) as session:
        found = {product.slug: product for product in session.scalars(select(Product))}
    for row in many:
        mine, theirs = found[row["slug"]], found[f"orm-{row['slug']}"]
        assert mine.external_id == row["external_id"]
        for name in ("name", "price", "currency"):
            assert getattr(mine, name) == getattr(theirs, name) == row[name]


def test_a_slug_is_examined_by_its_type() -> None:
    table: Any = Product.__table__
    (refused,) = Encoder(table, ["slug"]).encode([{"slug": "No"}, {"slug": "yes"}]).refused
    assert isinstance(refused.error, InvalidSlug)


def test_an_instance_that_was_expired_is_read_again(shared_db: Database) -> None:
    acme = inhabit(shared_db)
    with shared_db.tenant(acme.id) as session:
        activity = session.scalars(select(UserActivity)).one()
        session.expire(activity)
        assert inspect(activity).expired
        assert Encoder(ACTIVITY, ["id"]).encode([activity]).data.endswith(acme.activity_id.bytes)
