"""Partitions that show the rows of every tenant."""

from __future__ import annotations

from collections.abc import Iterator

from dataarch.rollout.checks.finding import Finding, Rule
from dataarch.rollout.checks.project import Project
from dataarch.rollout.operations import CreatePartitionedTableOp

__all__ = ["RULE", "check"]

RULE = Rule(
    "policy-missing-on-partition",
    blocks="It blocks nobody: whoever may read the partition by its own name sees the rows of every tenant, until it "
    "has a policy of its own.",
    why="PostgreSQL does not let partitions inherit policies.",
    instead="""
# gives the policy to the table and to each of its partitions
op.enable_tenant_isolation("{table}", "tenant_id")
""".strip(),
)


def check(project: Project) -> Iterator[Finding]:
    """Yield partitions without a policy whose table has one."""
    checked = {one.revision for one in project.revisions}
    for table in project.catalog.tables.values():
        if table.place is None or table.place[0].revision not in checked:
            continue
        parent = project.catalog.table(table.parent or table.name)
        made_with_it = isinstance(table.place[1].operation, CreatePartitionedTableOp)
        if table.parent is None and not made_with_it:
            continue
        bare_partitions = not parent.guards_partitions if made_with_it else not table.guarded
        if parent.guarded and bare_partitions:
            revision, sent = table.place
            bare = "its partitions have" if made_with_it else f"{table.name} has"
            what = f"{parent.name} has a policy, and {bare} none."
            yield RULE.found(revision.file, sent.line, what, table=parent.name)
