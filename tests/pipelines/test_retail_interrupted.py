"""Loading that is killed, cut off from the server, or done by two at once ends in the same state."""

from __future__ import annotations

import random
import shutil
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from dataarch.database.settings import Settings
from dataarch.database.unit_of_work import Database
from dataarch.errors import LockTimeout, PipelineBusy, ServerUnreachable
from dataarch.pipelines import work
from dataarch.pipelines.outcome import Counts
from fixtures.databases import new_database
from fixtures.servers import Servers, libpq
from pipelines.retail_support import (
    EXAMPLES,
    activity,
    checksums,
    ledger,
    loaded,
    loader_process,
    on_hand,
    rows_of,
    untrue_products,
)

pytest_plugins = ["retail_fixtures"]
pytestmark = pytest.mark.pipeline

KILLS = 10


def assert_same(one: Settings, other: Settings) -> None:
    """Assert that two databases hold the same activity, movements and stock."""
    assert activity(one) == activity(other)
    assert ledger(one) == ledger(other)
    assert on_hand(one) == on_hand(other)
    assert not untrue_products(one)
    for table in ("tenants", "users", "products"):
        assert checksums(one)[table][0] == checksums(other)[table][0]


def many_files(folder: Path, copies: int = 4) -> list[Path]:
    """Write the sample several times, each for other months, so that a load takes a while."""
    files = []
    for number in range(copies):
        for file in EXAMPLES:
            copy = folder / f"{number}-{file.name}"
            copy.write_text(file.read_text().replace("2025-", f"202{number}-"))
            files.append(copy)
    return files


def kill_at_random_moments(settings: Settings, files: list[Path], rng: random.Random) -> int:
    """Start to load again and again, kill each attempt after a moment, and return how many were killed in the midst."""
    killed = 0
    for _ in range(KILLS):
        process = loader_process(settings, *files)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        time.sleep(rng.uniform(0.0, 0.15))
        process.kill()
        process.communicate()
        killed += process.returncode == -9
        assert not untrue_products(settings)
    return killed


def loaded_at_last(db: Database, files: list[Path]) -> None:
    """Load files, as soon as the server has noticed that the process before is gone."""
    deadline = time.monotonic() + 30
    while True:
        try:
            loaded(db, *files)
        except PipelineBusy:
            assert time.monotonic() < deadline, "the killed run is never over"
            time.sleep(0.01)
        else:
            return


def test_loading_that_is_killed_at_any_moment_is_completed_by_the_next_run(
    servers: Servers, template: str, other_db: Database, tmp_path: Path
) -> None:
    files = many_files(tmp_path)
    loaded(other_db, *files)
    rng = random.Random(6)
    killed = 0
    with new_database(servers, template) as settings:
        killed += kill_at_random_moments(settings, files, rng)
        with Database(settings) as db:
            loaded_at_last(db, files)
            assert loaded(db, *files) == Counts()
        assert_same(settings, other_db.settings)
    assert killed >= KILLS // 2


def test_of_two_loaders_at_once_one_loads_all_and_the_other_is_told_to_wait(db: Database, other_db: Database) -> None:
    loaded(other_db, *EXAMPLES)
    processes = [loader_process(db.settings, *files) for files in (EXAMPLES, EXAMPLES[::-1])]
    ended = [(*process.communicate(timeout=60), process.returncode) for process in processes]
    assert any(code == 0 for _, _, code in ended), ended
    assert all(code == 0 or "PipelineBusy" in complaints for _, complaints, code in ended), ended
    assert activity(db.settings) == activity(other_db.settings)
    assert not untrue_products(db.settings)


@contextmanager
def feed_held(settings: Settings, slug: str) -> Iterator[None]:
    """Hold the lock that a loader of this tenant needs."""
    ((tenant,),) = rows_of(settings, f"SELECT id FROM tenants WHERE slug = '{slug}'")
    with psycopg.connect(libpq(settings.owner), autocommit=True) as holder:
        holder.execute("SELECT pg_advisory_lock(hashtextextended('dataarch.feed.' || %s, 0))", [tenant])
        yield


def test_a_connection_lost_in_a_transaction_is_a_named_error_and_a_second_run_completes_it(
    db: Database, other_db: Database, servers: Servers
) -> None:
    loaded(other_db, *EXAMPLES)
    loaded(db, EXAMPLES[0])
    with ThreadPoolExecutor(1) as pool:
        with feed_held(db.settings, "united-kingdom"):
            loading = pool.submit(loaded, db, EXAMPLES[1])
            with servers.connect() as connection:
                connection.execute(
                    "SELECT pg_terminate_backend(%s)", [servers.waiting(db.settings.application.database)]
                )
        error = loading.exception(timeout=60)
    assert isinstance(error, ServerUnreachable)
    assert error.hint
    loaded(db, *EXAMPLES)
    assert_same(db.settings, other_db.settings)


def copy_of(file: Path, folder: Path) -> Path:
    """Return the same lines under another name: they are read, and all of them are there already."""
    return Path(shutil.copy(file, folder / f"copy of {file.name}"))


def test_a_loader_that_waits_too_long_for_another_one_tries_again(
    db: Database, servers: Servers, tmp_path: Path
) -> None:
    loaded(db, EXAMPLES[0])
    before = checksums(db.settings)
    with feed_held(db.settings, "united-kingdom"):
        process = loader_process(db.settings, copy_of(EXAMPLES[0], tmp_path), DATAARCH_LOCK_TIMEOUT="0.05")
        servers.waiting(db.settings.application.database)
        # longer than the lock is waited for
        time.sleep(0.2)
    _, complaints = process.communicate(timeout=60)
    assert process.returncode == 0, complaints
    assert checksums(db.settings) == before


def test_a_loader_that_is_always_in_the_way_is_a_named_error_and_nothing_is_written(
    db: Database, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    loaded(db, EXAMPLES[0])
    before = checksums(db.settings)
    monkeypatch.setattr(work, "PAUSE", 0.0)
    hurried = Database(db.settings.model_copy(update={"lock_timeout": 0.02}))
    with hurried, feed_held(db.settings, "united-kingdom"), pytest.raises(LockTimeout):
        loaded(hurried, copy_of(EXAMPLES[0], tmp_path))
    assert checksums(db.settings) == before
