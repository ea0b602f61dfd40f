"""Waiting without standing in anybody's way: under asyncio, whoever waits lets the event loop go on."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from greenlet import getcurrent
from sqlalchemy.util import await_only
from sqlalchemy.util.concurrency import in_greenlet

__all__ = ["acquire", "await_event", "offload", "pause", "who"]

Result = TypeVar("Result")

STEP = 0.002
"""Seconds between two looks at a lock whose holder may be another task of this thread."""


def who() -> int:
    """Return what tells threads apart, and tasks within a thread."""
    return id(getcurrent())


def offload(work: Callable[[], Result]) -> Result:
    """Run something that waits for the network; in code that ``run_sync`` runs, in a thread beside the event loop."""
    if not in_greenlet():
        return work()
    result: Result = await_only(asyncio.get_running_loop().run_in_executor(None, work))
    return result


def pause(seconds: float) -> None:
    """Do nothing for so long."""
    if in_greenlet():
        await_only(asyncio.sleep(seconds))
    else:
        time.sleep(seconds)


def acquire(lock: threading.Lock, seconds: float) -> bool:
    """Acquire a lock within so many seconds; under asyncio its holder may be a task of the same thread."""
    if not in_greenlet():
        return lock.acquire(timeout=seconds)
    deadline = time.monotonic() + seconds
    while not lock.acquire(blocking=False):
        if time.monotonic() > deadline:
            return False
        pause(STEP)
    return True


def await_event(event: threading.Event, seconds: float) -> None:
    """Wait for an event, so many seconds at the most; under asyncio a task of the same thread may have to set it."""
    if not in_greenlet():
        event.wait(seconds)
        return
    deadline = time.monotonic() + seconds
    while not event.is_set() and time.monotonic() < deadline:
        pause(STEP)
