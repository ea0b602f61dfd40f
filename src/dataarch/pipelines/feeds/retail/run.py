"""Load a series of files, one transaction a tenant and some days, and count what came of every line."""

from __future__ import annotations

import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from operator import attrgetter
from pathlib import Path
from typing import NamedTuple
from uuid import UUID

from dataarch.clock import Month
from dataarch.database.unit_of_work import Database
from dataarch.errors import FeedError, Retryable
from dataarch.partitions.maintain import PAUSE, TRIES, ensure_months
from dataarch.pipelines.feeds.retail.extract import read_lines, source_name
from dataarch.pipelines.feeds.retail.load import load_lines, tenant_of
from dataarch.pipelines.feeds.retail.validate import OrderLine, Reject, order_line

__all__ = ["FileFailed", "FileLoaded", "Totals", "load_files"]

BATCH = 5_000
"""Lines of one tenant after which the transaction ends with the day: a statement may take 30 seconds, no more."""


@dataclass(frozen=True, slots=True)
class FileLoaded:
    """What came of one file: every line of it is loaded, a duplicate, or rejected."""

    file: Path
    read: int
    loaded: int
    duplicates: int
    rejected: int
    seconds: float


@dataclass(frozen=True, slots=True)
class FileFailed:
    """A file that could not be read to its end: nothing of it was loaded."""

    file: Path
    error: FeedError


@dataclass(slots=True)
class Totals:
    """The sums over files; ``reasons`` counts rejects by field and reason."""

    files: int = 0
    read: int = 0
    loaded: int = 0
    duplicates: int = 0
    rejected: int = 0
    seconds: float = 0.0
    reasons: Counter[tuple[str, str]] = field(default_factory=Counter)
    failed: list[FileFailed] = field(default_factory=list)

    def add(self, outcome: FileLoaded | FileFailed) -> None:
        """Count one file's outcome.

        Raises:
            AssertionError: a line was neither loaded nor recognised nor rejected, which must never happen.
        """
        if isinstance(outcome, FileFailed):
            self.failed.append(outcome)
            return
        if outcome.read != outcome.loaded + outcome.duplicates + outcome.rejected:
            raise AssertionError(f"lines of {outcome.file.name} are unaccounted for: {outcome}")
        self.files += 1
        self.read += outcome.read
        self.loaded += outcome.loaded
        self.duplicates += outcome.duplicates
        self.rejected += outcome.rejected
        self.seconds += outcome.seconds


def load_files(
    db: Database, files: Iterable[Path], on_reject: Callable[[Reject], None]
) -> Iterator[FileLoaded | FileFailed]:
    """Load files one after the other and yield what came of each.

    Args:
        db: the database, as the application role.
        files: in the order in which they are to be loaded.
        on_reject: called with each line that cannot be loaded.

    A file is read to its end before anything of it is written: one that is cut off leaves nothing behind, and the
    next one is loaded all the same. While one file is written the next one is read: memory holds two. Idempotent: a
    second run changes nothing, and one after a kill at any moment completes what is missing.
    """
    loader = Loader(db)
    started = time.perf_counter()
    for file, found in _read_ahead(files):
        if isinstance(found, FeedError):
            yield FileFailed(file, found)
        else:
            for reject in found.rejects:
                on_reject(reject)
            written = loader.load(source_name(file), found.lines)
            seconds = time.perf_counter() - started
            read, rejected = len(found.lines) + len(found.rejects), len(found.rejects)
            yield FileLoaded(file, read, written.loaded, written.duplicates, rejected, seconds)
        started = time.perf_counter()


class Found(NamedTuple):
    """What a file holds: lines that can be loaded, and lines that cannot."""

    lines: list[OrderLine]
    rejects: list[Reject]


def _read_ahead(files: Iterable[Path]) -> Iterator[tuple[Path, Found | FeedError]]:
    """Yield what each file holds; the next one is read by a thread while the server works for this one."""
    with ThreadPoolExecutor(max_workers=1) as reader:
        waiting: deque[tuple[Path, Future[Found | FeedError]]] = deque()
        for file in files:
            waiting.append((file, reader.submit(_read, file)))
            if len(waiting) > 1:
                earlier, found = waiting.popleft()
                yield earlier, found.result()
        for earlier, found in waiting:
            yield earlier, found.result()


def _read(file: Path) -> Found | FeedError:
    found = Found([], [])
    name = source_name(file)
    try:
        for raw in read_lines(file):
            outcome = order_line(name, raw)
            if isinstance(outcome, OrderLine):
                found.lines.append(outcome)
            else:
                found.rejects.append(outcome)
    except FeedError as broken:
        return broken
    return found


class Written(NamedTuple):
    """How many lines were new, and how many were there already, in the database or earlier in the same file."""

    loaded: int
    duplicates: int


class Loader:
    """Writes lines, and remembers which tenants and months it has found, so that each is asked for once."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._tenants: dict[str, UUID] = {}
        self._months: set[Month] = set()

    def load(self, source: str, lines: Iterable[OrderLine]) -> Written:
        """Write the lines of one source, a transaction a tenant and some days.

        Raises:
            Retryable: a lock was not granted through all tries.
            DataArchError: the server is lost, or refuses; what was committed stays, and a second run completes it.
        """
        by_tenant: dict[str, dict[UUID, OrderLine]] = defaultdict(dict)
        repeated = 0
        for line in lines:
            unique = by_tenant[line.tenant_slug]
            repeated += line.id in unique
            unique.setdefault(line.id, line)
        self._ensure_months({Month.of(line.at) for unique in by_tenant.values() for line in unique.values()})
        loaded = duplicates = 0
        for slug, unique in by_tenant.items():
            for batch in batches(sorted(unique.values(), key=attrgetter("at"))):
                new = self._load_batch(slug, source, batch)
                loaded += new
                duplicates += len(batch) - new
        return Written(loaded, duplicates + repeated)

    def _ensure_months(self, months: set[Month]) -> None:
        ensure_months(self._db, months - self._months)
        self._months |= months

    def _load_batch(self, slug: str, source: str, lines: Sequence[OrderLine]) -> int:
        if slug not in self._tenants:
            self._tenants[slug] = tenant_of(self._db, slug, lines[0].country)
        for attempt in range(TRIES - 1):
            try:
                return self._write(slug, source, lines)
            except Retryable:
                time.sleep(PAUSE * 2**attempt)
        return self._write(slug, source, lines)

    def _write(self, slug: str, source: str, lines: Sequence[OrderLine]) -> int:
        with self._db.tenant(self._tenants[slug]) as session:
            return load_lines(session, lines, source)


def batches(lines: Sequence[OrderLine]) -> Iterator[Sequence[OrderLine]]:
    """Yield lines, which are in the order of their time, in batches of whole days.

    A day is not divided: the feed books one receipt for what it needs.
    """
    begun = 0
    for at in range(1, len(lines)):
        if at - begun >= BATCH and lines[at].at.date() != lines[at - 1].at.date():
            yield lines[begun:at]
            begun = at
    if lines:
        yield lines[begun:]
