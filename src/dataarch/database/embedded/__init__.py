"""PostgreSQL and Valkey for development and tests, in a folder of the project: nothing to install, no port in use."""

from __future__ import annotations

from dataarch.database.embedded.server import EmbeddedServer, embedded_settings
from dataarch.database.embedded.status import ServerStatus

__all__ = ["EmbeddedServer", "ServerStatus", "embedded_settings"]
