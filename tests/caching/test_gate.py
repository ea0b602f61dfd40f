"""The gate: nobody reads the cache unless every writer knows that he must announce what he changes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from sqlalchemy import select, update

from dataarch.caching.database import Database
from dataarch.caching.gate import DatabaseGate
from dataarch.caching.kinds import Kind
from dataarch.caching.store import MemoryStore
from dataarch.database.engine import gate_engine
from dataarch.database.settings import Settings
from dataarch.errors import CacheUnreachable
from dataarch.models import User
from fixtures.caches import opened, quicken, until
from fixtures.catalogs import owner_connection
from fixtures.servers import libpq
from fixtures.tenants import Inhabited, inhabit

pytestmark = pytest.mark.cache

NOWHERE = "redis://127.0.0.1:1/0"


class Server(MemoryStore):
    """A store that says which server it is."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    def contact(self) -> str:
        return self.name


@pytest.fixture
def gate_of(settings: Settings) -> Iterator[Callable[[str], DatabaseGate]]:
    """Make gates as processes have them that reach a server of that name."""
    quicken(settings)
    gates: list[DatabaseGate] = []

    def make(server: str) -> DatabaseGate:
        gates.append(DatabaseGate(gate_engine(settings), Server(server), patience=1.0))
        return gates[-1]

    yield make
    for gate in gates:
        gate.end()


def look(settings: Settings, server: str | None = "one", *declared: str) -> tuple[str, str]:
    """Look at the gate as the application does, and return its state and epoch."""
    with psycopg.connect(libpq(settings.application), autocommit=True) as connection:
        found = connection.execute(
            "SELECT state, epoch FROM public.cache_gate(%s, %s::text[])", [server, list(declared)]
        ).fetchone()
    assert found is not None
    return str(found[0]), str(found[1])


def states(settings: Settings, server: str = "one") -> list[str]:
    """Look until it is open, and return the states that were seen, each once."""
    seen: list[str] = []

    def is_open() -> bool:
        state, _ = look(settings, server)
        if not seen or seen[-1] != state:
            seen.append(state)
        return state == "open"

    until(is_open, "the gate's opening")
    return seen


def test_it_is_closed_at_first_then_opening_then_open(settings: Settings) -> None:
    quicken(settings)
    assert states(settings) == ["closed", "opening", "open"]


def test_each_state_lasts_as_long_as_somebody_may_go_by_the_one_before(settings: Settings) -> None:
    quicken(settings, 60_000)
    assert {look(settings)[0] for _ in range(5)} == {"closed"}
    with owner_connection(settings) as connection:
        connection.execute("UPDATE dataarch_cache.gate SET seen_at = now() - interval '1 hour'")
    assert {look(settings)[0] for _ in range(5)} == {"opening"}
    with owner_connection(settings) as connection:
        connection.execute("UPDATE dataarch_cache.gate SET seen_at = now() - interval '1 hour'")
    assert look(settings)[0] == "opening"
    # transactions of the whole cluster count
    until(lambda: look(settings)[0] == "open")


def test_a_transaction_that_may_have_written_unannounced_keeps_it_from_opening(settings: Settings) -> None:
    quicken(settings, 10)
    with psycopg.connect(libpq(settings.owner)) as writer:
        writer.execute("INSERT INTO tenants (slug, name) VALUES ('early', 'Early')")
        until(lambda: look(settings)[0] == "opening")
        time.sleep(0.1)
        assert {look(settings)[0] for _ in range(20)} == {"opening"}
        writer.commit()
        until(lambda: look(settings)[0] == "open")


def test_a_transaction_that_only_reads_keeps_nothing_from_opening(settings: Settings) -> None:
    quicken(settings, 10)
    with psycopg.connect(libpq(settings.owner)) as reader:
        reader.execute("SELECT * FROM tenants")
        until(lambda: look(settings)[0] == "open")


