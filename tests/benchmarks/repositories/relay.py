"""A relay in front of a server, in a process of its own, that makes each round trip longer by the same time."""

from __future__ import annotations

import multiprocessing
import queue
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection

from sqlalchemy import URL

__all__ = ["relay"]

OVERSLEPT = 6e-5
"""Seconds that a sleep lasts too long; to spin instead would take a processor from what is measured."""

Chunks = queue.SimpleQueue[tuple[float, bytes]]


def _place(url: URL) -> tuple[socket.AddressFamily, str | tuple[str, int]]:
    folder = url.query.get("host")
    port = url.port or int(str(url.query.get("port", 5432)))
    if isinstance(folder, str) and folder.startswith("/"):
        return socket.AF_UNIX, f"{folder}/.s.PGSQL.{port}"
    return socket.AF_INET, (url.host or str(folder or "127.0.0.1"), port)


def _take(source: socket.socket, chunks: Chunks, delay: float) -> None:
    with suppress(OSError):
        while part := source.recv(65536):
            chunks.put((time.perf_counter() + delay, part))
    chunks.put((0.0, b""))


def _give(chunks: Chunks, target: socket.socket) -> None:
    with suppress(OSError):
        while True:
            due, part = chunks.get()
            if not part:
                break
            # what comes behind it waits at the same time, as on a long wire
            if (left := due - time.perf_counter() - OVERSLEPT) > 0:
                time.sleep(left)
            target.sendall(part)
        target.shutdown(socket.SHUT_RDWR)


def _serve(url: URL, delay: float, told: Connection) -> None:
    family, place = _place(url)
    listener = socket.create_server(("127.0.0.1", 0))
    told.send(listener.getsockname()[1])
    while True:
        client, _ = listener.accept()
        server = socket.socket(family)
        server.connect(place)
        for end in (client, server):
            with suppress(OSError):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for source, target in ((client, server), (server, client)):
            chunks: Chunks = queue.SimpleQueue()
            threading.Thread(target=_take, args=(source, chunks, delay / 2), daemon=True).start()
            threading.Thread(target=_give, args=(chunks, target), daemon=True).start()


@contextmanager
def relay(server: URL, added: float) -> Iterator[URL]:
    """Give the URL of a server behind a longer wire; ``added`` is in seconds, for a round trip."""
    context = multiprocessing.get_context("spawn")
    hears, tells = context.Pipe(duplex=False)
    process = context.Process(target=_serve, args=(server, added, tells), daemon=True)
    process.start()
    try:
        yield server.set(host="127.0.0.1", port=hears.recv(), query={})
    finally:
        process.terminate()
        process.join()
