"""Measure how long changes of the schema hold others up: PYTHONPATH=tests python -m benchmarks.rollout.stall

Each change goes there and back, on a table of a million rows made anew, as in tests/rollout/changes: through expand,
backfill and contract, and down again, with the backfills that there are on the way. Meanwhile two writers and two
readers of each version of the application, by sessions and by SQL, are at work, each a process of its own, of which one
turn is one transaction. Ends with 1 where a turn takes longer than 250 ms, fails, or leaves a row that is not as it was
written; with 2 where the machine is too busy to tell: that happened while nothing was changed too, or a process that
reads no table, and asks the same server for 1, waited then for half as long. Servers: as in benchmarks/main_job.py, of
a superuser.

    python -m benchmarks.rollout.stall --rows 100000 rename-column "add-index, partitioned"
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psycopg
from rich.console import Console
from rich.table import Table

from benchmarks.partitions.history import admin_url, fresh_database
from benchmarks.partitions.verdict import Verdict, together
from dataarch.database.settings import Settings
from fixtures.servers import libpq
from rollout.changes.change_support import Project
from rollout.changes.traffic import WORKERS, Worker, differing
from rollout.changes.traffic_books import Book, Facts, Form
from rollout.changes.traffic_cases import CASES
from rollout.changes.traffic_road import Road, books_of, prepared

LIMIT = 250.0
"""Milliseconds that nobody may be held up for."""

PAUSE = 0.01
"""Seconds between two turns of a process."""

TRIES = 3
"""How often a change is measured while the machine stands still meanwhile."""

SIDES = ("previous", "following")
SHARES = 4
"""Of all rows, those that one writer writes: two of each version have a share each."""

SPAWN = get_context("spawn")
Written = dict[str, dict[int, Facts | None]]
Lost = Mapping[str, frozenset[str]]
"""The facts that went with their column, by table."""


class Unchecked(Book):
    """The book of a reader in a process of his own, who does not know what others write."""

    def turns(self, numbers: Iterable[int]) -> dict[int, int]:
        """Return no row: any of them may be written meanwhile."""
        return dict.fromkeys(set(numbers) & set(), 0)


@dataclass
class Longest:
    """The longest turn while something was done, in milliseconds, whose it was, and how many turns there were."""

    stall: float = 0.0
    who: str = ""
    turns: int = 0

    def add(self, stall: float, who: str, turns: int = 1) -> None:
        """Count turns, of which the longest took so long."""
        self.turns += turns
        if stall > self.stall:
            self.stall, self.who = stall, who


@dataclass(frozen=True)
class Told:
    """What a process has to say in the end: its turns by what was done, what failed, and what it has written."""

    turns: Mapping[int, Longest]
    failed: Sequence[str]
    written: Written


@dataclass(frozen=True)
class Place:
    """Where and as whom a process works."""

    case: str
    side: str
    number: int
    rows: int
    url: str

    @property
    def share(self) -> tuple[int, int]:
        """The rows that are its own, if it writes."""
        return SIDES.index(self.side) * 2 + self.number // 2, SHARES


@dataclass
class Signals:
    """What the processes are told: what is done now, that every row is filled, and that it is time to end."""

    doing: Any = field(default_factory=lambda: SPAWN.Value("i", 0))
    filled: Any = field(default_factory=SPAWN.Event)
    ended: Any = field(default_factory=SPAWN.Event)
    turns: Any = field(default_factory=lambda: SPAWN.Array("i", len(WORKERS)))


def work(place: Place, written: Written, lost: Lost, signals: Signals, told: Any) -> None:
    """Be one worker of a version until told to end."""
    case = CASES[place.case]
    what, by, writes = WORKERS[place.number]
    forms: tuple[Form, ...] = getattr(case, place.side)
    books = {
        table: (Book if writes else Unchecked)(book.facts, place.rows, written[table], place.share, lost[table])
        for table, book in books_of(case, place.rows).items()
    }
    found: dict[int, Longest] = {}
    doing = [0]
    who = f"{place.side}, {what}"

    def ended() -> bool:
        doing[0] = signals.doing.value
        signals.turns[place.number] += 1
        return bool(signals.ended.is_set())

    def tell(seconds: float) -> None:
        # who was held up by what began meanwhile counts for both
        for key in {doing[0], signals.doing.value}:
            found.setdefault(key, Longest()).add(seconds * 1_000, who, 1 if key == doing[0] else 0)

    worker = Worker(
        who,
        by,
        writes,
        [(form, books[form.table]) for form in forms],
        place.url,
        random.Random(place.number),
        signals.filled.is_set,
        told=tell,
        pause=PAUSE,
    )
    worker.work(ended)
    told.put(Told(found, worker.failed, {name: book.written for name, book in books.items()} if writes else {}))


def pulse(url: str, signals: Signals, told: Any) -> None:
    """Ask for 1 until told to end: what takes long then is the machine."""
    found: dict[int, Longest] = {}
    with psycopg.connect(url, autocommit=True) as connection:
        while not signals.ended.is_set():
            doing, began = signals.doing.value, time.perf_counter()
            connection.execute("SELECT 1")
            time.sleep(PAUSE)
            found.setdefault(doing, Longest()).add((time.perf_counter() - began - PAUSE) * 1_000, "the machine")
    told.put(found)


@contextmanager
def pulsing(url: str, signals: Signals) -> Iterator[dict[int, Longest]]:
    """Have the machine watched meanwhile; at the end it is said how long it stood still, by what was done."""
    told, found = SPAWN.Queue(), dict[int, Longest]()
    process = SPAWN.Process(target=pulse, args=(url, signals, told), daemon=True)
    process.start()
    try:
        yield found
    finally:
        signals.ended.set()
        found.update(told.get(timeout=60))
        process.join()


class Processes:
    """A version with two writers and two readers, each a process."""

    def __init__(self, place: Place, books: Mapping[str, Book], signals: Signals, found: dict[int, Longest]) -> None:
        self.place = place
        self.forms: Sequence[Form] = getattr(CASES[place.case], place.side)
        self.books = books
        self.signals = signals
        self.found = found
        self.failed: list[str] = []
        self._told: Any = SPAWN.Queue()
        self._processes: list[Any] = []

    def start(self) -> None:
        """Begin, or begin again; return when each of them works."""
        self.signals.ended.clear()
        lost = {name: book.forgotten for name, book in self.books.items()}
        for number in range(len(WORKERS)):
            place = Place(self.place.case, self.place.side, number, self.place.rows, self.place.url)
            own, of = place.share
            written = {
                name: {row: said for row, said in book.written.items() if (row - 1) % of == own}
                for name, book in self.books.items()
            }
            process = SPAWN.Process(target=work, args=(place, written, lost, self.signals, self._told), daemon=True)
            process.start()
            self._processes.append(process)
        self.breathe()

    def breathe(self) -> None:
        """Wait until each of the workers has done something more."""
        wanted = [turns + 50 for turns in self.signals.turns]
        while self._processes and any(turns < more for turns, more in zip(self.signals.turns, wanted, strict=True)):
            if not all(process.is_alive() for process in self._processes):
                raise AssertionError("a worker has ended")
            time.sleep(PAUSE)

    def stop(self) -> None:
        """Let all of them end, and enter what they have written into the books."""
        self.signals.ended.set()
        for _ in self._processes:
            told: Told = self._told.get(timeout=60)
            self.failed += told.failed
            for doing, longest in told.turns.items():
                self.found.setdefault(doing, Longest()).add(longest.stall, longest.who, longest.turns)
            for form in self.forms:
                self._enter(form, told.written.get(form.table, {}))
        for process in self._processes:
            process.join()
        self._processes = []

    def fill(self) -> None:
        """Tell them that every row has the new form from now on."""
        self.signals.filled.set()

    def differing(self) -> list[str]:
        """Return rows that are not what the books say; none while those who write them are at work."""
        if self._processes:
            return []
        return [one for form in self.forms for one in differing(self.place.url, form, self.books[form.table])]

    def _enter(self, form: Form, written: Mapping[int, Facts | None]) -> None:
        book = self.books[form.table]
        lost = {name: None for name in book.forgotten if not form.knows(name)}
        for number, said in written.items():
            book.put(number, said and {**said, **lost})


@dataclass(frozen=True)
class Step:
    """What was done, the longest turn meanwhile, how long the machine stood still, and if it says that all wait."""

    what: str
    turns: Longest
    machine: float
    said: bool

    @property
    def verdict(self) -> Verdict:
        """Whether nobody was held up for too long, where the revision does not say so."""
        if self.turns.stall <= LIMIT or self.said:
            return Verdict.HOLDS
        machine = self.at_rest or self.machine >= self.turns.stall / 2
        return Verdict.CANNOT_TELL if machine else Verdict.BROKEN

    @property
    def at_rest(self) -> bool:
        """Whether nothing was changed meanwhile, so that it is the machine by which somebody is held up."""
        return not self.what.endswith((", up", ", down", ", run"))


@dataclass(frozen=True)
class Measured:
    """What was found of a change: its steps, what failed or differs, and the seconds that it took."""

    steps: Sequence[Step]
    wrong: Sequence[str]
    seconds: float

    @property
    def worst(self) -> Step:
        """The step of the change in which somebody was held up the longest, where that was not the machine."""
        judged = [one for one in self.steps if not one.at_rest]
        return max(judged, key=lambda one: (one.verdict is not Verdict.CANNOT_TELL, one.turns.stall))

    @property
    def at_rest(self) -> float:
        """The longest turn while nothing was changed."""
        return max(one.turns.stall for one in self.steps if one.at_rest)

    @property
    def verdict(self) -> Verdict:
        """Whether the change holds nobody up, and loses nothing."""
        return Verdict.BROKEN if self.wrong else together(one.verdict for one in self.steps)


def measured(settings: Settings, name: str, rows: int) -> Measured:
    """Let a change go there and back."""
    case, url, found, done = CASES[name], libpq(settings.owner), dict[int, Longest](), ["beginning"]
    with TemporaryDirectory() as folder:
        project = Project(Path(folder), settings)
        prepared(project, case, rows)
        for statement in ("VACUUM (FREEZE, ANALYZE)", "CHECKPOINT"):
            project.sql(statement)
        books, watching = books_of(case, rows), Signals()
        sides = [Processes(Place(name, side, 0, rows, url), books, Signals(), found) for side in SIDES]

        def passing(what: str) -> None:
            done.append(what)
            for signals in (watching, *(side.signals for side in sides)):
                signals.doing.value = len(done) - 1

        began = time.perf_counter()
        with pulsing(url, watching) as machine:
            try:
                wrong = Road(project, case, sides[0], sides[1], books, passing).travel()
            finally:
                for side in sides:
                    side.stop()
        steps = [
            Step(done[key], one, machine.get(key, Longest()).stall, said=done[key] == case.waits)
            for key, one in sorted(found.items())
        ]
        failed = [one for side in sides for one in side.failed]
        return Measured(steps, failed + wrong, time.perf_counter() - began)


def shown(found: Mapping[str, Measured], rows: int, console: Console) -> Verdict:
    """Print what was measured; return whether it holds."""
    table = Table(title=f"{rows:,} rows; limit: {LIMIT:.0f} ms, nothing failed, nothing differs")
    for heading in ("change", "longest stall, ms", "while", "whose", "at rest, ms", "turns/s", "failed", "verdict"):
        table.add_column(heading, justify="right" if heading.endswith(("ms", "/s", "ed")) else "left")
    for name, one in found.items():
        worst = one.worst
        turns = sum(step.turns.turns for step in one.steps) / one.seconds
        cells = (f"{worst.turns.stall:.0f}", worst.what, worst.turns.who, f"{one.at_rest:.0f}", f"{turns:,.0f}")
        table.add_row(name, *cells, str(len(one.wrong)), one.verdict.name.replace("_", " ").lower())
    console.print(table)
    for name, one in found.items():
        for said in one.wrong[:3]:
            console.print(f"{name}: {said}", markup=False)
    return together(one.verdict for one in found.values())


def main() -> None:
    """Measure and print, and end with what was found."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("changes", nargs="*", help=f"of: {'; '.join(CASES)}; by default all")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--steps", action="store_true", help="print the longest stall of each step too")
    given = parser.parse_args()
    if unknown := set(given.changes) - CASES.keys():
        parser.error(f"no such change: {', '.join(sorted(unknown))}")
    console = Console(width=150)
    busy = os.getloadavg()[0]
    found: dict[str, Measured] = {}
    with fresh_database(admin_url()) as settings:
        for name in given.changes or CASES:
            for _ in range(TRIES):
                found[name] = one = measured(settings, name, given.rows)
                if one.verdict is not Verdict.CANNOT_TELL:
                    break
            console.print(f"{name}: {one.worst.turns.stall:.0f} ms, {one.worst.what}", highlight=False)
            for step in one.steps if given.steps else []:
                cells = f"{step.turns.stall:.0f} ms, machine {step.machine:.0f} ms, {step.turns.who}"
                console.print(f"    {step.what}: {cells}, {step.turns.turns} turns", highlight=False)
    verdict = shown(found, given.rows, console)
    console.print(f"load before: {busy:.1f}, after: {os.getloadavg()[0]:.1f}, on {os.cpu_count()} cores")
    sys.exit(verdict)


if __name__ == "__main__":
    main()
