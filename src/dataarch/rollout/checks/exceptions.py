"""Exceptions that a revision or a model makes, each with its reason: ``# dataarch: allow RULE: reason``."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from dataarch.rollout.checks.finding import Finding, Rule

__all__ = ["RULE", "Exceptions"]

COMMENT = re.compile(r"#\s*dataarch:\s*allow\b(?P<rest>.*)$")
PARTS = re.compile(r"\s*(?P<rule>[\w-]+)\s*(?::\s*(?P<reason>.*\S))?\s*\Z")

RULE = Rule(
    "exception-without-reason",
    blocks="It blocks nobody: the finding stays, as if the comment were not there.",
    why="Whoever reads the revision in a year has to know why it was right.",
    instead="# dataarch: allow {rule}: the table has ten rows, and nobody writes it",
)


@dataclass(frozen=True, slots=True)
class Exceptions:
    """What the comments of a file allow, each rule with the lines of its comments."""

    file: Path
    allowed: dict[str, list[int]]
    refused: tuple[tuple[int, str], ...]

    @classmethod
    def of(cls, file: Path) -> Exceptions:
        """Read a file; one that cannot be read allows nothing."""
        try:
            lines = file.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError):
            lines = []
        allowed: dict[str, list[int]] = {}
        refused = []
        for number, line in enumerate(lines, start=1):
            comment = COMMENT.search(line)
            parts = PARTS.match(comment["rest"]) if comment else None
            if parts is not None and parts["reason"]:
                allowed.setdefault(parts["rule"], []).append(number)
            elif comment is not None:
                refused.append((number, parts["rule"] if parts else ""))
        return cls(file, allowed, tuple(refused))

    def allows(self, finding: Finding, within: tuple[int, int] | None = None) -> bool:
        """Return whether a finding is allowed; ``within`` are the lines of its model, or None for a whole revision."""
        lines = self.allowed.get(finding.rule, [])
        return any(within is None or within[0] <= line <= within[1] for line in lines)

    def faults(self, known: Collection[str]) -> Iterator[Finding]:
        """Yield comments without a reason, or of a rule that does not exist."""
        for line, rule in self.refused:
            yield RULE.found(self.file, line, f"Nothing says why {rule or 'it'} is allowed.", rule=rule or "RULE")
        for rule, lines in self.allowed.items():
            if known and rule not in known:
                what = f"There is no rule {rule}, or it has found nothing here."
                yield RULE.found(self.file, lines[0], what, rule="RULE")
