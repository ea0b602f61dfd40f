"""Pipelines on schedules for tests with processes; their steps wait as long as a variable says."""

from __future__ import annotations

import os
import sys
import time
from dataclasses import replace

from dataarch.caching.database import Database
from dataarch.pipelines.records import Batch
from dataarch.pipelines.schedulers.run_due import run_due
from dataarch.pipelines.schedulers.schedule import Schedule
from pipelines.listed import pipeline, product

ONCE_A_YEAR = "0 0 1 1 *"
"""A time that two processes see as the same."""

NAMES = ("teas", "pots", "cups")


def say(line: str) -> None:
    """Print a line at once."""
    os.write(1, f"{line}\n".encode())


def slow(batch: Batch) -> Batch:
    """Say that a run is at work, and wait."""
    say("at work")
    time.sleep(float(os.environ.get("STEP_SECONDS", "0")))
    return batch


def schedules(tenant: str) -> list[Schedule]:
    """Return schedules of a tenant that are due when they have never run."""
    return [
        Schedule(
            replace(pipeline(name), steps=(slow,)),
            ONCE_A_YEAR,
            given={
                "a": [product(number, slug=f"{name}-{number}", external_id=f"{name}{number}") for number in range(3)]
            },
            tenant=tenant,
        )
        for name in NAMES
    ]


def main() -> None:
    """Run what is due of a tenant."""
    with Database() as db:
        for ran in run_due(db, schedules(sys.argv[1])):
            say(f"{ran.schedule.pipeline.name} {'busy' if ran.busy else 'ran'}")
            assert not ran.failed, ran


if __name__ == "__main__":
    main()
