"""Strings that break software survive in every text column, or are refused by name."""

from __future__ import annotations

import json
from typing import Any

import pytest
from sqlalchemy import Column, Table, select, update
from sqlalchemy.engine.default import DefaultDialect

from dataarch.database.unit_of_work import Database
from dataarch.errors import InvalidValue
from dataarch.models import Base
from dataarch.models.tenancy import tenant_column
from dataarch.models.types import Choice, CurrencyCode, Email, Sha256, Slug, Text
from fixtures.shared_data import shared_file
from fixtures.tenants import Inhabited, inhabit

pytestmark = pytest.mark.integrity

ANY = DefaultDialect()
TEXTUAL = Text | Slug | Email | Choice | CurrencyCode | Sha256
COLUMNS = [
    column for table in Base.metadata.sorted_tables for column in table.columns if isinstance(column.type, TEXTUAL)
]


def naughty() -> list[str]:
    strings = json.loads(shared_file("naughty-strings", "blns.json").read_bytes())
    assert len(strings) > 500
    return [*strings, "\x00", "nul\x00inside", "\ud800", "\ufffe", "\u202e"]


@pytest.fixture(scope="module")
def tenant(shared_db: Database) -> Inhabited:
    """A tenant with one row in each table."""
    return inhabit(shared_db, "naughty")


def accepted(column: Column[Any], value: str) -> str | None:
    """Return what a column stores of a value; None where its type refuses by name."""
    assert isinstance(column.type, TEXTUAL)
    try:
        return column.type.process_bind_param(value, ANY)
    except InvalidValue:
        return None


@pytest.mark.parametrize("column", COLUMNS, ids=str)
def test_a_naughty_string_survives_or_is_refused_by_name(
    shared_db: Database, tenant: Inhabited, column: Column[Any]
) -> None:
    table = column.table
    assert isinstance(table, Table)
    whose = tenant_column(table)
    assert whose is not None
    # the application may not rewrite a movement, nor what a pipeline has told
    owner_only = table.name == "inventory_movements" or table.name.startswith("pipeline_")
    with shared_db.owner() if owner_only else shared_db.tenant(tenant.id) as session:
        for value in naughty():
            stored = accepted(column, value)
            if stored is not None:
                changed = session.scalars(
                    update(table).values({column.name: value}).where(whose == tenant.id).returning(column)
                )
                assert changed.one() == stored
        session.rollback()


@pytest.mark.parametrize("name", ["users.full_name", "user_profiles.bio", "products.name"])
def test_long_text_takes_every_naughty_string_that_is_not_empty_and_holds_no_nul(name: str) -> None:
    [column] = [column for column in COLUMNS if str(column) == name]
    refused = {value for value in naughty() if accepted(column, value) is None}
    assert all(not value or "\x00" in value or "\ud800" in value or len(value) > 200 for value in refused)


def test_naughty_strings_survive_as_keys_and_values_of_json(shared_db: Database, tenant: Inhabited) -> None:
    strings = [value for value in naughty() if "\x00" not in value and "\ud800" not in value]
    preferences = Base.metadata.tables["user_settings"].columns["preferences"]
    with shared_db.tenant(tenant.id) as session:
        value = {string: [string] for string in strings}
        session.execute(
            update(preferences.table).values(preferences=value).where(preferences.table.c.tenant_id == tenant.id)
        )
        assert session.scalars(select(preferences)).one() == value
        session.rollback()


def test_no_naughty_string_is_an_error_of_the_server_when_searched_for(shared_db: Database, tenant: Inhabited) -> None:
    with shared_db.tenant(tenant.id) as session:
        for column in COLUMNS:
            known = [value for value in naughty() if accepted(column, value) is not None]
            session.execute(select(column).where(column.in_(known))).all()
