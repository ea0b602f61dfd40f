"""The command as people run it: a process of its own, its output in a pipe or on a terminal.

Where many are run, the process is forked from one that has imported the command already; :data:`COMMAND` is the one
that is installed.
"""

from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from dataarch.database.settings import Settings
from fixtures.zygote import zygote

EXAMPLES = Path(__file__).resolve().parents[2] / "examples" / "data"
COLUMNS = "InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country"
COMMAND = [str(Path(sys.executable).with_name("dataarch"))]
SIZES = {"COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR", "TERM"}


@dataclass(frozen=True)
class Ended:
    """What a command said, and how it ended."""

    code: int
    printed: str
    complaints: str


def environment(settings: Settings | None, folder: Path, **variables: str) -> dict[str, str]:
    """Return the environment of a command: these servers, and a folder for what it writes."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("DATAARCH_") and name not in SIZES}
    kept["DATAARCH_SERVER_DIR"] = str(folder / "servers")
    if settings is not None:
        kept["DATAARCH_DATABASE_URL"] = str(settings.database_url)
        kept["DATAARCH_OWNER_URL"] = str(settings.owner_url)
    return {**kept, **variables}


def dataarch(settings: Settings | None, folder: Path, *arguments: str | Path, **variables: str) -> Ended:
    """Run the command in a folder, with its output in pipes; no traceback is ever shown."""
    code, printed, complaints = zygote().run([*map(str, arguments)], folder, environment(settings, folder, **variables))
    result = Ended(code, printed.decode(), complaints.decode())
    assert "Traceback" not in result.printed + result.complaints, result.complaints
    return result


def dataarch_installed(settings: Settings | None, folder: Path, *arguments: str | Path, **variables: str) -> Ended:
    """Run the command that is installed, in an interpreter of its own; no traceback is ever shown."""
    ended = subprocess.run(
        [*COMMAND, *map(str, arguments)],
        cwd=folder,
        env=environment(settings, folder, **variables),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
        timeout=120,
    )
    result = Ended(ended.returncode, ended.stdout.decode(), ended.stderr.decode())
    assert "Traceback" not in result.printed + result.complaints, result.complaints
    return result


def dataarch_on_terminal(settings: Settings, folder: Path, *arguments: str | Path, **variables: str) -> Ended:
    """Run the command on a terminal; what it prints and complains of comes as one text."""
    ours, theirs = pty.openpty()
    process = zygote().start(
        [*map(str, arguments)],
        folder,
        environment(settings, folder, **{"TERM": "xterm-256color", **variables}),
        (theirs, theirs, theirs),
    )
    os.close(theirs)
    said = bytearray()
    while True:
        try:
            block = os.read(ours, 65536)
        except OSError:  # how Linux tells that the other end is closed
            break
        if not block:
            break
        said += block
    os.close(ours)
    text = said.decode(errors="replace")
    assert "Traceback" not in text, text
    return Ended(zygote().wait(process), text, "")


def interrupt(settings: Settings, folder: Path, *arguments: str | Path) -> None:
    """Run a command that has more to say than a pipe holds, and stop it as Ctrl-C does once it has printed a line."""
    process = subprocess.Popen(
        [*COMMAND, *map(str, arguments)],
        pipesize=4096,  # with what Python reads ahead full before the end: it waits to be stopped, however slow we are
        env={**environment(settings, folder), "PYTHONUNBUFFERED": "1", "PYTHONFAULTHANDLER": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    process.stdout.readline()
    process.send_signal(signal.SIGINT)
    try:
        printed, complaints = process.communicate(timeout=60)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGABRT)  # it says where each of its threads is
        printed, complaints = process.communicate()
    assert process.returncode == 130, (printed, complaints)
    assert complaints == "error: Stopped. What was committed stays, and the same command goes on from there.\n"


def refusal(ended: Ended, code: int) -> str:
    """Return the one line with which a command has refused; there must be no other."""
    assert ended.code == code, ended
    (line,) = ended.complaints.splitlines()
    assert line.startswith("error: ")
    return line


def numbers(printed: str) -> dict[str, int]:
    """Return what came of the lines, as the first table says."""
    found = re.search(r"│ ([\d,]+) +│ +│ ([\d,]+) +│ +│ ([\d,]+) +│ +│ ([\d,]+) +│", printed)
    assert found, printed
    values = [int(group.replace(",", "")) for group in found.groups()]
    return dict(zip(("read", "loaded", "duplicates", "rejected"), values, strict=True))


def cells(printed: str, first: str) -> list[str]:
    """Return the cells of the row that begins with a word."""
    (row,) = [line for line in printed.splitlines() if re.match(rf"│ {re.escape(first)} +│", line)]
    return [cell.strip() for cell in row.strip("│").split("│")]


def order_lines(*rows: str) -> str:
    """Return a whole file."""
    return "".join(f"{row}\n" for row in (COLUMNS, *rows))
