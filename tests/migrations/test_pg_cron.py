"""M13: the job of pg_cron, on a real pg_cron: PostgreSQL 15 with Debian's postgresql-15-cron, in clusters of our own.

The statements of docs/how-to/schedules.md are run as they stand there: database ``app``, owner ``app_owner``.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psycopg
import pytest

from dataarch.clock import Month, utcnow
from dataarch.database.embedded.binaries import PostgresPrograms
from dataarch.database.settings import APP_ROLE, Settings
from fixtures.alembic_runs import run
from fixtures.clusters import NO_REDIS, Cluster, debian_postgres, own_cluster
from fixtures.databases import ROOT, MigrateTo

pytestmark = pytest.mark.migration

PROMISED = os.environ.get("DATAARCH_TEST_PG_CRON")
"""``required`` where pg_cron must be there: its absence then fails instead of skipping."""

LIBRARY = Path("/usr/lib/postgresql/15/lib/pg_cron.so")
PAGE = (ROOT / "docs" / "how-to" / "schedules.md").read_text()

NAME = "dataarch_activity_partitions"
COMMAND = "SET TRANSACTION ISOLATION LEVEL READ COMMITTED; SELECT public.create_activity_partition()"
NIGHTLY = "17 3 * * *"
OWNER_JOB = (NAME, NIGHTLY, "app", COMMAND, "app_owner", True)

WITH_PG_CRON = {
    "shared_preload_libraries": "pg_cron",
    "cron.use_background_workers": "on",
    "max_worker_processes": "20",
}
IN_APP = {**WITH_PG_CRON, "cron.database_name": "app"}

Connection = psycopg.Connection[tuple[object, ...]]


def binaries_with_pg_cron(promised: str | None) -> PostgresPrograms:
    """Return PostgreSQL 15 with pg_cron; skips where it is not installed, and fails where it was promised."""
    if not LIBRARY.exists():
        absent = "pg_cron is not installed here: it is Debian's package postgresql-15-cron."
        (pytest.fail if promised == "required" else pytest.skip)(absent)
    return debian_postgres(15)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """A cluster whose pg_cron reads its jobs from the database ``app``."""
    with own_cluster(IN_APP, binaries_with_pg_cron(PROMISED)) as made:
        yield made


@contextmanager
def database(cluster: Cluster) -> Iterator[Settings]:
    """Make the database ``app`` with its owner, who is no superuser, and drop it again."""
    with cluster.connect() as admin:
        if not admin.execute("SELECT 1 FROM pg_roles WHERE rolname = 'app_owner'").fetchone():
            admin.execute("CREATE ROLE app_owner LOGIN CREATEROLE")
        admin.execute("CREATE DATABASE app OWNER app_owner")
    try:
        yield Settings(
            database_url=cluster.url(APP_ROLE, "app"), owner_url=cluster.url("app_owner", "app"), redis_url=NO_REDIS
        )
    finally:
        with cluster.connect() as admin:
            admin.execute("DROP DATABASE app WITH (FORCE)")


@pytest.fixture
def app(cluster: Cluster) -> Iterator[Settings]:
    """The database ``app`` without pg_cron."""
    with database(cluster) as settings:
        yield settings


@pytest.fixture
def app_with_cron(app: Settings, cluster: Cluster) -> Settings:
    """The database ``app`` with pg_cron, which its owner may use."""
    with admin(cluster) as connection:
        connection.execute(statement("GRANT USAGE"))
    return app


def statement(containing: str) -> str:
    """Return the one SQL block of the page that contains a text."""
    found: list[str] = [block for block in re.findall(r"```sql\n(.*?)```", PAGE, re.DOTALL) if containing in block]
    assert len(found) == 1, f"{len(found)} blocks of the page contain {containing}"
    return found[0]


def admin(cluster: Cluster) -> Connection:
    return cluster.connect("app")


def owner(cluster: Cluster) -> Connection:
    return cluster.connect("app", "app_owner")


def jobs(connection: Connection) -> list[tuple[object, ...]]:
    """Return every job that the connection's role may see."""
    return connection.execute(
        "SELECT jobname, schedule, database, command, username, active FROM cron.job ORDER BY jobid"
    ).fetchall()


def jobs_of(cluster: Cluster) -> list[tuple[object, ...]]:
    with admin(cluster) as connection:
        return jobs(connection)


def as_superuser(app: Settings, cluster: Cluster) -> Settings:
    return app.model_copy(update={"owner_url": cluster.url("postgres", "app")})


def at_revision(cluster: Cluster) -> str:
    with admin(cluster) as connection:
        return str(connection.execute("SELECT version_num FROM alembic_version").fetchall()[0][0])


