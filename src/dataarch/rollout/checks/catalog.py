"""What the revisions make, read from their SQL, and what the models add to that."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from sqlalchemy import ARRAY, Enum, MetaData, Numeric, Table
from sqlalchemy.dialects import postgresql
from sqlalchemy.types import Float

from dataarch.models.tenancy import tenant_column
from dataarch.rollout.checks.rendered import RevisionSql, Sent
from dataarch.rollout.checks.tokens import in_schema, mentions, name_of, pieces, table_of
from dataarch.rollout.operations import CreatePartitionedTableOp, EnableTenantIsolationOp, PartitionTableOp

__all__ = ["Catalog", "ForeignKey", "IndexMade", "Key", "TableMade", "foreign_keys_in", "indexes_in", "keys_in"]

TENANT = "tenant_id"
CONSTRAINTS = frozenset({"constraint", "primary", "unique", "foreign", "check", "exclude", "like"})
AFTER_TYPE = CONSTRAINTS | {"not", "null", "default", "generated", "references", "collate"}


@dataclass(slots=True)
class TableMade:
    """A table, as far as it is known.

    Attributes:
        name: with its schema, unless that is public.
        columns: their types, in lower case.
        made_by: id of the revision that makes it; None where only the models know it.
        place: the revision and what makes it there.
        partitioned: whether it has partitions.
        plain_in: ids of the revisions up to the one that has partitioned it, if one has.
        parent: the table that it is a partition of.
        guarded: whether it has a policy.
        guards_partitions: whether the partitions were guarded that it was made with.
        has_primary_key: whether it was made with one.
    """

    name: str
    columns: dict[str, str] = field(default_factory=dict)
    made_by: str | None = None
    place: tuple[RevisionSql, Sent] | None = None
    partitioned: bool = False
    plain_in: frozenset[str] = frozenset()
    parent: str | None = None
    guarded: bool = False
    guards_partitions: bool = False
    has_primary_key: bool = False

    def partitioned_in(self, revision: str) -> bool:
        """Whether a revision that does not make it finds partitions."""
        return self.partitioned and revision not in self.plain_in

    @property
    def of_tenant(self) -> bool:
        """Whether its rows belong to tenants."""
        return TENANT in self.columns


@dataclass(frozen=True, slots=True)
class Key:
    """A primary or unique key."""

    table: str
    columns: tuple[str, ...]
    primary: bool


@dataclass(frozen=True, slots=True)
class ForeignKey:
    """A foreign key, and what follows it."""

    table: str
    columns: tuple[str, ...]
    referred: str
    action: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class IndexMade:
    """An index; each key with what follows its column, such as an operator class."""

    name: str
    table: str
    method: str
    keys: tuple[tuple[str, ...], ...]
    unique: bool
    concurrently: bool


class Catalog:
    """All tables and enumerated types that the revisions and the models make."""

    def __init__(self, revisions: Sequence[RevisionSql], metadata: MetaData | None = None) -> None:
        self.tables: dict[str, TableMade] = {}
        self.enums: set[str] = set()
        self._seen: set[str] = set()
        for revision in revisions:
            self._seen.add(revision.revision)
            for sent in revision.up:
                self._operation(revision, sent)
                for statement in sent.statements:
                    self._read(revision, sent, statement)
                self._partitions_too(sent)
        for table in metadata.tables.values() if metadata is not None else ():
            self._model(table)

    def table(self, name: str) -> TableMade:
        """Return what is known of a table; nothing, where it is made elsewhere."""
        return self.tables.get(name, TableMade(name))

    def _operation(self, revision: RevisionSql, sent: Sent) -> None:
        if isinstance(sent.operation, EnableTenantIsolationOp):
            name = in_schema(sent.operation.table_name, sent.operation.schema)
            table = self.tables.setdefault(name, TableMade(name))
            table.guarded = True
            self._guard_partitions(table)
        elif isinstance(sent.operation, CreatePartitionedTableOp):
            name = in_schema(sent.operation.table_name, sent.operation.schema)
            self.tables.setdefault(name, TableMade(name, place=(revision, sent), partitioned=True))
        elif isinstance(sent.operation, PartitionTableOp):
            name = in_schema(sent.operation.table_name, sent.operation.schema)
            table = self.tables.setdefault(name, TableMade(name))
            table.partitioned, table.plain_in = True, frozenset(self._seen)

    def _read(self, revision: RevisionSql, sent: Sent, words: list[str]) -> None:
        if words[:1] == ["create"]:
            self._create(revision, sent, words)
        elif words[:2] == ["alter", "table"]:
            table = self.tables.get(_altered(words))
            for action in _actions(words) if table else ():
                if action[:1] == ["add"] and table is not None:
                    _column(table, action[2:] if action[1:2] == ["column"] else action[1:])

    def _create(self, revision: RevisionSql, sent: Sent, words: list[str]) -> None:
        if words[1:2] == ["type"] and "enum" in words:
            self.enums.add(name_of(words[2:]))
        elif words[1:2] == ["policy"] and "on" in words:
            name = table_of(words[words.index("on") + 1 :])
            self.tables.setdefault(name, TableMade(name)).guarded = True
        elif (start := _table_name(words)) is not None:
            name = table_of(words[start:])
            table = TableMade(name, made_by=revision.revision, place=(revision, sent))
            table.partitioned = words.count("partition") > 0 and "by" in words[words.index("partition") :]
            if "of" in words and words[words.index("of") - 1] == "partition":
                table.parent = table_of(words[words.index("of") + 1 :])
            for piece in pieces(words, start) if table.parent is None else ():
                _column(table, piece)
            self.tables[name] = table

    def _partitions_too(self, sent: Sent) -> None:
        """See a block that guards whatever partitions it finds."""
        text = sent.sql.lower()
        if "create policy" in text and ("pg_inherits" in text or "pg_partition_tree" in text):
            for table in self.tables.values():
                if mentions(text, table.name):
                    self._guard_partitions(table)

    def _guard_partitions(self, table: TableMade) -> None:
        """Note that the partitions that are there now are guarded; those that come later are not."""
        table.guards_partitions = True
        for partition in self.tables.values():
            if partition.parent == table.name:
                partition.guarded = True

    def _model(self, table: Table) -> None:
        name = in_schema(table.name, table.schema)
        known = self.tables.setdefault(name, TableMade(name))
        known.partitioned = known.partitioned or bool(table.dialect_options["postgresql"]["partition_by"])
        known.guarded = known.guarded or tenant_column(table) is not None
        for column in table.columns:
            known.columns.setdefault(column.name, type_of(column.type))


def type_of(given: object) -> str:
    """Return a type of SQLAlchemy's in the words of the rules."""
    if isinstance(given, ARRAY):
        return "array"
    if isinstance(given, Enum) and given.native_enum:
        return "enum"
    if isinstance(given, Numeric) and not isinstance(given, Float):
        return "numeric"
    if isinstance(given, postgresql.JSONB):
        return "jsonb"
    return type(given).__name__.lower()