def test_another_server_closes_it_and_opens_a_new_epoch(settings: Settings) -> None:
    quicken(settings)
    states(settings, "one")
    _, first = look(settings, "one")
    assert look(settings, "two")[0] == "closed"
    assert states(settings, "two")[-1] == "open"
    assert look(settings, "two") == ("open", look(settings, None)[1])
    assert look(settings, "two")[1] != first


def test_who_reaches_no_server_changes_nothing(settings: Settings) -> None:
    quicken(settings, 10)
    time.sleep(0.05)
    assert {look(settings, None)[0] for _ in range(5)} == {"closed"}
    states(settings)
    assert look(settings, None)[0] == "open"


def test_only_the_epoch_that_is_meant_is_closed(settings: Settings) -> None:
    quicken(settings)
    states(settings)
    with psycopg.connect(libpq(settings.application), autocommit=True) as connection:
        connection.execute("SELECT public.close_cache_gate('another')")
        assert look(settings)[0] == "open"
        connection.execute("SELECT public.close_cache_gate(%s)", [look(settings)[1]])
    assert look(settings, None)[0] == "closed"


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT * FROM dataarch_cache.gate",
        "UPDATE dataarch_cache.gate SET state = 'open'",
        "INSERT INTO dataarch_cache.kinds (declaration, usable) VALUES ('a:1:b', true)",
    ],
)
def test_the_application_reaches_it_through_its_functions_alone(settings: Settings, statement: str) -> None:
    with (
        psycopg.connect(libpq(settings.application), autocommit=True) as connection,
        pytest.raises(psycopg.errors.InsufficientPrivilege),
    ):
        connection.execute(statement)


@pytest.mark.parametrize(
    ("statement", "constraint"),
    [
        ("INSERT INTO dataarch_cache.gate (name) VALUES ('other')", "ck_gate_one_row"),
        ("INSERT INTO dataarch_cache.gate DEFAULT VALUES", "pk_gate"),
        ("UPDATE dataarch_cache.gate SET state = 'ajar'", "ck_gate_state_known"),
        ("UPDATE dataarch_cache.gate SET lease_ms = 9", "ck_gate_lease_sensible"),
        ("UPDATE dataarch_cache.gate SET lease_ms = 60001", "ck_gate_lease_sensible"),
        ("INSERT INTO dataarch_cache.kinds (declaration) VALUES ('a:1:b'), ('a:1:b')", "pk_kinds"),
    ],
)
def test_its_tables_refuse_what_it_cannot_be(settings: Settings, statement: str, constraint: str) -> None:
    quicken(settings)
    with owner_connection(settings) as connection, pytest.raises(psycopg.errors.IntegrityError) as refused:
        connection.execute(statement)
    assert refused.value.diag.constraint_name == constraint


# ── as a process sees it ──────────────────────────────────────────────────────────────────────────────────────────


def test_what_a_process_knows_ends_with_its_lease(settings: Settings, gate_of: Callable[[str], DatabaseGate]) -> None:
    gate = gate_of("one")
    until(lambda: gate.view().readable)
    with owner_connection(settings) as connection:
        connection.execute("REVOKE EXECUTE ON FUNCTION public.cache_gate(text, text[]) FROM dataarch_app")
        until(lambda: gate.view().state == "unknown")
        connection.execute("GRANT EXECUTE ON FUNCTION public.cache_gate(text, text[]) TO dataarch_app")
    until(lambda: gate.view().readable)


def test_who_closes_it_returns_when_nobody_can_still_think_it_open(
    settings: Settings, gate_of: Callable[[str], DatabaseGate]
) -> None:
    reader, writer = gate_of("one"), gate_of("one")
    quicken(settings, 500)
    until(lambda: reader.view().readable and writer.view().readable)
    epoch = reader.view().epoch
    with ThreadPoolExecutor(1) as pool:
        closing = pool.submit(writer.close, epoch)
        while not closing.done():
            last = time.monotonic()
            if reader.view().readable:
                # a read that begins now must end its claim before the closing returns
                assert last <= reader.view().until
        closing.result()
    assert not reader.view().readable


