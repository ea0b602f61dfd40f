"""Things are sent one after another by a thread, and nobody waits for it longer than they want to."""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Generic, TypeVar

__all__ = ["Sending"]

Thing = TypeVar("Thing")


class Sending(Generic[Thing]):
    """Sends things in their order; the first that cannot be sent is the last that is tried.

    The process can end while one is on its way: the thread does not hold it back.
    """

    def __init__(self, send: Callable[[Thing], object]) -> None:
        self._send = send
        self._waiting: SimpleQueue[Thing | None] = SimpleQueue()
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._work, name="dataarch-lineage", daemon=True)
        self._thread.start()

    def put(self, thing: Thing) -> None:
        """Send something when all before it has been sent."""
        self._waiting.put(thing)

    def finish(self, seconds: float) -> str | None:
        """Wait until all is sent, at most so long; return why something was not, or None."""
        self._waiting.put(None)
        self._thread.join(seconds)
        if self._thread.is_alive():
            return f"it has not answered within {seconds:g} seconds"
        return None if self._error is None else type(self._error).__name__

    def _work(self) -> None:
        while (thing := self._waiting.get()) is not None:
            try:
                self._send(thing)
            except Exception as error:  # noqa: BLE001  the clients of others raise what they like
                self._error = error
                return
