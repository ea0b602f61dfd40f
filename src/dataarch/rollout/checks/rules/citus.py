"""What Citus 13 refuses, or cannot distribute; asked for with ``--citus``."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from dataarch.rollout.checks.catalog import foreign_keys_in
from dataarch.rollout.checks.finding import Finding, Rule
from dataarch.rollout.checks.project import Project
from dataarch.rollout.checks.tokens import name_of, statements

__all__ = ["RULE", "check"]

RULE = Rule(
    "citus",
    blocks="On Citus the revision fails here, with what it did before rolled back; on PostgreSQL alone it runs.",
    why="Citus 13.2 was tried with it, on a coordinator and two workers.",
    instead="{instead}",
)

CHANGES = (["alter", "table"], ["create", "table"], ["create", "index"])

NOW = ("now", "current_timestamp", "statement_timestamp", "transaction_timestamp")


def check(project: Project) -> Iterator[Finding]:
    """Yield what Citus refuses."""
    if not project.citus:
        return
    for revision, sent, words in project.upgrades():
        for what, instead in _refused(words):
            yield RULE.found(revision.file, sent.line, what, instead=instead)
    for revision in project.revisions:
        for sent in revision.up:
            if len(list(statements(sent.sql))) > 1 and not sent.sql.lower().startswith("do"):
                yield RULE.found(
                    revision.file,
                    sent.line,
                    "Several statements are sent in one execute.",
                    instead="for statement in (FIRST, SECOND):\n    op.execute(statement)",
                )
        yield from _at_the_beginning(project, revision.revision)


def _at_the_beginning(project: Project, revision: str) -> Iterator[Finding]:
    (one,) = [each for each in project.revisions if each.revision == revision]
    alters = [sent for sent in one.up if any(words[:2] in CHANGES for words in sent.statements)]
    if alters and "citus.multi_shard_modify_mode" not in " ".join(sent.sql for sent in one.up):
        yield RULE.found(
            one.file,
            alters[0].line,
            "The revision does not begin in sequential mode, so that a change of a distributed table may deadlock.",
            instead="op.execute(\"SET LOCAL citus.multi_shard_modify_mode = 'sequential'\")",
        )
    for table in project.catalog.tables.values():
        if table.place and table.place[0] is one and table.columns and not table.has_primary_key:
            schema, _, name = table.name.rpartition(".")
            where = f', schema="{schema}"' if schema else ""
            yield RULE.found(
                one.file,
                table.place[1].line,
                f"{table.name} has no primary key, so that its shards cannot be moved without blocking.",
                instead=f'op.create_primary_key("pk_{name}", "{name}", ["tenant_id", "id"]{where})',
            )


def _refused(words: list[str]) -> Iterator[tuple[str, str]]:
    for sees in (_foreign_key_actions, _renamed, _detached, _column, _conflict, _trigger, _policy):
        yield from sees(words)


def _foreign_key_actions(words: list[str]) -> Iterator[tuple[str, str]]:
    for key in foreign_keys_in(words):
        action = " ".join(key.action)
        for refused in ("on delete set null", "on update cascade"):
            if refused in action:
                yield (
                    f"The foreign key from {key.table} to {key.referred} says {refused.upper()}.",
                    f'sa.ForeignKeyConstraint(["tenant_id", "…"], ["{key.referred}.tenant_id", "{key.referred}.id"])',
                )


def _renamed(words: list[str]) -> Iterator[tuple[str, str]]:
    if words[:2] == ["alter", "table"] and _follows(words, "rename", "constraint"):
        yield (
            "A constraint is renamed.",
            "# add it by its new name, NOT VALID; validate it; drop the old one",
        )


def _detached(words: list[str]) -> Iterator[tuple[str, str]]:
    if "detach" in words and "concurrently" in words:
        yield "A partition is detached concurrently.", "# dataarch partitions retire, which locks for a moment"


def _column(words: list[str]) -> Iterator[tuple[str, str]]:
    if words[:2] != ["alter", "table"] or "add" not in words:
        return
    if any(word in {"serial", "bigserial", "smallserial"} for word in words):
        yield "A serial column is added.", "sa.Column('id', sa.Uuid(), server_default=sa.text('uuid_v7()'))"
    for place, word in enumerate(words):
        named = place >= 2 and words[place - 2] == "constraint"
        if word == "check" and not named and "column" in words[:place]:
            yield "A column is added with a CHECK without a name.", 'sa.CheckConstraint("…", name="ck_table_rule")'


def _conflict(words: list[str]) -> Iterator[tuple[str, str]]:
    if "conflict" in words and any(name in words[words.index("conflict") :] for name in NOW):
        yield "DO UPDATE SET calls a function of the present time.", "… DO UPDATE SET updated_at = EXCLUDED.updated_at"
    elif words[:1] == ["update"] and any(name in words for name in NOW):
        yield (
            "UPDATE calls a function of the present time.",
            "op.execute(table.update().values(at=datetime.now(UTC)))",
        )


def _trigger(words: list[str]) -> Iterator[tuple[str, str]]:
    if words[:1] == ["create"] and "trigger" in words[:4]:
        yield (
            f"The trigger {name_of(words[words.index('trigger') + 1 :])} needs a setting.",
            'op.execute("SET LOCAL citus.enable_unsafe_triggers = on")',
        )


def _policy(words: list[str]) -> Iterator[tuple[str, str]]:
    if words[1:2] == ["policy"] and "select" in words:
        yield "A policy has a sub-select.", 'op.enable_tenant_isolation("table", "tenant_id")'


def _follows(words: list[str], first: str, second: str) -> bool:
    return any(pair == (first, second) for pair in pairwise(words))
