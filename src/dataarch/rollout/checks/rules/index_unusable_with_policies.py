"""Indexes that no tenant's query can use."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from dataarch.rollout.checks.catalog import Catalog, IndexMade, indexes_in
from dataarch.rollout.checks.declared import model_indexes
from dataarch.rollout.checks.finding import Finding, Rule
from dataarch.rollout.checks.project import Project

__all__ = ["RULE", "check"]

RULE = Rule(
    "index-unusable-with-policies",
    blocks="It blocks nobody, and costs each write for ever; every query of a tenant reads all of its rows instead.",
    why="A policy comes before any operator that is not leakproof, and those of jsonb, arrays, LIKE, enums and "
    "numerics are not: PostgreSQL does not use the index for them.",
    instead="""
# text and a CHECK instead of an enum, bigint of minor units instead of numeric; and for jsonb, arrays and LIKE
# a function of the table's owner that carries the tenant itself, beside the index:
op.execute(
    "CREATE FUNCTION find_{table}(filter jsonb) RETURNS SETOF {table} LANGUAGE sql STABLE SECURITY DEFINER"
    " SET search_path = pg_catalog, public, pg_temp AS $$ SELECT * FROM public.{table}"
    " WHERE tenant_id = nullif(current_setting('dataarch.tenant_id', true), '')::uuid AND {column} @> filter $$"
)
""".strip(),
)

PATTERNS = ("gin_trgm_ops", "gist_trgm_ops", "text_pattern_ops", "varchar_pattern_ops", "bpchar_pattern_ops")


def check(project: Project) -> Iterator[Finding]:
    """Yield such indexes of tables that have policies."""
    for revision, sent, words in project.upgrades():
        for index in indexes_in(words):
            yield from _judged(project.catalog, index, (revision.file, sent.line))
    for table in project.tables:
        for index in model_indexes(table):
            yield from _judged(project.catalog, index, project.place(table.name, table.schema))


def _judged(catalog: Catalog, index: IndexMade, place: tuple[Path | None, int]) -> Iterator[Finding]:
    found = _unusable(catalog, index)
    if found is not None:
        column, kind = found
        what = f"{index.name} on {index.table} ({column}) is {kind}, and the table has a policy."
        yield RULE.found(*place, what, table=index.table, column=column)


def _unusable(catalog: Catalog, index: IndexMade) -> tuple[str, str] | None:
    """Return the column of an index that no policy lets it be used for, and what that column is."""
    table = catalog.table(index.table)
    if not table.guarded:
        return None
    for key in index.keys:
        kind = table.columns.get(key[0], "")
        if index.method == "gin":
            return key[0], f"a GIN index of {kind or 'it'}"
        for pattern in PATTERNS:
            if pattern in key:
                return key[0], f"an index for LIKE ({pattern})"
        if kind == "array" or "[" in kind or kind == "enum" or kind.split(" ")[0] in catalog.enums:
            return key[0], "of an array" if kind == "array" or "[" in kind else "of an enum"
        if kind.split(" ")[0] in {"numeric", "decimal"}:
            return key[0], "of a numeric"
    return None
