"""What is in the database, as far as Alembic does not look: partitions of every level, and policies."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, Table, text

from dataarch.models.declared import RowPolicy, qualified

__all__ = ["Catalog", "Relation", "StoredPolicy", "policies_of"]

RELATIONS = text(
    """
    SELECT pg_class.oid, nspname AS schema, relname AS name, inhparent AS parent,
           relrowsecurity AS secured,
           pg_get_partkeydef(pg_class.oid) AS key,
           (SELECT attname FROM pg_attribute
            WHERE attrelid = partrelid AND attnum = partattrs[0] AND partstrat = 'r' AND partnatts = 1) AS by
    FROM pg_class
    JOIN pg_namespace ON pg_namespace.oid = relnamespace
    LEFT JOIN pg_inherits ON inhrelid = pg_class.oid AND relispartition
    LEFT JOIN pg_partitioned_table ON partrelid = pg_class.oid
    WHERE relkind IN ('r', 'p') AND nspname <> 'information_schema' AND nspname !~ '^pg_'
    """
)

POLICIES = """
SELECT polrelid AS relation, polname AS name, polpermissive AS permissive, polcmd::text AS command,
       ARRAY(SELECT CASE role WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(role)) END
             FROM unnest(polroles) AS role ORDER BY 1) AS roles,
       pg_get_expr(polqual, polrelid) AS reading, pg_get_expr(polwithcheck, polrelid) AS writing
FROM pg_policy
"""

COMMANDS = {"*": "ALL", "r": "SELECT", "a": "INSERT", "w": "UPDATE", "d": "DELETE"}


@dataclass(frozen=True, slots=True)
class Relation:
    """A table, partitioned or not, or a partition of one.

    Attributes:
        parent: the one it is a partition of.
        key: what it is partitioned by, as PostgreSQL writes it; None if it is not.
        by: the one column whose ranges its partitions are; None if it is partitioned otherwise.
    """

    oid: int
    schema: str
    name: str
    parent: int | None
    secured: bool
    key: str | None
    by: str | None

    @property
    def sql(self) -> str:
        """How SQL names it, whatever the search path."""
        return qualified(self.name, self.schema)


@dataclass(frozen=True, slots=True)
class StoredPolicy:
    """A policy in the server's own words, which two policies can be compared by."""

    permissive: bool
    command: str
    roles: tuple[str, ...]
    reading: str | None
    writing: str | None

    def declaration(self, name: str, table: str, schema: str | None) -> RowPolicy:
        """Return the declaration that would make it."""
        words = [
            f"AS {'PERMISSIVE' if self.permissive else 'RESTRICTIVE'}",
            f"FOR {COMMANDS[self.command]}",
            f"TO {', '.join(self.roles)}",
            *([f"USING ({self.reading})"] if self.reading is not None else []),
            *([f"WITH CHECK ({self.writing})"] if self.writing is not None else []),
        ]
        return RowPolicy(name, table, " ".join(words), schema)


@dataclass(slots=True)
class Catalog:
    """One look at the database; it is not looked at again."""

    default_schema: str
    relations: dict[tuple[str, str], Relation] = field(default_factory=dict)
    policies: dict[int, dict[str, StoredPolicy]] = field(default_factory=dict)
    children: dict[int, list[Relation]] = field(default_factory=lambda: defaultdict(list))

    @classmethod
    def of(cls, connection: Connection) -> Catalog:
        """Look at a database, with two queries."""
        catalog = cls(connection.dialect.default_schema_name or "public")
        for row in connection.execute(RELATIONS):
            relation = Relation(**row._mapping)
            catalog.relations[relation.schema, relation.name] = relation
            if relation.parent is not None:
                catalog.children[relation.parent].append(relation)
        catalog.policies = policies_of(connection)
        return catalog

    def find(self, name: str, schema: str | None) -> Relation | None:
        """Return a table by its name and its schema, None being the default schema."""
        return self.relations.get((schema or self.default_schema, name))

    def find_table(self, table: Table) -> Relation | None:
        """Return the table that a model describes; None if it is not there."""
        return self.find(table.name, table.schema)

    def tree(self, relation: Relation) -> list[Relation]:
        """Return a table and its partitions of every level."""
        found = [relation]
        for child in sorted(self.children.get(relation.oid, []), key=lambda one: (one.schema, one.name)):
            found += self.tree(child)
        return found


def policies_of(connection: Connection, relation: str | None = None) -> dict[int, dict[str, StoredPolicy]]:
    """Return each relation's policies by their names.

    Args:
        relation: one relation, as SQL names it; None for all.
    """
    only = "" if relation is None else " WHERE polrelid = to_regclass(:relation)"
    found: dict[int, dict[str, StoredPolicy]] = defaultdict(dict)
    for row in connection.execute(text(POLICIES + only), {"relation": relation} if relation else {}):
        found[row.relation][row.name] = _policy(row)
    return found


def _policy(row: Any) -> StoredPolicy:
    return StoredPolicy(row.permissive, row.command, tuple(row.roles), row.reading, row.writing)