def test_a_writer_that_finds_neither_the_cache_nor_the_gate_commits_nothing(
    settings: Settings, cached: Database, home: Inhabited
) -> None:
    apart = settings.model_copy(update={"redis_url": NOWHERE})
    with Database(apart) as db:
        gate = db.cache.fencing.gate
        assert isinstance(gate, DatabaseGate)
        gate._patience = 0.5
        with owner_connection(settings) as connection:
            connection.execute("REVOKE EXECUTE ON FUNCTION public.close_cache_gate(text) FROM dataarch_app")
        with pytest.raises(CacheUnreachable), db.tenant(home.id) as session:
            session.execute(update(User).values(full_name="Nobody"))
    with cached.tenant(home.id) as session:
        assert session.scalar(select(User.full_name)) == "Ada Lovelace"


@pytest.mark.parametrize("url", [NOWHERE, None])
def test_a_writer_without_the_cache_closes_it_for_all_until_every_change_is_seen(
    settings: Settings, cached: Database, home: Inhabited, url: str | None
) -> None:
    kind = Kind("name", ttl=60, reads=(User,))
    names = cached.cache.define(kind)

    def read() -> str | None:
        with cached.tenant(home.id) as session:
            return session.scalar(select(User.full_name))

    key = names.key(tenant=home.id)
    assert names.get_or_create(key, read) == "Ada Lovelace"
    with Database(settings.model_copy(update={"redis_url": url})) as apart:
        for name in ("Ada King", "Ada Byron"):
            with apart.tenant(home.id) as session:
                session.execute(update(User).values(full_name=name))
            assert names.get_or_create(key, read) == name
    opened(cached)
    assert [names.get_or_create(key, read) for _ in range(2)] == ["Ada Byron"] * 2
    assert cached.cache.stats()["name"].hit > 0


def test_a_kind_of_single_rows_is_used_when_every_writer_knows_of_it(cached: Database, settings: Settings) -> None:
    with psycopg.connect(libpq(settings.owner)) as writer:
        writer.execute("INSERT INTO tenants (slug, name) VALUES ('early', 'Early')")
        cached.cache.define(Kind("late", ttl=60, rows=(User,)))
        assert not cached.cache.wait_until_ready(0.5)
        writer.commit()
    assert cached.cache.wait_until_ready()


def test_a_kind_that_nobody_has_used_for_long_is_forgotten(cached: Database, settings: Settings) -> None:
    cached.cache.define(Kind("used", ttl=60, rows=(User,)))
    opened(cached)
    with owner_connection(settings) as connection:
        connection.execute("INSERT INTO dataarch_cache.kinds (declaration, usable) VALUES ('old:1:users', true)")
        connection.execute("UPDATE dataarch_cache.kinds SET used_at = now() - interval '16 days' WHERE usable")

        def left() -> list[tuple[object, ...]]:
            cached.cache.ready()
            return connection.execute(
                "SELECT declaration, usable, used_at > now() - interval '1 day' FROM dataarch_cache.kinds"
                " WHERE declaration LIKE '%:users'"
            ).fetchall()

        until(lambda: left() == [("used:1:users", True, True)])


def test_a_database_that_is_not_migrated_serves_nothing_from_the_cache_and_says_what_to_do(
    empty_database: Settings,
) -> None:
    with Database(empty_database) as db:
        assert not db.cache.ready()


def test_the_gate_opens_by_itself_while_the_cache_is_used(settings: Settings) -> None:
    quicken(settings, 20)
    with Database(settings) as db:
        home = inhabit(db, "home")
        region = db.cache.define(Kind("name", ttl=60, reads=(User,)))
        until(lambda: region.get_or_create(region.key(tenant=home.id), lambda: "x") and region.backend.stats.hit > 0)
