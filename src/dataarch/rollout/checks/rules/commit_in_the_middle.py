"""Revisions that are half done when they fail."""

from __future__ import annotations

from collections.abc import Iterator

from dataarch.rollout.checks.finding import Finding, Rule
from dataarch.rollout.checks.project import Project
from dataarch.rollout.checks.rendered import RevisionSql, Sent

__all__ = ["RULE", "check"]

RULE = Rule(
    "commit-in-the-middle",
    blocks="It blocks nobody: where it fails or is killed after the commit, one half of it is there, and the revision "
    "cannot be run again.",
    why="An autocommit block, and an index of a partitioned table, commit what the revision did before; an upgrade "
    "that gets no lock afterwards may not undo that and try again.",
    instead="""
# a revision of its own, which can be run again as often as need be
with op.get_context().autocommit_block():
    op.create_index("i", "orders", ["note"], postgresql_concurrently=True, if_not_exists=True)
""".strip(),
)


def check(project: Project) -> Iterator[Finding]:
    """Yield revisions that do something beside what commits."""
    for revision in project.revisions:
        committing, beside = _parts(revision)
        if committing is not None and beside:
            what = f"It commits here, and line {beside[0].line} is part of the same revision."
            yield RULE.found(revision.file, committing.line, what)


def _parts(revision: RevisionSql) -> tuple[Sent | None, list[Sent]]:
    """Return what commits first, and what is sent within the revision's own transaction."""
    committing: Sent | None = None
    beside, within = list[Sent](), True
    for sent in revision.up:
        word = sent.sql.rstrip(";").strip().lower()
        if word in {"commit", "begin"}:
            within = word == "begin"
            committing = committing or sent
        elif within and not word.startswith(("set ", "select set_config")):
            beside.append(sent)
    return committing, beside
