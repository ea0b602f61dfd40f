"""Folders and servers for the tests of the embedded servers."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from dataarch.database.embedded import EmbeddedServer, places
from database.embedded.embedded_support import NewServer

ROOM = 1_000_000_000
"""Bytes that must be free in memory: servers are made there three times as fast as on a slow disk."""


@pytest.fixture
def base_folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder that every account can enter; a folder in it stands for /var/tmp."""
    memory = Path("/dev/shm")
    fits = memory.is_dir() and shutil.disk_usage(memory).free > ROOM
    base = Path(tempfile.mkdtemp(prefix="dataarch-test-", dir=memory if fits else "/tmp")).resolve()
    base.chmod(0o755)
    (base / "var").mkdir(mode=0o1777)
    (base / "var").chmod(0o1777)
    monkeypatch.setattr(places, "REACHABLE", base / "var")
    yield base
    shutil.rmtree(base)


@pytest.fixture
def new_server(base_folder: Path) -> Iterator[NewServer]:
    """Make servers that are stopped at the end, and prove that they are."""
    made: list[EmbeddedServer] = []

    def new(name: str = "servers", *, durable: bool = False) -> EmbeddedServer:
        made.append(EmbeddedServer(base_folder / name, durable=durable))
        return made[-1]

    yield new
    for server in made:
        server.stop()
        assert not server.status().postgres_running
        assert not server.status().valkey_running


@pytest.fixture
def server(new_server: NewServer) -> EmbeddedServer:
    """One such server, not started."""
    return new_server()
