"""An upgrade or a downgrade that is killed, doubled or held up leaves nothing half made and can be run again."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from contextlib import suppress
from subprocess import TimeoutExpired

import psycopg
import pytest

from dataarch.database.settings import Settings
from dataarch.errors import LockTimeout
from dataarch.rollout import environment
from fixtures.alembic_runs import started
from fixtures.catalogs import contents, described, owner_connection
from fixtures.databases import MigrateTo
from fixtures.rows import fill
from fixtures.servers import Servers, libpq

pytestmark = pytest.mark.migration

MOMENTS = 12


@pytest.fixture
def watch(servers: Servers) -> Iterator[psycopg.Connection[tuple[object, ...]]]:
    """A superuser's connection to another database of the same cluster."""
    with servers.connect() as connection:
        yield connection


Watch = psycopg.Connection[tuple[object, ...]]


def is_connected(watch: Watch, settings: Settings) -> bool:
    sessions = watch.execute("SELECT FROM pg_stat_activity WHERE datname = %s", [settings.owner.database])
    return bool(sessions.fetchall())


def revision_of(settings: Settings) -> str | None:
    with owner_connection(settings) as connection:
        if connection.execute("SELECT to_regclass('alembic_version')").fetchone() == (None,):
            return None
        row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
        return str(row[0]) if row else None


def killed_after(watch: Watch, settings: Settings, seconds: float, *arguments: str) -> bool:
    """Kill Alembic this long after it has connected; return whether it still ran."""
    process = started(settings, *arguments)
    while process.poll() is None and not is_connected(watch, settings):
        time.sleep(0.002)
    with suppress(TimeoutExpired):
        process.wait(timeout=seconds)
    process.kill()
    process.communicate()
    while is_connected(watch, settings):
        time.sleep(0.002)
    return process.returncode == -9


def undisturbed(watch: Watch, settings: Settings, *arguments: str) -> float:
    """Run Alembic, and return for how many seconds it was connected."""
    process = started(settings, *arguments)
    while process.poll() is None and not is_connected(watch, settings):
        time.sleep(0.002)
    connected = time.monotonic()
    _, complaints = process.communicate()
    assert process.returncode == 0, complaints
    return time.monotonic() - connected


class Moments:
    """When to kill a run: spread over it, then more at random until kills have stopped it at three revisions.

    How long a run lasts is learnt from its kills, because one that a busy machine held up tells nothing of the next.
    """

    def __init__(self, lasts: float, first: str | None) -> None:
        self.lasts = lasts
        self.first = first
        self.stopped_at: set[str | None] = set()

    def __iter__(self) -> Iterator[float]:
        for moment in range(MOMENTS):
            yield self.lasts * moment / MOMENTS
        for _ in range(5 * MOMENTS):
            if self.are_enough():
                return
            yield self.lasts * random.random()

    def are_enough(self) -> bool:
        return len(self.stopped_at) > 2

    def was_late(self) -> None:
        """Learn that a run had ended before it was to be killed."""
        self.lasts *= 0.9

    def stopped(self, revision: str | None) -> None:
        """Learn where a kill has stopped a run."""
        self.stopped_at.add(revision)
        if revision == self.first:
            self.lasts *= 1.05


def test_an_upgrade_killed_at_any_moment_is_finished_by_the_next(
    empty_database: Settings, watch: Watch, migrate: MigrateTo
) -> None:
    moments = Moments(undisturbed(watch, empty_database, "upgrade", "head"), first=None)
    schema = described(empty_database)
    migrate(empty_database, "base", down=True)
    for seconds in moments:
        if killed_after(watch, empty_database, seconds, "upgrade", "head"):
            moments.stopped(revision_of(empty_database))
        else:
            moments.was_late()
        migrate(empty_database, "head")
        assert described(empty_database) == schema
        migrate(empty_database, "base", down=True)
    assert moments.are_enough(), "the kills came too early or too late to prove anything"


def test_m27_a_downgrade_killed_at_any_moment_loses_no_row(
    settings: Settings, watch: Watch, migrate: MigrateTo
) -> None:
    fill(settings)
    rows = contents(settings)
    head = revision_of(settings)
    moments = Moments(undisturbed(watch, settings, "downgrade", "base"), first=head)
    migrate(settings, "head")
    schema = described(settings)
    for seconds in moments:
        if killed_after(watch, settings, seconds, "downgrade", "base"):
            moments.stopped(revision_of(settings))
        else:
            moments.was_late()
        assert contents(settings) == rows
        migrate(settings, "head")
        assert contents(settings) == rows
        assert described(settings) == schema
    assert moments.are_enough(), "the kills came too early or too late to prove anything"


def test_two_upgrades_at_once_both_succeed(empty_database: Settings, settings: Settings) -> None:
    processes = [started(empty_database, "upgrade", "head") for _ in range(3)]
    said = [process.communicate(timeout=120)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0], said
    assert described(empty_database) == described(settings)


def test_an_upgrade_that_waits_for_another_holds_no_snapshot(empty_database: Settings, watch: Watch) -> None:
    with owner_connection(empty_database) as other:
        other.execute(f"SELECT pg_advisory_lock({environment.UPGRADE_LOCK})")
        waiting = started(empty_database, "upgrade", "head")
        seen: list[tuple[object, ...]] = []
        while len(seen) < 50:
            seen += watch.execute(
                "SELECT state, wait_event_type FROM pg_stat_activity WHERE datname = %s AND pid <> %s"
                " AND backend_type = 'client backend'",
                [empty_database.owner.database, other.info.backend_pid],
            ).fetchall()
            time.sleep(0.01)
        assert waiting.poll() is None
        other.execute("SELECT pg_advisory_unlock_all()")
        assert waiting.communicate(timeout=60) is not None
    assert waiting.returncode == 0
    assert sum(state == "idle" for state, _ in seen) > 40
    assert ("active", "Lock") not in seen


HELD_UP = [
    # from, to, by a reader of
    ("0008", "head", "users"),
    ("0005", "0006", "user_activity_log"),
    ("head", "0007", "inventory"),
]


@pytest.mark.parametrize(("start", "goal", "read"), HELD_UP)
def test_a_migration_held_up_by_a_reader_ends_with_lock_timeout_and_can_be_run_again(
    empty_database: Settings, migrate: MigrateTo, start: str, goal: str, read: str
) -> None:
    down = start == "head"
    migrate(empty_database, start)
    impatient = empty_database.model_copy(update={"upgrade_patience": 0.3})
    fill(empty_database)
    rows = contents(empty_database)
    with psycopg.connect(libpq(empty_database.owner)) as reader:
        reader.execute(f"SELECT FROM {read}")
        with pytest.raises(LockTimeout, match=r"1 try|within 0\.3 s"):
            migrate(impatient, goal, down=down)
    stopped, at = described(empty_database), revision_of(empty_database)
    assert at is not None
    migrate(empty_database, goal, down=down)
    assert contents(empty_database) == rows
    migrate(empty_database, at, down=not down)
    assert contents(empty_database) == rows
    assert described(empty_database) == stopped
