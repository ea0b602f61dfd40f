"""Where the revisions are, for those who have the package and no ``alembic.ini``."""

from __future__ import annotations

from pathlib import Path

from alembic.config import Config

from dataarch.database.settings import Settings

__all__ = ["revisions", "script_location"]


def script_location() -> Path:
    """Return the folder of the revisions: in the installed package, or at the top of a checkout."""
    package = Path(__file__).resolve().parent.parent
    installed = package / "migrations"
    return installed if installed.is_dir() else package.parent.parent / "alembic"


def revisions(settings: Settings) -> Config:
    """Return Alembic's configuration for dataarch's revisions and the database of these settings."""
    config = Config()
    # a percent sign in a path would be read as an interpolation
    config.set_main_option("script_location", str(script_location()).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["settings"] = settings
    return config
