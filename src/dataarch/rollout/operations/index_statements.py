"""The statements that bring an index to a partitioned table and to all its partitions, and that take it away.

Most are answers of the catalog: a query gives the statements that are still to be run. So a query asked again after a
crash, or after a partition has come or gone, gives what is left to do; and psql can run the same with ``\\gexec``.

The parent's index comes first (``ON ONLY``): from then on PostgreSQL gives each new partition the index by itself.
Partitions that are partitioned themselves get theirs next and are attached from the top down, so that whatever is
attached below belongs to the parent's index. Then each leaf's index is built concurrently and attached; with the last
one PostgreSQL declares the parent's index valid.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from alembic.operations.ops import CreateIndexOp
from sqlalchemy import Column, Table
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import CreateIndex
from sqlalchemy.types import NullType

from dataarch.partitions.quoting import ident, literal
from dataarch.rollout.operations.statements import bounded, lock_with_partitions

__all__ = ["ANOTHER_INDEX", "IndexStatements", "creation_of_parent"]

ANOTHER_INDEX = "DA007"
"""SQLSTATE of the refusal when the name is taken by an index with another definition."""

PATIENCE = "60 seconds"
"""How long each lock is tried for; no other lock is held meanwhile."""


def creation_of_parent(creation: CreateIndexOp) -> str:
    """Return the DO block that makes the parent's index, or finds it there as it should be.

    What it should be is asked of the server, which writes definitions in its own way: the index is made on an empty
    temporary table of the same shape, and the two definitions are compared.
    """
    # another style would double each percent sign
    dialect = postgresql.dialect(paramstyle="named")  # type: ignore[no-untyped-call]
    index = creation.to_index()
    table_of_names = cast("Table", index.table)
    for name in creation.kw.get("postgresql_include") or ():
        if name not in table_of_names.c:
            table_of_names.append_column(Column(name, NullType()))
    head = f" ON {dialect.identifier_preparer.format_table(table_of_names)} "
    body = str(CreateIndex(index).compile(dialect=dialect)).partition(head)[2]
    kind = "UNIQUE INDEX" if creation.unique else "INDEX"
    name, table = ident(str(creation.index_name)), ident(creation.table_name, creation.schema)
    shape = f"pg_temp.{ident(creation.table_name)}"
    return bounded(
        f"""
            DECLARE
                parent regclass := {literal(table)}::regclass;
                present regclass := (
                    SELECT oid FROM pg_class WHERE relname = {literal(str(creation.index_name))}
                        AND relnamespace = (SELECT relnamespace FROM pg_class WHERE oid = parent));
                definitions text[];
            BEGIN
                IF present IS NULL THEN
                    CREATE {kind} {name} ON ONLY {table} {body};
                ELSE
                    CREATE TEMPORARY TABLE {ident(creation.table_name)} (LIKE {table});
                    CREATE {kind} {name} ON {shape} {body};
                    SELECT array_agg(DISTINCT indisunique || substr(written, strpos(written, ' USING ')))
                        INTO definitions
                        FROM pg_index, pg_get_indexdef(indexrelid) AS written
                        WHERE indexrelid = present AND indrelid = parent OR indrelid = '{shape}'::regclass;
                    IF array_length(definitions, 1) > 1 OR NOT EXISTS (
                        SELECT FROM pg_index WHERE indexrelid = present AND indrelid = parent)
                    THEN
                        RAISE EXCEPTION 'the name % is taken by something else: %', present,
                            coalesce(pg_get_indexdef(present), 'no index') USING ERRCODE = '{ANOTHER_INDEX}';
                    END IF;
                    DROP TABLE {shape};
                END IF;
            END;""",
        patience=PATIENCE,
    )


@dataclass(frozen=True, slots=True)
class IndexStatements:
    """The statements for one index of one table, whose definition the parent's index has."""

    index_name: str
    table_name: str
    schema: str | None

    @property
    def is_valid(self) -> str:
        """Query: whether the parent's index is valid; no row where it is not there."""
        return f"{self._members} SELECT indisvalid FROM root"

    @property
    def builds_under_way(self) -> str:
        """Query: how many other sessions build an index on a partition, such as one whose client was killed."""
        return (
            "SELECT count(*) FROM pg_stat_progress_create_index"
            f" WHERE relid IN (SELECT relid FROM pg_partition_tree({self._table})) AND pid <> pg_backend_pid()"
        )

    @property
    def steps(self) -> tuple[str, ...]:
        """Queries for statements, in their order; all of them have nothing left when the index is complete."""
        return (
            self._create_in_between,
            self._attach("NOT isleaf"),
            self.leftovers,
            self._build,
            self._attach("isleaf"),
        )

    @property
    def clean_up(self) -> str:
        """Query for statements that drop what was built for this index and never attached."""
        return f"""
WITH {self._tree}
SELECT CASE WHEN isleaf THEN format('DROP INDEX CONCURRENTLY %s', indexrelid::regclass)
            ELSE format({literal(bounded("DROP INDEX %s;", patience=PATIENCE))}, indexrelid::regclass) END
FROM tree JOIN pg_index ON indrelid = relid JOIN pg_class ON pg_class.oid = indexrelid
WHERE relname = name AND NOT relispartition
ORDER BY level DESC, relid
""".strip()

    @property
    def drop(self) -> str:
        """DO block that drops the index of the parent and of all partitions, where it is there."""
        return bounded(
            f"""
            DECLARE
                present regclass := (
                    SELECT oid FROM pg_class JOIN pg_index ON indexrelid = oid
                    WHERE relname = {literal(self.index_name)} AND indrelid = {self._table}::regclass);
            BEGIN
                IF present IS NOT NULL THEN
                    {lock_with_partitions(ident(self.table_name, self.schema))}
                    EXECUTE format('DROP INDEX %s', present);
                END IF;
            END;""",
            patience=PATIENCE,
        )

    @property
    def verdict(self) -> str:
        """DO block for a script: an error where the index is not valid at its end."""
        return f"""
DO $verdict$
BEGIN
    IF NOT EXISTS ({self._members} SELECT FROM root WHERE indisvalid) THEN
        RAISE EXCEPTION 'the index % is not complete', {literal(self.index_name)}
            USING HINT = 'A partition has come or gone meanwhile: run the script again from the last COMMIT.';
    END IF;
END
$verdict$
""".strip()

    @property
    def _table(self) -> str:
        return literal(ident(self.table_name, self.schema))

    @property
    def _tree(self) -> str:
        """CTE: each partition, and what its index is called; the server cuts what is too long, after the digest."""
        return f"""tree AS (
    SELECT relid, parentrelid, isleaf, level,
           (CASE WHEN octet_length(whole) <= 63 THEN whole ELSE 'ix_' || left(md5(whole), 8) || '_' || whole END)::name
               AS name
    FROM pg_partition_tree({self._table}) JOIN pg_class ON oid = relid,
         LATERAL (SELECT relname || '_' || {literal(self.index_name)} AS whole) AS named
    WHERE level > 0
)"""

    @property
    def _members(self) -> str:
        """CTEs: each partition with the index attached to it, or one that could be attached."""
        return f"""
WITH {self._tree}, definition AS (
    SELECT indexrelid, indrelid, indisunique, indisvalid, relname, relispartition,
           substr(written, strpos(written, ' USING ')) AS body
    FROM pg_index JOIN pg_class ON oid = indexrelid, pg_get_indexdef(indexrelid) AS written
    WHERE indrelid IN (SELECT relid FROM pg_partition_tree({self._table}))
), root AS (
    SELECT indexrelid, indisunique, indisvalid, body FROM definition
    WHERE indrelid = {self._table}::regclass AND relname = {literal(self.index_name)}
), member AS (
    SELECT tree.*, root.indexrelid AS root, indisunique, body,
           (SELECT indexrelid FROM definition
            WHERE indrelid = relid AND relispartition AND pg_partition_root(indexrelid) = root.indexrelid) AS attached,
           (SELECT min(indexrelid) FROM definition
            WHERE indrelid = relid AND NOT relispartition AND (indisvalid OR NOT isleaf)
              AND (definition.indisunique, definition.body) = (root.indisunique, root.body)
              AND NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = indexrelid)) AS candidate
    FROM tree, root
)""".strip()

    @property
    def _create_in_between(self) -> str:
        return f"""
{self._members}
SELECT format({literal(bounded("%s;", patience=PATIENCE))},
    format('CREATE %sINDEX %I ON ONLY %s%s', CASE WHEN indisunique THEN 'UNIQUE ' END, name, relid::regclass, body))
FROM member WHERE NOT isleaf AND attached IS NULL AND candidate IS NULL
ORDER BY level, relid
""".strip()

    @property
    def leftovers(self) -> str:
        """Query for statements that drop indexes of partitions that were never finished."""
        return f"""
{self._members}
SELECT format('DROP INDEX CONCURRENTLY %s', definition.indexrelid::regclass)
FROM member JOIN definition ON indrelid = relid
WHERE isleaf AND relname = name AND NOT indisvalid AND NOT relispartition
ORDER BY relid
""".strip()

    @property
    def _build(self) -> str:
        return f"""
{self._members}
SELECT format('CREATE %sINDEX CONCURRENTLY %I ON %s%s', CASE WHEN indisunique THEN 'UNIQUE ' END, name,
    relid::regclass, body)
FROM member WHERE isleaf AND attached IS NULL AND candidate IS NULL
ORDER BY relid
""".strip()

    def _attach(self, which: str) -> str:
        return f"""
{self._members}
SELECT format({literal(bounded("%s;", patience=PATIENCE))},
    format('ALTER INDEX %s ATTACH PARTITION %s',
        coalesce(above.attached, above.candidate, child.root)::regclass, child.candidate::regclass))
FROM (SELECT * FROM member WHERE {which} AND attached IS NULL AND candidate IS NOT NULL) AS child
LEFT JOIN member AS above ON above.relid = child.parentrelid
ORDER BY child.level, child.relid
""".strip()
