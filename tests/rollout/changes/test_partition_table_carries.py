"""What a table had it has when it is partitioned, and again when it no longer is: its users notice nothing."""

from __future__ import annotations

import psycopg
import pytest

from dataarch.errors import InvalidChange, LockTimeout
from dataarch.rollout.changes import PartitionTable
from fixtures.catalogs import owner_connection
from fixtures.databases import new_database
from fixtures.servers import Servers, libpq
from rollout.changes.change_support import Project
from rollout.changes.events import CHANGE, PLACE, READER, REST, contents, furnish

pytestmark = pytest.mark.migration

COMMENTS = f"""
SELECT description FROM pg_description WHERE objoid IN (
    SELECT '{PLACE}'::regclass
    UNION ALL SELECT indexrelid FROM pg_index WHERE indrelid = '{PLACE}'::regclass
    UNION ALL SELECT oid FROM pg_constraint WHERE conrelid = '{PLACE}'::regclass
    UNION ALL SELECT oid FROM pg_trigger WHERE tgrelid = '{PLACE}'::regclass
    UNION ALL SELECT oid FROM pg_policy WHERE polrelid = '{PLACE}'::regclass
    UNION ALL SELECT oid FROM pg_statistic_ext WHERE stxrelid = '{PLACE}'::regclass) ORDER BY 1
"""

STATE = f"""
SELECT relreplident::text, (SELECT array_agg(tgname || tgenabled::text ORDER BY tgname) FROM pg_trigger
                            WHERE tgrelid = pg_class.oid AND NOT tgisinternal),
       pg_get_serial_sequence('{PLACE}', 'id'), (SELECT pg_get_statisticsobjdef(oid) FROM pg_statistic_ext
                                                 WHERE stxrelid = pg_class.oid)
FROM pg_class WHERE oid = '{PLACE}'::regclass
"""


@pytest.fixture
def events(project: Project) -> Project:
    """A project with a table that has all that one may have, and the revisions that partition it."""
    furnish(project).write(CHANGE)
    return project


def reach(project: Project, revision: str) -> None:
    (project.down if revision == "0001" else project.up)(revision)


def test_comments_triggers_sequences_and_statistics_are_those_of_the_table(events: Project) -> None:
    comments, state = events.rows(COMMENTS), events.rows(STATE)
    assert len(comments) == 8
    for revision in ("0004", "0001"):
        reach(events, revision)
        assert events.rows(COMMENTS) == comments
        assert events.rows(STATE) == state


def test_triggers_fire_once_and_defaults_and_generated_columns_go_on(events: Project) -> None:
    events.up("0003")
    writing = f"""
        TRUNCATE noted;
        INSERT INTO {PLACE} (tenant_id, account_id, amount) SELECT tenant_id, id, 5 FROM accounts WHERE id = 4;
        UPDATE {PLACE} SET note = 'new' WHERE id = (SELECT max(id) FROM {PLACE});
        DELETE FROM {PLACE} WHERE id = (SELECT max(id) FROM {PLACE}) AND amount > 4"""
    fired = "SELECT string_agg(said, ' ' ORDER BY said) FROM noted"
    events.sql(writing)
    before = events.rows(fired)
    events.up()
    events.sql(writing)
    assert events.rows(fired) == before == [("INSERT UPDATE",)]
    events.sql(f"ALTER TABLE {PLACE} ENABLE TRIGGER off")
    events.sql(writing)
    assert events.rows(fired) == [("DELETE INSERT UPDATE",)]
    events.sql(
        f"INSERT INTO {PLACE} (tenant_id, account_id, amount) SELECT tenant_id, id, 5 FROM accounts WHERE id = 4"
    )
    newest = f'SELECT twice, touched, note, id - (SELECT last_value FROM place."Ereignis %_id_seq") FROM {PLACE}'
    assert events.rows(f"{newest} ORDER BY id DESC LIMIT 1") == [(10, "INSERT", "none", 0)]


