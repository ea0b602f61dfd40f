"""How peers are measured: ways to do the same work, which take turns, and what each took in terms of the first."""

from __future__ import annotations

import gc
import time
import warnings
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from statistics import median
from typing import Any

from rich.progress import Progress

__all__ = ["Absent", "Took", "Turns", "Way", "by", "measured", "needed", "ratio", "timed_async"]

INSTALL = "not installed: python -m pip install -r requirements/bench.txt"


class Absent(Exception):
    """A peer cannot be measured here; the message says why."""


@dataclass(frozen=True)
class Took:
    """What one run cost.

    Attributes:
        seconds: by the clock.
        processor: seconds of this process's processor.
        result: what the run returned.
    """

    seconds: float
    processor: float
    result: object = None


@dataclass(frozen=True)
class Way:
    """One way to do the work.

    Attributes:
        name: what the table calls it.
        measure: does the work once and returns what that cost.
        policies: whether it runs as the application role under row-level security; else as the owner of the tables.
    """

    name: str
    measure: Callable[[], Took]
    policies: bool = False


def by(name: str, run: Callable[[], object], *, policies: bool = False) -> Way:
    """Return a way that is one call."""
    return Way(name, partial(_timed, run), policies)


def needed(module: str, why: str = INSTALL) -> Any:
    """Return a module that may not be there; raises :class:`Absent` with the reason."""
    with warnings.catch_warnings():
        # what a peer makes of its own dependencies is its own business
        warnings.simplefilter("ignore", DeprecationWarning)
        if not _is_there(module):
            raise Absent(why)
        return import_module(module)


def _is_there(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # of the package that would hold it
        return False


def _timed(run: Callable[[], object]) -> Took:
    processor, start = time.process_time(), time.perf_counter()
    result = run()
    return Took(time.perf_counter() - start, time.process_time() - processor, result)


async def timed_async(run: Callable[[], Awaitable[object]]) -> Took:
    """Measure inside of a running loop, so that starting and stopping one does not count."""
    processor, start = time.process_time(), time.perf_counter()
    result = await run()
    return Took(time.perf_counter() - start, time.process_time() - processor, result)


@dataclass(frozen=True)
class Turns:
    """How often the ways take turns.

    Attributes:
        repetitions: turns of each way that count.
        warm: turns before them that do not.
        runs: of one turn, one after the other.
    """

    repetitions: int
    warm: int = 1
    runs: int = 1


def measured(
    ways: Sequence[Way],
    turns: Turns,
    *,
    before: Callable[[], object] = lambda: None,
    check: Callable[[Took], object] = lambda _took: None,
    progress: Progress,
) -> dict[str, list[Took]]:
    """Return what each way took, run by run; ways take turns, and who comes first alternates.

    Args:
        ways: each with a name of its own.
        turns: how many.
        before: is called before each run, and not measured.
        check: is called after each run, and raises where the work is not done.
        progress: where a bar is shown.
    """
    took: dict[str, list[Took]] = defaultdict(list)
    total = turns.warm + turns.repetitions
    task = progress.add_task("", total=total * len(ways))
    with _rows_at_rest():
        for turn in range(total):
            for way in ways if turn % 2 else reversed(ways):
                progress.update(task, description=f"{way.name}, {turn + 1} of {total}")
                for _ in range(turns.runs):
                    before()
                    one = way.measure()
                    check(one)
                    took[way.name].append(replace(one, result=None))
                progress.advance(task)
    progress.remove_task(task)
    return {name: found[turns.warm * turns.runs :] for name, found in took.items()}


@contextmanager
def _rows_at_rest() -> Iterator[None]:
    """Keep the collector of garbage from walking over what is there before, such as the rows that all are given."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def ratio(baseline: Sequence[Took], mine: Sequence[Took]) -> float:
    """Return the median of the times in terms of the baseline's, taken in pairs."""
    return median(one.seconds / base.seconds for base, one in zip(baseline, mine, strict=True))
