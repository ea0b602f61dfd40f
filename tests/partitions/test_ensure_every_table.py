"""Tables of every grain and kind: their partitions are like their parent, and each row lies in its period."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from dataarch.clock import Period, utcnow
from dataarch.database.settings import APP_ROLE
from dataarch.database.unit_of_work import Database
from dataarch.errors import DataArchError, PrivilegeMissing
from dataarch.partitions.catalog import Partition, partitions_of
from dataarch.partitions.maintenance import Maintenance
from dataarch.partitions.naming import catch_all_name, partition_name
from dataarch.partitions.quoting import ident
from fixtures.months import owner
from fixtures.partitioned_tables import (
    IDENTITY,
    INVOICES,
    LONG,
    SAMPLES,
    VISITS,
    Account,
    Connection,
    Sample,
    add_account,
    checksum,
    create_samples,
    write_samples,
)
from fixtures.servers import Servers, libpq

pytestmark = pytest.mark.schema

every_sample = pytest.mark.parametrize("sample", SAMPLES, ids=str)

LIKENESS = """
SELECT jsonb_build_object(
    'owner', pg_get_userbyid(relowner), 'guarded', relrowsecurity, 'forced', relforcerowsecurity,
    'policies', (SELECT jsonb_agg(jsonb_build_array(polname, polpermissive, polcmd, polroles,
                                                    pg_get_expr(polqual, polrelid),
                                                    pg_get_expr(polwithcheck, polrelid)) ORDER BY polname)
                 FROM pg_policy WHERE polrelid = pg_class.oid),
    'indexes', (SELECT jsonb_agg(x ORDER BY x) FROM (
                    SELECT regexp_replace(pg_get_indexdef(indexrelid), '^.* USING', '')
                           || indisunique || indisprimary AS x
                    FROM pg_index WHERE indrelid = pg_class.oid AND indisvalid) AS i),
    'constraints', (SELECT jsonb_agg(x ORDER BY x) FROM (
                        SELECT contype::text || pg_get_constraintdef(oid) AS x FROM pg_constraint
                        WHERE conrelid = pg_class.oid AND convalidated AND contype <> 'n') AS c),
    'columns', (SELECT jsonb_agg(jsonb_build_array(attname, atttypid, attnotnull, attgenerated,
                                                   pg_get_expr(adbin, adrelid)) ORDER BY attnum)
                FROM pg_attribute LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
                WHERE attrelid = pg_class.oid AND attnum > 0 AND NOT attisdropped),
    'statistics', (SELECT count(*) FROM pg_statistic_ext WHERE stxrelid = pg_class.oid),
    'triggers', (SELECT jsonb_agg(tgname ORDER BY tgname) FROM pg_trigger
                 WHERE tgrelid = pg_class.oid AND NOT tgisinternal))
FROM pg_class WHERE oid = to_regclass(%s)
"""


@pytest.fixture
def made(db: Database) -> Database:
    """The sample tables, without partitions."""
    with db.owner() as session:
        # the worst of default privileges: whatever is made, everybody may read
        session.connection().exec_driver_sql(f"ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO {APP_ROLE}, PUBLIC")
    create_samples(db, *SAMPLES)
    return db


def maintainer(db: Database, servers: Servers, sample: Sample) -> Database:
    """Return the database of who may maintain it: FORCE hides a table's rows from its own owner."""
    if not sample.forced:
        return db
    assert db.settings.owner.database is not None
    return Database(db.settings.model_copy(update={"owner_url": servers.login("postgres", db.settings.owner.database)}))


def grants(connection: Connection, place: str) -> list[str]:
    found = connection.execute(
        "SELECT DISTINCT grantee::regrole::text FROM pg_class, aclexplode(relacl)"
        " WHERE pg_class.oid = to_regclass(%s) AND grantee <> relowner",
        [place],
    )
    return [name for (name,) in found]


