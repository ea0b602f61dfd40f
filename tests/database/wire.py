"""PostgreSQL's protocol, as far as tests need it: a proxy that counts round trips, and servers that answer little."""

from __future__ import annotations

import socket
import socketserver
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from sqlalchemy import URL

COMMIT = b"COMMIT\0"
"""As a statement of its own: the text of BEGIN … READ COMMITTED has the word in it."""
SYNC_OR_QUERY = frozenset({b"Q", b"S"})
TEXT = frozenset({b"Q", b"P"})
ENCRYPTION_REQUESTS = frozenset({80877103, 80877104})


def _address(url: URL) -> tuple[socket.AddressFamily, str | tuple[str, int]]:
    """Return where a URL's server listens: a Unix socket or a TCP port."""
    folder = url.query.get("host")
    port = url.port or int(str(url.query.get("port", 5432)))
    if isinstance(folder, str) and folder.startswith("/"):
        return socket.AF_UNIX, f"{folder}/.s.PGSQL.{port}"
    return socket.AF_INET, (url.host or str(folder or "127.0.0.1"), port)


def _exactly(source: socket.socket, length: int) -> bytes:
    data = b""
    while len(data) < length:
        part = source.recv(length - len(data))
        if not part:
            raise EOFError
        data += part
    return data


def _message(source: socket.socket) -> tuple[bytes, bytes]:
    """Return one message that has a type: the type, and the whole of it."""
    head = _exactly(source, 5)
    return head[:1], head + _exactly(source, struct.unpack("!I", head[1:])[0] - 4)


def _startup(source: socket.socket) -> bytes:
    """Return the first message of a client, with every wish for encryption declined."""
    while True:
        head = _exactly(source, 4)
        whole = head + _exactly(source, struct.unpack("!I", head)[0] - 4)
        if struct.unpack("!I", whole[4:8])[0] not in ENCRYPTION_REQUESTS:
            return whole
        source.sendall(b"N")


class Proxy:
    """Stands between a client and a server, and counts how often the client must wait for an answer.

    A round trip is a simple query, or a Sync that ends a series of messages of the extended protocol. ``texts`` are the
    messages that carry the text of a statement: each statement, unless it was prepared before. ``kinds`` has a letter
    for each message.

    With ``patience``, in seconds, the answer to a COMMIT is held back until the client goes on without it; ``waited``
    counts how often the client did not, and got its answer when the patience had run out.
    """

    def __init__(self, server: URL, port: int = 0) -> None:
        self.sent: list[bytes] = []
        self.texts: list[bytes] = []
        self.kinds = b""
        self.patience: float | None = None
        self.waited = 0
        self._gone_on = threading.Event()
        self._gone_on.set()
        self._server = server
        self._listener = socket.create_server(("127.0.0.1", port))
        self.port = int(self._listener.getsockname()[1])
        self._links: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def url(self) -> str:
        """The URL of the same database and role, through here."""
        through = self._server.set(host="127.0.0.1", port=self.port, query={})
        return through.set(drivername="postgresql").render_as_string(hide_password=False)

    @property
    def trips(self) -> int:
        """How often a client has waited so far."""
        return len(self.sent)

    def cut(self) -> None:
        """Break every connection, as a restart of the server does."""
        links, self._links = self._links, []
        for link in links:
            with suppress(OSError):
                link.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Stop listening, and break every connection."""
        # a thread that waits in accept() would take one connection more
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                family, place = _address(self._server)
                server = socket.socket(family)
                server.connect(place)
                self._links += [client, server]
                threading.Thread(target=self._up, args=(client, server), daemon=True).start()
                threading.Thread(target=self._down, args=(server, client), daemon=True).start()

    def _up(self, client: socket.socket, server: socket.socket) -> None:
        with client, suppress(OSError, EOFError):
            server.sendall(_startup(client))
            commits = False
            while True:
                kind, whole = _message(client)
                self.kinds += kind
                self._gone_on.set()
                commits = commits or (kind in TEXT and COMMIT in whole)
                if kind in SYNC_OR_QUERY:
                    if commits and self.patience is not None:
                        self._gone_on.clear()
                    commits = False
                    self.sent.append(whole)
                if kind in TEXT:
                    self.texts.append(whole)
                server.sendall(whole)
        with suppress(OSError):
            server.shutdown(socket.SHUT_RDWR)

    def _down(self, server: socket.socket, client: socket.socket) -> None:
        with server, suppress(OSError):
            while part := server.recv(65536):
                if not self._gone_on.wait(self.patience):
                    self.waited += 1
                    self._gone_on.set()
                client.sendall(part)
        with suppress(OSError):
            client.shutdown(socket.SHUT_RDWR)


@contextmanager
def proxy(server: URL, port: int = 0) -> Iterator[Proxy]:
    """Open a proxy for a while."""
    opened = Proxy(server, port)
    try:
        yield opened
    finally:
        opened.close()


class _OldConnection(socketserver.BaseRequestHandler):
    """Lets everybody in, says that it is PostgreSQL 14.9, and answers nothing more."""

    def handle(self) -> None:
        with suppress(EOFError, OSError):
            _startup(self.request)
            parameters = {"server_version": "14.9", "client_encoding": "UTF8", "standard_conforming_strings": "on"}
            answer = b"R" + struct.pack("!II", 8, 0)
            for name, value in parameters.items():
                pair = f"{name}\0{value}\0".encode()
                answer += b"S" + struct.pack("!I", len(pair) + 4) + pair
            self.request.sendall(answer + b"K" + struct.pack("!III", 12, 1, 1) + b"Z" + struct.pack("!I", 5) + b"I")
            while self.request.recv(65536):
                pass
        assert isinstance(self.server, OldServer)
        self.server.left.release()


class OldServer(socketserver.ThreadingTCPServer):
    """A server that is too old; ``left`` counts the clients that have gone."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _OldConnection)
        self.left = threading.Semaphore(0)

    def url(self) -> str:
        """Where it is."""
        return f"postgresql://somebody@127.0.0.1:{self.server_address[1]}/somewhere"


@contextmanager
def old_server() -> Iterator[OldServer]:
    """Run a server that is too old."""
    with OldServer() as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield server
        server.shutdown()


@contextmanager
def silent_server() -> Iterator[str]:
    """Run a server that takes connections and never says a word; gives its URL."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"postgresql://somebody@127.0.0.1:{listener.getsockname()[1]}/somewhere"


def closed_port() -> str:
    """Return the URL of a port where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return f"postgresql://somebody@127.0.0.1:{listener.getsockname()[1]}/somewhere"
