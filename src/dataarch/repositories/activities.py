"""The activity log: the latest of a user, and search in metadata."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, ClassVar, TypedDict, Unpack
from uuid import UUID

from sqlalchemy import BigInteger, DateTime, Row, Text, bindparam, cast, func, select
from sqlalchemy.orm import aliased

from dataarch.clock import aware
from dataarch.database.row_keys import row_id
from dataarch.errors import InvalidValue
from dataarch.models import UserActivity
from dataarch.partitions.windows import latest
from dataarch.repositories.bulk.ingest import ingest
from dataarch.repositories.bulk.outcome import BulkResult
from dataarch.repositories.queries import Queries
from dataarch.repositories.repository import AppendRepository

__all__ = ["ActivityQueries", "ActivityRepository"]

MOST_FOUND = 10_000


class Within(TypedDict, total=False):
    """What a search is bounded by.

    Attributes:
        since: the earliest instant.
        until: the instant before which all happened.
        limit: how many at the most, 1 to 10,000; by default 1000.
    """

    since: datetime | None
    until: datetime | None
    limit: int


FOUND_BY = aliased(
    UserActivity,
    func.find_activity(
        bindparam("filter", type_=UserActivity.metadata_.type),
        # as text: the driver has no infinity
        cast(bindparam("since", type_=Text()), DateTime(timezone=True)),
        cast(bindparam("until", type_=Text()), DateTime(timezone=True)),
        bindparam("max_rows", type_=BigInteger()),
    ).table_valued(*UserActivity.__table__.columns),
)
FOUND = select(FOUND_BY).order_by(FOUND_BY.created_at.desc(), FOUND_BY.id)
ROWS_FOUND = FOUND.with_only_columns(*(getattr(FOUND_BY, one.key) for one in UserActivity.__mapper__.column_attrs))

OF_USER = select(UserActivity).where(UserActivity.user_id == bindparam("user_id"))
LOG: Any = UserActivity.__table__
# on the table, so that the session's work for objects is spared
ROWS_OF_USER = select(
    *(column if column.key == name else column.label(name) for name, column in UserActivity.__mapper__.columns.items())
).where(LOG.c.tenant_id == bindparam("tenant_id"), LOG.c.user_id == bindparam("user_id"))


class ActivityQueries(Queries[UserActivity]):
    """Reads of a tenant's activity log."""

    model: ClassVar[type[UserActivity]] = UserActivity

    def get(self, id_: UUID | str) -> UserActivity | None:
        """Return the activity with this id, or None; looked for in every month."""
        return self.get_many([id_])[0]

    def latest(self, user_id: UUID | str, limit: int = 50) -> list[UserActivity]:
        """Return what a user did last, newest first; the cost does not grow with the log.

        Raises:
            InvalidValue: the id is no UUID, or the limit is negative.
        """
        return latest(self.session, OF_USER, limit=limit, parameters={"user_id": row_id(user_id)})

    def latest_rows(self, user_id: UUID | str, limit: int = 50) -> list[Row[*tuple[Any, ...]]]:
        """Return the same as rows, by the names of the attributes: in less time, and not to be changed."""
        self.session.flush()
        whose = {"tenant_id": self.tenant_id, "user_id": row_id(user_id)}
        return latest(self.session.connection(), ROWS_OF_USER, limit=limit, parameters=whose)

    def search(self, metadata: Any, **within: Unpack[Within]) -> Sequence[UserActivity]:
        """Return the activities whose metadata contains this JSON, newest first.

        Args:
            metadata: what must be in it, as PostgreSQL's ``@>`` reads it: each key with its value, at the top level or
                nested in the same way; each element of an array.
            within: the bounds of the search, see :class:`Within`. Naming a period saves the months outside of it.

        Raises:
            InvalidValue: the limit is out of bounds.
            InvalidJson: metadata is nothing that jsonb can hold.
            NaiveDatetime: an instant has no zone.

        Guarantee: the tenant's index on metadata is used under row-level security (``find_activity``).
        """
        return self.session.scalars(FOUND, _asked(metadata, **within)).all()

    def search_rows(self, metadata: Any, **within: Unpack[Within]) -> Sequence[Row[*tuple[Any, ...]]]:
        """Return the same as rows, by the names of the attributes: in less time, and not to be changed."""
        return self.session.execute(ROWS_FOUND, _asked(metadata, **within)).all()


def _asked(metadata: Any, **within: Unpack[Within]) -> dict[str, object]:
    limit = within.get("limit", 1000)
    if not 1 <= limit <= MOST_FOUND:
        raise InvalidValue(
            f"A search cannot find {limit} activities.", hint=f"Give a limit of 1 to {MOST_FOUND}.", value=limit
        )
    since, until = within.get("since"), within.get("until")
    return {
        "filter": metadata,
        "since": "-infinity" if since is None else aware(since).isoformat(),
        "until": "infinity" if until is None else aware(until).isoformat(),
        "max_rows": limit,
    }


class ActivityRepository(ActivityQueries, AppendRepository[UserActivity]):
    """Reads of a tenant's activity log, and additions to it; nothing that was logged is ever changed."""

    def ingest(self, rows: Iterable[Any]) -> BulkResult:
        """Write many activities at the speed of COPY; see :func:`.bulk.ingest.ingest`, which the owner calls directly.

        Args:
            rows: mappings, objects, or an Arrow table; any number, an iterator too. The same id twice is one row.

        Returns:
            How many were written and how many were there already, and each row that was refused, with its position and
            its error: one bad row costs the good ones nothing.
        """
        return ingest(self.session, rows)
