"""Many maintenances at once, and any rows in any time zone: a partition is made once, a row lies in its period."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataarch.clock import Grain, Period, utcnow
from dataarch.database.unit_of_work import Database
from dataarch.models.partitioning import Policy
from dataarch.partitions.catalog import Partition, partitions_of
from dataarch.partitions.maintenance import Maintenance
from dataarch.partitions.plan import is_catch_all
from dataarch.partitions.steps import CleanUp
from fixtures.databases import new_database
from fixtures.months import owner
from fixtures.partitioned_tables import (
    SAMPLES,
    VISITS,
    Connection,
    Sample,
    add_account,
    checksum,
    create_samples,
    write_samples,
)
from fixtures.servers import Servers

pytestmark = pytest.mark.schema

ZONES = ("UTC", "America/New_York", "Pacific/Kiritimati", "Europe/Berlin", "Asia/Kathmandu")

MAINTAIN = """
from dataarch.database.settings import Settings
from dataarch.database.unit_of_work import Database
from dataarch.partitions.maintenance import Maintenance
from fixtures.partitioned_tables import VISITS
with Database(Settings(database_url={application!r}, owner_url={owner!r})) as db:
    print(*Maintenance(db, VISITS.table).maintain().made)
"""


def partitions(db: Database, sample: Sample) -> list[Partition]:
    with db.owner() as session:
        return partitions_of(session.connection(), sample.place)


def others(connection: Connection) -> int:
    found = connection.execute(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'dataarch'"
    ).fetchone()
    return int(found[0]) if found else 0


def test_what_a_maintenance_at_work_has_made_is_no_leftover_of_a_killed_one(db: Database) -> None:
    create_samples(db, VISITS)
    Maintenance(db, VISITS.table).maintain()
    with owner(db.settings) as connection:
        write_samples(connection, VISITS, add_account(connection), utcnow() - timedelta(days=400), utcnow())
    planned: list[bool] = []

    def look(said: str) -> None:
        if said.startswith("copied"):
            steps = Maintenance(db, VISITS.table).plan().steps
            planned.append(any(isinstance(step, CleanUp) for step in steps))

    Maintenance(db, VISITS.table, say=look).maintain()
    assert planned
    assert not any(planned)


def test_of_eight_maintenances_at_once_each_partition_is_made_by_one_and_none_fails(db: Database) -> None:
    create_samples(db, VISITS)
    urls = [url.render_as_string(hide_password=False) for url in (db.settings.application, db.settings.owner)]
    code = MAINTAIN.format(application=urls[0], owner=urls[1])
    command = [
        sys.executable,
        "-c",
        f"import sys; sys.path.insert(0, {sys.path[0]!r}); sys.path += {sys.path!r}; {code}",
    ]
    # none can begin before all are there
    with owner(db.settings) as connection, owner(db.settings) as gate, gate.transaction():
        gate.execute("LOCK TABLE accounts IN ROW EXCLUSIVE MODE")
        running = [
            subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(8)
        ]
        while others(connection) < len(running):
            assert all(one.poll() is None for one in running)
            time.sleep(0.1)
    said = [one.communicate() for one in running]
    assert [(one.returncode, errors) for one, (_, errors) in zip(running, said, strict=True)] == [(0, "")] * 8
    made = [name for output, _ in said for name in output.split()]
    assert sorted(made) == sorted(one.name for one in partitions(db, VISITS))
    assert len(set(made)) == len(made)


# ── any rows ──────────────────────────────────────────────────────────────────────────────────────────────────────

TIMES = [one for one in SAMPLES if not one.forced and one.table.schema is None]

DAYLIGHT = [
    datetime(2026, 3, 8, 7, tzinfo=UTC),
    datetime(2026, 11, 1, 6, tzinfo=UTC),
    datetime(2026, 3, 29, 1, tzinfo=UTC),
]

near = st.builds(
    lambda grain, ahead, shift: Period.of(utcnow(), grain).plus(ahead).start + shift,
    st.sampled_from(Grain),
    st.integers(-400, 90),
    st.sampled_from([timedelta(0), timedelta(microseconds=-1), timedelta(hours=14), timedelta(hours=-12)]),
)
odd = st.sampled_from(
    ["infinity", "-infinity", "0044-03-15 12:00 BC", "9999-12-31", "1969-12-31", "2024-02-29 23:59:59"]
)
anywhere = st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30), timezones=st.just(UTC))  # noqa: DTZ001  # as Hypothesis asks


@pytest.fixture(scope="module")
def any_rows(servers: Servers, template: str) -> Iterator[Database]:
    with new_database(servers, template) as found, Database(found) as database:
        create_samples(database, *TIMES)
        yield database


def assert_right(db: Database, connection: Connection, sample: Sample) -> None:
    """Assert that the bounds leave no gap, and that a row of a period that has a partition lies nowhere else."""
    found = partitions(db, sample)
    assert (found[0].lower, found[-1].upper) == (None, None)
    assert [one.upper for one in found[:-1]] == [one.lower for one in found[1:]]
    own = [one for one in found if not is_catch_all(sample.table.name, one, sample.grain)]
    for one in own:
        assert one.lower is not None
        period = Period.of(one.lower, sample.grain)
        assert (one.lower, one.upper, one.name) == (period.start, period.end, f"{sample.table.name}_{period}")
    label = {
        Grain.DAY: "YYYY_MM_DD", Grain.WEEK: 'IYYY"_w"IW', Grain.MONTH: "YYYY_MM", Grain.YEAR: "YYYY"
    }[sample.grain]  # fmt: skip
    astray = connection.execute(
        f"SELECT {sample.moment}, tableoid::regclass FROM {sample.place} WHERE isfinite({sample.moment})"
        f" AND {sample.moment} >= '1970-01-05' AND {sample.moment} < now() + interval '3600 days'"
        f" AND tableoid::regclass::text <> '{sample.table.name}_' ||"
        f" to_char({sample.moment}::timestamptz AT TIME ZONE 'UTC', '{label}')"
    ).fetchall()
    assert astray == []


@settings(max_examples=max(12, settings().max_examples // 8))
@given(
    st.sampled_from(TIMES),
    st.lists(near | near | odd | anywhere | st.sampled_from(DAYLIGHT), max_size=8),
    st.integers(0, 4),
    st.sampled_from(ZONES),
)
def test_whatever_rows_there_are_each_comes_to_lie_in_its_period_and_none_is_lost(
    any_rows: Database, sample: Sample, instants: list[datetime | str], premake: int, zone: str
) -> None:
    with owner(any_rows.settings) as connection:
        assert any_rows.settings.owner.database is not None
        # what a session's zone is by default, the maintenance begins with
        connection.execute(
            f"ALTER ROLE CURRENT_USER IN DATABASE {any_rows.settings.owner.database} SET timezone = '{zone}'"
        )
        policy = Policy(premake=premake)
        Maintenance(any_rows, sample.table, policy=policy).maintain()
        write_samples(connection, sample, add_account(connection), *instants)
        rows = checksum(connection, sample)
        Maintenance(any_rows, sample.table, policy=policy).maintain()
        assert checksum(connection, sample) == rows
        assert_right(any_rows, connection, sample)
        assert Maintenance(any_rows, sample.table, policy=policy).plan().steps == ()
