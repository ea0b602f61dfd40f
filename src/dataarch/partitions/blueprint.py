"""What a partition has to be like, read once from its parent, and the SQL that makes one."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Table, text

from dataarch.partitions.catalog import MARK, readable_times
from dataarch.partitions.layout import Range
from dataarch.partitions.quoting import bound, ident, literal, qualified

__all__ = ["Blueprint", "blueprint_of", "bounds_sql", "lies_in", "marked", "without_grants"]

TABLE = text(
    """
    SELECT nspname AS schema, relname AS name, quote_ident(pg_get_userbyid(relowner)) AS owner,
           relrowsecurity AS guarded, relforcerowsecurity AS forced
    FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace WHERE pg_class.oid = to_regclass(:table)
    """
)

COLUMNS = text(
    """
    SELECT attname FROM pg_attribute
    WHERE attrelid = to_regclass(:table) AND attnum > 0 AND NOT attisdropped AND attgenerated = '' ORDER BY attnum
    """
)

KEY = text(
    """
    SELECT attname, format_type(atttypid, atttypmod)
    FROM pg_constraint, unnest(conkey) WITH ORDINALITY AS part (number, place)
    JOIN pg_attribute ON attrelid = to_regclass(:table) AND attnum = part.number
    WHERE conrelid = to_regclass(:table) AND contype = 'p' ORDER BY place
    """
)

FOREIGN_KEYS = text(
    """
    SELECT quote_ident(conname) || ' ' || pg_get_constraintdef(oid) AS definition,
           confrelid::regclass::text AS referenced,
           (SELECT string_agg(format('child.%I IS NOT NULL', mine.attname), ' AND ')
                   || format(' AND NOT EXISTS (SELECT FROM %s AS referred WHERE ', confrelid::regclass)
                   || string_agg(format('referred.%I = child.%I', theirs.attname, mine.attname), ' AND ') || ')'
            FROM unnest(conkey, confkey) AS part (number, referred_number)
            JOIN pg_attribute AS mine ON mine.attrelid = conrelid AND mine.attnum = part.number
            JOIN pg_attribute AS theirs ON theirs.attrelid = confrelid AND theirs.attnum = part.referred_number
           ) AS orphaned
    FROM pg_constraint WHERE conrelid = to_regclass(:table) AND contype = 'f' AND conparentid = 0 ORDER BY conname
    """
)

REFERRING = text(
    """
    SELECT conrelid::regclass::text FROM pg_constraint
    WHERE confrelid = to_regclass(:table) AND contype = 'f' AND conparentid = 0 ORDER BY 1
    """
)

POLICIES = text(
    """
    SELECT polname,
           CASE WHEN polpermissive THEN 'PERMISSIVE' ELSE 'RESTRICTIVE' END AS kind,
           CASE polcmd WHEN 'r' THEN 'SELECT' WHEN 'a' THEN 'INSERT' WHEN 'w' THEN 'UPDATE' WHEN 'd' THEN 'DELETE'
               ELSE 'ALL' END AS command,
           (SELECT string_agg(CASE role WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(role)) END, ', ')
            FROM unnest(polroles) AS role) AS roles,
           pg_get_expr(polqual, polrelid) AS using,
           pg_get_expr(polwithcheck, polrelid) AS checked
    FROM pg_policy WHERE polrelid = to_regclass(:table) ORDER BY polname
    """
)


@dataclass(frozen=True, slots=True)
class Blueprint:
    """A partitioned table, as far as its partitions have to be like it.

    Attributes:
        schema: where the parent is, and its partitions are made.
        name: of the parent.
        column: the one that it is partitioned by.
        owner: quoted name of the role that owns it.
        columns: those that can be written, in order.
        key: name and type of each column of the primary key; empty if there is none.
        foreign_keys: each as ``name FOREIGN KEY …``.
        orphaned: for each foreign key, the condition that what a row ``child`` refers to is not there.
        referenced: tables that the foreign keys refer to, in one order for all who lock them.
        referring: tables with a foreign key to this one.
        guarded: whether row-level security is enabled.
        forced: whether it binds the owner too.
        policies: each as the SQL after its name and table.
    """

    schema: str
    name: str
    column: str
    owner: str
    columns: tuple[str, ...]
    key: tuple[tuple[str, str], ...]
    foreign_keys: tuple[str, ...]
    orphaned: tuple[str, ...]
    referenced: tuple[str, ...]
    referring: tuple[str, ...]
    guarded: bool
    forced: bool
    policies: tuple[tuple[str, str], ...]

    @property
    def parent(self) -> str:
        """The table's name in quotes, with its schema."""
        return ident(self.name, self.schema)

    def place(self, name: str) -> str:
        """Return a partition's name in quotes, with its schema."""
        return ident(name, self.schema)

    @property
    def column_list(self) -> str:
        """The columns that can be written, for INSERT and SELECT."""
        return ", ".join(ident(column) for column in self.columns)

    def making(self, name: str, within: Range, *, mark: dict[str, Any] | None = None) -> list[str]:
        """Return the SQL that makes a table which can be attached without a scan, and which nobody may read yet."""
        place = self.place(name)
        bounded = f"CONSTRAINT {BOUNDS} CHECK ({lies_in(self.column, within)})"
        made = [
            f"CREATE TABLE {place} (LIKE {self.parent} {LIKE_PARENT}, {bounded})",
            f"ALTER TABLE {place} OWNER TO {self.owner}",
            without_grants(place),
        ]
        if self.guarded:
            made.append(f"ALTER TABLE {place} ENABLE ROW LEVEL SECURITY")
        if self.forced:
            made.append(f"ALTER TABLE {place} FORCE ROW LEVEL SECURITY")
        made += [f"CREATE POLICY {policy} ON {place} {rest}" for policy, rest in self.policies]
        return [*made, marked(place, mark)] if mark else made

    def attaching(self, name: str, within: Range) -> list[str]:
        """Return the SQL that makes such a table a partition; its own bounds then replace the CHECK."""
        place = self.place(name)
        return [
            f"ALTER TABLE {self.parent} ATTACH PARTITION {place} {bounds_sql(within)}",
            f"ALTER TABLE {place} DROP CONSTRAINT {BOUNDS}",
        ]


