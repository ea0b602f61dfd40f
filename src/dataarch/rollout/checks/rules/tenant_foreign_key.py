"""Foreign keys that let a row of one tenant refer to a row of another."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from dataarch.rollout.checks.catalog import TENANT, ForeignKey, foreign_keys_in
from dataarch.rollout.checks.declared import model_foreign_keys
from dataarch.rollout.checks.finding import Finding, Rule
from dataarch.rollout.checks.project import Project

__all__ = ["RULE", "check"]

RULE = Rule(
    "tenant-foreign-key",
    blocks="It blocks nobody: for as long as it is so, a row of one tenant can refer to a row of another.",
    why="A check of a foreign key is not bound by policies; with the tenant in it, such a row cannot exist, one key is "
    "checked instead of two, and Citus keeps both rows in one place.",
    instead="""
op.create_foreign_key(
    "fk_{table}_{referred}", "{table}", "{referred}", ["tenant_id", "{column}"], ["tenant_id", "id"],
    postgresql_not_valid=True,
)
# in a later revision, without holding up anybody who writes:
op.execute("ALTER TABLE {table} VALIDATE CONSTRAINT fk_{table}_{referred}")
""".strip(),
)


def check(project: Project) -> Iterator[Finding]:
    """Yield foreign keys between tables of tenants that leave the tenant out."""
    for revision, sent, words in project.upgrades():
        for key in foreign_keys_in(words):
            yield from _judged(project, key, (revision.file, sent.line))
    for table in project.tables:
        for key in model_foreign_keys(table):
            yield from _judged(project, key, project.place(table.name, table.schema))


def _judged(project: Project, key: ForeignKey, place: tuple[Path | None, int]) -> Iterator[Finding]:
    both = project.catalog.table(key.table).of_tenant and project.catalog.table(key.referred).of_tenant
    if both and TENANT not in key.columns:
        what = f"{key.table} ({', '.join(key.columns)}) refers to {key.referred} without its tenant."
        yield RULE.found(*place, what, table=key.table, referred=key.referred, column=key.columns[0])
