"""A pipeline of psycopg that is sent at once, and ends once.

psycopg sends each command by itself as it comes, then the end of the pipeline, and then asks the server to flush what
that end has flushed: four times the server is woken up, and whatever stands between. That is right for a pipeline that
goes on; this one has one statement.
"""

from __future__ import annotations

from collections import deque
from typing import Any

from psycopg import pq
from psycopg.abc import PipelineCommand

__all__ = ["Answers", "Gathered"]


class Gathered(deque[PipelineCommand]):
    """What is to be sent in a pipeline: given out as one, when its end is known."""

    def __init__(self, pgconn: pq.abc.PGconn) -> None:
        super().__init__()
        self.ends = 0
        self._pgconn = pgconn
        self._held: list[PipelineCommand] = []

    def append(self, command: PipelineCommand) -> None:
        """Put a command behind the others; the first end of the pipeline is the only one."""
        last = command == self._pgconn.pipeline_sync
        self.ends += last
        if self.ends == 0:
            self._held.append(command)
        elif self.ends == 1 and last:
            super().append(self._send)

    def _send(self) -> None:
        try:
            for command in self._held:
                command()
        finally:
            # what is sent by it is all of it; without it, the server would wait for more
            self._pgconn.pipeline_sync()


class Answers(deque[Any]):
    """Whom the answers are for; to an end of the pipeline that was not sent, there is none."""

    def __init__(self, commands: Gathered) -> None:
        super().__init__()
        self._commands = commands

    def append(self, whom: Any) -> None:
        """Note whom the next answer is for."""
        if self._commands.ends <= 1:
            super().append(whom)
