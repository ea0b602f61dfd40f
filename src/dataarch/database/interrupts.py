"""Ctrl-C in code that shares its work with threads.

Python raises KeyboardInterrupt in the main thread wherever it is. That may be inside a lock of its own, between taking
it and noting so: then a thread that needs it waits for ever, and so does whoever waits for that thread. Where threads
are at work, the first Ctrl-C therefore asks for an end, and takes effect once nothing is half done.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["Interrupts", "interrupts_held"]


class Interrupts:
    """What Ctrl-C has asked for during a block."""

    asked = False
    """Whether it was pressed: the block should come to an end."""

    def check(self) -> None:
        """Let Ctrl-C take effect here.

        Raises:
            KeyboardInterrupt: it was pressed.
        """
        if self.asked:
            raise KeyboardInterrupt

    def _hear(self, number: int, frame: FrameType | None) -> None:
        if self.asked:
            signal.default_int_handler(number, frame)
        self.asked = True


@contextmanager
def interrupts_held() -> Iterator[Interrupts]:
    """Let Ctrl-C wait for the end of the block; pressed a second time, it takes effect at once.

    Nothing is held in other threads than the main one, which are never interrupted, nor where the process does
    something of its own upon Ctrl-C, as asyncio does.

    Raises:
        KeyboardInterrupt: at the end of the block, if it was pressed meanwhile, whatever else the block has raised.
    """
    interrupts = Interrupts()
    if threading.current_thread() is not threading.main_thread() or not _is_default():
        yield interrupts
        return
    signal.signal(signal.SIGINT, interrupts._hear)
    try:
        yield interrupts
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        interrupts.check()


def _is_default() -> bool:
    return signal.getsignal(signal.SIGINT) is signal.default_int_handler
