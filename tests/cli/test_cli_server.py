"""`dataarch server`: the embedded servers of a folder, from the command line."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import psycopg
import pytest

from cli.cli_support import EXAMPLES, dataarch, numbers, refusal


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that every account can enter, for servers, which are stopped at the end."""
    with TemporaryDirectory(prefix="dataarch-test-") as name:
        made = Path(name)
        made.chmod(0o755)
        yield made
        assert dataarch(None, made, "server", "stop").code == 0


def test_servers_are_started_shown_used_and_stopped(folder: Path) -> None:
    absent = dataarch(None, folder, "server", "status")
    assert absent.code == 1
    assert "dataarch server start" in absent.printed
    assert "dataarch server start" in refusal(dataarch(None, folder, "server", "psql"), 2)

    started = dataarch(None, folder, "server", "start")
    assert (started.code, started.complaints) == (0, "")
    assert "PostgreSQL" in started.printed
    assert "…" not in started.printed
    assert dataarch(None, folder, "server", "status").code == 0

    asked = dataarch(None, folder, "server", "psql", "--", "-Atc", "SELECT current_user, '[/]'")
    assert (asked.code, asked.printed) == (0, "dataarch_owner|[/]\n")
    assert dataarch(None, folder, "server", "psql", "--", "-c", "nonsense").code == 1

    assert dataarch(None, folder, "upgrade").code == 0
    assert numbers(dataarch(None, folder, "demo", EXAMPLES).printed)["loaded"] == 501

    exports = dict(
        re.findall(r"^export (DATAARCH_\w+)='([^']+)'$", dataarch(None, folder, "server", "env").printed, re.MULTILINE)
    )
    assert exports.keys() == {"DATAARCH_DATABASE_URL", "DATAARCH_OWNER_URL", "DATAARCH_REDIS_URL"}
    with psycopg.connect(exports["DATAARCH_OWNER_URL"].replace("+psycopg", "")) as connection:
        assert connection.execute("SELECT count(*) FROM user_activity_log").fetchone() == (501,)
    assert "OWNER" not in dataarch(None, folder, "server", "env", "--app-only").printed

    stopped = dataarch(None, folder, "server", "stop")
    assert (stopped.code, stopped.printed) == (0, "Both servers are stopped.\n")
    assert dataarch(None, folder, "server", "status").code == 1
