"""M13: days, weeks, months and years are retired and come back alike, to their first instants and their last."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import pytest

from dataarch.clock import Grain, Period, utcnow
from dataarch.database.unit_of_work import Database
from dataarch.models.partitioning import Policy
from dataarch.partitions.archive import read_archive
from dataarch.partitions.maintenance import Maintenance
from dataarch.partitions.naming import partition_name
from fixtures.months import owner
from fixtures.partitioned_tables import (
    INVOICES,
    REPORTS,
    SAMPLES,
    TOTALS,
    VISITS,
    Sample,
    add_account,
    checksum,
    create_samples,
    write_samples,
)

pytestmark = pytest.mark.integrity

BY_GRAIN = {Grain.DAY: VISITS, Grain.WEEK: TOTALS, Grain.MONTH: INVOICES, Grain.YEAR: REPORTS}

LAST = {"day": timedelta(days=1)}
"""How long before its end the last instant of a period lies, by the column; a microsecond for the others."""


def instants(sample: Sample, period: Period) -> list[datetime]:
    """The first instant of a period, and its last."""
    return [period.start, period.end - LAST.get(sample.moment, timedelta(microseconds=1))]


@pytest.mark.parametrize("drop", [True, False], ids=["dropped", "kept"])
@pytest.mark.parametrize("grain", Grain)
def test_m13_periods_of_any_grain_are_retired_and_come_back_as_they_were(
    db: Database, tmp_path: Path, grain: Grain, drop: bool
) -> None:
    sample = BY_GRAIN[grain]
    present = Period.of(utcnow(), grain)
    old, kept = [present.plus(-ago) for ago in (5, 4, 3)], [present.plus(-ago) for ago in (2, 1)]
    create_samples(db, sample)
    with owner(db.settings) as connection:
        account = add_account(connection)
        Maintenance(db, sample.table).maintain()
        write_samples(connection, sample, account, *(at for one in (*old, *kept) for at in instants(sample, one)))
        rows = checksum(connection, sample)
        Maintenance(db, sample.table).maintain()
        work = Maintenance(db, sample.table, policy=Policy(premake=3, keep=2, drop=drop), archive_dir=tmp_path)
        done = work.maintain()
        assert done.retired == [partition_name(sample.table.name, one) for one in old]
        assert checksum(connection, sample)[0] == 2 * len(kept)
        archives = [read_archive(file) for file in done.archives]
        assert [(one.of.lower, one.of.upper, one.rows) for one in archives] == [(o.start, o.end, 2) for o in old]
        if drop:
            # a row of each that comes late joins its period
            late = write_samples(connection, sample, account, *(one.start for one in old), note="late")
            assert all("_rest_" in name for name in late)
            for file, one in zip(done.archives, old, strict=True):
                assert work.restore(file).rows == 2
                assert write_samples(connection, sample, account, one.start, note="late") == [file.stem]
            connection.execute(f"DELETE FROM {sample.place} WHERE note = 'late'")
            assert checksum(connection, sample) == rows
        assert work.maintain().retired == []


def test_there_is_a_sample_of_each_grain() -> None:
    assert {grain: sample.grain for grain, sample in BY_GRAIN.items()} == {grain: grain for grain in Grain}
    assert set(BY_GRAIN.values()) < set(SAMPLES)
