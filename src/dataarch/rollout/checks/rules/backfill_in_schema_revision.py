"""Rows that are rewritten while the schema is locked."""

from __future__ import annotations

import re
from collections.abc import Iterator

from dataarch.rollout.checks.finding import Finding, Rule
from dataarch.rollout.checks.project import Project
from dataarch.rollout.checks.tokens import table_of

__all__ = ["RULE", "check"]

RULE = Rule(
    "backfill-in-schema-revision",
    blocks="Everybody who writes one of these rows waits until the revision ends, and whoever reads too where it has "
    "also altered the table (ACCESS EXCLUSIVE): as long as all rows take, 3 s for a million.",
    why="A revision is one transaction, and keeps each lock to its end.",
    instead="""
# in a revision of its own, 0042_backfill_{table}.py; batches of it run with `dataarch backfill run {table}`
op.start_backfill("{table}", "{table}", sets={"new_column": "lower(old_column)"}, where="new_column IS NULL")
""".strip(),
)

BACKFILL = re.compile(r"(?:\A|_)(?:backfill|data)(?:_|\.|\Z)")
"""Names of files that are allowed to write rows."""


def check(project: Project) -> Iterator[Finding]:
    """Yield what writes rows of a table that was there before, in a revision that is no backfill."""
    for revision, sent, words in project.upgrades():
        table = _written(words)
        if table is None or sent.gentle or BACKFILL.search(revision.file.name):
            continue
        if project.catalog.table(table).made_by != revision.revision:
            what = f"{words[0].upper()} writes rows of {table}, which was there before this revision."
            yield RULE.found(revision.file, sent.line, what, table=table)


def _written(words: list[str]) -> str | None:
    if words[:1] == ["update"]:
        return table_of([word for word in words[1:] if word != "only"])
    if words[:2] == ["delete", "from"] or (words[:2] == ["insert", "into"] and "select" in words):
        return table_of([word for word in words[2:] if word != "only"])
    return None
