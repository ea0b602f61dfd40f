"""Sessions as one process has them, in whatever state its cache is, by a clock that the test moves."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from sqlalchemy import event

from dataarch.caching.database import Database
from dataarch.caching.session_cache import Limits, Sessions
from dataarch.caching.views import SessionView
from dataarch.clock import utcnow
from fixtures.tenants import Inhabited

WARM, COLD, WITHOUT = "remembered", "forgotten", "without a cache"

NOWHERE = "redis://127.0.0.1:1/0"
"""Where no Redis is."""

NO_TOKENS = [
    "",
    "x",
    "A" * 42,
    "A" * 44,
    "A" * 42 + "\n",
    "A" * 42 + "\x00",
    "A" * 42 + "=",
    "A" * 42 + "é",
    "A" * 42 + "\ud800",
    "А" * 43,  # noqa: RUF001  # Cyrillic
    "٣" * 43,
    " " * 43,
    "A" * 43,
    "A" * 1_000_000,
    "' OR 1=1 --",
    None,
    b"A" * 43,
    43,
    ["A" * 43],
]


@dataclass
class Clock:
    """The time, as the test says it is."""

    now: datetime = field(default_factory=utcnow)

    def __call__(self) -> datetime:
        return self.now

    def forward(self, **time: float) -> None:
        """Let time pass."""
        self.now += timedelta(**time)


@dataclass
class Desk:
    """Where users sign in: a door to the database, and its cache in some state."""

    db: Database
    home: Inhabited
    clock: Clock
    state: str = WARM
    limits: Limits = field(default_factory=Limits)

    @property
    def sessions(self) -> Sessions:
        return self.db.cache.sessions.under(self.limits, clock=self.clock)

    def create(self, data: dict[str, object] | None = None) -> str:
        token, _ = self.sessions.create(self.home.id, self.home.user_id, data)
        return self.prepared(token)

    def prepared(self, token: str) -> str:
        """Bring the cache into its state."""
        if self.state == WARM:
            self.sessions.get(self.home.id, token)
        else:
            self.db.cache.invalidate_all()
        return token

    def get(self, token: str) -> SessionView | None:
        return self.sessions.get(self.home.id, self.prepared(token))

    def touch(self, token: str) -> SessionView | None:
        return self.sessions.touch(self.home.id, self.prepared(token))

    def remembers(self, token: str) -> bool:
        """Return whether the session is served without asking the database."""
        hits = self.db.cache.stats()["session"].hit
        assert self.sessions.get(self.home.id, token) is not None
        return self.db.cache.stats()["session"].hit > hits


@contextmanager
def statements(*databases: Database) -> Iterator[list[str]]:
    """Collect what is sent about sessions."""
    sent: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        if "user_sessions" in statement:
            sent.append(statement.split(maxsplit=1)[0])

    for database in databases:
        event.listen(database.engine, "before_cursor_execute", note)
    try:
        yield sent
    finally:
        for database in databases:
            event.remove(database.engine, "before_cursor_execute", note)
