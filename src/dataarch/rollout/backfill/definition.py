"""What a backfill is to do, as a revision says it; and its digest, by which a changed one is known."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self, TypedDict, Unpack

from dataarch.errors import InvalidChange, shown

__all__ = ["Definition", "Given"]

LONGEST_NAME = 200


class Given(TypedDict, total=False):
    """What a definition can leave out."""

    where: str | None
    matches: str | None
    key: Sequence[str] | None
    schema: str | None


@dataclass(frozen=True, slots=True)
class Definition:
    """A backfill.

    Attributes:
        name: its own; books, commands and the gate know it by this.
        table: the table's name.
        sets: the columns that it fills, each with an SQL expression over the row.
        schema: the table's; None is where the search path finds it.
        where: SQL, the rows that are concerned; None is all of them.
        matches: SQL that holds for a row that is done; None: each column is what its expression gives.
        key: columns of a unique key to go by; None is the primary key.
    """

    name: str
    table: str
    sets: tuple[tuple[str, str], ...]
    schema: str | None = None
    where: str | None = None
    matches: str | None = None
    key: tuple[str, ...] | None = None

    @classmethod
    def of(cls, name: str, table: str, sets: Mapping[str, str], **given: Unpack[Given]) -> Self:
        """Return a definition as it is written in a revision.

        Raises:
            InvalidChange: it has no name, fills nothing, fills a column of its key, or an expression is empty.
        """
        key = given.get("key")
        found = cls(
            name,
            table,
            tuple(sorted(sets.items())),
            given.get("schema"),
            given.get("where"),
            given.get("matches"),
            None if key is None else tuple(key),
        )
        found._check()
        return found

    @classmethod
    def from_json(cls, name: str, written: Mapping[str, Any]) -> Self:
        """Return the definition that the books have."""
        given: Given = {
            "schema": written["schema"],
            "where": written["where"],
            "matches": written["matches"],
            "key": written["key"],
        }
        return cls.of(name, written["table"], written["sets"], **given)

    def to_json(self) -> str:
        """Return it as the books keep it: the same text for the same definition."""
        return json.dumps(
            {
                "table": self.table,
                "sets": dict(self.sets),
                "schema": self.schema,
                "where": self.where,
                "matches": self.matches,
                "key": self.key,
            },
            ensure_ascii=False,
            sort_keys=True,
        )

    @property
    def digest(self) -> str:
        """What no other definition has."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    def _check(self) -> None:
        if not self.name or len(self.name) > LONGEST_NAME or not self.name.isprintable():
            raise InvalidChange(
                f"{shown(self.name)} names no backfill.", hint=f"Give it a name of 1 to {LONGEST_NAME} printable signs."
            )
        if not self.sets:
            raise InvalidChange(
                f"The backfill {self.name} fills no column.", hint="Give sets={column: expression}.", table=self.table
            )
        for what, said in (*self.sets, ("where", self.where), ("matches", self.matches)):
            if said is not None and (not said.strip() or "\0" in said):
                raise InvalidChange(
                    f"The backfill {self.name} has no expression for {what}.", hint="Write SQL.", table=self.table
                )
        if self.key is not None and (not self.key or len(set(self.key)) < len(self.key)):
            raise InvalidChange(
                f"The backfill {self.name} has a key of no columns, or of one twice.",
                hint="Name the columns of a unique key, or leave key out for the primary key.",
                table=self.table,
            )
