"""Writes that are easily overlooked: each makes invisible what it changed."""

from __future__ import annotations

from collections.abc import Callable
from uuid import UUID

import pytest
from sqlalchemy import select, text, update

from dataarch.caching.database import Database
from dataarch.caching.kinds import Kind
from dataarch.database.changes import written_tables
from dataarch.models import Tenant, User
from fixtures.caches import opened
from fixtures.tenants import Inhabited

pytestmark = pytest.mark.cache

NAME = Kind("name", ttl=60, rows=(User,))
HOUSE = Kind("house", ttl=60, rows=(Tenant,))


def name_of(db: Database, home: Inhabited, user: UUID | str) -> str | None:
    region = db.cache.define(NAME)
    opened(db)

    def read() -> str | None:
        with db.tenant(home.id) as session:
            statement = text("SELECT full_name FROM users WHERE id = CAST(:id AS uuid)")
            found: str | None = session.scalar(statement, {"id": str(user)})
            return found

    found: str | None = region.get_or_create(region.key(user, tenant=home.id), read)
    return found


FORMS: list[Callable[[UUID], str]] = [
    lambda user: str(user).upper(),
    lambda user: user.hex,
    lambda user: f"{{{user}}}",
]


@pytest.mark.parametrize("form", FORMS)
def test_m18_a_row_is_the_same_row_in_whatever_form_its_id_is_written(
    cached: Database, home: Inhabited, form: Callable[[UUID], str]
) -> None:
    assert name_of(cached, home, form(home.user_id)) == "Ada Lovelace"
    with cached.tenant(home.id) as session:
        session.execute(update(User).where(User.id == home.user_id).values(full_name="Ada King"))
    assert name_of(cached, home, form(home.user_id)) == "Ada King"


@pytest.mark.parametrize("form", FORMS)
def test_m18_a_write_is_of_the_same_row_in_whatever_form_its_id_is_written(
    cached: Database, home: Inhabited, form: Callable[[UUID], str]
) -> None:
    assert name_of(cached, home, home.user_id) == "Ada Lovelace"
    with cached.tenant(home.id) as session:
        users = User.metadata.tables["users"]
        session.connection().execute(update(users).where(users.c.id == form(home.user_id)).values(full_name="Ada King"))
    assert name_of(cached, home, home.user_id) == "Ada King"


def test_m18_what_a_block_of_code_changes_is_seen(cached: Database, home: Inhabited) -> None:
    region = cached.cache.define(HOUSE)
    opened(cached)

    def read() -> str | None:
        with cached.tenant(home.id) as session:
            return session.scalar(select(Tenant.name))

    assert region.get_or_create(region.key(tenant=home.id), read) == "home"
    with cached.tenant(home.id) as session:
        session.execute(text("DO $$ BEGIN UPDATE tenants SET name = 'palace'; END $$"))
    assert region.get_or_create(region.key(tenant=home.id), read) == "palace"


@pytest.mark.parametrize("more", [(), ("short",), ("x" * 300,)], ids=["plain", "another part", "too long"])
def test_m18_a_value_whose_key_has_more_parts_than_the_row_is_not_served_after_a_write_to_it(
    cached: Database, home: Inhabited, more: tuple[str, ...]
) -> None:
    region = cached.cache.define(NAME)
    opened(cached)

    def read() -> str | None:
        with cached.tenant(home.id) as session:
            return session.scalar(select(User.full_name))

    key = region.key(home.user_id, *more, tenant=home.id)
    assert region.get_or_create(key, read) == "Ada Lovelace"
    assert region.get(key) == "Ada Lovelace"
    with cached.tenant(home.id) as session:
        session.get_one(User, (home.id, home.user_id)).full_name = "Ada King"
    assert region.get_or_create(key, read) == "Ada King"


def test_m18_the_result_of_a_function_is_not_served_after_a_write_to_a_row_that_its_kind_is_made_from(
    cached: Database, home: Inhabited
) -> None:
    region = cached.cache.define(NAME)
    opened(cached)

    @region.cache_on_arguments()
    def called(user: UUID, tenant_id: UUID) -> str | None:
        with cached.tenant(tenant_id) as session:
            return session.scalar(select(User.full_name).where(User.id == user))

    assert called(home.user_id, tenant_id=home.id) == "Ada Lovelace"
    with cached.tenant(home.id) as session:
        session.get_one(User, (home.id, home.user_id)).full_name = "Ada King"
    assert called(home.user_id, tenant_id=home.id) == "Ada King"


def test_m18_what_is_read_through_a_transaction_that_has_written_is_not_kept_by_another(
    cached: Database, home: Inhabited
) -> None:
    region = cached.cache.define(NAME)
    opened(cached)
    key = region.key(home.user_id, tenant=home.id)
    with pytest.raises(ZeroDivisionError), cached.tenant(home.id) as writing:
        writing.execute(update(User).values(full_name="nobody"))
        with cached.tenant(home.id):
            region.get_or_create(key, lambda: writing.scalar(select(User.full_name)))
        raise ZeroDivisionError
    assert name_of(cached, home, home.user_id) == "Ada Lovelace"


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT 1; CALL refresh_everything()",
        "SELECT '--'; UPDATE users SET full_name = 'x'",
        "SELECT '/*', '*/'; UPDATE users SET full_name = 'x'",
        "WITH a AS (SELECT '/*' AS b) UPDATE users SET full_name = '*/'",
        "WITH a AS (SELECT '--' AS b) UPDATE users SET full_name = a.b FROM a",
        "WITH a AS (SELECT 1 AS \"--\") UPDATE users SET full_name = 'x'",
        "WITH a AS (SELECT $$--$$) UPDATE users SET full_name = 'x'",
        "WITH a AS (SELECT E'\\'--') UPDATE users SET full_name = 'x'",
        "/* a /* nested */ comment */ UPDATE users SET full_name = 'x'",
        "SELECT 1; DO $$ BEGIN PERFORM refresh_everything(); END $$",
        "SELECT 1; EXECUTE renaming",
    ],
)
def test_m18_text_that_writes_is_never_taken_for_text_that_reads(statement: str) -> None:
    found = written_tables(statement)
    assert None in found or "users" in found
