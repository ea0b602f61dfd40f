"""A dual write as a value that gives its SQL."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from dataarch.partitions.quoting import ident
from dataarch.rollout.dual_write.creation import creation
from dataarch.rollout.dual_write.forms import Forms
from dataarch.rollout.dual_write.removal import removal

__all__ = ["DualWrite"]


@dataclass(frozen=True)
class DualWrite(Forms):
    """Two forms of the same facts in one table, kept in step by a trigger; its attributes are those of Forms."""

    def creation(self) -> str:
        """Return a block of PL/pgSQL that makes the functions and the trigger."""
        return creation(self)

    def removal(self) -> str:
        """Return a block of PL/pgSQL that takes the trigger and the functions away."""
        return removal(self.name, self.table, self.schema)

    def create_sql(self) -> str:
        """Return the statement that makes the functions and the trigger.

        It takes SHARE ROW EXCLUSIVE on the table and waits for its writers: give it a ``lock_timeout``, or use
        ``op.create_dual_write``, which waits in short tries.
        """
        return f"DO $dual_write$\n{self.creation()}\n$dual_write$"

    def drop_sql(self) -> str:
        """Return the statement that takes them away; it takes ACCESS EXCLUSIVE on the table."""
        return f"DO $dual_write$\n{self.removal()}\n$dual_write$"

    def consistent_sql(self) -> str:
        """Return the condition that the two forms of a row say the same, over the columns of the table.

        The new form follows from the old one, or the old one from the new: for ``matches`` of a backfill. Values are
        compared as their types compare them; where a collation calls texts equal that are not the same, append
        ``::text COLLATE "C"`` to both sides.
        """
        sides = (_follows(side) for side in (self.forward, self.backward) if side)
        return " OR ".join(f"({side})" for side in sides)


def _follows(side: Mapping[str, str]) -> str:
    # a comment at the end of an expression ends with its line
    return " AND ".join(f"{ident(column)} IS NOT DISTINCT FROM ({expression}\n)" for column, expression in side.items())
