"""A relay in front of a Redis: it keeps what clients send, and can fall silent, as a dead network does."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from redis import connection

TRACKS = b"TRACKING"


@dataclass(eq=False)
class Line:
    """One client's connection, and what it has sent."""

    client: socket.socket
    server: socket.socket
    sent: bytearray = field(default_factory=bytearray)
    open: threading.Event = field(default_factory=threading.Event)

    @property
    def tracks(self) -> bool:
        """Whether it asked to be told of changes."""
        return TRACKS in self.sent


class Relay:
    """Passes on bytes between clients and a server."""

    def __init__(self, url: str) -> None:
        read: Any = connection.parse_url
        self._server: dict[str, Any] = read(url)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._closed = False
        self.lines: list[Line] = []
        self.url = f"redis://127.0.0.1:{self._listener.getsockname()[1]}/{self._server.get('db', 0)}"
        threading.Thread(target=self._accept, daemon=True).start()

    def commands(self, name: bytes) -> int:
        """Return how often clients have sent a command, alone or in a pipeline."""
        return sum(bytes(line.sent).upper().count(b"\r\n" + name + b"\r\n") for line in self.lines)

    def trackers(self) -> list[Line]:
        """Return the open connections that asked to be told of changes."""
        return [line for line in self.lines if line.tracks and line.client.fileno() != -1]

    def silence(self) -> None:
        """Pass on nothing any more to those who asked to be told of changes, nor from them; break nothing."""
        for line in self.trackers():
            line.open.clear()

    def close(self) -> None:
        """Break every connection."""
        self._closed = True
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for line in self.lines:
            line.open.set()
            for end in (line.client, line.server):
                with suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)

    def _connect(self) -> socket.socket:
        if path := self._server.get("path"):
            server = socket.socket(socket.AF_UNIX)
            server.connect(path)
            return server
        return socket.create_connection((self._server.get("host", "127.0.0.1"), self._server.get("port", 6379)))

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                line = Line(client, self._connect())
                line.open.set()
                self.lines.append(line)
                threading.Thread(target=self._up, args=(line,), daemon=True).start()
                threading.Thread(target=self._down, args=(line,), daemon=True).start()

    def _up(self, line: Line) -> None:
        with line.client, suppress(OSError):
            while part := line.client.recv(65536):
                line.sent += part
                line.open.wait()
                line.server.sendall(part)
        with suppress(OSError):
            line.server.shutdown(socket.SHUT_RDWR)

    def _down(self, line: Line) -> None:
        with line.server, suppress(OSError):
            while part := line.server.recv(65536):
                line.open.wait()
                line.client.sendall(part)
        with suppress(OSError):
            line.client.shutdown(socket.SHUT_RDWR)


@contextmanager
def relay(url: str | None) -> Iterator[Relay]:
    """Open a relay for a while."""
    assert url is not None
    made = Relay(url)
    try:
        yield made
    finally:
        made.close()
