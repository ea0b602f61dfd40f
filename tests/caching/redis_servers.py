"""Redis servers of a test's own, which it may empty, kill and start anew."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import redis

from dataarch.database.embedded.account import account_for
from dataarch.database.embedded.binaries import find_valkey

PATIENCE = 20.0


def programs() -> list[str]:
    """Return the servers that are installed: Valkey, and Redis where there is one."""
    found = [find_valkey(account_for()), shutil.which("redis-server")]
    return list(dict.fromkeys(program for program in found if program is not None))


class OwnRedis:
    """A server on a Unix socket, which keeps nothing."""

    def __init__(self, program: str, folder: Path) -> None:
        self.path = folder / "redis.sock"
        self.url = f"unix://{self.path}?db=0"
        self._command = [program, "--port", "0", "--unixsocket", str(self.path), "--save", "", "--dir", str(folder)]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it answers."""
        self._process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + PATIENCE
        while not self._answers():
            assert time.monotonic() < deadline, "the server does not start"
            time.sleep(0.01)

    def _answers(self) -> bool:
        try:
            with self.client() as client:
                return bool(client.ping())
        except redis.ConnectionError:
            return False

    def kill(self) -> None:
        """End it at once, as a crash does."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def client(self) -> redis.Redis:
        """Return a client."""
        return redis.Redis.from_url(self.url)


@contextmanager
def own_redis(program: str) -> Iterator[OwnRedis]:
    """Run a server for a while."""
    with tempfile.TemporaryDirectory(prefix="dataarch-redis-") as folder:
        server = OwnRedis(program, Path(folder))
        server.start()
        try:
            yield server
        finally:
            server.kill()
