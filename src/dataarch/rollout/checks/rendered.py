"""The SQL of each revision by itself, as Alembic prints it, each statement with the revision's line that sent it."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from types import FrameType
from typing import Any

from alembic.config import Config
from alembic.operations import MigrateOperation, Operations
from alembic.operations.ops import ExecuteSQLOp
from alembic.runtime.environment import EnvironmentContext
from alembic.script import Script, ScriptDirectory

import dataarch.rollout.operations  # registers them, as a revision's own import would
from dataarch.rollout.checks.tokens import statements

__all__ = ["RevisionSql", "Sent", "rendered"]

GENTLE = dataarch.rollout.operations.__name__


@dataclass(frozen=True, slots=True)
class Sent:
    """A statement that a revision sends.

    Attributes:
        sql: its text, as Alembic prints it.
        line: the line of the revision's file that sent it; 0 where the file did not.
        operation: Alembic's operation that it belongs to; None for ``op.execute`` of text.
    """

    sql: str
    line: int
    operation: MigrateOperation | None

    @property
    def gentle(self) -> bool:
        """Whether an operation of this library sent it, which takes its locks gently."""
        return type(self.operation).__module__.startswith(GENTLE)

    @property
    def statements(self) -> list[list[str]]:
        """The words of each statement in it."""
        return list(statements(self.sql))


@dataclass(slots=True)
class RevisionSql:
    """A revision and all that it sends.

    Attributes:
        revision: its id.
        file: its file.
        up, down: what upgrade() and downgrade() send.
        broken: what went wrong where its SQL could not be printed, with the line.
    """

    revision: str
    file: Path
    up: list[Sent] = field(default_factory=list)
    down: list[Sent] = field(default_factory=list)
    broken: tuple[int, str] | None = None


class _Recorder(StringIO):
    """What Alembic prints to, and looks who prints."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self._file = str(file)
        self.sent: list[Sent] = []

    def write(self, text: str) -> int:
        if text.strip():
            line, operation = self._sender()
            self.sent.append(Sent(text.strip(), line, operation))
        return len(text)

    def _sender(self) -> tuple[int, MigrateOperation | None]:
        operation: MigrateOperation | None = None
        for frame in _frames():
            if frame.f_code.co_filename == self._file:
                return frame.f_lineno, operation
            given = frame.f_locals.get("operation")
            if frame.f_code.co_name == "invoke" and isinstance(given, MigrateOperation):
                operation = None if isinstance(given, ExecuteSQLOp) else given
        return 0, operation


def _frames() -> Iterator[FrameType]:
    frame: FrameType | None = sys._getframe(2)  # the way to ask who is calling
    while frame is not None:
        yield frame
        frame = frame.f_back


def rendered(config: Config) -> list[RevisionSql]:
    """Return the revisions of a folder, the oldest first; no database is asked, and no ``env.py`` is run."""
    scripts = ScriptDirectory.from_config(config)
    return [_revision(one, scripts, config) for one in [*scripts.walk_revisions()][::-1]]


def _revision(script: Script, scripts: ScriptDirectory, config: Config) -> RevisionSql:
    file = Path(script.module.__file__ or script.path)
    found = RevisionSql(str(script.revision), file)
    for name, sent in (("upgrade", found.up), ("downgrade", found.down)):
        recorder = _Recorder(file)
        try:
            with EnvironmentContext(config, scripts, as_sql=True) as environment:
                environment.configure(
                    dialect_name="postgresql",
                    dialect_opts={"paramstyle": "named"},
                    output_buffer=recorder,
                    literal_binds=True,
                    transaction_per_migration=True,
                )
                with Operations.context(environment.get_context()):
                    getattr(script.module, name, _nothing)()
        except Exception as error:  # noqa: BLE001  # it is the revision's, and is reported
            lines = [one.lineno for one in traceback.extract_tb(error.__traceback__) if one.filename == str(file)]
            found.broken = found.broken or ((lines or [1])[-1] or 1, f"{name}(): {type(error).__name__}: {error}")
        sent.extend(recorder.sent)
    return found


def _nothing() -> Any:
    return None
