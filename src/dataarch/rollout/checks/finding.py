"""What a check has found, in words that say what to do."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["Finding", "Rule"]

TABLES = ("table", "referred")


@dataclass(frozen=True, slots=True)
class Rule:
    """A danger, and the way around it.

    Attributes:
        name: as an exception names it.
        blocks: what it blocks or breaks and for how long, with the lock; a sentence.
        why: the reason; a sentence.
        instead: the replacement as code; ``{name}`` is filled in from the finding.
    """

    name: str
    blocks: str
    why: str
    instead: str

    def found(self, file: Path | None, line: int, what: str, /, **names: str) -> Finding:
        """Return the finding at a place; ``names`` fill in the code, tables with their schema, unless it is public."""
        code = self.instead
        for name, value in names.items():
            schema, _, table = value.rpartition(".") if name in TABLES else ("", "", value)
            code = code.replace(f"{{{name}}}", table)
            code += f"\n# {table} is in the schema {schema}: say so" if schema else ""
        return Finding(self.name, file, line, what, self.blocks, self.why, code)


@dataclass(frozen=True, slots=True, order=True)
class Finding:
    """One danger at one place.

    Attributes:
        rule: name of the rule.
        file: where; None for models that have no file.
        line: the line in it, from 1 on.
        what: what is there, as a sentence.
        blocks: what it blocks or breaks and for how long.
        why: the reason.
        instead: the replacement as code; may be empty.
    """

    rule: str
    file: Path | None
    line: int
    what: str
    blocks: str = field(compare=False)
    why: str = field(compare=False)
    instead: str = field(compare=False)

    @property
    def place(self) -> str:
        """The place as an editor takes it."""
        return f"{self.file or 'models'}:{self.line}"

    @property
    def override(self) -> str:
        """The comment that allows it."""
        return f"# dataarch: allow {self.rule}: the reason"

    def __str__(self) -> str:
        """Return it on one line."""
        instead = f" Instead: {' '.join(self.instead.split())}" if self.instead else ""
        return f"{self.place}: {self.rule}: {self.what} {self.blocks} {self.why}{instead} Or: {self.override}"
