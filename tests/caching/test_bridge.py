"""The bridge: what others write is forgotten when they are heard of, and what they wrote unheard when it begins."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID

import psycopg
import pytest
from sqlalchemy import func, select

from dataarch.caching.bridge import Bridge
from dataarch.caching.bridge_triggers import CHANNEL
from dataarch.caching.database import Database
from dataarch.caching.kinds import Kind
from dataarch.caching.region import Region
from dataarch.database.settings import Settings
from dataarch.models import Base, Tenant, User, UserActivity, UserProfile
from fixtures.bridges import install
from fixtures.caches import opened, until
from fixtures.catalogs import owner_connection
from fixtures.tenants import Inhabited, inhabit

pytestmark = pytest.mark.cache

CARD = Kind("card", ttl=600, rows=(User, UserProfile))
LOG = Kind("log", ttl=600, reads=(UserActivity,))
USERS = Kind("users_of", ttl=600, reads=(User,))

Outside = psycopg.Connection[Any]


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """The settings of a cache that a busy machine does not make fail."""
    return settings.model_copy(update={"cache_timeout": 5.0})


@contextmanager
def listening(db: Database) -> Iterator[list[str]]:
    """Run a bridge in a thread; gives what it says."""
    said: list[str] = []
    with Database(db.settings) as own:
        bridge = Bridge(own, Base.metadata, say=said.append)
        thread = threading.Thread(target=bridge.run)
        thread.start()
        try:
            until(lambda: said, "the bridge's beginning")
            yield said
        finally:
            bridge.stop()
            thread.join()


class Shown:
    """What is shown of a tenant, remembered."""

    def __init__(self, db: Database, home: Inhabited) -> None:
        self.db, self.home = db, home
        self.asked = 0
        self.regions = {kind.name: db.cache.define(kind) for kind in (CARD, LOG, USERS)}
        opened(db)

    def _read(self, statement: Any) -> Any:
        self.asked += 1
        with self.db.tenant(self.home.id) as session:
            return session.scalar(statement)

    def _get(self, region: Region, statement: Any, *parts: UUID) -> Any:
        return region.get_or_create(region.key(*parts, tenant=self.home.id), lambda: self._read(statement))

    def name(self) -> str | None:
        statement = select(User.full_name + ", " + func.coalesce(UserProfile.display_name, "-"))
        statement = statement.outerjoin(User.profile).where(User.id == self.home.user_id)
        found: str | None = self._get(self.regions["card"], statement, self.home.user_id)
        return found

    def activities(self) -> int:
        return int(self._get(self.regions["log"], select(func.count()).select_from(UserActivity)))

    def users(self) -> int:
        return int(self._get(self.regions["users_of"], select(func.count()).select_from(User)))

    def all(self) -> tuple[str | None, int, int]:
        return self.name(), self.activities(), self.users()


@pytest.fixture
def shown(cached: Database, home: Inhabited) -> Shown:
    """A tenant of a database whose tables tell what others write."""
    install(cached, *Base.metadata.tables.values())
    return Shown(cached, home)


@pytest.fixture
def outside(cached: Database) -> Iterator[Outside]:
    """A connection that knows nothing of the library."""
    with owner_connection(cached.settings) as connection:
        yield connection


def update_one(outside: Outside, home: Inhabited) -> None:
    outside.execute("UPDATE users SET full_name = 'Ada King' WHERE id = %s", [home.user_id])


def update_all(outside: Outside, home: Inhabited) -> None:
    outside.execute("UPDATE users SET full_name = 'Ada King'")


def update_many(outside: Outside, home: Inhabited) -> None:
    outside.execute(
        "INSERT INTO users (tenant_id, external_id, full_name)"
        " SELECT %s, 'g' || g, 'Grace' FROM generate_series(1, 100) AS g",
        [home.id],
    )
    outside.execute("UPDATE users SET full_name = 'Ada King'")


def update_of_what_it_is_joined_with(outside: Outside, home: Inhabited) -> None:
    outside.execute("UPDATE user_profiles SET display_name = 'King'")


def delete_with_what_depends_on_it(outside: Outside, home: Inhabited) -> None:
    outside.execute("DELETE FROM users WHERE id = %s", [home.user_id])


def copy(outside: Outside, home: Inhabited) -> None:
    with outside.cursor().copy("COPY users (tenant_id, external_id, full_name) FROM STDIN") as lines:
        for number in range(100):
            lines.write_row((home.id, f"c{number}", "Grace"))


def truncate(outside: Outside, home: Inhabited) -> None:
    outside.execute("TRUNCATE users CASCADE")


def insert_into_a_partition(outside: Outside, home: Inhabited) -> None:
    outside.execute(
        "INSERT INTO user_activity_log_rest_min (tenant_id, user_id, activity_type, created_at)"
        " VALUES (%s, %s, 'x', '1999-01-01')",
        [home.id, home.user_id],
    )


def insert_into_a_partitioned_table(outside: Outside, home: Inhabited) -> None:
    outside.execute(
        "INSERT INTO user_activity_log (tenant_id, user_id, activity_type, created_at) VALUES (%s, %s, 'x', now())",
        [home.id, home.user_id],
    )


def in_one_transaction_with_much_else(outside: Outside, home: Inhabited) -> None:
    with outside.transaction():
        for number in range(50):
            outside.execute("UPDATE users SET full_name = %s", [f"Ada {number}"])
        outside.execute("UPDATE products SET name = 'pot'")


def merge(outside: Outside, home: Inhabited) -> None:
    outside.execute(
        "MERGE INTO users USING (VALUES (1)) AS v ON true WHEN MATCHED THEN UPDATE SET full_name = 'Ada King'"
    )


WAYS = [
    update_one,
    update_all,
    update_many,
    update_of_what_it_is_joined_with,
    delete_with_what_depends_on_it,
    copy,
    truncate,
    insert_into_a_partition,
    insert_into_a_partitioned_table,
    in_one_transaction_with_much_else,
    merge,
]


@pytest.mark.parametrize("write", WAYS, ids=lambda way: way.__name__)
def test_m18_what_others_commit_is_seen_when_the_bridge_has_heard_of_it(
    shown: Shown, outside: Outside, write: Callable[[Outside, Inhabited], None]
) -> None:
    with listening(shown.db):
        before = shown.all()
        assert shown.all() == before
        write(outside, shown.home)
        until(lambda: shown.all() != before, "the news")
        seen = shown.all()
        shown.db.cache.invalidate_all()
        assert shown.all() == seen


def test_what_nobody_tells_is_not_seen(shown: Shown, outside: Outside) -> None:
    before = shown.name()
    update_one(outside, shown.home)
    assert shown.name() == before


def test_other_rows_and_other_tenants_stay_remembered(shown: Shown, outside: Outside) -> None:
    other = Shown(shown.db, inhabit(shown.db, "other"))
    with listening(shown.db):
        before = other.all()
        assert shown.activities() == 1
        shown.name()
        asked = (other.asked, shown.asked)
        outside.execute("UPDATE users SET full_name = 'Ada King' WHERE tenant_id = %s", [shown.home.id])
        until(lambda: shown.name() == "Ada King, Ada", "the news")
        assert other.all() == before
        assert shown.activities() == 1
        assert (other.asked, shown.asked) == (asked[0], asked[1] + 1)


def test_what_was_written_while_no_bridge_ran_is_seen_when_one_begins(shown: Shown, outside: Outside) -> None:
    with listening(shown.db):
        shown.name()
    update_one(outside, shown.home)
    assert shown.name() == "Ada Lovelace, Ada"
    with listening(shown.db):
        assert shown.name() == "Ada King, Ada"


def test_a_bridge_whose_connection_breaks_forgets_everything_and_goes_on(shown: Shown, outside: Outside) -> None:
    with listening(shown.db) as said:
        shown.name()
        with outside.transaction():
            # nobody is listening any more when this is committed
            update_one(outside, shown.home)
            outside.execute(
                "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity"
                " WHERE datname = current_database() AND query LIKE %s",
                [f"LISTEN {CHANNEL}%"],
            )
        until(lambda: len(said) >= 3, "another beginning")
        assert [one.split(".")[0].split(":")[0] for one in said[:3]] == ["Listening", "Not listening", "Listening"]
        assert shown.name() == "Ada King, Ada"
        outside.execute("UPDATE users SET full_name = 'Countess'")
        until(lambda: shown.name() == "Countess, Ada", "the news")


def test_what_nobody_can_read_makes_everything_forgotten(shown: Shown, outside: Outside) -> None:
    with listening(shown.db):
        shown.all()
        asked = shown.asked
        outside.execute(f"NOTIFY {CHANNEL}, 'users!'")

        def anew() -> bool:
            shown.all()
            return shown.asked == asked + 3

        until(anew, "everything's being read anew")


def test_what_the_application_writes_is_told_too_and_does_no_harm(shown: Shown) -> None:
    with listening(shown.db):
        for number in range(20):
            with shown.db.tenant(shown.home.id) as session:
                session.get_one(User, (shown.home.id, shown.home.user_id)).full_name = f"Ada {number}"
            assert shown.name() == f"Ada {number}, Ada"


def test_a_new_tenant_is_told_of(cached: Database, outside: Outside) -> None:
    install(cached, *Base.metadata.tables.values())
    tenants = Kind("tenant", ttl=600, rows=(Tenant,))
    home = inhabit(cached)
    region = cached.cache.define(tenants)
    opened(cached)

    def read() -> str | None:
        with cached.tenant(home.id) as session:
            return session.scalar(select(Tenant.name))

    with listening(cached):
        key = region.key(tenant=home.id)
        assert region.get_or_create(key, read) == "acme"
        outside.execute("UPDATE tenants SET name = 'Acme & Sons'")
        until(lambda: region.get_or_create(key, read) == "Acme & Sons", "the news")
