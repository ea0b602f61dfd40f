"""Values that Python refuses before they reach the server."""

from __future__ import annotations

from sqlalchemy.exc import DontWrapMixin

from dataarch.errors.base import DataArchError, shown


class InvalidValue(DataArchError, ValueError, DontWrapMixin):
    """A value that its type refuses before it reaches the server."""


class InvalidText(InvalidValue):
    """Text that PostgreSQL cannot hold, or of the wrong length."""


class InvalidEmail(InvalidValue):
    """Not an e-mail address that can be written to."""


class InvalidSlug(InvalidValue):
    """Not a slug: 1 to 63 of a-z, 0-9 and single hyphens between them."""


class InvalidMoney(InvalidValue):
    """Not an exact amount of money."""


class InvalidJson(InvalidValue):
    """A value that would not come back from jsonb as it went in."""


class PlanNotRun(InvalidValue):
    """What was asked of a plan can only be measured, and it was made without running it."""

    default_hint = "Explain the statement with analyze=True; what it writes is undone."


class InvalidCursor(InvalidValue):
    """A cursor that continues nothing here: damaged, or of another query, order, tenant, secret or version."""

    default_hint = "Begin again at the first page, without a cursor."


class InvalidPeriod(InvalidValue):
    """No day, week, month or year of the calendar, or one that gets no partition."""


class InvalidMonth(InvalidPeriod):
    """No month of the calendar, or one that gets no partition: before 1970 or more than 10 years ahead."""


class NaiveDatetime(InvalidValue):
    """A datetime without a UTC offset: nobody can say which instant it means."""

    default_hint = "Give it a zone, for example value.replace(tzinfo=datetime.UTC)."

    def __init__(self, value: object) -> None:
        super().__init__(f"The datetime {shown(value)} has no UTC offset, so it names no instant.", value=value)