def test_policies_and_grants_hold_on_the_table_and_nobody_reads_its_partition(
    events: Project, servers: Servers
) -> None:
    events.sql(f"UPDATE {PLACE} SET note = 'secret' WHERE amount = 3")
    seen = f"SELECT count(*)::int FROM {PLACE} WHERE tenant_id = 1 AND note <> 'secret'"
    database = str(events.settings.owner.database)
    admin = servers.login(str(servers.admin.username), database)
    for revision in ("0001", "0004", "0001"):
        reach(events, revision)
        expected = events.rows(seen)
        with psycopg.connect(libpq(admin), autocommit=True) as reader:
            reader.execute(f"SET ROLE {READER}; SET my.tenant = 1")
            assert reader.execute(f"SELECT count(*)::int FROM {PLACE}").fetchall() == expected
            assert reader.execute(f"UPDATE {PLACE} SET tenant_id = tenant_id RETURNING tenant_id").fetchall()
            with pytest.raises(psycopg.errors.InsufficientPrivilege, match="row-level security"):
                reader.execute(f"INSERT INTO {PLACE} (tenant_id, account_id, amount) VALUES (2, 5, 1)")
            of_column = f"SELECT has_column_privilege('pg_write_server_files', '{PLACE}', %s, 'UPDATE')"
            granted = [
                reader.execute(of_column.replace("Ereignis %", "Ereignis %%"), [c]).fetchone()
                for c in ("note", "amount")
            ]
            assert granted == [(True,), (False,)]
            with pytest.raises(psycopg.errors.Error, match=r"permission denied|does not exist"):
                reader.execute(f"SELECT FROM {REST}")


def test_default_privileges_open_neither_the_table_nor_its_partition(events: Project) -> None:
    acl = (
        f"SELECT array_agg(a::text ORDER BY a::text) FROM pg_class, unnest(relacl) AS a WHERE oid = '{PLACE}'::regclass"
    )
    before = events.rows(acl)
    events.sql("ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO PUBLIC")
    try:
        events.up()
        assert events.rows(acl) == before
        assert events.rows(f"SELECT count(*)::int FROM pg_class, unnest(relacl) WHERE oid = '{REST}'::regclass") == [
            (1,)
        ]
    finally:
        events.sql("ALTER DEFAULT PRIVILEGES REVOKE ALL ON TABLES FROM PUBLIC")


def test_a_publication_of_all_tables_has_to_name_the_whole_table(project: Project, servers: Servers) -> None:
    project.sql("CREATE TABLE visits (id integer, at date, PRIMARY KEY (id, at))")
    admin = servers.login(str(servers.admin.username), str(project.settings.owner.database))
    with psycopg.connect(libpq(admin), autocommit=True) as connection:
        connection.execute("CREATE PUBLICATION everything FOR ALL TABLES")
        try:
            with pytest.raises(InvalidChange, match=r"publication everything would.*publish_via_partition_root"):
                project.write(PartitionTable("visits", "at"))
            connection.execute("ALTER PUBLICATION everything SET (publish_via_partition_root = true)")
            project.write(PartitionTable("visits", "at"))
            project.there_and_back("0002")
        finally:
            connection.execute("DROP PUBLICATION everything")


def test_a_table_that_a_subscription_writes_is_refused(project: Project, servers: Servers) -> None:
    visits = "CREATE TABLE visits (id integer, at date, PRIMARY KEY (id, at))"
    project.sql(visits)
    admin = str(servers.admin.username)
    with new_database(servers) as publisher:
        there, here = (servers.login(admin, str(one.owner.database)) for one in (publisher, project.settings))
        with psycopg.connect(libpq(there), autocommit=True) as connection:
            connection.execute(f"{visits}; CREATE PUBLICATION p FOR TABLE visits")
        with psycopg.connect(libpq(here), autocommit=True) as connection:
            asked = "create_slot = false, slot_name = NONE, enabled = false, copy_data = false"
            connection.execute(f"CREATE SUBSCRIPTION s CONNECTION '{libpq(there)}' PUBLICATION p WITH ({asked})")
            try:
                with pytest.raises(InvalidChange, match=r"subscription s writes it.*REFRESH PUBLICATION"):
                    project.write(PartitionTable("visits", "at"))
            finally:
                connection.execute("DROP SUBSCRIPTION s")


