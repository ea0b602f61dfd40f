"""Questions to embedded servers and child processes that work on them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psycopg

from dataarch.database.embedded import EmbeddedServer
from dataarch.database.embedded.status import ServerStatus

IS_ROOT = os.geteuid() == 0
NewServer = Callable[..., EmbeddedServer]


def query(url: str | None, statement: str) -> str:
    """Return the first column of the first row as text."""
    assert url is not None
    with psycopg.connect(url.replace("+psycopg", ""), autocommit=True, connect_timeout=10) as connection:
        row = connection.execute(statement.encode()).fetchone()
    assert row is not None
    return str(row[0])


def execute(url: str | None, statement: str) -> None:
    """Run a statement that returns nothing."""
    assert url is not None
    with psycopg.connect(url.replace("+psycopg", ""), autocommit=True, connect_timeout=10) as connection:
        connection.execute(statement.encode())


def sockets_of(status: ServerStatus) -> Path:
    """Return the folder of the sockets."""
    found = re.search(r"host=([^&]+)", status.admin_url or "")
    assert found is not None
    return Path(found.group(1))


def postmaster_of(status: ServerStatus) -> int:
    """Return the process id of PostgreSQL."""
    data = query(status.admin_url, "SHOW data_directory")
    return int((Path(data) / "postmaster.pid").read_text().splitlines()[0])


def valkey_of(status: ServerStatus) -> int:
    """Return the process id of Valkey."""
    return int((status.folder / "valkey.pid").read_text())


def alive(pid: int) -> bool:
    """Return whether a process runs and is no zombie."""
    command = ["ps", "-o", "stat=", "-p", str(pid)]
    asked = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    return asked.stdout.strip() != "" and not asked.stdout.startswith("Z")


def wait_until(true: Callable[[], bool], seconds: float = 20.0) -> None:
    """Wait for something that must come true."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.005)


START = (
    "import sys; from pathlib import Path; from dataarch.database.embedded import EmbeddedServer; "
    "print(EmbeddedServer(Path(sys.argv[1]), durable=False).start().admin_url)"
)


BECOME = """\
import os, pwd, sys, psycopg, redis, dataarch.database.embedded
entry = pwd.getpwnam({user!r})
os.setgroups([]), os.setgid(entry.pw_gid), os.setuid(entry.pw_uid)
os.environ["HOME"] = os.path.dirname(sys.argv[1])
"""
"""Everything is imported first: that account need not be able to reach the interpreter."""


def child(folder: Path, code: str = START, *, user: str | None = None) -> subprocess.Popen[str]:
    """Start a Python of its own that works on a folder, as another account if one is named."""
    become = BECOME.format(user=user) if user else ""
    return subprocess.Popen(
        [sys.executable, "-c", become + code, str(folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd="/",
        start_new_session=True,
    )


def answer_of(process: subprocess.Popen[str]) -> str:
    """Wait for a child and return what it printed; it must have succeeded."""
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    return output.strip()
