"""On a Redis Cluster: what holds on one server holds there, and while a master is replaced."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from typing import Any, Self
from uuid import UUID

import pytest
from sqlalchemy import Column, Integer, MetaData, Table, update

from caching.doors import UserNames
from dataarch.caching.cluster_nodes import Address, map_of, seeds_of
from dataarch.caching.cluster_store import ClusterStore, placed
from dataarch.caching.database import Database
from dataarch.caching.gate import View
from dataarch.caching.kinds import Kind
from dataarch.caching.store import StoreFailed
from dataarch.caching.stores import store_of
from dataarch.database.settings import Settings
from dataarch.errors import InvalidUrl
from dataarch.models import User
from fixtures.caches import open_at_once, opened, quicken, until
from fixtures.redis_clusters import RedisCluster, redis_cluster, redis_program
from fixtures.tenants import Inhabited, inhabit

pytestmark = pytest.mark.cache

COUNTRIES = Table("countries", MetaData(), Column("id", Integer, primary_key=True))
CARD = Kind("user_card", ttl=60, rows=(User,), reads=(COUNTRIES,))
NAMES = Kind("user_names", ttl=60, reads=(User,))
RATES = Kind("rates", ttl=60)


@pytest.fixture(scope="module", params=["valkey", "redis"])
def cluster(request: pytest.FixtureRequest) -> Iterator[RedisCluster]:
    """A cluster that the tests of this file share."""
    with redis_cluster(redis_program(request.param)) as made:
        yield made


@pytest.fixture
def own_cluster(request: pytest.FixtureRequest) -> Iterator[RedisCluster]:
    """A cluster whose servers a test may end."""
    with redis_cluster(redis_program(getattr(request, "param", "valkey"))) as made:
        yield made


Door = Callable[[RedisCluster], Database]


@pytest.fixture
def door(settings: Settings) -> Iterator[Door]:
    """Open doors to one database and to a cluster, as processes have them."""
    # a machine that is busy must not count as a cluster that is gone, nor as knowledge that has run out
    quicken(settings, 1000)
    with ExitStack() as stack:

        def made(cluster: RedisCluster) -> Database:
            changed = {"redis_url": cluster.url, "cache_timeout": 2.0}
            db = stack.enter_context(Database(settings.model_copy(update=changed)))
            open_at_once(db)
            return opened(db)

        yield made


class Names(UserNames):
    """The same, asked for by the tenant whose user it is."""

    def __init__(self, db: Database) -> None:
        super().__init__(db, CARD)

    def of(self, home: Inhabited) -> str | None:
        return self.get(home.id, home.user_id)

    def is_remembered(self, home: Inhabited) -> bool:
        before = self.asked
        self.of(home)
        return self.asked == before


def rename(db: Database, home: Inhabited, name: str) -> None:
    with db.tenant(home.id) as session:
        session.execute(update(User).where(User.id == home.user_id).values(full_name=name))


def test_a_value_is_read_from_the_database_once_and_all_doors_share_it(cluster: RedisCluster, door: Door) -> None:
    here, there = Names(door(cluster)), Names(door(cluster))
    home = inhabit(here.db)
    assert [names.of(home) for names in (here, there, here, there)] == ["Ada Lovelace"] * 4
    assert here.asked + there.asked == 1


def test_many_values_of_many_tenants_come_at_once_and_only_the_missing_ones_are_made(
    cluster: RedisCluster, door: Door
) -> None:
    db = door(cluster)
    homes = [inhabit(db, f"home{number}") for number in range(6)]
    region = db.cache.define(CARD)
    opened(db)
    made: list[str] = []

    def make(*keys: str) -> list[str]:
        made.extend(keys)
        return [f"of {key}" for key in keys]

    keys = [region.key(home.user_id, tenant=home.id) for home in homes for _ in range(2)]
    assert region.get_or_create_multi(keys[:4], make) == [f"of {key}" for key in keys[:4]]
    assert region.get_or_create_multi(keys, make) == [f"of {key}" for key in keys]
    assert sorted(made) == sorted(set(keys))
    assert len({cluster.slot_of(placed(f"da:e:{key}")) for key in keys}) == len(homes)


def by_one_row(db: Database, home: Inhabited) -> None:
    rename(db, home, "Ada King")


def by_the_owner(db: Database, home: Inhabited) -> None:
    with db.owner() as session:
        session.execute(update(User).values(full_name="Ada King"))


def by_hand(invalidate: Callable[[Database, Inhabited], None]) -> Callable[[Database, Inhabited], None]:
    def write(db: Database, home: Inhabited) -> None:
        # nobody but the owner of the database knows of it
        raw = db.engine.raw_connection()
        cursor = raw.cursor()
        cursor.execute(f"BEGIN; SELECT set_tenant('{home.id}'); UPDATE users SET full_name = 'Ada King'; COMMIT")
        cursor.close()
        raw.close()
        invalidate(db, home)

    return write


WAYS = {
    "one row": by_one_row,
    "the owner": by_the_owner,
    "everything": by_hand(lambda db, _: db.cache.invalidate_all()),
    "a kind": by_hand(lambda db, _: db.cache.invalidate_kind(CARD.name)),
    "a tenant": by_hand(lambda db, home: db.cache.invalidate_tenant(home.id)),
    "rows": by_hand(lambda db, home: db.cache.invalidate_rows(User, home.id)),
    "a table of nobody": by_hand(lambda db, _: db.cache.invalidate_rows(COUNTRIES)),
}


@pytest.mark.parametrize("write", WAYS.values(), ids=WAYS)
def test_m18_after_a_commit_at_one_door_no_other_door_of_a_cluster_gives_the_old_value(
    cluster: RedisCluster, door: Door, write: Callable[[Database, Inhabited], None]
) -> None:
    here, there = Names(door(cluster)), Names(door(cluster))
    home = inhabit(here.db)
    assert here.of(home) == there.of(home) == "Ada Lovelace"
    write(here.db, home)
    assert there.of(home) == here.of(home) == "Ada King"
    assert here.is_remembered(home)


def test_a_value_that_is_no_tenants_is_remembered_and_forgotten(cluster: RedisCluster, door: Door) -> None:
    region = door(cluster).cache.define(RATES)
    keys = [region.key(code) for code in ("EUR", "GBP", "SEK", "USD")]
    assert region.get_or_create_multi(keys, lambda *asked: [1] * len(asked)) == [1] * 4
    backend: Any = region
    assert backend.get_multi(keys) == [1] * 4
    region.delete(keys[0])
    assert [bool(found) for found in backend.get_multi(keys)] == [False, True, True, True]
    door(cluster).cache.invalidate_kind(RATES.name)
    assert not any(backend.get_multi(keys))


def test_all_that_is_remembered_of_a_tenant_lies_in_one_slot(cluster: RedisCluster, door: Door) -> None:
    names = Names(door(cluster))
    homes = [inhabit(names.db, f"home{number}") for number in range(8)]
    region = names.db.cache.define(NAMES)
    for home in homes:
        names.of(home)
        region.get_or_create(region.key(tenant=home.id), list)
    ports: set[int] = set()
    for home in homes:
        found = cluster.names(f"*{home.id}*")
        assert len(found) >= 5  # two values, and the tags of the tenant, of the table and of its rows
        assert len({cluster.slot_of(name) for _, name in found}) == 1
        ports.update(port for port, _ in found)
    assert len(ports) > 1


def test_tags_of_nobody_go_before_those_of_a_tenant() -> None:
    tags = CARD.tags(CARD.key("1", tenant=UUID(int=1)))
    assert [tag.startswith("{") for tag in tags] == sorted(tag.startswith("{") for tag in tags)
    # of all, of the kind, of nobody and of a table of nobody; of the tenant and of a table of the tenant
    assert len(tags) == len(set(tags)) == 6


def test_twenty_callers_at_two_doors_ask_the_database_once(cluster: RedisCluster, door: Door) -> None:
    here, there = Names(door(cluster)), Names(door(cluster))
    asked: list[int] = []
    # on a busy machine the gate's short lease may lapse in between, and then nobody is kept waiting
    while len(asked) < 5 and 1 not in asked:
        home, before = inhabit(here.db), here.asked + there.asked
        with ThreadPoolExecutor(20) as pool:
            found = list(pool.map(partial(_named, home), [here, there] * 10))
        assert found == ["Ada Lovelace"] * 20
        asked.append(here.asked + there.asked - before)
    assert 1 in asked, asked


def _named(home: Inhabited, names: Names) -> str | None:
    return names.of(home)


def _only(tag: str, _view: View) -> tuple[str, ...]:
    return (tag,)


def test_while_a_writer_is_about_to_commit_nothing_is_served_or_kept(cluster: RedisCluster, door: Door) -> None:
    names = Names(door(cluster))
    home = inhabit(names.db)
    names.of(home)
    tags = CARD.tags(names.region.key(home.user_id, tenant=home.id))
    for tag in (tags[0], tags[-1]):
        ticket = names.db.cache.fencing.announce(partial(_only, tag))
        assert ticket is not None
        assert not names.is_remembered(home)
        assert not names.is_remembered(home)
        names.db.cache.fencing.over(ticket)
        assert not names.is_remembered(home)
        assert names.is_remembered(home)


def test_the_server_agrees_with_the_store_on_every_slot(cluster: RedisCluster) -> None:
    store = ClusterStore(cluster.url, timeout=2.0)
    store.trust(store.contact())
    names = [f"da:e:{{{UUID(int=number)}}}!users" for number in range(50)]
    assert store.read(names) == [None] * 50  # a name in a wrong slot is answered with MOVED
    store.close()


def test_counts_of_all_doors_are_added_up(cluster: RedisCluster) -> None:
    stores = [ClusterStore(cluster.url, timeout=2.0) for _ in range(2)]
    for store in stores:
        store.trust(store.contact())
        store.count({("counted:here", "hit"): 2, ("counted:here", "miss"): 1})
    assert {what: count for what, count in stores[1].counts().items() if what[0] == "counted:here"} == {
        ("counted:here", "hit"): 4,
        ("counted:here", "miss"): 2,
    }
    for store in stores:
        store.close()


# ── masters that are replaced ─────────────────────────────────────────────────────────────────────────────────────


class Writing:
    """Names a user anew all the time, and reads the name at another door after each commit."""

    def __init__(self, writer: Names, reader: Names, home: Inhabited) -> None:
        self.writer, self.reader, self.home = writer, reader, home
        self.commits = 0
        self.stale: list[tuple[str | None, str]] = []
        self.failed: list[BaseException] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._work)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _work(self) -> None:
        while not self._over.is_set():
            name = f"Ada {self.commits}"
            try:
                rename(self.writer.db, self.home, name)
                self.commits += 1
                for _ in range(3):
                    found = self.reader.of(self.home)
                    if found != name:
                        self.stale.append((found, name))
            except BaseException as fault:  # noqa: BLE001  # whatever it is fails the test
                self.failed.append(fault)


def homes_on(cluster: RedisCluster, db: Database, low: int, high: int) -> Inhabited:
    """Return a tenant whose names lie in these slots."""
    while True:
        home = inhabit(db)
        if low <= cluster.slot_of(f"{{{home.id}}}") <= high:
            return home


@pytest.mark.parametrize("own_cluster", ["valkey", "redis"], indirect=True)
def test_m18_a_failover_under_load_serves_nothing_stale_and_remembers_again_afterwards(
    own_cluster: RedisCluster, door: Door
) -> None:
    writer, reader = Names(door(own_cluster)), Names(door(own_cluster))
    home = homes_on(own_cluster, writer.db, 0, 5460)
    before = writer.db.cache.fencing.gate.view().epoch
    with Writing(writer, reader, home) as load:
        until(lambda: load.commits > 20, "commits before the failover")
        own_cluster.replicated.kill()
        own_cluster.until(lambda: own_cluster.replica.ask("ROLE")[0] == b"master", "the replica's promotion")
        at = load.commits
        until(lambda: load.commits > at + 20, "commits after the failover")
        until(reader.db.cache.fencing.readable, "the gate's opening")
    assert (load.stale, load.failed) == ([], [])
    assert reader.db.cache.fencing.gate.view().epoch != before
    until(lambda: reader.is_remembered(home), "a hit after the failover")


def test_a_master_that_was_started_anew_is_not_believed(own_cluster: RedisCluster) -> None:
    store = ClusterStore(own_cluster.url, timeout=2.0)
    before = store.contact()
    store.trust(before)
    everywhere = [f"da:e:{{{UUID(int=number)}}}!users" for number in range(50)]
    store.read(everywhere)
    own_cluster.servers[2].kill()
    own_cluster.servers[2].start()
    own_cluster.agreed()
    with pytest.raises(StoreFailed, match="started anew"):
        store.read(everywhere)
    assert contacted(store) != before
    with pytest.raises(StoreFailed, match="replaced"):
        store.read(everywhere)
    store.close()


def contacted(store: ClusterStore) -> str:
    """Return the cluster's name as soon as all of its masters answer."""
    names: list[str] = []

    def tried() -> bool:
        try:
            names.append(store.contact())
        except StoreFailed:
            return False
        return True

    until(tried, "the cluster's name")
    return names[-1]


