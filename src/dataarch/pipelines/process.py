"""A process whose work it is to load: Python's collector of cycles, and how long a thread keeps the others waiting.

A load makes a great many objects that live for a while and are then freed without the collector. It looks at all
objects of the process each time a quarter of them is new, and everything waits meanwhile, the connections included: a
quarter of the client's time in the main job.

One thread reads, and others talk to the server. Each of their answers is there long before they may look at it: a
thread that computes keeps the interpreter for 5 ms, and a transaction has twenty answers.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["made_for_loading"]

RARELY = 10_000, 20, 1_000
"""Objects before young ones are looked at; such looks before those that have survived one; and these before all are."""

TURN = 0.0005
"""Seconds that a thread keeps the interpreter while others want it."""


@contextmanager
def made_for_loading() -> Iterator[None]:
    """Let threads take turns quickly during the block, and Python look for cycles among old objects hardly ever.

    For a process whose work this is, such as a command or a job: what the settings are, is the whole process's. Cycles
    of young objects are freed as ever, and at the end all are looked at as often as before.
    """
    objects, turn = gc.get_threshold(), sys.getswitchinterval()
    gc.set_threshold(*RARELY)
    sys.setswitchinterval(min(turn, TURN))
    try:
        yield
    finally:
        sys.setswitchinterval(turn)
        gc.set_threshold(*objects)
