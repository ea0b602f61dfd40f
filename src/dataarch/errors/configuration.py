"""What the caller set up cannot work."""

from __future__ import annotations

from dataarch.errors.base import DataArchError


class ConfigurationError(DataArchError):
    """The settings cannot work as they are."""

    exit_code = 2


class DatabaseUrlMissing(ConfigurationError):
    """Nobody said where the database is."""

    default_hint = (
        "Set DATAARCH_DATABASE_URL, for example postgresql://dataarch_app@localhost/app, or start a server of your own "
        "with `dataarch server start`."
    )

    def __init__(self) -> None:
        super().__init__("No database is known: DATAARCH_DATABASE_URL is not set and no embedded server runs here.")


class InvalidUrl(ConfigurationError):
    """A URL in the settings names no server that dataarch can talk to."""

    default_hint = (
        "Write it as postgresql://user@host:5432/database, with special characters of a password percent-encoded."
    )


class EmbeddedServerError(ConfigurationError):
    """The embedded PostgreSQL or Valkey cannot be started, reached or stopped."""


class InputMissing(ConfigurationError):
    """A file or folder that should be read is not there, or holds nothing to read."""


class DependencyMissing(ConfigurationError):
    """An optional library is needed for this, and is not installed."""
