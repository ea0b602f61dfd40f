"""What GIN indexes have put off while rows were written: PostgreSQL, "GIN Fast Update Technique"."""

from __future__ import annotations

from sqlalchemy import text
from sqlalchemy.orm import Session

from dataarch.models import Base, UserActivity
from dataarch.models.declared import qualified

__all__ = ["flush_pending"]

FLUSH = text("""
SELECT coalesce(sum(gin_clean_pending_list(index.oid)), 0)
FROM (SELECT CAST(:whole AS regclass) AS relid UNION SELECT relid FROM pg_partition_tree(CAST(:whole AS regclass)))
    AS part
JOIN pg_index ON indrelid = part.relid
JOIN pg_class AS index ON index.oid = indexrelid AND index.relkind = 'i'
JOIN pg_am ON pg_am.oid = index.relam AND amname = 'gin'
""")


def flush_pending(session: Session, *, model: type[Base] = UserActivity) -> int:
    """Put into the GIN indexes of a table, and of its partitions, the entries that were put off.

    Args:
        session: the owner's (``db.owner()``): only who owns an index may.
        model: whose table it is.

    Returns:
        How many pages were taken off the lists; 0 where nothing had been put off.

    Raises:
        PrivilegeMissing: the session is not the owner's.

    Guarantee: idempotent, and readers and writers go on meanwhile. VACUUM does the same, when it gets there.
    """
    table = Base.metadata.tables[str(model.__table__)]
    return int(session.scalar(FLUSH, {"whole": qualified(table.name, table.schema or "public")}) or 0)
