"""Keys that are shared by all tenants."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from dataarch.rollout.checks.catalog import TENANT, Key, keys_in
from dataarch.rollout.checks.declared import model_keys
from dataarch.rollout.checks.finding import Finding, Rule
from dataarch.rollout.checks.project import Project

__all__ = ["RULE", "check"]

RULE = Rule(
    "tenant-in-key",
    blocks="It blocks, for as long as it is so, each tenant that wants a value which another one has, and tells it so.",
    why="A unique key is not bound by policies; without the tenant in front it serves no query of a tenant, and Citus "
    "refuses it.",
    instead="""
with op.get_context().autocommit_block():
    op.create_index(
        "uq_{table}_tenant_id_{column}", "{table}", ["tenant_id", "{column}"], unique=True, postgresql_concurrently=True
    )
""".strip(),
)


def check(project: Project) -> Iterator[Finding]:
    """Yield primary and unique keys of tables of tenants that leave the tenant out."""
    for revision, sent, words in project.upgrades():
        for key in keys_in(words):
            yield from _judged(project, key, (revision.file, sent.line))
    for table in project.tables:
        for key in model_keys(table):
            yield from _judged(project, key, project.place(table.name, table.schema))


def _judged(project: Project, key: Key, place: tuple[Path | None, int]) -> Iterator[Finding]:
    if project.catalog.table(key.table).of_tenant and TENANT not in key.columns:
        kind = "primary key" if key.primary else "unique key"
        what = f"The {kind} ({', '.join(key.columns)}) of {key.table} leaves the tenant out."
        yield RULE.found(*place, what, table=key.table, column="_".join(key.columns))
