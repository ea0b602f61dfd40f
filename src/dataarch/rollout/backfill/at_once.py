"""A table with few rows is filled and compared in the transaction that must know it verified, while nobody writes."""

from __future__ import annotations

from sqlalchemy import Connection

from dataarch.errors import NotVerified
from dataarch.partitions.quoting import ident, literal
from dataarch.rollout.backfill.batch import is_of_a_row, said
from dataarch.rollout.backfill.books import SCHEMA, Record
from dataarch.rollout.backfill.registration import check
from dataarch.rollout.backfill.session import FAILURES, one_row, seeing_all, send
from dataarch.rollout.backfill.shape import shape_of
from dataarch.rollout.backfill.statements import Statements
from dataarch.rollout.dual_write import in_force

__all__ = ["fill_at_once"]


def fill_at_once(connection: Connection, record: Record, most: int) -> bool:
    """Fill and compare all rows of a table, and write down that it is verified, if it has at most so many.

    Args:
        connection: in the transaction of the contract step; writers of the table wait until it ends.
        record: the backfill.
        most: rows at the most.

    Returns:
        Whether that was done; False where the table has more rows, and then nothing was done.

    Raises:
        NotVerified: a row cannot be filled, or is not what it should be once it is. The transaction is to be undone.
    """
    place = ident(record.table_name, record.schema_name)
    with seeing_all(connection):
        rows = one_row(connection, f"SELECT count(*) FROM (SELECT FROM {place} LIMIT {most + 1}) AS counted")[0]
        if rows > most:
            return False
        statements = Statements(record.definition, shape_of(connection, record.definition, record.schema_name))
        check(connection, record.definition, statements.shape)
        send(connection, f"LOCK TABLE {place} IN SHARE ROW EXCLUSIVE MODE")
        try:
            send(connection, statements.update_all())
        except FAILURES as error:
            if not is_of_a_row(error):
                raise
            raise NotVerified(
                f"The backfill {record.name} cannot fill every row of {record.table_name}: {said(error)}.",
                hint=f"Find out which: dataarch backfill run {record.name}.",
                table=record.table_name,
            ) from None
        rows, differing = one_row(connection, statements.comparison())
    if differing:
        raise NotVerified(
            f"{differing:,} of {rows:,} rows of {record.table_name} are not what the backfill {record.name} makes of"
            " them.",
            hint=f"See which: dataarch backfill run {record.name} && dataarch backfill verify {record.name}.",
            table=record.table_name,
        )
    _write_down(connection, record, rows)
    return True


def _write_down(connection: Connection, record: Record, rows: int) -> None:
    name = literal(record.name)
    send(connection, f"DELETE FROM {SCHEMA}.backfill_failures WHERE name = {name}")
    send(
        connection,
        f"UPDATE {SCHEMA}.backfills SET started_at = coalesce(started_at, now()), finished_at = now(), runs = runs + 1,"
        f" verified_at = now(), verified_rows = {rows}, verified_digest = digest, differing = 0, differences = '[]',"
        f" dual_write = dual_write OR {in_force(connection, record.name)}"
        f" WHERE name = {name}",
    )
