"""The client of OpenLineage, loaded when it is asked for, and where it sends events to."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any
from urllib.parse import urlsplit

from dataarch.errors import ConfigurationError, DependencyMissing, shown

__all__ = ["Client", "emitter", "part"]

Client = Callable[[Any], object]
TIMEOUT = 2.0
"""Seconds to connect, and again to answer."""

OWN_CONFIGURATION = "client"


def part(name: str) -> Any:
    """Return a module of the client; raises :class:`DependencyMissing` where it is not installed."""
    try:
        return import_module(f"openlineage.client.{name}")
    except ImportError as missing:
        raise DependencyMissing(
            f"Events are sent by the client of OpenLineage, which cannot be loaded: {missing}.",
            hint="Install it with `pip install 'dataarch[lineage]'`.",
        ) from missing


def emitter(to: str) -> Client:
    """Return what sends an event to a file, to a URL, or wherever the client is configured to."""
    client = part("client")
    try:
        made = client.OpenLineageClient(transport=None if to == OWN_CONFIGURATION else _transport(to))
    except (ValueError, TypeError, KeyError, RuntimeError, ImportError) as wrong:
        raise ConfigurationError(f"The client of OpenLineage cannot be configured: {wrong}.") from wrong
    emit: Client = made.emit
    return emit


def _transport(to: str) -> Any:
    scheme, host = _read(to)
    if scheme in {"http", "https"} and host:
        http = part("transport.http")
        retry = {"total": 0, "read": 0, "connect": 0}
        return http.HttpTransport(http.HttpConfig.from_dict({"url": to, "timeout": TIMEOUT, "retry": retry}))
    if to and scheme in {"", "file"}:
        file = part("transport.file")
        return file.FileTransport(file.FileConfig(log_file_path=to.removeprefix("file://"), append=True))
    public = to.rpartition("@")[2]
    raise ConfigurationError(
        f"Events of OpenLineage cannot be sent to {shown(public)}.",
        hint="Set DATAARCH_OPENLINEAGE to a file, to http://… or https://…, or to 'client' for its own configuration.",
        value=public,
    )


def _read(to: str) -> tuple[str, str | None]:
    try:
        url = urlsplit(to)
    except ValueError:
        return "unreadable", None
    return url.scheme, url.hostname
