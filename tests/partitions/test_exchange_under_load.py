"""Rows leave a catch-all while many write and read: none is lost, doubled or out of sight, and nobody is refused."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

import pytest

from dataarch.database.settings import Settings
from dataarch.database.unit_of_work import Database
from dataarch.models import UserActivity
from dataarch.partitions.maintenance import Maintenance
from fixtures.busy_writers import Crowd, crowd, fixed_rows, rows_of
from fixtures.months import Connection, assert_contiguous, owner
from fixtures.servers import Servers

pytestmark = pytest.mark.schema

LOG = UserActivity.__table__

ROWS = 20_000

MAINTAIN = """
from sqlalchemy import event
from dataarch.database.settings import Settings
from dataarch.database.unit_of_work import Database
from dataarch.models import UserActivity
from dataarch.partitions.maintenance import Maintenance

def watch(connection, cursor, statement, *given):
    if "LOCK TABLE ONLY" in statement:
        print("locking", flush=True)
    if statement.endswith("COMMIT") and "ATTACH PARTITION" in statement and "DROP FUNCTION" in statement:
        print("exchanging", flush=True)

with Database(Settings(database_url={application!r}, owner_url={owner!r})) as db:
    with db.maintenance() as probe:
        event.listen(probe.engine, "before_cursor_execute", watch)
    Maintenance(db, UserActivity.__table__, patience=200, say=lambda said: print(said, flush=True)).maintain()
"""
"""It says what it is about to do when the copy is done, too: lock the table, and exchange its partitions."""

LEFT = """
SELECT relname FROM pg_class WHERE relname ~ '_(staged|moving|new[0-9]+)$'
UNION ALL SELECT tgname FROM pg_trigger WHERE tgname ~ '^dataarch'
UNION ALL SELECT relname FROM pg_class WHERE starts_with(obj_description(oid, 'pg_class'), 'dataarch.partitions')
"""


def maintaining(settings: Settings) -> subprocess.Popen[str]:
    """Start a maintenance in a process of its own; each line says what it does."""
    application, owner_url = (
        url.render_as_string(hide_password=False) for url in (settings.application, settings.owner)
    )
    code = MAINTAIN.format(application=application, owner=owner_url)
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)


def killed_at(settings: Settings, moment: str) -> None:
    """Kill a maintenance when it says that it has come so far."""
    process = maintaining(settings)
    assert process.stdout is not None
    said: list[str] = []
    while not (said and said[-1].startswith(moment)):
        line = process.stdout.readline()
        assert line, f"it ended before it was {moment}: {said}"
        said.append(line)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    process.stdout.close()


def in_catch_alls(connection: Connection) -> int:
    """Return how many of the rows that nobody changes lie in a catch-all."""
    found = connection.execute(
        "SELECT count(*) FROM user_activity_log WHERE activity_type = 'fixed' AND tableoid::regclass::text ~ '_rest_'"
    ).fetchone()
    assert found is not None
    return int(found[0])


def urls(servers: Servers, settings: Settings, *kinds: str) -> dict[str, str]:
    name = settings.owner.database
    assert name is not None
    application, owner_url = servers.login("dataarch_app", name), servers.login("dataarch_owner", name)
    roles = {"copy": owner_url, "replica": servers.login("postgres", name)}
    return {kind: roles.get(kind, application) for kind in (*kinds, "read")}


def astray(connection) -> list[object]:  # type: ignore[no-untyped-def]
    """Return the partitions that hold a row of another month; catch-alls hold none of 2019 any more."""
    return connection.execute(  # type: ignore[no-any-return]
        """
        SELECT DISTINCT tableoid::regclass::text, to_char(created_at, 'YYYY_MM') FROM user_activity_log
        WHERE tableoid::regclass::text <> 'user_activity_log_' || to_char(created_at, 'YYYY_MM')
        """
    ).fetchall()


def assert_whole(connection: Connection, busy: Crowd) -> None:
    """Assert that each row is there once and as it was left, in its month, and that nothing else is left."""
    assert [(one.name, one.wrong) for one in busy.outcomes.values() if one.wrong] == []
    assert busy.everything[0] == ROWS
    assert fixed_rows(connection) == busy.everything
    for kind, writer in busy.writers.items():
        assert rows_of(connection, writer) == busy.outcomes[kind].rows, kind
    assert connection.execute(LEFT).fetchall() == []
    assert_contiguous(connection)


def test_twenty_thousand_rows_move_while_writers_and_readers_never_stop(settings: Settings, servers: Servers) -> None:
    kinds = ("application", "repeatable read", "copy", "replica")
    with owner(settings) as connection, Database(settings) as db:
        with crowd(connection, settings, urls(servers, settings, *kinds), ROWS) as busy:
            time.sleep(0.5)
            assert in_catch_alls(connection) == ROWS
            Maintenance(db, LOG, patience=200).maintain()
            # those of the writers may be back already
            assert in_catch_alls(connection) == 0
        assert min(one.turns for one in busy.outcomes.values()) > 1
        assert_whole(connection, busy)
        Maintenance(db, LOG).maintain()
        assert astray(connection) == []
        assert_whole(connection, busy)


@pytest.mark.parametrize(
    "moments",
    [("copied", "copied"), ("waiting", "locking", "exchanging")],
    ids=["in the middle of the copy", "when the copy is done"],
)
def test_a_maintenance_killed_while_all_are_at_work_loses_nothing_and_the_next_one_ends_it(
    settings: Settings, servers: Servers, moments: tuple[str, ...]
) -> None:
    with owner(settings) as connection, Database(settings) as db:
        with crowd(connection, settings, urls(servers, settings, "application", "copy"), ROWS) as busy:
            for moment in moments:
                killed_at(settings, moment)
                assert fixed_rows(connection) == busy.everything
            Maintenance(db, LOG, patience=200).maintain()
            assert in_catch_alls(connection) == 0
        assert_whole(connection, busy)
        Maintenance(db, LOG).maintain()
        assert astray(connection) == []
