"""Rows that must exist so that others may refer to them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, combinations, count, islice, product

from sqlalchemy import ForeignKeyConstraint, text
from sqlalchemy.orm import Session
from sqlalchemy.sql.schema import Table

from dataarch.models import Inventory, InventoryMovement, Product
from dataarch.models.base import new_id
from dataarch.proof.judge import Judge, Row, as_json, written
from dataarch.proof.pools import Pool, pool, usual

__all__ = ["Placed", "World", "foreign_keys", "place", "referring"]

CHANGED_AT_ONCE = 3
"""Columns changed at once in search of a row; no rule of a table ties more together."""


@dataclass(frozen=True, slots=True)
class Placed:
    """A row and the table that it is for."""

    table: Table
    row: Row


def place(session: Session, placed: Placed, *, once: bool = False) -> None:
    """Insert a row with raw SQL, past every Python type; once: leave one alone that is there already."""
    columns = ", ".join(placed.row)
    table = placed.table.name
    conflict = " ON CONFLICT DO NOTHING" if once else ""
    session.execute(
        text(
            f"INSERT INTO public.{table} ({columns}) SELECT {columns}"  # names are the models' own
            f" FROM jsonb_populate_recordset(NULL::public.{table}, CAST(:rows AS jsonb)){conflict}"
        ),
        {"rows": as_json([placed.row])},
    )


def foreign_keys(table: Table) -> list[ForeignKeyConstraint]:
    """Return the foreign keys of a table, by name."""
    return sorted(table.foreign_key_constraints, key=lambda key: str(key.name))


def referring(key: ForeignKeyConstraint) -> dict[str, str]:
    """Return which column of the child takes its value from which column of the parent."""
    return {element.parent.name: element.column.name for element in key.elements}


def _changed(row: Row, pools: Mapping[str, Pool], width: int) -> list[Row]:
    return [
        {**row, **dict(zip(names, values, strict=True))}
        for names in combinations(pools, width)
        for values in product(*(pools[name] for name in names))
    ]


@dataclass(slots=True)
class World:
    """A maker of valid rows, each unlike those before, and of all that they refer to."""

    judge: Judge
    numbers: Iterator[int] = field(default_factory=lambda: count(1))

    def plain(self, table: Table) -> Row:
        """Return a row with a value in every column, which no CHECK refuses.

        Raises:
            LookupError: none can be found among the values worth trying.
        """
        number = next(self.numbers)
        for rows in self.near(table, {column.name: usual(column, number) for column in written(table)}):
            if accepted := self.judge.accepted(table, rows):
                return accepted[0]
        raise LookupError(f"No row of {table.name} was found that its CHECKs accept.")

    def near(self, table: Table, row: Row, *, fixed: Iterable[str] = ()) -> Iterator[list[Row]]:
        """Give a row, then those that differ from it in one column, in two, in three; never in the fixed ones."""
        number = next(self.numbers)
        pools = {column.name: pool(column, number) for column in written(table)}
        several = {name: values for name, values in pools.items() if len(values) > 1 and name not in fixed}
        for width in range(CHANGED_AT_ONCE + 1):
            yield _changed(row, several, width)

    def parents(self, child: Placed, *, without: ForeignKeyConstraint | None = None) -> list[Placed]:
        """Return the rows that a row refers to, and those that they refer to, first things first.

        Args:
            child: the row.
            without: a foreign key of its table whose parent is left out.
        """
        keys = [key for key in _upwards(child.table) if key is not without]
        return list(chain.from_iterable(self._parent(child, key) for key in keys))

    def _parent(self, child: Placed, key: ForeignKeyConstraint) -> Sequence[Placed]:
        table = key.referred_table
        from_child = {theirs: child.row[ours] for ours, theirs in referring(key).items()}
        parent = Placed(table, {**self.plain(table), **_referring_back(table, child), **from_child})
        return [*self.parents(parent), parent]

    def ledger(self, changes: Sequence[int]) -> list[Placed]:
        """Return a product with its stock and the movements that led to it, and all that they refer to.

        Args:
            changes: what each movement adds or takes; at least one, none 0, and no sum from the left negative.
        """
        goods = Placed(_table(Product), self.plain(_table(Product)))
        of_product = {"tenant_id": goods.row["tenant_id"], "product_id": goods.row["id"]}
        movements = list(_movements(changes))
        stock = {"quantity": sum(changes), "last_sequence": len(changes)}
        return [
            *self.parents(goods),
            goods,
            Placed(_table(Inventory), {**of_product, **stock}),
            *(Placed(_table(InventoryMovement), {**of_product, **movement}) for movement in movements),
        ]


def _table(model: type[Inventory | InventoryMovement | Product]) -> Table:
    return model.metadata.tables[model.__tablename__]


def _upwards(table: Table) -> list[ForeignKeyConstraint]:
    """Return the foreign keys to rows that exist before: not to its own table, nor the one that closes a circle."""
    return [key for key in foreign_keys(table) if key.referred_table is not table and not key.use_alter]


def _referring_back(table: Table, child: Placed) -> Row:
    """Return what a parent takes from the child that it refers to in turn: stock refers to its last movement."""
    return {
        ours: child.row[theirs]
        for key in foreign_keys(table)
        if key.use_alter and key.referred_table is child.table
        for ours, theirs in referring(key).items()
        if table.columns[ours].computed is None
    }


def _movements(changes: Sequence[int]) -> Iterator[Row]:
    for at, change in enumerate(changes):
        before = sum(islice(changes, at))
        yield {
            "sequence": at + 1,
            "next_sequence": 0 if at + 1 == len(changes) else at + 2,
            "id": new_id(),
            "quantity_before": before,
            "change": change,
            "quantity_after": before + change,
            "reason": "adjustment",
        }
