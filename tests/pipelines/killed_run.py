"""Run a pipeline in children that are killed, and tell what became of each.

Reads lines of pipeline, tenant, number of records, and seconds.
One process imports everything once, and forks for each line; it has no connection of its own.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from typing import Any
from uuid import UUID

from dataarch.caching.database import Database
from dataarch.pipelines.runner import run
from pipelines.listed import pipeline, product, shops

PIPELINES = {"own": pipeline("killed"), "shops": shops("killed")}
BATCH = 40


def given(name: str, tenant_id: UUID, number: int) -> dict[str, list[Any]]:
    """Return sources with records of which some are none, some are refused, and some come twice."""
    sources = plain(number)
    if name == "shops":
        for records in sources.values():
            for at, record in enumerate(records):
                if isinstance(record, dict):
                    record["shop"] = shop(tenant_id, at % 4)
    return sources


def shop(tenant_id: UUID, number: int) -> str:
    """Return the slug of a shop; the last one has none."""
    return f"shop-{number}-{tenant_id.hex[-12:]}" if number < 3 else ""


def plain(number: int) -> dict[str, list[Any]]:
    """Return the same without shops."""
    made: list[Any] = [product(at, price=at) for at in range(number)]
    made[7::50] = ["?" for _ in made[7::50]]
    made[11::50] = [product(at, slug="No Slug") for at in range(11, number, 50)]
    again = [product(at, price=at + 1) for at in range(0, number, 10)]
    return {"a": made + again, "b": [product(0, price=7), "?"]}


def load(name: str, tenant_id: UUID, records: int) -> None:
    """Run the pipeline to its end."""
    with Database() as db:
        os.write(1, b"ready\n")
        run(db, PIPELINES[name], given(name, tenant_id, records), tenant_id=tenant_id, batch=BATCH)


def killed_after(name: str, tenant_id: UUID, records: int, seconds: float) -> bool:
    """Run the pipeline in a child, kill it after some seconds, and return whether it was at work."""
    ours, theirs = os.pipe()
    child = os.fork()
    if not child:
        os.dup2(theirs, 1)
        load(name, tenant_id, records)
        os._exit(0)
    os.close(theirs)
    os.read(ours, 6)
    os.close(ours)
    time.sleep(seconds)
    os.kill(child, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


def main() -> None:
    """Do what each line says."""
    for line in sys.stdin:
        name, tenant, records, seconds = line.split()
        landed = killed_after(name, UUID(tenant), int(records), float(seconds))
        os.write(1, b"killed\n" if landed else b"ended\n")


if __name__ == "__main__":
    main()