@every_sample
def test_a_partition_is_like_its_parent_and_nobody_may_read_it_alone(
    made: Database, servers: Servers, sample: Sample
) -> None:
    with owner(made.settings) as connection:
        # they are made in each way: attached, carved out of an empty catch-all, and with rows
        _maintain(made, servers, sample)
        with as_superuser(servers, made) as superuser:
            write_samples(superuser, sample, add_account(connection), utcnow() - timedelta(days=800))
        later = Period.of(utcnow(), sample.grain).plus(8)
        with maintainer(made, servers, sample) as database:
            Maintenance(database, sample.table).ensure([later])
        parent = connection.execute(LIKENESS, [sample.place]).fetchone()
        assert parent is not None
        children = [ident(one.name, one.schema) for one in partitions_of_sample(made, sample)]
        assert len(children) >= 8
        for child in children:
            assert connection.execute(LIKENESS, [child]).fetchone() == parent, child
            assert grants(connection, child) == []


def _maintain(db: Database, servers: Servers, sample: Sample) -> list[str]:
    with maintainer(db, servers, sample) as database:
        return Maintenance(database, sample.table).maintain().made


def as_superuser(servers: Servers, db: Database) -> Connection:
    """Return a connection in autocommit mode, in UTC, that no policy binds."""
    assert db.settings.owner.database is not None
    url = libpq(servers.login("postgres", db.settings.owner.database))
    return psycopg.connect(url, autocommit=True, options="-c timezone=UTC")


def partitions_of_sample(db: Database, sample: Sample) -> list[Partition]:
    with db.owner() as session:
        return partitions_of(session.connection(), sample.place)


@every_sample
def test_the_partitions_of_a_new_table_are_contiguous_and_called_after_their_periods(
    made: Database, servers: Servers, sample: Sample
) -> None:
    before = Period.of(utcnow(), sample.grain)
    names = _maintain(made, servers, sample)
    found = partitions_of_sample(made, sample)
    if before == Period.of(utcnow(), sample.grain):
        name = sample.table.name
        expected = [before.plus(n) for n in range(4)]
        assert [one.name for one in found] == [
            catch_all_name(name, None),
            *(partition_name(name, period) for period in expected),
            catch_all_name(name, expected[-1].end, sample.grain),
        ]
        assert [one.range.low for one in found[1:]] == [*(p.start for p in expected), expected[-1].end]
    assert [one.upper for one in found[:-1]] == [one.lower for one in found[1:]]
    assert sorted(names) == sorted(one.name for one in found)
    assert _maintain(made, servers, sample) == []


@every_sample
def test_rows_of_a_catch_all_come_to_lie_in_their_periods(made: Database, servers: Servers, sample: Sample) -> None:
    _maintain(made, servers, sample)
    connection = as_superuser(servers, made)
    account = add_account(connection)
    present = Period.of(utcnow(), sample.grain)
    instants: list[datetime | str] = []
    for ahead in (-9, -8, -1, 5, 7):
        period = present.plus(ahead)
        instants += [period.start, period.end - timedelta(days=1), period.end - timedelta(microseconds=1)]
    # out of reach
    instants += [datetime(1930, 5, 1, tzinfo=UTC), present.start + timedelta(days=365 * 30), "infinity", "-infinity"]
    instants += ["0044-03-15 BC"]
    write_samples(connection, sample, account, *instants)
    notes = connection.execute("SELECT count(*) FROM trigger_notes").fetchone()
    rows = checksum(connection, sample)
    _maintain(made, servers, sample)
    assert checksum(connection, sample) == rows
    assert connection.execute("SELECT count(*) FROM trigger_notes").fetchone() == notes
    for ahead in (-9, -8, -1, 5, 7):
        period = present.plus(ahead)
        held = connection.execute(
            f"SELECT count(*) FROM {ident(partition_name(sample.table.name, period), sample.table.schema or 'public')}"
        ).fetchone()
        assert held == (3,)
    assert _maintain(made, servers, sample) == []
    connection.close()


