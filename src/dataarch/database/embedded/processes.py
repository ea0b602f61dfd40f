"""What runs under a process id, and how a server is ended: only when its command line proves that it is ours."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

__all__ = ["command_of", "end", "is_ours", "works_in"]

PROC = Path("/proc")


def command_of(pid: int) -> str | None:
    """Return the command line of a process; None if there is none, or only a zombie."""
    if pid <= 0:
        return None
    if (PROC / "self" / "cmdline").exists():
        return _command_from_proc(pid)
    return _command_from_ps(pid)


def is_ours(pid: int, token: str) -> bool:
    """Return whether the process bears the token of our folder in its command line."""
    command = command_of(pid)
    return command is not None and token in command


def works_in(pid: int, folder: Path) -> bool:
    """Return whether a process uses a data directory, by its command line or, on Linux, its working directory."""
    command = command_of(pid)
    if command is None:
        return False
    try:
        return (PROC / str(pid) / "cwd").samefile(folder)
    except OSError:
        return str(folder) in command


def end(pid: int, token: str, signals: Sequence[tuple[signal.Signals, float]]) -> bool:
    """Send signals, each with the seconds to wait for its effect, until the process has ended; return whether it has.

    Guarantee: a process that does not bear the token gets no signal, also when the id changes hands meanwhile.
    """
    for number, seconds in signals:
        if not is_ours(pid, token):
            return True
        with suppress(ProcessLookupError):
            os.kill(pid, number)
        deadline = time.monotonic() + seconds
        while is_ours(pid, token) and time.monotonic() < deadline:
            time.sleep(0.02)
    return not is_ours(pid, token)


def _command_from_proc(pid: int) -> str | None:
    try:
        words = (PROC / str(pid) / "cmdline").read_bytes()
    except OSError:
        return None
    # A zombie has an empty command line.
    return words.replace(b"\0", b" ").decode(errors="replace").strip() or None


def _command_from_ps(pid: int) -> str | None:
    asked = subprocess.run(  # noqa: S603  # a fixed program and a number
        ["/bin/ps", "-ww", "-o", "command=", "-p", str(pid)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
        timeout=10,
    )
    return asked.stdout.strip() or None
