"""Look at revisions and models before they meet a server: ``dataarch lint``, a check for pytest, a pre-commit hook.

Dangers that any project has come from squawk; those of tenants, partitions, policies and backfills have rules here.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from dataarch.rollout.checks import squawk
from dataarch.rollout.checks.exceptions import Exceptions
from dataarch.rollout.checks.finding import Finding, Rule
from dataarch.rollout.checks.project import Project
from dataarch.rollout.checks.rules import CHECKS, RULES

__all__ = ["RULES", "Finding", "Project", "Rule", "findings"]

NOT_RENDERED = Rule(
    "not-rendered",
    blocks="It blocks nobody: nobody can say what this revision does, and `alembic upgrade --sql` cannot print it.",
    why="Its SQL depends on what a database answers.",
    instead='# ask inside of the statement: op.execute("DO $$ BEGIN IF … THEN … END IF; END $$")',
)


def findings(project: Project, *, with_squawk: bool = True) -> list[Finding]:
    """Return what the checks find, but for what comments in the revisions and models allow with a reason.

    Args:
        project: its revisions and models.
        with_squawk: whether squawk is asked too.

    Raises:
        DependencyMissing: squawk is not installed.
        ConfigurationError: a revision that was named is not there.

    Guarantee: no database is asked, no ``env.py`` is run; the revisions are imported, and their functions called.
    """
    found = sorted(set(_found(project, with_squawk=with_squawk)), key=lambda one: (str(one.file), one.line, one.rule))
    files = {one.file for one in project.revisions} | {file for file, _, _ in project.places.values()}
    exceptions = {file: Exceptions.of(file) for file in files}
    left = [one for one in found if not _allowed(project, exceptions, one)]
    for file in sorted(files):
        here = {one.rule for one in found if one.file == file}
        left += exceptions[file].faults(here | {rule.name for rule in RULES})
    return left


def _found(project: Project, *, with_squawk: bool) -> Iterator[Finding]:
    for revision in project.revisions:
        if revision.broken is not None:
            line, said = revision.broken
            yield NOT_RENDERED.found(revision.file, line, f"The revision cannot be printed as SQL: {said}.")
    for check in CHECKS:
        yield from check(project)
    if with_squawk:
        yield from squawk.check(project)


def _allowed(project: Project, exceptions: dict[Path, Exceptions], finding: Finding) -> bool:
    if finding.file is None or finding.file not in exceptions:
        return False
    models = [(first, last) for file, first, last in project.places.values() if file == finding.file]
    within = next((lines for lines in models if lines[0] <= finding.line <= lines[1]), None)
    return exceptions[finding.file].allows(finding, within)
