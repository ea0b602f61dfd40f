"""Rows that the database refuses, by their constraints or because they have changed."""

from __future__ import annotations

from dataarch.errors.base import DataArchError


class ConstraintError(DataArchError):
    """A constraint refused the row, and nothing was written."""


class MissingValue(ConstraintError):
    """A column that must have a value has none."""


class AlreadyExists(ConstraintError):
    """Another row has this key already."""


class SlugTaken(AlreadyExists):
    """The tenant has a row with this slug already."""


class EmailTaken(AlreadyExists):
    """The tenant has a user with this e-mail address already."""


class ExternalIdTaken(AlreadyExists):
    """The tenant has a row with this external id already."""


class IdempotencyKeyReused(AlreadyExists):
    """A call's key was used before, for something else."""


class UnknownReference(ConstraintError):
    """The row refers to one that is not there, or one that others refer to was to be removed."""


class UnknownTenant(UnknownReference):
    """No such tenant."""


class UnknownUser(UnknownReference):
    """The tenant has no such user."""


class UnknownProduct(UnknownReference):
    """The tenant has no such product."""


class UnknownReservation(UnknownReference):
    """The tenant has no such reservation."""


class UnknownRun(UnknownReference):
    """The run of a pipeline that is referred to is not there, or belongs to another tenant."""


class LedgerBroken(UnknownReference):
    """A stock movement does not follow its predecessor, or the quantity on hand is not that of the last movement."""


class CheckFailed(ConstraintError):
    """A CHECK constraint refused the row."""


class InsufficientStock(CheckFailed):
    """More was asked for than is available, reserved for nobody; both numbers are None where only the server knows."""

    available: int | None = None
    asked: int | None = None


class StockOverflow(CheckFailed):
    """More would be on hand than a bigint holds."""


class ReservationEnded(CheckFailed):
    """A reservation was shipped or released already."""


class ReservationExpired(CheckFailed):
    """A reservation has expired, and its stock may have gone to somebody else."""


class StaleRow(DataArchError):
    """A row has been changed or removed since it was read: writing it would undo what somebody else has done."""

    default_hint = "Nothing of it was written: read the row again, and decide anew."
