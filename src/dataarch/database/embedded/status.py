"""What runs in a folder, and the URLs to reach it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dataarch.database.settings import APP_ROLE

__all__ = [
    "ADMIN_ROLE",
    "DATABASE",
    "OWNER_ROLE",
    "PORT",
    "POSTGRES_SOCKETS",
    "VALKEY_SOCKET",
    "ServerStatus",
    "postgres_url",
    "valkey_url",
]

DATABASE = "dataarch"
OWNER_ROLE = "dataarch_owner"
ADMIN_ROLE = "postgres"
PORT = 5432
"""Only part of the socket's name. It stands in the URLs, because PGPORT in the environment would change it."""

POSTGRES_SOCKETS = (f".s.PGSQL.{PORT}", f".s.PGSQL.{PORT}.lock")
VALKEY_SOCKET = "valkey.sock"


@dataclass(frozen=True, slots=True)
class ServerStatus:
    """What runs in a folder.

    Attributes:
        folder: the folder of the servers, resolved.
        postgres_running: whether PostgreSQL answers.
        postgres_version: for example ``18.6``; None if it does not answer.
        valkey_running: whether Valkey answers.
        database_url: the application's login; its role is made by the migrations. The URLs are None while the server
            that they name does not answer.
        owner_url: the login for migrations and maintenance.
        admin_url: the superuser, on the database ``postgres``.
        redis_url: Valkey, for ``redis.Redis.from_url``.
        postgres_log: the log of PostgreSQL; the file need not exist yet.
        valkey_log: the log of Valkey; the file need not exist yet.
    """

    folder: Path
    postgres_running: bool
    postgres_version: str | None
    valkey_running: bool
    database_url: str | None
    owner_url: str | None
    admin_url: str | None
    redis_url: str | None
    postgres_log: Path
    valkey_log: Path

    @classmethod
    def of(cls, folder: Path, *, sockets: Path, version: str | None, valkey_running: bool) -> ServerStatus:
        """Return the status of a folder whose PostgreSQL answers with ``version``, or None for not at all."""
        running = version is not None
        return cls(
            folder=folder,
            postgres_running=running,
            postgres_version=version,
            valkey_running=valkey_running,
            database_url=postgres_url(sockets, APP_ROLE, DATABASE) if running else None,
            owner_url=postgres_url(sockets, OWNER_ROLE, DATABASE) if running else None,
            admin_url=postgres_url(sockets, ADMIN_ROLE, "postgres") if running else None,
            redis_url=valkey_url(sockets) if valkey_running else None,
            postgres_log=folder / "log" / "postgres.log",
            valkey_log=folder / "log" / "valkey.log",
        )


def postgres_url(sockets: Path, role: str, database: str) -> str:
    """Return the URL of a database behind a socket, whose folder has a plain name (see ``places.PLAIN``)."""
    return f"postgresql+psycopg://{role}@/{database}?host={sockets}&port={PORT}"


def valkey_url(sockets: Path) -> str:
    """Return the URL of the first database of Valkey behind a socket."""
    return f"unix://{sockets}/{VALKEY_SOCKET}?db=0"