def forget_0012(cluster: Cluster) -> None:
    """Say that revision 0012 has not been run, so that the next upgrade runs it once more."""
    with admin(cluster) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '0011'")


# ── the job ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_m13_the_upgrade_schedules_the_months_where_the_database_has_pg_cron(
    cluster: Cluster, app_with_cron: Settings, migrate: MigrateTo
) -> None:
    migrate(app_with_cron, "head")
    assert jobs_of(cluster) == [OWNER_JOB]


def test_the_upgrade_printed_as_sql_schedules_the_same_job(
    cluster: Cluster, app_with_cron: Settings, migrate: MigrateTo
) -> None:
    migrate(app_with_cron, "0011")
    with owner(cluster) as connection:
        connection.execute(run(app_with_cron, "upgrade", "0011:0012", "--sql").encode())
    assert jobs_of(cluster) == [OWNER_JOB]
    with owner(cluster) as connection:
        connection.execute(run(app_with_cron, "downgrade", "0012:0011", "--sql").encode())
    assert jobs_of(cluster) == []


@pytest.mark.parametrize("way", [("upgrade", "0011:0012"), ("downgrade", "0012:0011")])
def test_what_follows_in_the_same_transaction_still_has_row_security_off(
    cluster: Cluster, app_with_cron: Settings, migrate: MigrateTo, way: tuple[str, str]
) -> None:
    migrate(app_with_cron, "0012")
    [block] = re.findall(r"DO (\$\w+\$.*\$\w+\$);", run(app_with_cron, *way, "--sql"), re.DOTALL)
    with owner(cluster) as connection, connection.transaction():
        connection.execute("SET row_security = off")
        connection.execute(f"DO {block}".encode())
        assert connection.execute("SHOW row_security").fetchone() == ("off",)


def test_up_and_down_and_up_leaves_one_job(cluster: Cluster, app_with_cron: Settings, migrate: MigrateTo) -> None:
    migrate(app_with_cron, "0012")
    migrate(app_with_cron, "0011", down=True)
    assert jobs_of(cluster) == []
    migrate(app_with_cron, "0012")
    assert jobs_of(cluster) == [OWNER_JOB]


@pytest.mark.parametrize("again_as", ["the owner", "a superuser"])
def test_a_second_upgrade_neither_doubles_the_job_nor_takes_back_the_operators_schedule(
    cluster: Cluster, app_with_cron: Settings, migrate: MigrateTo, again_as: str
) -> None:
    migrate(app_with_cron, "0012")
    with owner(cluster) as connection:
        connection.execute("SELECT cron.schedule(%s, '0 1 * * *', %s)", [NAME, COMMAND])
    forget_0012(cluster)
    migrate(app_with_cron if again_as == "the owner" else as_superuser(app_with_cron, cluster), "0012")
    assert jobs_of(cluster) == [(NAME, "0 1 * * *", *OWNER_JOB[2:])]


@pytest.mark.parametrize("down_as", ["the owner", "a superuser"])
def test_the_downgrade_removes_the_job_and_no_other(
    cluster: Cluster, app_with_cron: Settings, migrate: MigrateTo, down_as: str
) -> None:
    with owner(cluster) as connection, admin(cluster) as superuser:
        connection.execute("SELECT cron.schedule('report', '0 6 * * *', 'SELECT 1')")
        connection.execute("SELECT cron.schedule('0 7 * * *', 'SELECT 2')")
        superuser.execute(f"SELECT cron.schedule_in_database('{NAME}', '0 8 * * *', 'SELECT 3', 'postgres')")
    before = jobs_of(cluster)
    migrate(app_with_cron, "0012")
    assert len(jobs_of(cluster)) == 4
    migrate(app_with_cron if down_as == "the owner" else as_superuser(app_with_cron, cluster), "0011", down=True)
    assert jobs_of(cluster) == before


# ── run by pg_cron ────────────────────────────────────────────────────────────────────────────────────────────────


