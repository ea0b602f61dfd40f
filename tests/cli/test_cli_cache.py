"""`dataarch cache`: what it shows and forgets, how it waits for the gate, and the bridge as a command."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import pytest
from alembic import command
from sqlalchemy import select

from cli.cli_support import COMMAND, cells, dataarch, dataarch_on_terminal, environment, refusal
from dataarch.caching.database import Database
from dataarch.caching.kinds import Kind
from dataarch.database.settings import Settings
from dataarch.models import Base, User
from fixtures.caches import opened, quicken, until
from fixtures.catalogs import described, owner_connection
from fixtures.databases import alembic_config
from fixtures.months import add_writer, all_rows, write
from fixtures.redis_clusters import redis_cluster, redis_program
from fixtures.tenants import Inhabited, inhabit

pytestmark = pytest.mark.cache

NOWHERE = "redis://127.0.0.1:1/0"
WIDE = {"COLUMNS": "200"}


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """The settings of a cache that a busy machine does not make fail."""
    return settings.model_copy(update={"cache_timeout": 5.0})


def redis(settings: Settings) -> dict[str, str]:
    return {"DATAARCH_REDIS_URL": str(settings.redis_url)}


class Names:
    """Names of users, remembered."""

    def __init__(self, db: Database, kind: str) -> None:
        self.db = db
        self.region = db.cache.define(Kind(kind, ttl=600, rows=(User,)))
        opened(db)

    def get(self, home: Inhabited) -> str | None:
        def read() -> str | None:
            with self.db.tenant(home.id) as session:
                return session.scalar(select(User.full_name))

        found: str | None = self.region.get_or_create(self.region.key(home.user_id, tenant=home.id), read)
        return found

    def remembered(self, home: Inhabited) -> object:
        return self.region.get(self.region.key(home.user_id, tenant=home.id)) or None

    def remembers(self, home: Inhabited, name: str) -> None:
        """Wait until a name is remembered."""
        until(lambda: self.get(home) == name == self.remembered(home), f"the name {name}")


# ── stats ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_statistics_are_those_of_all_processes(
    cached: Database, another: Callable[[], Database], home: Inhabited, tmp_path: Path
) -> None:
    kind = f"k{uuid4().hex[:8]}"
    for db in (cached, another()):
        names = Names(db, kind)
        assert [names.get(home) for _ in range(2)] == ["Ada Lovelace"] * 2
        db.cache.fencing.tally()
    shown = dataarch(cached.settings, tmp_path, "cache", "stats", **redis(cached.settings), **WIDE)
    assert (shown.code, shown.complaints) == (0, "")
    assert "the gate is open" in shown.printed
    assert "noeviction" in shown.printed
    # hit, miss, stale, negative, error, bypass, set, refused, hit rate
    assert cells(shown.printed, kind)[1:] == ["3", "1", "0", "0", "0", "0", "1", "0", "75.0%"]
    assert len(cells(shown.printed, "all")) == 10


def test_the_statistics_name_every_master_of_a_cluster(settings: Settings, tmp_path: Path) -> None:
    with redis_cluster(redis_program("valkey")) as cluster:
        shown = dataarch(settings, tmp_path, "cache", "stats", DATAARCH_REDIS_URL=cluster.url, **WIDE)
        assert shown.code == 0, shown
        for server in cluster.servers[:3]:
            assert cells(shown.printed, f"127.0.0.1:{server.port}")[1].startswith("Valkey")


# ── clear ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_what_is_cleared_is_forgotten_and_nothing_else(cached: Database, tmp_path: Path) -> None:
    one, two = inhabit(cached, "one"), inhabit(cached, "two")
    cards, labels = Names(cached, "cards"), Names(cached, "labels")

    def remembered() -> list[bool]:
        return [bool(names.remembered(home)) for names in (cards, labels) for home in (one, two)]

    def after(*arguments: str) -> list[bool]:
        for names in (cards, labels):
            for home in (one, two):
                names.get(home)
        assert remembered() == [True] * 4
        cleared = dataarch(cached.settings, tmp_path, "cache", "clear", *arguments, **redis(cached.settings))
        assert (cleared.code, cleared.complaints) == (0, "")
        assert cleared.printed.startswith("Forgotten: ")
        return remembered()

    assert after("--tenant", str(one.id)) == [False, True, False, True]
    assert after("--kind", "labels") == [True, True, False, False]
    assert after("--all") == [False] * 4


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "one thing at a time"),
        (("--all", "--kind", "cards"), "one thing at a time"),
        (("--tenant", "acme"), "Give a UUID"),
    ],
)
def test_what_nobody_can_clear_is_refused(
    settings: Settings, tmp_path: Path, arguments: tuple[str, ...], words: str
) -> None:
    assert words in refusal(dataarch(settings, tmp_path, "cache", "clear", *arguments, **redis(settings)), 2)


def test_a_kind_that_can_be_none_is_refused(settings: Settings, tmp_path: Path) -> None:
    refused = dataarch(settings, tmp_path, "cache", "clear", "--kind", "No such!", **redis(settings))
    assert "no kind of value" in refusal(refused, 1)


# ── servers that are away ─────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("asked", [("stats",), ("open", "--timeout", "1s")])
def test_a_cache_that_is_away_is_said_in_one_line_with_what_to_do(
    settings: Settings, tmp_path: Path, asked: tuple[str, ...]
) -> None:
    line = refusal(dataarch(settings, tmp_path, "cache", *asked, DATAARCH_REDIS_URL=NOWHERE), 1)
    assert "The cache does not answer" in line
    assert "dataarch server status" in line


@pytest.mark.parametrize("asked", [("stats",), ("open",), ("clear", "--all"), ("triggers",)])
def test_a_database_that_is_away_is_said_in_one_line_with_what_to_do(
    settings: Settings, tmp_path: Path, asked: tuple[str, ...]
) -> None:
    gone = settings.model_copy(
        update=dict.fromkeys(("database_url", "owner_url"), "postgresql://nobody@127.0.0.1:1/none")
    )
    line = refusal(dataarch(gone, tmp_path, "cache", *asked, **redis(settings)), 1)
    assert "cannot be reached" in line
    assert "dataarch server status" in line


@pytest.mark.parametrize("asked", [("stats",), ("open",), ("clear", "--all"), ("listen",)])
def test_without_a_cache_the_command_says_how_to_name_one(
    settings: Settings, tmp_path: Path, asked: tuple[str, ...]
) -> None:
    assert "DATAARCH_REDIS_URL" in refusal(dataarch(settings, tmp_path, "cache", *asked), 2)
    memory = dataarch(settings, tmp_path, "cache", *asked, DATAARCH_REDIS_URL="memory://")
    assert "each process's own" in refusal(memory, 2)


def test_a_database_that_is_not_migrated_is_said(empty_database: Settings, tmp_path: Path) -> None:
    line = refusal(dataarch(empty_database, tmp_path, "cache", "open", **redis(empty_database)), 1)
    assert "dataarch upgrade" in line


# ── open ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_it_waits_until_the_gate_is_open(settings: Settings, tmp_path: Path) -> None:
    quicken(settings)
    opened = dataarch(settings, tmp_path, "cache", "open", **redis(settings))
    assert (opened.code, opened.complaints) == (0, "")
    assert opened.printed.splitlines()[-1] == "The gate is open: the cache is read."
    with owner_connection(settings) as connection:
        assert connection.execute("SELECT state FROM dataarch_cache.gate").fetchone() == ("open",)
    assert "is open" in dataarch_on_terminal(settings, tmp_path, "cache", "open", **redis(settings)).printed


def test_it_says_whose_transaction_keeps_the_gate_from_opening(settings: Settings, tmp_path: Path) -> None:
    quicken(settings)
    with owner_connection(settings) as old:
        old.execute("BEGIN; CREATE TABLE t (); SELECT pg_current_xact_id()")
        waited = dataarch(settings, tmp_path, "cache", "open", "--timeout", "2s", **redis(settings))
        assert f"process {old.info.backend_pid}" in refusal(waited, 1)
        assert "the gate is opening" in waited.printed


# ── triggers ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_triggers_come_and_go(settings: Settings, tmp_path: Path) -> None:
    before = described(settings)
    made = dataarch(settings, tmp_path, "cache", "triggers")
    assert (made.code, made.complaints) == (0, "")
    assert made.printed.startswith(f"{len(Base.metadata.tables)} tables tell")
    triggers = [line for line in described(settings) if line.startswith("trigger dataarch") or "dataarch_cache" in line]
    assert len([line for line in triggers if "ON public.users " in line]) == 4
    assert dataarch(settings, tmp_path, "cache", "triggers", "--drop").code == 0
    assert [line for line in described(settings) if line.startswith("trigger") and line not in before] == []


def test_a_dry_run_prints_the_sql_and_changes_nothing(settings: Settings, tmp_path: Path) -> None:
    before = described(settings)
    printed = dataarch(settings, tmp_path, "cache", "triggers", "users", "--dry-run").printed
    assert described(settings) == before
    with owner_connection(settings) as connection:
        connection.execute(printed.encode())
    assert described(settings) != before
    undone = dataarch(settings, tmp_path, "cache", "triggers", "users", "--drop", "--dry-run").printed
    assert undone.count("DROP TRIGGER") == len(undone.splitlines())


def test_a_table_that_is_none_is_refused(settings: Settings, tmp_path: Path) -> None:
    assert "There are: " in refusal(dataarch(settings, tmp_path, "cache", "triggers", "customers"), 2)


def test_a_table_that_is_in_use_is_not_waited_for_without_end(settings: Settings, tmp_path: Path) -> None:
    with owner_connection(settings) as writer:
        writer.execute("BEGIN; LOCK TABLE users IN ROW EXCLUSIVE MODE")
        tried = dataarch(settings, tmp_path, "cache", "triggers", "users", DATAARCH_LOCK_TIMEOUT="0.2")
    assert "lock" in refusal(tried, 1)


def test_partitions_are_made_and_retired_as_before_and_alembic_finds_nothing_to_do(
    settings: Settings, tmp_path: Path
) -> None:
    assert dataarch(settings, tmp_path, "cache", "triggers").code == 0
    with owner_connection(settings) as connection:
        writer = add_writer(connection)
        write(connection, writer, "2019-12-05", "2020-01-05", "2020-01-06")
        connection.execute("SELECT create_activity_partition('2020-01-01')")
        rows = all_rows(connection)
        archives = ("--archive-dir", str(tmp_path))
        retired = dataarch(settings, tmp_path, "partitions", "retire", "user_activity_log_2020_01", *archives)
        assert (retired.code, retired.complaints) == (0, "")
        assert dataarch(settings, tmp_path, "partitions", "restore", *map(str, tmp_path.glob("*.parquet"))).code == 0
        assert all_rows(connection) == rows
    assert dataarch(settings, tmp_path, "partitions", "plan").printed.endswith("every partition is there already.\n")
    command.check(alembic_config(settings))


# ── listen ────────────────────────────────────────────────────────────────────────────────────────────────────────


@contextmanager
def listening(db: Database, folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Run the bridge as a command, and give it when it listens."""
    process = subprocess.Popen(
        [*COMMAND, "cache", "listen"],
        env=environment(db.settings, folder, **redis(db.settings)),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert "Listening" in process.stdout.readline()
        yield process
    finally:
        process.kill()
        process.communicate(timeout=60)


def test_a_bridge_that_was_killed_and_started_again_has_missed_nothing(
    cached: Database, home: Inhabited, tmp_path: Path
) -> None:
    assert dataarch(cached.settings, tmp_path, "cache", "triggers").code == 0
    names = Names(cached, "cards")
    with owner_connection(cached.settings) as outside:
        with listening(cached, tmp_path) as bridge:
            names.remembers(home, "Ada Lovelace")
            outside.execute("UPDATE users SET full_name = 'Ada King'")
            names.remembers(home, "Ada King")
            bridge.kill()
            bridge.wait(timeout=60)
            outside.execute("UPDATE users SET full_name = 'Countess'")
            assert names.get(home) == "Ada King"
        with listening(cached, tmp_path):
            assert names.get(home) == "Countess"
            outside.execute("UPDATE users SET full_name = 'Ada'")
            names.remembers(home, "Ada")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_bridge_ends_cleanly_when_it_is_asked_to(cached: Database, tmp_path: Path, number: signal.Signals) -> None:
    with listening(cached, tmp_path) as bridge:
        bridge.send_signal(number)
        printed, complaints = bridge.communicate(timeout=60)
        assert (bridge.returncode, complaints) == (0, "")
        assert printed.splitlines()[-1] == "Not listening any more; 0 changes were heard."