def _column(table: TableMade, words: Sequence[str]) -> None:
    if not words:
        return
    if words[0] in CONSTRAINTS:
        table.has_primary_key = table.has_primary_key or "primary" in words
        return
    ends = [place for place, word in enumerate(words) if place > 0 and word in AFTER_TYPE]
    table.columns[name_of(words[:1])] = " ".join(words[1 : ends[0] if ends else None])
    table.has_primary_key = table.has_primary_key or "primary" in words[1:]


def _table_name(words: Sequence[str]) -> int | None:
    """Return where the name stands in CREATE TABLE; None in another statement, and for a temporary table."""
    if words[1:2] != ["table"] and words[1:3] != ["unlogged", "table"]:
        return None
    start = words.index("table") + 1
    return start + 3 if words[start : start + 3] == ["if", "not", "exists"] else start


def _altered(words: Sequence[str]) -> str:
    """Return the name of the table that ALTER TABLE is about."""
    return table_of([word for word in words[2:] if word not in {"if", "exists", "only"}])


def _actions(words: Sequence[str]) -> list[list[str]]:
    """Return what ALTER TABLE does, part by part."""
    rest = list(words[2:])
    for noise in (["if", "exists"], ["only"]):
        rest = rest[len(noise) :] if rest[: len(noise)] == noise else rest
    while len(rest) > 1 and rest[1] == ".":
        rest = rest[2:]
    parts: list[list[str]] = [[]]
    depth = 0
    for word in rest[1:]:
        depth += (word == "(") - (word == ")")
        if word == "," and depth == 0:
            parts.append([])
        else:
            parts[-1].append(word)
    return parts


