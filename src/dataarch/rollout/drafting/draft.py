"""What a change gives: the revisions of its phases, as Alembic's operations and not yet as files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from alembic.operations import MigrateOperation
from sqlalchemy import Connection

__all__ = ["Change", "Draft", "Phase"]


class Phase(StrEnum):
    """When a revision is run, in the order of a change."""

    EXPAND = "expand"
    BACKFILL = "backfill"
    CONTRACT = "contract"


@dataclass(frozen=True, slots=True)
class Draft:
    """One revision.

    Attributes:
        phase: the first word of the file's name.
        what: the rest of it, as words.
        text: the docstring: one sentence, then which locks and, of a contract, what it makes impossible.
        up: operations of the upgrade, in their order.
        down: operations of the downgrade, in their order.
        allows: rules of ``dataarch lint`` that it breaks for a reason, each with the reason.
    """

    phase: Phase
    what: str
    text: str
    up: tuple[MigrateOperation, ...]
    down: tuple[MigrateOperation, ...]
    allows: Mapping[str, str] = field(default_factory=dict)


class Change(Protocol):
    """A change of the schema that teams make, built from names."""

    def drafts(self, connection: Connection) -> list[Draft]:
        """Return its revisions in their order.

        Args:
            connection: to a database at the newest revision; it is asked, and nothing in it is changed.

        Raises:
            InvalidChange: the table, a column, a type or an expression does not fit.
        """