BOUNDS = "dataarch_bounds"
"""The CHECK that saves ATTACH its scan."""

LIKE_PARENT = " ".join(
    f"INCLUDING {what}"
    for what in ("DEFAULTS", "CONSTRAINTS", "INDEXES", "GENERATED", "STORAGE", "COMPRESSION", "STATISTICS")
)
"""All but comments, and identity: a partition's numbers come from its parent."""


def bounds_sql(within: Range) -> str:
    """Return a range as ``FOR VALUES …``."""
    lower, upper = bound(within.lower, unbounded="MINVALUE"), bound(within.upper, unbounded="MAXVALUE")
    return f"FOR VALUES FROM ({lower}) TO ({upper})"


def lies_in(column: str, within: Range) -> str:
    """Return the condition that a row lies in a range."""
    name = ident(column)
    sides = [f"{name} IS NOT NULL"]
    if within.lower is not None:
        sides.append(f"{name} >= {bound(within.lower, unbounded='')}")
    if within.upper is not None:
        sides.append(f"{name} < {bound(within.upper, unbounded='')}")
    return " AND ".join(sides)


def marked(place: str, mark: dict[str, Any] | None) -> str:
    """Return the SQL that notes what the maintenance does with a table, or that it is done with it."""
    note = "NULL" if mark is None else literal(MARK + json.dumps(mark, sort_keys=True))
    return f"COMMENT ON TABLE {place} IS {note}"


def without_grants(place: str) -> str:
    """Return the SQL that takes away what default privileges granted: no policy of the parent would hold it back."""
    return (
        "DO $no_grants$ DECLARE holder text; BEGIN FOR holder IN"
        " SELECT DISTINCT CASE grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(grantee)) END"
        f" FROM pg_class, LATERAL aclexplode(relacl) WHERE oid = {literal(place)}::regclass AND grantee <> relowner"
        f" LOOP EXECUTE format('REVOKE ALL ON TABLE %s FROM %s', {literal(place)}, holder); END LOOP; END $no_grants$"
    )


def blueprint_of(connection: Connection, table: Table, column: str) -> Blueprint:
    """Return what partitions of a table have to be like; the table must be there."""
    asked = {"table": qualified(table)}
    with readable_times(connection):
        row = connection.execute(TABLE, asked).one()
        foreign = connection.execute(FOREIGN_KEYS, asked).all()
        return Blueprint(
            schema=row.schema,
            name=row.name,
            column=column,
            owner=row.owner,
            columns=tuple(connection.scalars(COLUMNS, asked)),
            key=tuple((name, kind) for name, kind in connection.execute(KEY, asked)),
            foreign_keys=tuple(one.definition for one in foreign),
            orphaned=tuple(one.orphaned for one in foreign),
            referenced=tuple(sorted({one.referenced for one in foreign})),
            referring=tuple(connection.scalars(REFERRING, asked)),
            guarded=row.guarded,
            forced=row.forced,
            policies=tuple(_policy(one) for one in connection.execute(POLICIES, asked)),
        )


def _policy(row: Any) -> tuple[str, str]:
    rest = f"AS {row.kind} FOR {row.command} TO {row.roles}"
    rest += f" USING ({row.using})" if row.using else ""
    rest += f" WITH CHECK ({row.checked})" if row.checked else ""
    return ident(row.polname), rest
