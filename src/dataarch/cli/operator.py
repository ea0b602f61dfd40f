"""The settings of a command that works as the owner."""

from __future__ import annotations

from dataarch.database.settings import Settings

__all__ = ["operator_settings"]


def operator_settings() -> Settings:
    """Return the settings; what an operator does is the owner's, so that the owner's URL is enough."""
    settings = Settings.load()
    return settings if settings.database_url else settings.model_copy(update={"database_url": settings.owner_url})