def _names(listed: Sequence[Sequence[str]]) -> tuple[str, ...]:
    return tuple(name_of(one[:1]) for one in listed if one)


def _constraints(words: Sequence[str]) -> Iterator[tuple[str, list[str]]]:
    """Yield each constraint and column that a statement makes, with its table."""
    if words[:1] == ["create"] and (start := _table_name(words)) is not None:
        for piece in pieces(words, start):
            yield table_of(words[start:]), piece
    elif words[:2] == ["alter", "table"]:
        for action in _actions(words):
            if action[:1] == ["add"]:
                piece = action[2:] if action[1:2] == ["column"] else action[1:]
                yield _altered(words), piece


def keys_in(words: Sequence[str]) -> Iterator[Key]:
    """Yield the primary and unique keys that a statement makes, unique indexes too."""
    for table, piece in _constraints(words):
        for kind in ("primary", "unique"):
            if kind in piece and "foreign" not in piece and "check" not in piece[:3]:
                place = piece.index(kind)
                named = piece[0] in CONSTRAINTS
                columns = _names(pieces(piece, place)) if named else _names([piece])
                if columns:
                    yield Key(table, columns, kind == "primary")
    for index in indexes_in(words):
        if index.unique:
            yield Key(index.table, tuple(key[0] for key in index.keys), primary=False)


def foreign_keys_in(words: Sequence[str]) -> Iterator[ForeignKey]:
    """Yield the foreign keys that a statement makes."""
    for table, piece in _constraints(words):
        if "references" in piece:
            place = piece.index("references")
            own = pieces(piece[:place], piece.index("foreign")) if "foreign" in piece[:place] else [piece]
            yield ForeignKey(table, _names(own), table_of(piece[place + 1 :]), tuple(piece[place:]))


def indexes_in(words: Sequence[str]) -> Iterator[IndexMade]:
    """Yield the index that CREATE INDEX makes."""
    if words[:1] != ["create"] or "index" not in words[:3] or "on" not in words:
        return
    on = words.index("on")
    rest = [word for word in words[on + 1 :] if word != "only"]
    method = "".join(rest[rest.index("using") + 1 :][:1]) if "using" in rest[:6] else "btree"
    head = [w for w in words[words.index("index") + 1 : on] if w not in {"concurrently", "if", "not", "exists"}]
    keys = tuple(tuple(name_of([word]) for word in key) for key in pieces(rest))
    yield IndexMade(name_of(head), table_of(rest), method, keys, "unique" in words[:2], "concurrently" in words[:on])


def dropped_columns(words: Sequence[str]) -> Iterator[tuple[str, str | None]]:
    """Yield the table and the name of each column that ALTER TABLE drops."""
    if words[:2] != ["alter", "table"]:
        return
    table = _altered(words)
    for action in _actions(words):
        if action[:1] == ["drop"] and action[1:2] not in (["constraint"], ["not"]):
            named = [word for word in action[1:] if word not in {"column", "if", "exists"}]
            yield table, name_of(named)