def test_m13_pg_cron_makes_the_missing_month_by_background_worker_or_connection_whatever_the_default_isolation(
    migrate: MigrateTo,
) -> None:
    binaries = binaries_with_pg_cron(PROMISED)
    with ExitStack() as stack:
        inside = stack.enter_context(own_cluster(IN_APP, binaries))
        elsewhere = stack.enter_context(own_cluster({"shared_preload_libraries": "pg_cron"}, binaries))
        elsewhere.settings["cron.host"] = str(elsewhere.sockets)
        elsewhere.restart()
        for cluster in (inside, elsewhere):
            settings = stack.enter_context(database(cluster))
            if cluster is inside:
                with admin(cluster) as connection:
                    connection.execute(statement("GRANT USAGE"))
            migrate(settings, "head")
            with cluster.connect() as connection:
                connection.execute("ALTER DATABASE app SET default_transaction_isolation = 'repeatable read'")
        with elsewhere.connect() as connection:
            connection.execute(statement("schedule_in_database"))
        missing = Month.of(utcnow()).plus(2)
        for cluster, where in ((inside, "app"), (elsewhere, "postgres")):
            with cluster.connect("app") as connection:
                connection.execute(f"DROP TABLE user_activity_log_{missing}")
            with cluster.connect(where) as connection:
                connection.execute("SELECT cron.alter_job(jobid, schedule => '* * * * *') FROM cron.job")
        for cluster, where in ((inside, "app"), (elsewhere, "postgres")):
            with cluster.connect(where) as connection:
                assert first_run(connection) == ("app", "app_owner", "succeeded"), cluster.log[-2000:]
                assert connection.execute(statement("cron.job_run_details")).fetchone() is not None
            with cluster.connect("app") as connection:
                made = connection.execute("SELECT to_regclass(%s) IS NOT NULL", [f"user_activity_log_{missing}"])
                assert made.fetchone() == (True,)


def first_run(connection: Connection) -> tuple[object, ...] | None:
    """Wait for the end of a job's first run: pg_cron 1.4 begins jobs at full minutes alone."""
    for _ in range(750):
        found = connection.execute(
            "SELECT database, username, status FROM cron.job_run_details WHERE end_time IS NOT NULL ORDER BY runid"
        ).fetchone()
        if found is not None:
            return found
        connection.execute("SELECT pg_sleep(0.1)")
    return None


# ── where pg_cron is not, or not yet, or may not be used ──────────────────────────────────────────────────────────


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]


def test_a_database_without_pg_cron_is_upgraded_and_downgraded_without_a_word(
    cluster: Cluster, app: Settings, migrate: MigrateTo, caplog: pytest.LogCaptureFixture
) -> None:
    migrate(app, "head")
    with admin(cluster) as connection:
        assert connection.execute("SELECT to_regnamespace('cron')").fetchone() == (None,)
    migrate(app, "0011", down=True)
    assert warnings(caplog) == []


def test_where_pg_cron_came_later_the_statement_of_the_page_schedules_the_job_and_the_downgrade_removes_it(
    cluster: Cluster, app: Settings, migrate: MigrateTo
) -> None:
    migrate(app, "head")
    with admin(cluster) as connection:
        connection.execute(statement("GRANT USAGE"))
    assert jobs_of(cluster) == []
    with owner(cluster) as connection:
        connection.execute(statement("cron.schedule("))
        connection.execute(statement("cron.schedule("))
    assert jobs_of(cluster) == [OWNER_JOB]
    migrate(app, "0011", down=True)
    assert jobs_of(cluster) == []


@pytest.fixture
def app_without_usage(app_with_cron: Settings, cluster: Cluster) -> Settings:
    """The database ``app`` with pg_cron, which its owner may not use."""
    with admin(cluster) as connection:
        connection.execute("REVOKE ALL ON SCHEMA cron FROM app_owner")
    return app_with_cron


def test_an_owner_who_may_not_use_pg_cron_is_upgraded_and_told_the_sql_that_schedules_the_job(
    cluster: Cluster, app_without_usage: Settings, migrate: MigrateTo, caplog: pytest.LogCaptureFixture
) -> None:
    migrate(app_without_usage, "head")
    assert jobs_of(cluster) == []
    [said] = warnings(caplog)
    assert "permission denied for schema cron" in said
    assert "dataarch partitions maintain" in said
    grant, schedule = re.findall(r"`((?:GRANT|SELECT) .+?)`", said)
    with admin(cluster) as connection:
        connection.execute(grant)
    with owner(cluster) as connection:
        connection.execute(schedule)
    assert jobs_of(cluster) == [OWNER_JOB]