@pytest.mark.parametrize("identity", ["ALWAYS", "BY DEFAULT"])
@pytest.mark.parametrize("state", ["restarted", "called"])
def test_an_identity_column_goes_on_counting(project: Project, servers: Servers, identity: str, state: str) -> None:
    project.sql(
        f"CREATE TABLE visits (id integer GENERATED {identity} AS IDENTITY (START 7 INCREMENT 5 MAXVALUE 900 CYCLE)"
        " PRIMARY KEY, at date NOT NULL DEFAULT now())"
    )
    if servers.version < 17:
        with pytest.raises(InvalidChange, match=r"id is an identity column.*17 on.*DROP IDENTITY"):
            project.write(PartitionTable("visits", "at"))
        return
    project.sql("INSERT INTO visits DEFAULT VALUES")
    if state == "restarted":
        project.sql("ALTER TABLE visits ALTER id RESTART WITH 100")
    project.write(PartitionTable("visits", "at"))
    project.there_and_back("0002", "0003", "0004")
    project.sql("INSERT INTO visits DEFAULT VALUES")
    project.down("0001")
    project.sql("INSERT INTO visits DEFAULT VALUES")
    assert project.rows("SELECT array_agg(id ORDER BY at, id) FROM visits") == [
        ([7, 100, 105],) if state == "restarted" else ([7, 12, 17],)
    ]
    assert project.rows(
        "SELECT start_value, increment_by, max_value, cycle, data_type::text FROM pg_sequences"
        " WHERE sequencename = 'visits_id_seq'"
    ) == [(7, 5, 900, True, "integer")]


def test_what_is_there_only_where_the_revision_runs_is_asked_for_there(events: Project) -> None:
    """A view that was made after the files were written, or in another database."""
    events.up("0003")
    events.sql(f"CREATE VIEW place.v AS SELECT note FROM {PLACE}; GRANT DELETE ON {PLACE} TO pg_signal_backend")
    before = events.schema()
    with pytest.raises(InvalidChange, match=r"Ereignis %.*view place\.v depends.*Drop it in a revision before"):
        events.up()
    assert events.schema() == before
    events.sql("DROP VIEW place.v")
    events.up()
    assert events.rows(f"SELECT has_table_privilege('pg_signal_backend', '{PLACE}', 'DELETE')") == [(True,)]


def test_a_primary_key_without_the_time_is_refused_by_the_operation(events: Project) -> None:
    events.up("0003")
    events.sql(f'ALTER TABLE {PLACE} DROP CONSTRAINT "Ereignis_pk"')
    with pytest.raises(InvalidChange, match="its primary key lacks When : it was"):
        events.up()


def test_a_transaction_that_is_older_than_the_change_finds_the_rows_of_its_time(events: Project) -> None:
    events.up("0003")
    (before, _) = contents(events)
    with psycopg.connect(libpq(events.settings.owner)) as older:
        older.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        older.execute("SELECT FROM noted")
        events.up()
        events.sql(f"DELETE FROM {PLACE} WHERE amount = 3")
        assert older.execute(f"SELECT count(*)::int FROM {PLACE}").fetchone() == (before,)
    assert contents(events)[0] != before


def test_a_reader_who_does_not_end_makes_it_give_up_and_nobody_waits_long(events: Project) -> None:
    events.up("0003")
    before = events.schema()
    settings = events.settings.model_copy(update={"upgrade_patience": 0.3})
    events.settings = settings
    with owner_connection(settings) as reader, reader.transaction():
        reader.execute("SELECT FROM accounts")
        with pytest.raises(LockTimeout):
            events.up()
    assert events.schema() == before
    events.up()
