"""M27: every revision goes down and up again with the data intact."""

from __future__ import annotations

from threading import Thread

import psycopg
import pytest

from dataarch.database.settings import Settings
from dataarch.rollout.set_aside import SCHEMA, set_aside
from fixtures.alembic_runs import revision_ids
from fixtures.catalogs import contents, described, owner_connection, tables
from fixtures.databases import MigrateTo
from fixtures.rows import fill
from fixtures.servers import Servers, libpq

pytestmark = pytest.mark.migration

REVISIONS = revision_ids()


def before(revision: str) -> str:
    position = REVISIONS.index(revision)
    return REVISIONS[position - 1] if position else "base"


@pytest.mark.parametrize("revision", REVISIONS)
def test_m27_a_revision_goes_up_and_down_and_up_again_with_the_data_intact(
    empty_database: Settings, migrate: MigrateTo, revision: str
) -> None:
    if before(revision) != "base":
        migrate(empty_database, before(revision))
        fill(empty_database)
    older = contents(empty_database)
    migrate(empty_database, revision)
    assert contents(empty_database) == older
    fill(empty_database)
    schema, rows = described(empty_database), contents(empty_database)
    for _ in range(2):
        migrate(empty_database, before(revision), down=True)
        assert contents(empty_database) == rows
        migrate(empty_database, revision)
        assert contents(empty_database) == rows
        assert described(empty_database) == schema


def test_m27_the_way_to_base_and_back_finds_every_row_of_every_table(settings: Settings, migrate: MigrateTo) -> None:
    with owner_connection(settings) as connection:
        connection.execute("SELECT create_activity_partition(m::date) FROM unnest('{2010-12-01,2024-06-01}'::date[]) m")
    fill(settings)
    fill(settings)
    rows = contents(settings)
    assert rows.keys() == tables(settings) - {"alembic_version"}
    for _ in range(2):
        migrate(settings, "base", down=True)
        assert contents(settings) == rows
        assert tables(settings) <= {"alembic_version"}
        migrate(settings, "head")
        assert contents(settings) == rows
    fill(settings)


def test_base_leaves_nothing_behind_where_the_tables_were_empty(empty_database: Settings, migrate: MigrateTo) -> None:
    bare = described(empty_database)
    migrate(empty_database, "head")
    migrate(empty_database, "base", down=True)
    left = [line for line in described(empty_database) if "alembic_version" not in line]
    assert left == bare


def test_a_database_that_went_to_base_and_back_empty_has_the_schema_it_had(
    settings: Settings, migrate: MigrateTo
) -> None:
    schema = described(settings)
    migrate(settings, "base", down=True)
    migrate(settings, "head")
    assert described(settings) == schema


def test_m27_rows_set_aside_follow_the_user_who_is_deleted_meanwhile(settings: Settings, migrate: MigrateTo) -> None:
    gone = fill(settings)
    stays = fill(settings)
    migrate(settings, "0002", down=True)
    with owner_connection(settings) as connection:
        connection.execute("DELETE FROM users WHERE id = %s", [gone])
    migrate(settings, "head")
    with owner_connection(settings) as connection:
        for table in ("user_activity_log", "user_profiles", "user_settings"):
            found = connection.execute(f"SELECT DISTINCT user_id FROM {table}").fetchall()
            assert (gone,) not in found
            assert (stays,) in found
    fill(settings)


def test_a_downgrade_goes_on_where_all_rows_set_aside_were_deleted_meanwhile(
    settings: Settings, migrate: MigrateTo
) -> None:
    fill(settings)
    migrate(settings, "0002", down=True)
    with owner_connection(settings) as connection:
        connection.execute("DELETE FROM tenants")
    migrate(settings, "base", down=True)
    migrate(settings, "head")
    assert contents(settings) == {}
    fill(settings)


def test_m27_rows_written_at_an_older_revision_are_there_beside_those_set_aside(
    settings: Settings, migrate: MigrateTo
) -> None:
    fill(settings)
    migrate(settings, "0002", down=True)
    fill(settings)
    rows = contents(settings)
    assert rows["users"][0] == 4
    migrate(settings, "head")
    assert contents(settings) == rows


def test_m27_a_row_committed_while_a_downgrade_waits_for_its_table_is_kept(
    settings: Settings, migrate: MigrateTo, servers: Servers
) -> None:
    migrate(settings, "0002", down=True)
    with psycopg.connect(libpq(settings.owner)) as writer:
        writer.execute("INSERT INTO tenants (slug, name) VALUES ('late', 'Late')")
        downgrade = Thread(target=migrate, args=(settings, "0001"), kwargs={"down": True})
        downgrade.start()
        servers.waiting(settings.owner.database)
        writer.commit()
        downgrade.join()
    assert contents(settings)["tenants"][0] == 1


@pytest.mark.parametrize("isolation", ["repeatable read", "serializable"])
def test_m27_a_row_committed_while_months_are_merged_is_kept_whatever_the_isolation(
    settings: Settings, migrate: MigrateTo, isolation: str, servers: Servers
) -> None:
    fill(settings)
    with owner_connection(settings) as connection:
        connection.execute(
            f"DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET default_transaction_isolation = ''{isolation}''',"
            " current_database()); END $$"
        )
    migrate(settings, "0006", down=True)
    with psycopg.connect(libpq(settings.owner)) as writer:
        writer.execute(
            "INSERT INTO user_activity_log (tenant_id, user_id, activity_type)"
            " SELECT tenant_id, id, 'late' FROM users LIMIT 1"
        )
        downgrade = Thread(target=migrate, args=(settings, "0005"), kwargs={"down": True})
        downgrade.start()
        servers.waiting(settings.owner.database)
        writer.commit()
        downgrade.join()
    with owner_connection(settings) as connection:
        late = connection.execute("SELECT count(*) FROM user_activity_log WHERE activity_type = 'late'").fetchone()
    assert late == (1,)


def test_a_downgrade_says_where_the_rows_are_kept(settings: Settings, migrate: MigrateTo) -> None:
    fill(settings)
    migrate(settings, "0007", down=True)
    notices: list[str] = []
    with owner_connection(settings) as connection:
        connection.add_notice_handler(lambda notice: notices.append(notice.message_primary or ""))
        connection.execute(set_aside(["products"]))
    assert [notice for notice in notices if SCHEMA in notice and "products" in notice]
