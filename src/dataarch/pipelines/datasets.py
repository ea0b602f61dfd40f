"""The names of data sets, by the naming rules of OpenLineage: files, tables, and results of queries."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from sqlalchemy import URL, Engine

from dataarch.pipelines.extractors.query import Query
from dataarch.pipelines.pipeline import Pipeline
from dataarch.pipelines.records import Source

__all__ = ["input_name", "output_name"]

POSTGRES_PORT = 5432
SCHEMES = {"postgresql": "postgres"}
"""Where the rules have another name for a database than SQLAlchemy."""


def input_name(pipeline: Pipeline, source: Source, namespace: str) -> tuple[str, str]:
    """Return the namespace and the name of a source; what is neither file nor query is named in ``namespace``."""
    if isinstance(source.place, Path):
        return "file", _text(Path(os.path.abspath(source.place)))  # noqa: PTH100  leads where a link does not
    if isinstance(pipeline.extract, Query):
        url = pipeline.extract.url
        where = url.url if isinstance(url, Engine) else url
        if isinstance(where, URL):
            # behind the mark are the values of its parameters
            return database_name(where), f"{where.database}.{source.name.partition('?')[0]}"
    return namespace, f"{pipeline.name}.{source.name}"


def output_name(database: URL, table: str) -> tuple[str, str]:
    """Return the namespace and the name of a table of the application's database."""
    return database_name(database), f"{database.database or database.username}.public.{table}"


def database_name(url: URL) -> str:
    """Return the namespace of a database: its host and its port, without user and password."""
    backend = url.get_backend_name()
    scheme = SCHEMES.get(backend, backend)
    host, port = _option(url.host or url.query.get("host")), url.port or _option(url.query.get("port"))
    if scheme != "postgres":
        return scheme if not host else f"{scheme}://{host}" + (f":{port}" if port else "")
    if not host or host.startswith(("/", "@")):
        # a socket leads to this machine, and to no other
        host = socket.gethostname()
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{port or POSTGRES_PORT}"


def _option(value: str | tuple[str, ...] | None) -> str:
    """Return the first of the values that an option of a URL has."""
    first = value[0] if isinstance(value, tuple) and value else value
    return str(first or "").split(",")[0]


def _text(path: Path) -> str:
    return str(path).encode("utf-8", "backslashreplace").decode()