@every_sample
def test_a_tenant_reads_its_own_rows_through_the_table_and_none_in_a_partition(
    made: Database, servers: Servers, sample: Sample
) -> None:
    _maintain(made, servers, sample)
    connection = as_superuser(servers, made)
    acme, rival = add_account(connection), add_account(connection)
    for account in (acme, rival):
        held = write_samples(connection, sample, account, utcnow())
        write_samples(connection, sample, account, utcnow(), note="secret")
    connection.close()
    partition = ident(held[0], sample.table.schema)
    with made.tenant(acme.tenant_id) as session:
        read = session.connection().exec_driver_sql(f"SELECT tenant_id, note FROM {sample.place}").all()
        assert [tuple(row) for row in read] == [(acme.tenant_id, "plain")]
    for of in (partition, ident(catch_all_name(sample.table.name, None), sample.table.schema)):
        with pytest.raises(PrivilegeMissing), made.tenant(acme.tenant_id) as session:
            session.connection().exec_driver_sql(f"SELECT * FROM {of}")
    # a grant by mistake shows a tenant no more than the table does
    with made.owner() as session:
        session.connection().exec_driver_sql(f"GRANT SELECT ON {partition} TO {APP_ROLE}")
    with made.tenant(acme.tenant_id) as session:
        read = session.connection().exec_driver_sql(f"SELECT tenant_id, note FROM {partition}").all()
        assert [tuple(row) for row in read] == [(acme.tenant_id, "plain")]


def test_an_owner_whom_force_row_security_binds_is_told_so_and_nothing_changes(made: Database) -> None:
    with pytest.raises(DataArchError, match="row") as refused:
        Maintenance(made, LONG.table).maintain()
        Maintenance(made, LONG.table).maintain()
    assert isinstance(refused.value, PrivilegeMissing)


def test_a_superuser_makes_partitions_that_belong_to_the_owner_of_the_table(made: Database, servers: Servers) -> None:
    assert made.settings.owner.database is not None
    url = servers.login("postgres", made.settings.owner.database)
    with Database(made.settings.model_copy(update={"owner_url": url})) as superuser:
        Maintenance(superuser, VISITS.table).maintain()
    with owner(made.settings) as connection:
        for one in partitions_of_sample(made, VISITS):
            found = connection.execute(
                "SELECT pg_get_userbyid(relowner) FROM pg_class WHERE relname = %s", [one.name]
            ).fetchone()
            assert found == ("dataarch_owner",)


def test_the_numbers_of_an_identity_column_go_on_while_its_rows_move(db: Database, servers: Servers) -> None:
    if servers.version < 17:
        pytest.skip("identity columns of partitioned tables came with PostgreSQL 17")
    create_samples(db, IDENTITY)
    Maintenance(db, IDENTITY.table).maintain()
    long_ago = Period.of(utcnow(), IDENTITY.grain).plus(-30)
    with owner(db.settings) as connection:
        connection.execute("INSERT INTO numbered (at) SELECT %s FROM generate_series(1, 5)", [long_ago.start])
        Maintenance(db, IDENTITY.table).maintain()
        connection.execute("INSERT INTO numbered (at) VALUES (%s)", [long_ago.start])
        held = connection.execute(
            "SELECT array_agg(number ORDER BY number), count(DISTINCT tableoid) FROM numbered"
        ).fetchone()
    assert held == ([1, 2, 3, 4, 5, 6], 1)


def test_the_account_of_a_moved_row_is_still_referred_to(made: Database, servers: Servers) -> None:
    _maintain(made, servers, INVOICES)
    with owner(made.settings) as connection:
        account: Account = add_account(connection)
        write_samples(connection, INVOICES, account, utcnow() - timedelta(days=400))
        _maintain(made, servers, INVOICES)
        with pytest.raises(psycopg.errors.IntegrityError):
            connection.execute("DELETE FROM accounts")
        with pytest.raises(psycopg.errors.ForeignKeyViolation):
            write_samples(connection, INVOICES, Account(account.tenant_id, account.tenant_id), utcnow())