def test_a_slot_that_moves_gives_the_cluster_another_name_and_loses_no_invalidation(
    own_cluster: RedisCluster, door: Door
) -> None:
    writer, reader = Names(door(own_cluster)), Names(door(own_cluster))
    home = homes_on(own_cluster, writer.db, 5461, 10921)
    slot = own_cluster.slot_of(f"{{{home.id}}}")
    source, target = own_cluster.servers[1:3]
    before = writer.db.cache.fencing.gate.view().epoch
    with Writing(writer, reader, home) as load:
        until(lambda: load.commits > 20, "commits before the move")
        target.ask("CLUSTER", "SETSLOT", slot, "IMPORTING", source.ask("CLUSTER", "MYID"))
        source.ask("CLUSTER", "SETSLOT", slot, "MIGRATING", target.ask("CLUSTER", "MYID"))
        while names := source.ask("CLUSTER", "GETKEYSINSLOT", slot, 100):
            source.ask("MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "KEYS", *names)
        for server in (target, source):
            server.ask("CLUSTER", "SETSLOT", slot, "NODE", target.ask("CLUSTER", "MYID"))
        own_cluster.agreed()
        until(lambda: reader.db.cache.fencing.gate.view().epoch != before, "another epoch")
        until(reader.db.cache.fencing.readable, "the gate's opening")
        at = load.commits
        until(lambda: load.commits > at + 20, "commits after the move")
    assert (load.stale, load.failed) == ([], [])
    until(lambda: reader.is_remembered(home), "a hit after the move")


# ── addresses ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_url_names_servers_login_and_options_of_a_cluster() -> None:
    seeds = seeds_of("valkeys+cluster://app:s%40cret@one:7000,[::1]:7001,two?socket_keepalive=true")
    assert seeds.addresses == (Address("one", 7000), Address("::1", 7001), Address("two", 6379))
    assert (seeds.options["username"], seeds.options["password"]) == ("app", "s@cret")
    assert seeds.options["socket_keepalive"] is True
    assert seeds.options["connection_class"].__name__ == "SSLConnection"


@pytest.mark.parametrize("scheme", ["redis", "rediss", "valkey", "valkeys"])
def test_the_scheme_of_a_url_chooses_the_cluster(settings: Settings, scheme: str) -> None:
    chosen = store_of(settings.model_copy(update={"redis_url": f"{scheme}+cluster://one:7000"}))
    assert isinstance(chosen, ClusterStore)
    chosen.close()


@pytest.mark.parametrize(
    "url",
    [
        "redis+cluster://",
        "redis+cluster://one:port",
        "redis+cluster://one:7000/3",
        "redis+cluster://one:7000?db=3",
        "redis+cluster://one,,two",
        "redis+cluster://one:7000?socket_timeout=soon",
    ],
)
def test_a_url_that_names_no_cluster_is_refused(url: str) -> None:
    with pytest.raises(InvalidUrl, match="DATAARCH_REDIS_URL"):
        ClusterStore(url, timeout=1.0)


MAP = """\
a1 10.0.0.1:7000@17000,one.internal myself,master - 0 0 1 connected 0-99 101-8000 [93->-b2]
b2 10.0.0.2:7000@17000,two.internal master - 0 0 2 connected 8001-16383 100
c3 10.0.0.3:7000@17000,three.internal slave a1 0 0 1 connected
d4 :7000@17000 master - 0 0 4 connected
"""


def test_a_map_of_the_cluster_tells_its_masters_and_their_slots() -> None:
    first, second = map_of(MAP, Address("seed", 1), tls=False)
    assert (first.address, first.slots) == (Address("10.0.0.1", 7000), ((0, 99), (101, 8000)))
    assert (second.id, second.epoch, second.slots) == ("b2", 2, ((8001, 16383), (100, 100)))
    assert map_of(MAP, Address("seed", 1), tls=True)[1].address == Address("two.internal", 7000)
    assert map_of(MAP.replace("10.0.0.1", ""), Address("seed", 1), tls=False)[0].address == Address("seed", 7000)


@pytest.mark.parametrize(
    "broken", [MAP.replace(" 100\n", "\n"), MAP.replace("two.internal master", "two.internal master,fail")]
)
def test_a_map_with_slots_that_nobody_answers_for_is_no_map(broken: str) -> None:
    with pytest.raises(StoreFailed, match="no living master"):
        map_of(broken, Address("seed", 1), tls=False)


def test_a_cluster_that_is_not_there_fails_and_says_so() -> None:
    store = ClusterStore("redis+cluster://127.0.0.1:1", timeout=0.5)
    with pytest.raises(StoreFailed, match=r"127\.0\.0\.1:1"):
        store.contact()
    with pytest.raises(StoreFailed):
        store.read(["da:e:!all"])
    store.close()
