"""No value of a row is in what an error says: messages and tracebacks end in logs, and rows are people's data."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable

import psycopg
import pytest
from sqlalchemy import insert, text
from sqlalchemy.orm import Session

from dataarch.database.unit_of_work import AsyncDatabase, Database
from dataarch.errors import ConstraintError
from dataarch.models import Product, User
from dataarch.models.base import new_id
from fixtures.tenants import Inhabited

PERSON = "secret-person"
NAME = "Secret Name"
ADDRESS = f"{PERSON}@example.com"

Act = Callable[[Session, Inhabited], object]

VIOLATIONS: dict[str, Act] = {
    "unique": lambda session, home: session.execute(
        insert(User), [{"tenant_id": home.id, "email": ADDRESS, "full_name": NAME}] * 2
    ),
    "check": lambda session, home: session.execute(
        text("INSERT INTO users (tenant_id, email, full_name) VALUES (:home, 'NOT ' || :address, :name)"),
        {"home": home.id, "address": ADDRESS, "name": NAME},
    ),
    "not null": lambda session, home: session.execute(
        insert(User), [{"tenant_id": home.id, "email": ADDRESS, "external_id": NAME, "full_name": None}]
    ),
    "foreign key": lambda session, home: session.execute(
        text("INSERT INTO user_profiles (tenant_id, user_id, bio) VALUES (:home, :user, :name)"),
        {"home": home.id, "user": new_id(), "name": NAME},
    ),
}


def said(error: BaseException) -> str:
    """Return all that a log shows of an error, its causes among it, without the lines of source."""
    shown = traceback.TracebackException.from_exception(error, lookup_lines=False)
    parts = [str(error), repr(error)]
    chain: traceback.TracebackException | None = shown
    while chain is not None:
        parts += chain.format_exception_only()
        chain = chain.__cause__ or chain.__context__
    return "\n".join(parts)


@pytest.mark.parametrize("by", ["tenant", "owner"])
@pytest.mark.parametrize("kind", VIOLATIONS)
def test_no_value_is_in_the_error_nor_in_its_causes(kind: str, by: str, shared_db: Database, home: Inhabited) -> None:
    unit_of_work = shared_db.tenant(home.id) if by == "tenant" else shared_db.owner()
    with pytest.raises(ConstraintError) as refused, unit_of_work as session:
        VIOLATIONS[kind](session, home)
    text_of_it = said(refused.value)
    for value in (PERSON, NAME, str(home.id)):
        assert value not in text_of_it
    assert "psycopg" in text_of_it, "the cause is part of what was searched"


async def test_no_value_is_in_the_error_under_asyncio(shared_db: Database, home: Inhabited) -> None:
    async with AsyncDatabase(shared_db.settings) as db:
        with pytest.raises(ConstraintError) as refused:
            async with db.owner() as session:
                await session.run_sync(lambda sync: VIOLATIONS["unique"](sync, home))
    assert PERSON not in said(refused.value)


def test_the_owner_is_told_the_columns_of_the_key_and_a_debugger_finds_the_values(
    shared_db: Database, home: Inhabited
) -> None:
    """Under row-level security the server tells neither."""
    with pytest.raises(ConstraintError) as refused, shared_db.owner() as session:
        VIOLATIONS["unique"](session, home)
    assert "(tenant_id, email)" in refused.value.message
    cause = refused.value.__cause__
    assert isinstance(cause, psycopg.Error)
    assert ADDRESS in (cause.diag.message_detail or "")


def test_parameters_are_not_in_an_error_without_a_better_name(shared_db: Database, home: Inhabited) -> None:
    with pytest.raises(Exception, match="hidden") as refused, shared_db.tenant(home.id) as session:
        session.execute(text("SELECT 1 / length(:name) / 0"), {"name": NAME})
    assert NAME not in said(refused.value)


def test_parameters_are_not_in_the_log_of_statements(
    shared_db: Database, home: Inhabited, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="sqlalchemy.engine")
    with Database(shared_db.settings) as db, db.tenant(home.id) as session:
        session.add(Product(slug="kettle", name=NAME, price=1, currency="EUR"))
    assert "INSERT INTO products" in caplog.text
    assert NAME not in caplog.text
