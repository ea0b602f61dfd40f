"""Rows of products as tests of bulk writing give them, and what the table then holds."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import select

from dataarch.database.unit_of_work import Database
from dataarch.models import Product
from dataarch.repositories.bulk.outcome import BulkResult
from dataarch.repositories.bulk.upsert import upsert_many


def product(number: int, **other: Any) -> dict[str, Any]:
    """A row that nothing is wrong with."""
    return {
        "external_id": f"x{number:05d}",
        "slug": f"product-{number}",
        "name": f"Product {number}",
        "price": Decimal("9.95"),
        "currency": "GBP",
        **other,
    }


def upserted(db: Database, tenant_id: UUID, rows: Iterable[Any], **given: Any) -> BulkResult:
    """Upsert products by their external id in a unit of work of its own."""
    with db.tenant(tenant_id) as session:
        return upsert_many(session, Product, rows, **{"key": "external_id", **given})


def products(db: Database, tenant_id: UUID) -> dict[str | None, Product]:
    """What the tenant has, by external id."""
    with db.tenant(tenant_id) as session:
        return {one.external_id: one for one in session.scalars(select(Product))}


def why(result: BulkResult) -> list[tuple[int, str, str | None, str | None]]:
    """What is said of each refused row: its position, the error's name, the column and the constraint."""
    return [(one.position, type(one.error).__name__, one.column, one.constraint) for one in result.refused]


def numbers(result: BulkResult) -> tuple[int, int, int, int, int]:
    """How many were inserted, updated, unchanged, duplicate and refused."""
    return result.inserted, result.updated, result.unchanged, result.duplicate, len(result.refused)