@pytest.mark.parametrize("command", [["-m", "alembic"], ["-c", "from dataarch.cli import main; main()"]])
def test_both_commands_show_the_warning_once_and_succeed(app_without_usage: Settings, command: list[str]) -> None:
    assert app_without_usage.owner_url is not None
    ended = subprocess.run(
        [sys.executable, *command, "upgrade", "head"],
        cwd=ROOT,
        env={**os.environ, "DATAARCH_OWNER_URL": app_without_usage.owner_url},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr.count("GRANT USAGE ON SCHEMA cron TO app_owner") == 1


def test_an_owner_who_may_no_longer_use_pg_cron_is_downgraded_and_told_which_job_stays(
    cluster: Cluster, app_with_cron: Settings, migrate: MigrateTo, caplog: pytest.LogCaptureFixture
) -> None:
    migrate(app_with_cron, "0012")
    with admin(cluster) as connection:
        connection.execute("REVOKE ALL ON SCHEMA cron FROM app_owner")
    migrate(app_with_cron, "0011", down=True)
    [said] = warnings(caplog)
    [remedy] = re.findall(r"`(SELECT .+?)`", said)
    assert jobs_of(cluster) == [OWNER_JOB]
    with admin(cluster) as connection:
        connection.execute(remedy)
    assert jobs_of(cluster) == []


def test_a_job_of_the_same_name_for_another_database_is_left_alone_and_the_warning_gives_another_name(
    cluster: Cluster, app_with_cron: Settings, migrate: MigrateTo, caplog: pytest.LogCaptureFixture
) -> None:
    with admin(cluster) as connection:
        foreign = f"SELECT cron.schedule_in_database('{NAME}', '0 8 * * *', 'SELECT 3', 'postgres', 'app_owner')"
        connection.execute(foreign.encode())
    before = jobs_of(cluster)
    migrate(app_with_cron, "head")
    assert jobs_of(cluster) == before
    [said] = warnings(caplog)
    [remedy] = re.findall(r"as app_owner `(SELECT .+?)`", said)
    with owner(cluster) as connection:
        connection.execute(remedy)
    assert jobs_of(cluster) == [*before, (f"{NAME}_app", *OWNER_JOB[1:])]


@pytest.fixture
def restarted(cluster: Cluster) -> Iterator[Callable[[dict[str, str]], None]]:
    """Restart the cluster with settings, and at the end with its own."""

    def restart(settings: dict[str, str]) -> None:
        cluster.settings = settings
        cluster.restart()

    yield restart
    restart(dict(IN_APP))


def test_a_pg_cron_that_the_server_did_not_load_is_warned_of_and_stops_neither_upgrade_nor_downgrade(
    cluster: Cluster,
    app_with_cron: Settings,
    migrate: MigrateTo,
    caplog: pytest.LogCaptureFixture,
    restarted: Callable[[dict[str, str]], None],
) -> None:
    restarted({})
    migrate(app_with_cron, "head")
    [said] = warnings(caplog)
    assert "shared_preload_libraries" in said
    assert jobs_of(cluster) == []
    migrate(app_with_cron, "0011", down=True)
    assert at_revision(cluster) == "0011"


def test_a_pg_cron_that_reads_another_database_is_warned_of_because_it_would_never_run_the_job(
    cluster: Cluster,
    app_with_cron: Settings,
    migrate: MigrateTo,
    caplog: pytest.LogCaptureFixture,
    restarted: Callable[[dict[str, str]], None],
) -> None:
    restarted(WITH_PG_CRON)
    with admin(cluster) as connection:
        connection.execute("GRANT pg_read_all_settings TO app_owner")
    migrate(app_with_cron, "head")
    with admin(cluster) as connection:
        connection.execute("REVOKE pg_read_all_settings FROM app_owner")
    assert jobs_of(cluster) == []
    [said] = warnings(caplog)
    [remedy] = re.findall(r"in the database postgres, `(SELECT .+?)`", said)
    with cluster.connect("postgres") as connection:
        connection.execute("CREATE EXTENSION pg_cron")
        connection.execute(remedy)
        assert jobs(connection) == [(f"{NAME}_app", *OWNER_JOB[1:])]
        connection.execute("DROP EXTENSION pg_cron")


# ── other databases, and the tests themselves ─────────────────────────────────────────────────────────────────────


def test_a_job_for_another_database_must_have_a_name_of_its_own_as_the_page_says(
    cluster: Cluster, app_with_cron: Settings
) -> None:
    with admin(cluster) as connection:
        for other in ("app", "postgres"):
            connection.execute(f"SELECT cron.schedule_in_database('months', '0 3 * * *', 'SELECT 1', '{other}')")
    assert [job[2] for job in jobs_of(cluster)] == ["app"], "the second took the first one's place, in its database"
    assert "a name of its own" in PAGE


def test_the_page_removes_the_job_of_another_database(cluster: Cluster, app_with_cron: Settings) -> None:
    with admin(cluster) as connection:
        connection.execute(statement("schedule_in_database"))
        assert jobs(connection) == [(f"{NAME}_app", *OWNER_JOB[1:])]
        connection.execute(statement("cron.unschedule"))
        assert jobs(connection) == []


@pytest.mark.parametrize(("promised", "outcome"), [("required", pytest.fail.Exception), (None, pytest.skip.Exception)])
def test_an_absent_pg_cron_fails_where_it_was_promised_and_skips_elsewhere_naming_the_package(
    monkeypatch: pytest.MonkeyPatch, promised: str | None, outcome: type[BaseException]
) -> None:
    monkeypatch.setitem(globals(), "LIBRARY", Path("/nowhere"))
    with pytest.raises(outcome, match="postgresql-15-cron"):
        binaries_with_pg_cron(promised)
