"""Opening a database with settings of a test's own."""

from __future__ import annotations

from collections.abc import Callable

from dataarch.database.settings import Settings
from dataarch.database.unit_of_work import Database

OpenDatabase = Callable[..., Database]
ExecutedSql = list[str]


def tuned(settings: Settings, **changes: object) -> Settings:
    """Return the settings with changes, read as if they were given at the start."""
    return Settings.load(**{**settings.model_dump(), **changes})
