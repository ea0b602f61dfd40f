"""The way of a change through a deployment, and back: which revisions are run, and which versions run meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from rollout.changes.change_support import Project
from rollout.changes.traffic import Population
from rollout.changes.traffic_books import Book
from rollout.changes.traffic_cases import GROUND, Case, facts_of

__all__ = ["Road", "books_of", "prepared"]


def prepared(project: Project, case: Case, rows: int) -> None:
    """Make the tables of a case anew, with so many rows each."""
    project.sql("DROP TABLE IF EXISTS orders, log, customers CASCADE")
    for table in case.tables:
        project.sql(GROUND[table].format(rows=rows))
    project.sql(case.before or "SELECT")


def books_of(case: Case, rows: int) -> dict[str, Book]:
    """Return what the rows of each table say before anybody writes."""
    return {table: Book(facts_of(case, table), rows) for table in case.tables}


@dataclass
class Road:
    """A change on its way, while one version or both are at work.

    Attributes:
        project: its folder and database.
        case: the change.
        previous: the version that is there first, and last.
        following: the version that comes with the change.
        books: of both.
        passing: called with what is done from now on.
    """

    project: Project
    case: Case
    previous: Population
    following: Population
    books: Mapping[str, Book]
    passing: Callable[[str], None] = lambda _what: None
    wrong: list[str] = field(default_factory=list)
    _schemas: list[list[str]] = field(default_factory=list)

    def travel(self) -> list[str]:
        """Go there and back; return what was not as it must be, other than what the versions themselves have noted."""
        names = self.project.write(self.case.change)
        early = [name for name in names if "_contract_" not in name]
        late = [name for name in names if name not in early]
        expand = [name for name in early if "_expand_" in name]
        self._start(self.previous)
        self._breathe("before", self.previous)
        self._up(expand)
        self._start(self.following)
        self._breathe("both", self.previous, self.following)
        self._up(early[len(expand) :])
        self._fill()
        self.previous.fill()
        self.following.fill()
        self._breathe("both, filled", self.previous, self.following)
        self.previous.stop()
        if self.case.lost:
            self.books[self.case.table].forget(self.case.lost)
        self._up(late)
        self._breathe("after", self.following)
        wrong = self.following.differing()
        self._down(late)
        self._start(self.previous)
        self._breathe("both again", self.previous, self.following)
        wrong += self.previous.differing() + self.following.differing()
        self.following.stop()
        self._down(early)
        self._breathe("before again", self.previous)
        self.previous.stop()
        return wrong + self.previous.differing() + self.wrong

    def _start(self, who: Population) -> None:
        self.passing("a version starts")
        who.start()

    def _breathe(self, when: str, *who: Population) -> None:
        self.passing(when)
        for one in who:
            one.breathe()

    def _up(self, names: list[str]) -> None:
        for name in names:
            self._schemas.append(self.project.schema())
            self.passing(f"{name[5:-3]}, up")
            self.project.up(name[:4])

    def _down(self, names: list[str]) -> None:
        for name in reversed(names):
            self.passing(f"{name[5:-3]}, down")
            self.project.down(f"{int(name[:4]) - 1:04}")
            before = self._schemas.pop()
            self._fill()
            self.wrong += [f"{name}, gone down: {one}" for one in sorted(set(before) ^ set(self.project.schema()))]

    def _fill(self) -> None:
        """Run and verify the backfills that are registered."""
        for name in self.project.unverified():
            self.passing(f"{name}, run")
            self.project.backfill(name)
