"""What people write of columns and expressions on the command line: ``first_name=split_part(full_name, ' ', 1)``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sqlalchemy import text

from dataarch.errors import InvalidChange
from dataarch.rollout.drafting.copies import COPY, copied, told
from dataarch.rollout.drafting.naming import quoted
from dataarch.rollout.drafting.tables import Table
from dataarch.rollout.drafting.types import FULL_TYPE, Kind, kind_of
from dataarch.rollout.operations.statements import verbatim

__all__ = ["assigned", "kind_of_expression", "renamed"]

KIND = text(
    f"SELECT {FULL_TYPE} FROM pg_attribute WHERE attrelid = 'pg_temp.dataarch_answer'::regclass AND attname = 'value'"
)

CHECKED = text(
    f"SELECT pg_get_expr(conbin, conrelid) FROM pg_constraint WHERE conrelid = '{COPY}'::regclass AND contype = 'c'"
)


def assigned(written: Sequence[str], *, option: str) -> dict[str, str]:
    """Return columns with their expressions.

    Args:
        written: each as ``column=expression``.
        option: what they were given with, for the hint.

    Raises:
        InvalidChange: one has no column or no expression, a column is named twice, or there are none.
    """
    found: dict[str, str] = {}
    for one in written:
        name, sign, expression = one.partition("=")
        if not (name.strip() and sign and expression.strip()) or name.strip() in found:
            raise InvalidChange(
                f"{one!r} says no column and its expression.",
                hint=f"Write each column once: {option} \"first_name=split_part(full_name, ' ', 1)\".",
                value=one,
            )
        found[name.strip()] = expression.strip()
    if not found:
        raise InvalidChange(
            f"{option} is missing.", hint=f'Write, for each column: {option} "full_name=first_name || last_name".'
        )
    return found


def kind_of_expression(table: Table, expression: str) -> Kind:
    """Return the type that an expression over a row has; raises InvalidChange if it is none."""
    with copied(table) as connection:
        told(
            connection,
            f"CREATE TEMPORARY TABLE dataarch_answer AS SELECT ({expression}) AS value FROM {COPY}",
            refusal=f"The rows of {quoted(table.name)} give no {expression}",
            hint=f"Its columns are: {', '.join(table.columns)}.",
        )
        kind = str(connection.scalar(KIND))
    return kind_of(table.connection, kind)


def renamed(table: Table, expression: str, names: Mapping[str, str], *, kinds: Mapping[str, str]) -> str:
    """Return an expression as the server writes it once columns have other names.

    Args:
        table: its columns are those of the expression.
        expression: over the columns of the row.
        names: what columns are called afterwards, in the order in which they are renamed.
        kinds: columns that the table does not have yet, with their types.

    Raises:
        InvalidChange: it is no expression over these columns.
    """
    with copied(table) as connection:
        for column, kind in kinds.items():
            connection.execute(verbatim(f"ALTER TABLE {COPY} ADD {quoted(column)} {kind}"))
        told(
            connection,
            f"ALTER TABLE {COPY} ADD CONSTRAINT dataarch_answer CHECK (({expression}) IS NULL)",
            refusal=f"The rows of {quoted(table.name)} give no {expression}",
            hint=f"Its columns are: {', '.join([*table.columns, *kinds])}.",
        )
        for old, new in names.items():
            connection.execute(verbatim(f"ALTER TABLE {COPY} RENAME {quoted(old)} TO {quoted(new)}"))
        return str(connection.scalar(CHECKED)).removeprefix("(").removesuffix(" IS NULL)")
