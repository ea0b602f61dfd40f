"""Policies that lose the index, or that Citus refuses."""

from __future__ import annotations

from collections.abc import Iterator

from dataarch.models.declared import RowPolicy, declared_in
from dataarch.rollout.checks.finding import Finding, Rule
from dataarch.rollout.checks.project import Project
from dataarch.rollout.checks.tokens import in_schema, name_of, statements, table_of

__all__ = ["RULE", "check"]

RULE = Rule(
    "policy-shape",
    blocks="It blocks nobody, and slows every query of the table for as long as the policy is there: 39 to 214 ms were "
    "measured where 2 to 9 ms are possible.",
    why="CASE and OR in a policy lose the index, and Citus refuses sub-selects in one.",
    instead="""
# one condition for tenants; whoever may see more has a policy of its own
op.enable_tenant_isolation("{table}", "tenant_id")
op.execute("CREATE POLICY auditor_reads ON {table} FOR SELECT TO auditor USING (true)")
""".strip(),
)

WRONG = {"case": "CASE", "or": "OR", "select": "a sub-select"}


def check(project: Project) -> Iterator[Finding]:
    """Yield policies with CASE, OR or a sub-select."""
    for revision, sent, words in project.upgrades():
        if words[:2] in (["create", "policy"], ["alter", "policy"]) and "on" in words:
            table = table_of(words[words.index("on") + 1 :])
            for what in _wrong(words):
                yield RULE.found(
                    revision.file, sent.line, f"The policy {name_of(words[2:])} on {table} has {what}.", table=table
                )
    metadata = None if project.only else project.metadata
    for declared in declared_in(metadata) if metadata is not None else ():
        if isinstance(declared, RowPolicy):
            for what in _wrong([word for one in statements(declared.definition) for word in one]):
                table = in_schema(declared.table, declared.schema)
                said = f"The policy {declared.name} on {table} has {what}."
                yield RULE.found(*project.place(declared.table, declared.schema), said, table=table)


def _wrong(words: list[str]) -> list[str]:
    return [said for word, said in WRONG.items() if word in words]
