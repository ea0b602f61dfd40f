"""Locks of an upgrade: waited for briefly, given back before the next try, and named when they are not granted.

Whoever waits for a lock makes everybody else queue behind him, readers too where it is ACCESS EXCLUSIVE. So a revision
waits a moment; then it is rolled back whole, holds nothing while it pauses, and is run again. What it has committed in
its middle cannot be run again: there each later statement that is a transaction of its own is tried again by itself,
and any other gives up. Statements that say CONCURRENTLY keep nobody waiting, so that they may wait for longer.
"""

from __future__ import annotations

import logging
import re
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, event, text
from sqlalchemy.exc import DBAPIError

from dataarch.database.pauses import pauses
from dataarch.database.settings import Settings
from dataarch.errors import ConfigurationError, DataArchError, LockTimeout, shown
from dataarch.rollout.blockers import Watcher
from dataarch.rollout.concurrent_indexes import CONCURRENTLY, drop_unfinished, sqlstate
from dataarch.rollout.operations.statements import PATIENCE_SETTING

__all__ = ["Limits", "Patience", "patiently"]

logger = logging.getLogger(__name__)

PASSING = frozenset({"55P03", "40P01"})
"""SQLSTATEs of a lock that was not granted in time, and of a deadlock."""

COMMIT = re.compile(r"\s*(?:COMMIT|END)\b", re.IGNORECASE)
COMMITS_INSIDE = re.compile(r"\bCOMMIT\b|\A\s*CALL\b", re.IGNORECASE)

SAY_EVERY = 10.0
"""Seconds between two lines in the log about the same wait."""

SHOWN_STATEMENT = 300

Steps = Callable[..., Iterable[Any]]
"""Alembic's function from the present heads to the steps that are to be run."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How long an upgrade waits.

    Attributes:
        lock_timeout: seconds that one try waits for a lock, and others behind it.
        patience: seconds for which a revision is tried again after its first try.
    """

    lock_timeout: float
    patience: float

    @classmethod
    def of(cls, settings: Settings, given: Mapping[str, str]) -> Limits:
        """Return what ``-x lock_timeout=… -x lock_patience=…`` say, and for the rest the settings.

        Raises:
            ConfigurationError: one of them is no number of seconds that a server takes.
        """
        asked = {"upgrade_lock_timeout": "lock_timeout", "upgrade_patience": "lock_patience"}
        values = {field: given[name] for field, name in asked.items() if name in given}
        try:
            checked = Settings(**{"upgrade_lock_timeout": settings.upgrade_lock_timeout, **values})  # type: ignore[arg-type]
        except ValueError:
            written = " ".join(f"-x {asked[field]}={value}" for field, value in values.items())
            raise ConfigurationError(
                f"{shown(written)} says no time to wait.", hint="Give seconds, as -x lock_timeout=0.5.", value=written
            ) from None
        patience = checked.upgrade_patience if "upgrade_patience" in values else settings.upgrade_patience
        return cls(checked.upgrade_lock_timeout, patience)


@contextmanager
def patiently(connection: Connection, limits: Limits) -> Iterator[Patience]:
    """Let the statements of a connection wait as an upgrade may, for as long as this is open."""
    pid = connection.scalar(text("SELECT pg_backend_pid()"))
    patience = Patience(connection, limits, Watcher(connection, int(pid or 0)))
    listeners = (
        (connection.engine, "do_execute", patience.execute),
        (connection.engine, "do_executemany", patience.execute_many),
        (connection.engine, "do_execute_no_params", patience.execute_bare),
        (connection, "commit", patience.note_commit),
    )
    for target, name, listener in listeners:
        event.listen(target, name, listener)
    try:
        yield patience
    finally:
        for target, name, listener in listeners:
            event.remove(target, name, listener)
        patience.watcher.close()


