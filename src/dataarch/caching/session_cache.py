"""Sessions of users: kept in PostgreSQL, remembered in the cache, found by tokens that are stored nowhere.

::

    token, session = db.cache.sessions.create(tenant_id, user_id, {"device": "phone"})
    db.cache.sessions.touch(tenant_id, token)  # at each request; None where there is no such session
    db.cache.sessions.revoke(tenant_id, token)
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from msgspec.structs import asdict, replace
from sqlalchemy import ColumnElement, bindparam, delete, insert, or_, select, update
from sqlalchemy.orm import Session

from dataarch.caching.region import Region
from dataarch.caching.units import Units
from dataarch.caching.views import SessionView
from dataarch.clock import aware, utcnow
from dataarch.database.settings import Settings
from dataarch.database.tenancy import tenant_uuid
from dataarch.errors import ConfigurationError
from dataarch.models import UserSession
from dataarch.models.json_values import storable

__all__ = ["Limits", "Sessions"]

TOKEN_BYTES = 32
TOKEN = re.compile(r"[A-Za-z0-9_-]{43}")
"""What 32 random bytes look like; anything else is no token, and nobody is asked."""

BATCH = 200
"""Rows that are removed in one transaction, each announced by its key: the other sessions stay remembered."""

TABLE = UserSession.metadata.tables[UserSession.__tablename__]
REMOVAL = delete(TABLE).where(TABLE.c.tenant_id == bindparam("tenant"), TABLE.c.token_hash == bindparam("found"))
COLUMNS = [TABLE.c[name] for name in SessionView.__struct_fields__]


@dataclass(frozen=True, slots=True)
class Limits:
    """How long sessions last.

    Attributes:
        idle: after so long without a touch a session ends.
        lifetime: after so long it ends, however much it is used.
        touch_every: a touch is written no more often than this; shorter than ``idle``, and a session may end as much
            before its idle time is over.

    Raises:
        ConfigurationError: the times do not fit together.
    """

    idle: timedelta = timedelta(minutes=30)
    lifetime: timedelta = timedelta(days=14)
    touch_every: timedelta = timedelta(seconds=60)

    def __post_init__(self) -> None:
        if not timedelta(0) <= self.touch_every < self.idle <= self.lifetime:
            raise ConfigurationError(
                f"Sessions cannot be touched every {self.touch_every}, end when idle for {self.idle}"
                f" and after {self.lifetime} at the latest.",
                hint="DATAARCH_SESSION_TOUCH_EVERY must be less than DATAARCH_SESSION_IDLE, and that no more than"
                " DATAARCH_SESSION_LIFETIME; all in seconds.",
            )

    @classmethod
    def of(cls, settings: Settings) -> Limits:
        """Return the limits of the settings."""
        seconds = (settings.session_idle, settings.session_lifetime, settings.session_touch_every)
        return cls(*(timedelta(seconds=each) for each in seconds))


class Sessions:
    """The sessions of a database's users; safe to share between threads.

    A token is given out once, by :meth:`create`; the table and the cache know its SHA-256. What is no token, is
    unknown, revoked, expired or another tenant's gives None and no error, and nobody can tell which it was.

    Inside a unit of work of the same tenant all of it is part of that unit of work: written when it is committed, and
    not if it is rolled back. Elsewhere each call is a unit of work of its own. Under asyncio it runs in ``run_sync``.

    Guarantee: when a revocation's commit has returned, no process gets the session, whatever becomes of the cache; and
    none gets it beyond its expiry, which is judged at each read by the clock of the reader.
    """

    def __init__(
        self, region: Region, units: Units, limits: Limits | None = None, *, clock: Callable[[], datetime] = utcnow
    ) -> None:
        self._region = region
        self._units = units
        self._clock = clock
        self.limits = limits or Limits()

    def under(self, limits: Limits | None = None, *, clock: Callable[[], datetime] | None = None) -> Sessions:
        """Return the same sessions under other limits, or by another clock."""
        return Sessions(self._region, self._units, limits or self.limits, clock=clock or self._clock)

    # ── one session ───────────────────────────────────────────────────────────────────────────────────────────────

    def create(
        self, tenant_id: UUID | str, user_id: UUID, data: Mapping[str, Any] | None = None
    ) -> tuple[str, SessionView]:
        """Sign a user in.

        Args:
            tenant_id: whose user.
            user_id: the user.
            data: what to keep with the session: JSON.

        Returns:
            The token, 43 characters of A-Z, a-z, 0-9, _ and -, to be given to the user and kept nowhere; the session.

        Raises:
            UnknownUser: the tenant has no such user.
            InvalidJson: the data is none.
        """
        tenant, now = self._tenant(tenant_id), self._now()
        token = secrets.token_urlsafe(TOKEN_BYTES)
        view = SessionView(tenant, user_id, storable(dict(data or {})), now, now, now + self.limits.lifetime)
        with self._units.session(tenant) as session:
            session.execute(insert(UserSession).values(token_hash=_hash_of(token), **asdict(view)))
        return token, view

    def get(self, tenant_id: UUID | str, token: str | None) -> SessionView | None:
        """Return the session of a token, as the last commit left it; None where there is none."""
        tenant, found = self._tenant(tenant_id), _hash_of(token)
        if found is None:
            return None
        key = self._region.key(found, tenant=tenant)
        view: SessionView | None = self._region.get_or_create(key, self._read, creator_args=((tenant, found), {}))
        return view if view is not None and self._lasts(view) else None

    def touch(self, tenant_id: UUID | str, token: str | None) -> SessionView | None:
        """Return the session of a token and begin its idle time anew; None where there is none.

        Guarantee: writes at most once every ``touch_every``, however many call; nobody waits for another's touch.
        """
        view, found = self.get(tenant_id, token), _hash_of(token)
        if view is None or found is None:
            return None
        now = self._now()
        due = now - self.limits.touch_every
        if view.seen_at > due:
            return view
        this = _row(view.tenant_id, found)
        with self._units.session(view.tenant_id) as session:
            waiting = select(UserSession.token_hash).where(*this, UserSession.seen_at <= due)
            if session.scalar(waiting.with_for_update(skip_locked=True, key_share=True)) is not None:
                session.execute(update(UserSession).where(*this).values(seen_at=now))
                return replace(view, seen_at=now)
        # another one touches it, or has just done so, or it is gone
        return self.get(view.tenant_id, token)

    def revoke(self, tenant_id: UUID | str, token: str | None) -> bool:
        """End the session of a token; False where there was none. Idempotent."""
        tenant, found = self._tenant(tenant_id), _hash_of(token)
        if found is None:
            return False
        with self._units.session(tenant) as session:
            gone = delete(UserSession).where(*_row(tenant, found)).returning(UserSession.token_hash)
            return session.scalar(gone) is not None

    def ends_at(self, view: SessionView) -> datetime:
        """Return when a session ends unless it is touched before: what a cookie's lifetime may be made of."""
        return min(view.seen_at + self.limits.idle, view.expires_at)

    # ── many ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def revoke_all(self, tenant_id: UUID | str, user_id: UUID, *, except_token: str | None = None) -> int:
        """End all sessions of a user, but for one if its token is given; return how many. Idempotent.

        A session that is being created meanwhile may come after it: change the password first.
        """
        tenant, kept = self._tenant(tenant_id), _hash_of(except_token)
        with self._units.session(tenant) as session:
            theirs = select(UserSession.token_hash).where(
                UserSession.tenant_id == tenant, UserSession.user_id == user_id
            )
            found = session.scalars(theirs.order_by(UserSession.token_hash)).all()
            return _remove(session, tenant, [each for each in found if each != kept])

    def remove_expired(self, tenant_id: UUID | str) -> int:
        """Remove a tenant's sessions that are over, and return how many; nobody gets them before that either.

        Guarantee: transactions are short, and rows that others hold are left for the next time; safe to run twice at
        once, and to stop.
        """
        tenant, now = self._tenant(tenant_id), self._now()
        over = or_(UserSession.expires_at <= now, UserSession.seen_at <= now - self.limits.idle)
        those = select(UserSession.token_hash).where(UserSession.tenant_id == tenant, over).limit(BATCH)
        removed, more = 0, True
        while more:
            with self._units.session(tenant) as session:
                found = session.scalars(those.with_for_update(skip_locked=True)).all()
                removed += _remove(session, tenant, found)
                more = len(found) == BATCH
        return removed

    # ── within ────────────────────────────────────────────────────────────────────────────────────────────────────

    def _tenant(self, tenant_id: UUID | str) -> UUID:
        self._units.ready()
        return tenant_uuid(tenant_id)

    def _now(self) -> datetime:
        return aware(self._clock())

    def _lasts(self, view: SessionView) -> bool:
        now = self._now()
        return now < view.expires_at and now - view.seen_at < self.limits.idle

    def _read(self, tenant: UUID, found: str) -> SessionView | None:
        # columns, not objects: what a session has loaded before may be old
        with self._units.session(tenant) as session:
            row = session.execute(select(*COLUMNS).where(*_row(tenant, found))).one_or_none()
        return None if row is None else SessionView(*row)


def _hash_of(token: object) -> str | None:
    """Return what a token is found by; None for what is no token."""
    if not isinstance(token, str) or not TOKEN.fullmatch(token):
        return None
    return hashlib.sha256(token.encode()).hexdigest()


def _row(tenant: UUID, found: str) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    return UserSession.tenant_id == tenant, UserSession.token_hash == found


def _remove(session: Session, tenant: UUID, hashes: Sequence[str]) -> int:
    """Remove rows by their keys, so that no other session is forgotten."""
    if not hashes:
        return 0
    rows = [{"tenant": tenant, "found": each} for each in hashes]
    return session.connection().execute(REMOVAL, rows).rowcount
