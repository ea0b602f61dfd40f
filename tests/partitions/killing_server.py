"""Runs one maintenance after another, each in a process of its own that kills itself before its n-th step.

A step is a statement that is sent, or a change of a file. A request is a line of JSON, and so is the answer; it runs as
a program of its own because only a process with one thread can be forked safely.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import psycopg
import pyarrow.csv
import pyarrow.parquet  # noqa: F401  # loaded once, not in each process

from dataarch.database.settings import Settings
from dataarch.database.unit_of_work import Database
from fixtures.retirement import Place

FILE_STEPS = ("fsync", "rename", "replace", "unlink", "link")


def retire(place: Place) -> None:
    """Archive and drop."""
    place.maintenance().maintain()


def keep(place: Place) -> None:
    """Archive and keep."""
    place.maintenance(drop=False).maintain()


def drop(place: Place) -> None:
    """Drop without an archive, by name."""
    place.maintenance(keep=None, archive=False).retire(["visits_2020_01"])


def ensure(place: Place) -> None:
    """Make the months of rows that lie in a catch-all."""
    place.maintenance(keep=None).maintain()


def restore(place: Place) -> None:
    """Bring the archive back."""
    place.maintenance(keep=None).restore(place.folder / "visits_2020_01.parquet")


SCENARIOS: dict[str, Callable[[Place], None]] = {
    function.__name__: function for function in (retire, keep, drop, ensure, restore)
}


def _hooked(steps: Callable[[], None], function: Callable[..., Any]) -> Callable[..., Any]:
    def hooked(*given: Any, **named: Any) -> Any:
        steps()
        return function(*given, **named)

    return hooked


def _hook(at: int | None) -> Callable[[], int]:
    """Count the steps, and kill this process before one of them."""
    numbers = count(1)
    done = [0]

    def step() -> None:
        done[0] = next(numbers)
        if done[0] == at:
            os.kill(os.getpid(), signal.SIGKILL)

    for name in ("execute", "copy"):
        setattr(psycopg.Cursor, name, _hooked(step, getattr(psycopg.Cursor, name)))
    for name in FILE_STEPS:
        setattr(os, name, _hooked(step, getattr(os, name)))
    return lambda: done[0]


def _run(asked: dict[str, Any], answer: int) -> None:
    settings = Settings(**asked["settings"])
    steps = _hook(asked["at"])
    with Database(settings) as db:
        SCENARIOS[asked["scenario"]](Place(settings, db, Path(asked["folder"])))
    os.write(answer, json.dumps({"steps": steps()}).encode())


def _forked(asked: dict[str, Any]) -> str:
    """Return what the process said; nothing if it was killed."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            _run(asked, writing)
        except BaseException as error:  # noqa: BLE001  # told to the test
            os.write(writing, json.dumps({"error": repr(error)}).encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as said:
        answer = said.read()
    os.waitpid(child, 0)
    return answer or "{}"


if __name__ == "__main__":
    for line in sys.stdin:
        sys.stdout.write(_forked(json.loads(line)) + "\n")
        sys.stdout.flush()
