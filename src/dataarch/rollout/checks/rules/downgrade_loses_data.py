"""Downgrades that lose what was written since."""

from __future__ import annotations

from collections.abc import Iterator

from dataarch.rollout.backfill.books import SCHEMA as BOOKS
from dataarch.rollout.checks.catalog import dropped_columns
from dataarch.rollout.checks.finding import Finding, Rule
from dataarch.rollout.checks.project import Project
from dataarch.rollout.checks.rendered import RevisionSql, Sent
from dataarch.rollout.checks.tokens import mentions, name_of, split, table_of
from dataarch.rollout.set_aside import SCHEMA

__all__ = ["RULE", "check"]

RULE = Rule(
    "downgrade-loses-data",
    blocks="Everybody waits for a moment (ACCESS EXCLUSIVE on the table), and what was written since the upgrade is "
    "gone for good, without a word.",
    why="A downgrade is run in a hurry, when something is wrong; the next upgrade must find the rows again.",
    instead="""
# a table: kept with its rows if it has any, and take_back(("{table}",)) in upgrade() after it is made
from dataarch.rollout.set_aside import set_aside
op.execute(set_aside(("{table}",)))
# a column: kept with the row's key
op.execute("CREATE SCHEMA IF NOT EXISTS dataarch_set_aside")
op.execute(
    "CREATE TABLE dataarch_set_aside.{table}_{column} AS SELECT id, {column} FROM {table} WHERE {column} IS NOT NULL"
)
op.drop_column("{table}", "{column}")
""".strip(),
)


def check(project: Project) -> Iterator[Finding]:
    """Yield what a downgrade drops or deletes without having set it aside."""
    for revision in project.revisions:
        aside = ""
        for sent in revision.down:
            if SCHEMA in sent.sql:
                aside += sent.sql.lower()
                continue
            # what a backfill has noted of itself is nobody's data
            if BOOKS in sent.sql:
                continue
            for words in sent.statements:
                yield from _lost(revision, sent, words, aside)


def _lost(revision: RevisionSql, sent: Sent, words: list[str], aside: str) -> Iterator[Finding]:
    for table, column in _dropped(words):
        # of a session alone, or named where something was set aside
        if table.startswith("pg_temp.") or mentions(aside, table):
            continue
        what = f"The downgrade drops {f'the column {table}.{column}' if column else table}, with what is in it."
        yield RULE.found(revision.file, sent.line, what, table=table, column=column or "column_name")


def _dropped(words: list[str]) -> Iterator[tuple[str, str | None]]:
    if words[:2] in (["drop", "table"], ["drop", "schema"], ["truncate", "table"]):
        if words[1] == "schema" and "cascade" not in words:
            return
        rest = words[4:] if words[2:4] == ["if", "exists"] else words[2:]
        for one in split(rest, ","):
            yield (name_of if words[1] == "schema" else table_of)(one), None
    elif words[:2] == ["delete", "from"]:
        yield table_of(words[2:]), None
    else:
        yield from dropped_columns(words)