class Patience:
    """Runs the steps of one upgrade or downgrade, each again and again until its locks are granted."""

    def __init__(self, connection: Connection, limits: Limits, watcher: Watcher) -> None:
        """Work on a connection; a transaction that is open there is its caller's, and stays open."""
        self.watcher = watcher
        self._connection = connection
        self._driver: Any = connection.connection.driver_connection
        self._limits = limits
        self._of_caller = False
        self._steps: deque[Any] | None = None
        self._step: Any = None
        self._committed = False
        self._statement = ""
        self._refused_first: float | None = None
        self._said = 0.0
        self._tries = 0

    def steps_of(self, planned: Steps) -> Steps:
        """Return the function for Alembic that gives the steps still to be run, as they were planned at first.

        What ``+2`` or ``-1`` means must not depend on how far a former try has come.
        """

        def steps(heads: Any, context: Any) -> Iterator[Any]:
            if self._steps is None:
                self._steps = deque(planned(heads, context))
            while self._steps:
                self._begin(self._steps[0])
                yield self._steps[0]
                self._steps.popleft()
                self._step = None

        return steps

    def run(self, once: Callable[[], None], *, of_caller: bool = False) -> None:
        """Run the steps; ``once`` lets Alembic go through those that are left.

        Args:
            once: called again after each lock that was not granted.
            of_caller: whether the connection's transaction is its caller's: then what is undone is undone to a
                savepoint.

        Raises:
            LockTimeout: a revision got no lock through all tries, or cannot be run again; ``blockers`` held it.
        """
        self._of_caller = of_caller
        while True:
            try:
                with self._connection.begin_nested() if of_caller else nullcontext():
                    once()
            except (DBAPIError, DataArchError) as refused:
                if sqlstate(refused) not in PASSING or self._step is None:
                    raise
                if not of_caller:
                    self._connection.rollback()
                self._pause(refused)
            else:
                return

    def execute(self, cursor: Any, statement: str, parameters: Any, context: Any) -> bool | None:
        """Run a statement in the place of SQLAlchemy: listener for ``do_execute``."""
        return self._watched(
            cursor, statement, lambda: context.dialect.do_execute(cursor, statement, parameters, context)
        )

    def execute_many(self, cursor: Any, statement: str, parameters: Any, context: Any) -> bool | None:
        """Run a statement with many sets of parameters: listener for ``do_executemany``."""
        do = context.dialect.do_executemany
        return self._watched(cursor, statement, lambda: do(cursor, statement, parameters, context))

    def execute_bare(self, cursor: Any, statement: str, context: Any) -> bool | None:
        """Run a statement without parameters: listener for ``do_execute_no_params``."""
        return self._watched(
            cursor, statement, lambda: context.dialect.do_execute_no_params(cursor, statement, context)
        )

    def note_commit(self, _connection: Connection) -> None:
        """Note that what the step did is committed: listener for ``commit``."""
        self._committed = True

    def _begin(self, step: Any) -> None:
        if step is not self._step:
            self._refused_first, self._tries = None, 0
            self.watcher.forget()
        self._step, self._committed = step, False
        self._tries += 1
        self._connection.execute(text(f"SET lock_timeout = {_milliseconds(self._limits.lock_timeout)}"))
        self._connection.execute(text(f"SET {PATIENCE_SETTING} = '{self._limits.patience} seconds'"))

    def _watched(self, cursor: Any, statement: str, execute: Callable[[], None]) -> bool | None:
        # the engine may have other connections; one for asyncio cannot be looked at, yet its revisions are run again
        if self._step is None or getattr(cursor, "connection", None) is not self._driver:
            return None
        self._statement = statement
        if cursor.connection.autocommit:
            self._committed = True
            self._again_and_again(cursor, statement, execute)
        else:
            with self.watcher.watching():
                execute()
            self._committed = self._committed or COMMIT.match(statement) is not None
        return True

    def _again_and_again(self, cursor: Any, statement: str, execute: Callable[[], None]) -> None:
        """Run a statement that is a transaction of its own: what it did is undone when its lock is not granted."""
        between, deadline = pauses(), time.monotonic() + self._limits.patience
        while True:
            try:
                with self._as_long_as_it_takes(cursor, statement), self.watcher.watching():
                    execute()
            except Exception as refused:
                last = time.monotonic() > deadline or COMMITS_INSIDE.search(statement) is not None
                if last or sqlstate(refused) not in PASSING:
                    raise
                self._tries += 1
                self._say()
                time.sleep(next(between))
            else:
                return

    @contextmanager
    def _as_long_as_it_takes(self, cursor: Any, statement: str) -> Iterator[None]:
        """Let what keeps nobody waiting wait for the whole patience at once, and leave no index that is not valid."""
        if not CONCURRENTLY.search(statement):
            yield
            return
        with cursor.connection.cursor() as beside:
            before = _setting(beside, "lock_timeout")
            if before != "0":
                beside.execute(f"SET lock_timeout = {_milliseconds(self._limits.patience)}")
            drop_unfinished(beside, statement, self._limits.patience)
            try:
                yield
            except Exception:
                # not for long: it may wait for the very same transaction, and the next run drops it too
                beside.execute(f"SET lock_timeout = {_milliseconds(self._limits.lock_timeout)}")
                drop_unfinished(beside, statement, 0)
                raise
            finally:
                beside.execute(f"SET lock_timeout = '{before}'")

    def _pause(self, refused: DBAPIError | DataArchError) -> None:
        now = time.monotonic()
        if self._refused_first is None:
            self._refused_first, self._between = now, pauses()
        if self._committed or now - self._refused_first > self._limits.patience:
            raise self._given_up() from refused
        self._say()
        time.sleep(next(self._between))

    def _say(self) -> None:
        if time.monotonic() - self._said > SAY_EVERY:
            self._said = time.monotonic()
            logger.warning("%s waits for a lock, and tries again; in the way: %s", self._name, self._named())

    @property
    def _name(self) -> str:
        return str(self._step.short_log) if self._step is not None else "The upgrade"

    def _named(self) -> str:
        return "; ".join(map(str, self.watcher.seen)) or "nobody who could be seen"

    def _given_up(self) -> LockTimeout:
        limits, statement = self._limits, " ".join(self._statement.split()).rstrip(";")
        cut = statement if len(statement) <= SHOWN_STATEMENT else f"{statement[:SHOWN_STATEMENT]}…"
        left = (
            "What it had committed in its middle stays: see what is left of it before you run it again."
            if self._committed
            else "Nothing of this revision was changed."
        )
        tries = "1 try" if self._tries == 1 else f"{self._tries} tries within {limits.patience:g} s"
        error = LockTimeout(
            f"A lock was not granted to the revision ({self._name}) in {tries}, each of {limits.lock_timeout:g} s: "
            f"{cut}. In the way: {self._named()}.",
            hint=f"{left} {self._advice()}",
            sqlstate="55P03",
        )
        error.blockers = self.watcher.seen
        return error

    def _advice(self) -> str:
        pids = [blocker.pid for blocker in self.watcher.seen if blocker.pid]
        end = f", or end them with SELECT {', '.join(f'pg_terminate_backend({pid})' for pid in pids)}" if pids else ""
        return (
            f"Run it again when they have ended{end}; DATAARCH_UPGRADE_PATIENCE, or -x lock_patience=600, lets it try "
            "for longer."
        )


def _milliseconds(seconds: float) -> int:
    # 0 would be without end
    return max(1, round(seconds * 1000))


def _setting(cursor: Any, name: str) -> str:
    cursor.execute(f"SELECT current_setting('{name}')")
    return str(cursor.fetchone()[0])
