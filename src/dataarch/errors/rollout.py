"""Changes of the schema while the application runs: what was asked, and what its backfill and verification say."""

from __future__ import annotations

from dataarch.errors.data import ConstraintError
from dataarch.errors.server import Retryable, ServerError
from dataarch.errors.values import InvalidValue


class InvalidChange(InvalidValue):
    """A change of the schema that cannot be made as it was asked for."""


class NotVerified(ServerError):
    """A change may not be completed: its old and its new form have not been compared, or differ."""


class BackfillChanged(ServerError):
    """A backfill is not what it was when it began."""


class BackfillBusy(Retryable):
    """Others run the same backfill."""


class DualWriteConflict(ConstraintError):
    """A row was given an old and a new form that say different things."""
