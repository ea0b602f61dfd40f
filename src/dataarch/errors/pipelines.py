"""Pipelines, and the sources that they read."""

from __future__ import annotations

from dataarch.errors.base import DataArchError
from dataarch.errors.server import Retryable


class PipelineBusy(Retryable):
    """Somebody else runs the same pipeline for the same tenant."""


class FeedError(DataArchError):
    """A source cannot be read any further; what was committed before stays.

    Attributes:
        source: name of the file or stream.
        line: the line where it went wrong, counted from 1; None if the whole source is meant.
    """

    def __init__(self, message: str, *, source: str, line: int | None = None, hint: str | None = None) -> None:
        self.source = source
        self.line = line
        super().__init__(message, hint=hint)
