"""Indexes of partitioned tables, which PostgreSQL cannot build concurrently."""

from __future__ import annotations

from collections.abc import Iterator

from dataarch.rollout.checks.catalog import indexes_in
from dataarch.rollout.checks.finding import Finding, Rule
from dataarch.rollout.checks.project import Project

__all__ = ["RULE", "check"]

RULE = Rule(
    "index-on-partitioned-table",
    blocks="With CONCURRENTLY PostgreSQL refuses it; without, everybody who writes waits (SHARE on the table and all "
    "of its partitions) until the index of the last partition is built.",
    why="CREATE INDEX CONCURRENTLY does not exist for partitioned tables.",
    instead='op.create_partitioned_index("{index}", "{table}", [{columns}])',
)


def check(project: Project) -> Iterator[Finding]:
    """Yield indexes that are made on a partitioned table which was there before."""
    for revision, sent, words in project.upgrades():
        if sent.gentle:
            continue
        for index in indexes_in(words):
            table = project.catalog.table(index.table)
            there = table.partitioned_in(revision.revision) and table.made_by != revision.revision
            if there and "only" not in words:
                how = "concurrently" if index.concurrently else "under a lock"
                what = f"{index.name} is built {how} on {index.table}, which has partitions."
                columns = ", ".join(f'"{key[0]}"' for key in index.keys)
                yield RULE.found(revision.file, sent.line, what, index=index.name, table=index.table, columns=columns)
