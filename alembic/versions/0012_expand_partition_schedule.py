"""Schedule create_activity_partition() with pg_cron, where this database has that extension.

Elsewhere ``dataarch partitions maintain`` does the same from any scheduler. The job is a convenience: where pg_cron is
there and cannot be used, for want of a grant for example, the revision goes on, and a warning says what to run.

A job is known by its name and its database, whoever made it; one that is there already is left as its operator has it.

Revision ID: 0012
Revises: 0011
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from alembic import op
from psycopg.errors import Diagnostic

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

# not below "alembic", which swallows what nobody has set up logging for
log = logging.getLogger("dataarch.migrations")

JOB = "dataarch_activity_partitions"
DAILY = "17 3 * * *"

# months are made in READ COMMITTED alone, and a database or a role may have another default
COMMAND = "SET TRANSACTION ISOLATION LEVEL READ COMMITTED; SELECT public.create_activity_partition()"

# the policy of cron.job refuses to be read with row_security off, as migrations have it: what is set inside the inner
# block is local to the transaction, and taken back by hand where no exception does so
SCHEDULE = f"""
DO $schedule$
DECLARE
    row_security_before text := current_setting('row_security');
    remedy text := format('as %I `SELECT cron.schedule(%L, %L, %L)`', current_user, '{JOB}', '{DAILY}', '{COMMAND}');
    read_from text;
BEGIN
    IF NOT EXISTS (SELECT FROM pg_extension WHERE extname = 'pg_cron') THEN
        RETURN;
    END IF;
    BEGIN
        read_from := current_setting('cron.database_name', true);
    EXCEPTION WHEN insufficient_privilege THEN
        NULL; -- only some roles may know
    END;
    BEGIN
        PERFORM set_config('row_security', 'on', true);
        IF NOT EXISTS (SELECT FROM cron.job WHERE jobname = '{JOB}' AND database = current_database()) THEN
            IF read_from <> current_database() THEN
                remedy := format(
                    'as a superuser, in the database %I, `SELECT cron.schedule_in_database(%L, %L, %L, %L, %L)`',
                    read_from, '{JOB}_' || current_database(), '{DAILY}', '{COMMAND}', current_database(),
                    current_user);
                RAISE EXCEPTION 'it reads the jobs of the database % alone', read_from;
            ELSIF EXISTS (SELECT FROM cron.job WHERE jobname = '{JOB}' AND username = current_user) THEN
                -- cron.schedule() would change that one
                remedy := format('as %I `SELECT cron.schedule(%L, %L, %L)`', current_user,
                                 '{JOB}_' || current_database(), '{DAILY}', '{COMMAND}');
                RAISE EXCEPTION '% has a job of this name for another database', current_user;
            END IF;
            PERFORM cron.schedule('{JOB}', '{DAILY}', '{COMMAND}');
        END IF;
        PERFORM set_config('row_security', row_security_before, true);
    EXCEPTION WHEN OTHERS THEN
        IF SQLSTATE = '42501' THEN
            remedy := format('as a superuser `GRANT USAGE ON SCHEMA cron TO %I`, then %s', current_user, remedy);
        END IF;
        RAISE WARNING 'pg_cron is in this database, and its job {JOB} could not be made: %.', SQLERRM
            USING HINT = 'Run `dataarch partitions maintain` once a day from any scheduler; or, with pg_cron, '
                         || remedy;
    END;
END
$schedule$
"""

UNSCHEDULE = f"""
DO $unschedule$
DECLARE
    row_security_before text := current_setting('row_security');
BEGIN
    IF EXISTS (SELECT FROM pg_extension WHERE extname = 'pg_cron') THEN
        PERFORM set_config('row_security', 'on', true);
        PERFORM cron.unschedule(jobid) FROM cron.job WHERE jobname = '{JOB}' AND database = current_database();
        PERFORM set_config('row_security', row_security_before, true);
    END IF;
EXCEPTION WHEN OTHERS THEN
    RAISE WARNING 'pg_cron is in this database, and its job {JOB} could not be removed: %.', SQLERRM
        USING HINT = format('As a superuser `SELECT cron.unschedule(jobid) FROM cron.job'
                            ' WHERE jobname = %L AND database = %L`', '{JOB}', current_database());
END
$unschedule$
"""


def upgrade() -> None:
    with _warnings_logged():
        op.execute(SCHEDULE)


def downgrade() -> None:
    with _warnings_logged():
        op.execute(UNSCHEDULE)


@contextmanager
def _warnings_logged() -> Iterator[None]:
    """Log the server's warnings: nobody would see them otherwise, but in SQL that psql runs."""
    context = op.get_context()
    if context.as_sql or context.connection is None:
        yield
        return
    driver: Any = context.connection.connection.driver_connection
    driver.add_notice_handler(_log_warning)
    try:
        yield
    finally:
        driver.remove_notice_handler(_log_warning)


def _log_warning(said: Diagnostic) -> None:
    if said.severity_nonlocalized == "WARNING":
        log.warning("%s %s.", said.message_primary, said.message_hint)
