"""The pipeline of order lines, as a value."""

from __future__ import annotations

from typing import cast
from uuid import UUID

from dataarch.database.unit_of_work import Database
from dataarch.errors import InvalidValue, shown
from dataarch.models.types import slugify
from dataarch.pipelines.extractors.csv_files import CsvFiles
from dataarch.pipelines.feeds.retail.load import RetailLines
from dataarch.pipelines.feeds.retail.validate import COLUMNS, DESK, OrderLine, OrderLines
from dataarch.pipelines.pipeline import Pipeline, TenantName
from dataarch.pipelines.records import Row
from dataarch.pipelines.tenants import tenant_of

__all__ = ["LINES", "RETAIL", "desk_of", "retail"]

COUNTRY = "Country"

LINES = 25_000
"""Lines of a transaction at the most: each one that touches a product costs the ledger as much as a line."""


def retail(tenant_by: str = COUNTRY) -> Pipeline:
    """Return the pipeline whose tenants are the values of a column: one of :data:`COLUMNS`, or another of the files.

    Raises:
        InvalidValue: it cannot be a column that says whose a line is.

    Each column has a pipeline of its own: what was loaded by the one is not loaded by the other.
    """
    # what differs from line to line of one order is nobody's name
    if tenant_by in {"Quantity", "UnitPrice", "InvoiceDate", "Description", "StockCode"}:
        raise InvalidValue(
            f"{shown(tenant_by)} does not say whose an order line is.",
            hint=f"Name a column such as {COUNTRY} or CustomerID.",
            column=tenant_by,
        )
    more = () if tenant_by in COLUMNS else (tenant_by,)
    return Pipeline(
        "retail" if tenant_by == COUNTRY else f"retail-by-{_plain(tenant_by)}",
        extract=CsvFiles(columns=(*COLUMNS, *more)),
        steps=(OrderLines(tenant_by),),
        load=RetailLines(),
        tenant_by=_whose,
        together=True,
    )


def desk_of(db: Database) -> UUID:
    """Return the tenant that keeps the runs, made if there is none yet."""
    return tenant_of(db, *DESK)


def _whose(row: Row) -> TenantName:
    return cast("OrderLine", row)["tenant"]


def _plain(column: str) -> str:
    return slugify(column)


RETAIL = retail()
