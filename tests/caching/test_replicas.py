"""A replica: units of work that only read go there, and nothing that it says is kept for anybody."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import psycopg
import pytest
from alembic import command
from sqlalchemy import func, select, update

from dataarch.caching.database import AsyncDatabase, Database
from dataarch.caching.kinds import Kind
from dataarch.database.embedded.binaries import PostgresPrograms
from dataarch.database.settings import APP_ROLE, Settings
from dataarch.database.tenancy import Isolation
from dataarch.errors import ReadOnlyUnit, ServerUnreachable
from dataarch.models import User
from fixtures.caches import open_at_once, opened, quicken, until
from fixtures.clusters import Cluster, debian_postgres, own_cluster, own_replica, wheel_postgres
from fixtures.databases import alembic_config, new_database
from fixtures.servers import Servers
from fixtures.tenants import Inhabited, inhabit

pytestmark = pytest.mark.cache

NAME = select(User.full_name)
STANDBY = select(func.pg_is_in_recovery())


@dataclass(frozen=True)
class Pair:
    """A server, the one that follows it, and the settings that reach both."""

    primary: Cluster
    replica: Cluster
    settings: Settings

    def pause(self) -> None:
        """Let the replica stay behind, once it has everything."""
        self.catch_up()
        self._tell("SELECT pg_wal_replay_pause()")

    def resume(self) -> None:
        """Let the replica follow again."""
        self._tell("SELECT pg_wal_replay_resume()")

    def catch_up(self) -> None:
        """Wait until the replica has what was committed."""
        with self.primary.connect() as connection:
            lsn = connection.execute("SELECT pg_current_wal_lsn()::text").fetchone()
        assert lsn is not None
        with self.replica.connect() as connection:
            until(
                lambda: connection.execute("SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn", lsn).fetchone() == (True,),
                "the replica",
            )

    def _tell(self, statement: str) -> None:
        with self.replica.connect() as connection:
            connection.execute(statement.encode())


@pytest.fixture(scope="module", params=[wheel_postgres, debian_postgres], ids=["18", "15"])
def pair(request: pytest.FixtureRequest, servers: Servers) -> Iterator[Pair]:
    """Two servers for a whole file."""
    binaries: Callable[[], PostgresPrograms] = request.param
    with own_cluster(binaries=binaries()) as primary, new_database(primary.servers()) as settings:
        command.upgrade(alembic_config(settings), "head")
        with own_replica(primary) as replica:
            database = settings.application.database
            assert database is not None
            urls = {"replica_url": replica.url(APP_ROLE, database), "redis_url": servers.redis_url}
            pair = Pair(primary, replica, settings.model_copy(update={**urls, "cache_timeout": 5.0}))
            yield pair
            # a database cannot be dropped on a replica that is paused
            pair.resume()


@pytest.fixture
def db(pair: Pair) -> Iterator[Database]:
    """The database, with its cache open, and the replica caught up."""
    pair.resume()
    quicken(pair.settings, 1000)
    with Database(pair.settings) as db:
        open_at_once(db)
        yield opened(db)
    pair.resume()


@pytest.fixture
def home(pair: Pair, db: Database) -> Inhabited:
    """A tenant that the replica knows of."""
    tenant = inhabit(db, "home")
    pair.catch_up()
    return tenant


@pytest.fixture
def behind(pair: Pair, db: Database, home: Inhabited) -> Inhabited:
    """A tenant whose newest name the replica does not know."""
    pair.pause()
    with db.tenant(home.id) as session:
        session.execute(update(User).values(full_name="New"))
    return home


def test_units_that_read_go_to_the_replica_and_all_others_to_the_primary(db: Database, home: Inhabited) -> None:
    for _ in range(3):
        with db.reading(home.id) as session:
            assert session.scalars(STANDBY).one() is True
            assert session.scalars(NAME).all() == ["Ada Lovelace"]
        with db.tenant(home.id) as session:
            assert session.scalars(STANDBY).one() is False
        with db.session() as session:
            assert session.scalars(STANDBY).one() is False


async def test_it_is_the_same_under_asyncio(db: Database, home: Inhabited) -> None:
    async with AsyncDatabase(db.settings) as adb:
        for _ in range(3):
            async with adb.reading(home.id) as session:
                assert (await session.scalars(STANDBY)).one() is True
                assert (await session.scalars(NAME)).all() == ["Ada Lovelace"]
            async with adb.tenant(home.id) as session:
                assert (await session.scalars(STANDBY)).one() is False


def test_the_tenants_border_holds_on_the_replica(db: Database, home: Inhabited, pair: Pair) -> None:
    other = inhabit(db, "other")
    pair.catch_up()
    for tenant in (home, other) * 3:
        with db.reading(tenant.id) as session:
            driver = session.connection().connection.driver_connection
            assert isinstance(driver, psycopg.Connection)
            assert driver.execute("SELECT tenant_id FROM users").fetchall() == [(tenant.id,)]


def test_the_replica_takes_no_writes(db: Database, home: Inhabited) -> None:
    for _ in range(2):
        with pytest.raises(ReadOnlyUnit), db.reading(home.id) as session:
            session.add(User(email="new@example.com", full_name="New"))


def test_all_reads_on_a_replica_may_be_as_of_one_moment(db: Database, home: Inhabited, pair: Pair) -> None:
    with db.reading(home.id, isolation=Isolation.REPEATABLE_READ) as session:
        before = session.scalars(NAME).one()
        with db.tenant(home.id) as writing:
            writing.execute(update(User).values(full_name="Later"))
        pair.catch_up()
        assert session.scalars(NAME).one() == before


def test_what_a_replica_says_may_be_old(behind: Inhabited, db: Database) -> None:
    with db.reading(behind.id) as session:
        assert session.scalars(NAME).one() == "Ada Lovelace"
    with db.tenant(behind.id) as session:
        assert session.scalars(NAME).one() == "New"


@pytest.mark.parametrize("asked", ["by the session", "by the tenant's id"])
def test_results_of_selects_are_those_of_the_primary(asked: str, behind: Inhabited, db: Database) -> None:
    queries = db.cache.queries
    with db.reading(behind.id) as session:
        assert session.scalars(NAME).one() == "Ada Lovelace"
        assert queries.all(session if asked == "by the session" else behind.id, NAME) == ["New"]
    assert queries.all(behind.id, NAME) == ["New"]
    assert db.cache.stats()["query"].hit == 1


def test_entities_are_those_of_the_primary(behind: Inhabited, db: Database) -> None:
    with db.reading(behind.id) as session:
        assert session.scalars(NAME).one() == "Ada Lovelace"
        inside = db.cache.profiles.get(behind.id, behind.user_id)
    after = db.cache.profiles.get(behind.id, behind.user_id)
    assert inside is not None
    assert after is not None
    assert (inside.full_name, after.full_name) == ("New", "New")


def test_what_a_program_makes_of_a_replicas_rows_is_not_kept(behind: Inhabited, db: Database) -> None:
    kind = Kind("replicated", 60.0, reads=(User,))
    region = opened_region(db, kind)
    key = region.key("name", tenant=behind.id)
    for _ in range(2):
        with db.reading(behind.id) as session:
            assert region.get_or_create(key, lambda: session.scalars(NAME).one()) == "Ada Lovelace"
            with db.tenant(behind.id):
                made = region.get_or_create(key, lambda: session.scalars(NAME).one())
            assert made == "Ada Lovelace"
    with db.tenant(behind.id) as session:
        assert region.get_or_create(key, lambda: session.scalars(NAME).one()) == "New"


def opened_region(db: Database, kind: Kind):  # type: ignore[no-untyped-def]
    region = db.cache.define(kind)
    opened(db)
    return region


async def test_asyncio_keeps_nothing_of_a_replica_either(behind: Inhabited, db: Database) -> None:
    async with AsyncDatabase(db.settings) as adb, adb.reading(behind.id) as session:
        assert (await session.scalars(NAME)).one() == "Ada Lovelace"
        assert await session.run_sync(adb.cache.queries.all, NAME) == ["New"]
        profile = await session.run_sync(lambda _: adb.cache.profiles.get(behind.id, behind.user_id))
        assert profile is not None
        assert profile.full_name == "New"
    assert db.cache.queries.all(behind.id, NAME) == ["New"]


def test_a_replica_that_is_down_is_unreachable_and_the_primary_is_not_asked_instead(
    pair: Pair, db: Database, home: Inhabited
) -> None:
    with db.reading(home.id) as session:
        session.scalars(NAME).all()
    pair.replica.stop("immediate")
    try:
        for _ in range(2):
            with pytest.raises(ServerUnreachable), db.reading(home.id) as session:
                session.scalars(NAME).all()
        with db.tenant(home.id) as session:
            assert session.scalars(NAME).all() == ["Ada Lovelace"]
    finally:
        pair.replica.start()
    with db.reading(home.id) as session:
        assert session.scalars(NAME).all() == ["Ada Lovelace"]


def test_without_a_replica_units_that_read_go_to_the_primary(pair: Pair, home: Inhabited) -> None:
    with Database(pair.settings.model_copy(update={"replica_url": None})) as db, db.reading(home.id) as session:
        assert session.scalars(STANDBY).one() is False
