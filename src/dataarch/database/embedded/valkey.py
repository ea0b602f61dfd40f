"""Valkey in a folder: started, asked and ended. It keeps nothing on disk: a cache may be empty after a start."""

from __future__ import annotations

import hashlib
import os
import re
import signal
import socket
import subprocess
import time

from dataarch.database.embedded.account import run
from dataarch.database.embedded.binaries import find_valkey
from dataarch.database.embedded.folder import Site, open_log, quoted_end, replace_file
from dataarch.database.embedded.processes import end, is_ours
from dataarch.database.embedded.status import VALKEY_SOCKET
from dataarch.errors import EmbeddedServerError

__all__ = ["answers", "bring_up", "shut_down"]

START_PATIENCE = 10.0
"""Seconds until a server that was started must answer."""

LAUNCH = '"$@" </dev/null >&2 & echo $!'
"""The shell leaves the server to the system, so that it is nobody's child and outlives us, and tells its process id."""


def bring_up(site: Site) -> None:
    """Start Valkey unless it answers already; the caller holds the lock, and PostgreSQL's data is there.

    Raises:
        EmbeddedServerError: it cannot be started; the message quotes the end of its log.

    Guarantee: idempotent; no other server is ended or harmed.
    """
    if answers(site):
        return
    shut_down(site)
    site.clear_sockets([VALKEY_SOCKET])
    before = site.valkey_log.stat().st_size if site.valkey_log.exists() else 0
    pid = _launch(site)
    replace_file(site.valkey_pid, str(pid))
    deadline = time.monotonic() + START_PATIENCE
    while not answers(site):
        if time.monotonic() > deadline or not is_ours(pid, _token(site)):
            said = site.valkey_log.read_bytes()[before:].decode(errors="replace")
            raise EmbeddedServerError(
                f"Valkey did not start in {site.folder}. Its log ends with:\n{quoted_end(said)}\n",
                hint=f"The whole log is {site.valkey_log}.",
            )
        time.sleep(0.01)


def answers(site: Site) -> bool:
    """Return whether Valkey answers and is ours. Guarantee: starts and changes nothing."""
    return site.sockets_are_private() and _pid_that_answers(site) is not None


def shut_down(site: Site) -> None:
    """End Valkey if it runs, also one whose socket or whose record is lost.

    Raises:
        EmbeddedServerError: it does not end.

    Guarantee: idempotent; only a process that bears the token of this folder gets a signal.
    """
    for pid in {_pid_that_answers(site), _recorded_pid(site)} - {None}:
        if pid is not None and not end(pid, _token(site), [(signal.SIGTERM, 10.0), (signal.SIGKILL, 5.0)]):
            raise EmbeddedServerError(f"Valkey in {site.folder} (process {pid}) does not end.", hint="End it yourself.")
    site.valkey_pid.unlink(missing_ok=True)


def _launch(site: Site) -> int:
    options = {
        "port": "0",
        "unixsocket": str(site.sockets / VALKEY_SOCKET),
        "unixsocketperm": "700",
        "dir": str(site.sockets),
        "dbfilename": f"{_token(site)}.rdb",
        "save": "",
        "appendonly": "no",
        "daemonize": "no",
        "set-proc-title": "no",
    }
    arguments = [word for name, value in options.items() for word in (f"--{name}", value)]
    log = open_log(site.valkey_log)
    try:
        told = run(
            ["/bin/sh", "-c", LAUNCH, "sh", find_valkey(site.account), *arguments],
            account=site.account,
            timeout=20,
            streams=(subprocess.PIPE, log),
        )
    finally:
        os.close(log)
    return int(told.stdout)


def _pid_that_answers(site: Site) -> int | None:
    answer = _ask(site, b"INFO server\r\n")
    found = re.search(rb"process_id:(\d+)", answer)
    if found is None:
        return None
    pid = int(found.group(1))
    return pid if is_ours(pid, _token(site)) else None


def _ask(site: Site, command: bytes) -> bytes:
    answer = b""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
            client.settimeout(2.0)
            client.connect(str(site.sockets / VALKEY_SOCKET))
            client.sendall(command)
            while b"process_id:" not in answer or not answer.endswith(b"\r\n"):
                received = client.recv(65536)
                if not received:
                    break
                answer += received
    except OSError:
        return b""
    return answer


def _recorded_pid(site: Site) -> int | None:
    try:
        return int(site.valkey_pid.read_text())
    except (FileNotFoundError, ValueError):
        return None


def _token(site: Site) -> str:
    """Return what only the Valkey of this very folder bears in its command line; a folder that is moved keeps it."""
    found = site.data.stat()
    return f"dataarch_{hashlib.sha256(f'valkey:{found.st_dev}:{found.st_ino}'.encode()).hexdigest()[:24]}"
