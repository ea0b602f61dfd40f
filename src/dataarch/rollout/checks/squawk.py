"""General dangers, found by squawk in the SQL that Alembic renders, each revision by itself."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dataarch.errors import ConfigurationError, DependencyMissing
from dataarch.rollout.checks.catalog import indexes_in
from dataarch.rollout.checks.finding import Finding
from dataarch.rollout.checks.project import Project
from dataarch.rollout.checks.rendered import RevisionSql, Sent

__all__ = ["EXCLUDED", "check"]

EXCLUDED = (
    "prefer-bigint-over-int",
    "prefer-bigint-over-smallint",
    "prefer-identity",
    "prefer-robust-stmts",
    "prefer-text-field",
    "require-timeout-settings",
)
"""Matters of taste, and what this library does by itself: a revision is one transaction, and its locks are bounded."""

OLDEST_SERVER = "15.0"

BLOCKS = {
    "adding-field-with-default": "Everybody waits until the table is written anew (ACCESS EXCLUSIVE).",
    "adding-foreign-key-constraint": "Everybody who writes waits until all rows are checked (SHARE ROW EXCLUSIVE).",
    "adding-not-nullable-field": "Everybody waits until all rows are checked (ACCESS EXCLUSIVE).",
    "adding-required-field": "It fails where the table has rows, and breaks programs that do not know the column.",
    "ban-drop-column": "Programs of the version before break at once, and what is in it is gone for good.",
    "ban-drop-table": "Programs of the version before break at once, and what is in it is gone for good.",
    "changing-column-type": "Everybody waits until the table and its indexes are written anew (ACCESS EXCLUSIVE).",
    "constraint-missing-not-valid": "Everybody waits until all rows are checked (ACCESS EXCLUSIVE).",
    "disallowed-unique-constraint": "Everybody waits until the index is built (ACCESS EXCLUSIVE).",
    "renaming-column": "Programs of the version before break at once.",
    "renaming-table": "Programs of the version before break at once.",
    "require-concurrent-index-creation": "Everybody who writes waits until the index is built (SHARE).",
    "require-concurrent-index-deletion": "Everybody waits for the table's transactions to end (ACCESS EXCLUSIVE).",
}
"""What the most common of its findings block, and for how long."""


def check(project: Project) -> Iterator[Finding]:
    """Yield what squawk finds on the way up.

    Raises:
        DependencyMissing: squawk is not installed.
    """
    with tempfile.TemporaryDirectory() as folder:
        files = {str(path): one for one in project.revisions if (path := _write(Path(folder), one)) is not None}
        for said in _said(list(files)):
            revision = files[said["file"]]
            sent = _at(revision, int(said["line"]))
            if not _answered_elsewhere(project, revision, said["rule_name"], sent):
                yield _finding(revision, sent, said)


def _write(folder: Path, revision: RevisionSql) -> Path | None:
    if not revision.up:
        return None
    path = folder / f"{revision.file.stem}.sql"
    path.write_text("\n".join(["BEGIN;", *(sent.sql for sent in revision.up), "COMMIT;", ""]), encoding="utf-8")
    return path


def _at(revision: RevisionSql, line: int) -> Sent:
    """Return what was sent at a line of the file, counted from 0 on; the first one says BEGIN."""
    ends = 1
    for sent in revision.up:
        ends += sent.sql.count("\n") + 1
        if line < ends:
            return sent
    return revision.up[-1]


def _said(files: list[str]) -> list[dict[str, Any]]:
    if not files:
        return []
    arguments = ["--reporter", "json", "--pg-version", OLDEST_SERVER, *(f"--exclude={rule}" for rule in EXCLUDED)]
    # a configuration of the folder where it is started would be one that nobody asked for
    ended = subprocess.run(  # noqa: S603  # files of our own
        [_binary(), *arguments, *files], capture_output=True, text=True, check=False, cwd=Path(files[0]).parent
    )
    try:
        found: list[dict[str, Any]] = json.loads(ended.stdout or "[]")
    except ValueError:
        raise ConfigurationError(f"squawk failed: {(ended.stderr or ended.stdout).strip()}.") from None
    if ended.returncode not in {0, 1}:
        raise ConfigurationError(f"squawk failed: {ended.stderr.strip()}.")
    return found


def _binary() -> str:
    beside = Path(sys.executable).with_name("squawk")
    found = str(beside) if beside.exists() else shutil.which("squawk")
    if found is None:
        raise DependencyMissing("squawk is not installed.", hint="Install dataarch[lint], or squawk-cli.")
    return found


def _answered_elsewhere(project: Project, revision: RevisionSql, rule: str, sent: Sent) -> bool:
    """Return whether an own rule says more, or an operation of ours does it gently."""
    if sent.gentle:
        return True
    tables = [index.table for words in sent.statements for index in indexes_in(words)]
    on_partitioned = any(project.catalog.table(table).partitioned_in(revision.revision) for table in tables)
    return rule == "require-concurrent-index-creation" and on_partitioned


def _finding(revision: RevisionSql, sent: Sent, said: dict[str, Any]) -> Finding:
    rule = str(said["rule_name"])
    return Finding(
        rule,
        revision.file,
        sent.line,
        str(said["message"]),
        BLOCKS.get(rule, "squawk warns of it."),
        f"See squawk's page of {rule}.",
        str(said.get("help") or ""),
    )
