"""The application's role belongs to the whole cluster: these tests have a cluster of their own."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from dataarch.database.embedded import EmbeddedServer
from dataarch.database.settings import APP_ROLE, Settings, database_url
from dataarch.errors import PrivilegeMissing, RoleBypassesRowSecurity
from fixtures.alembic_runs import started
from fixtures.catalogs import described, owner_connection
from fixtures.databases import MigrateTo, new_database
from fixtures.servers import OWNER, Servers, libpq

pytestmark = pytest.mark.migration


@pytest.fixture(scope="module")
def own_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """A cluster that no other test uses."""
    with EmbeddedServer(tmp_path_factory.mktemp("cluster"), durable=False) as server:
        status = server.status()
        assert status.admin_url is not None
        assert status.redis_url is not None
        with psycopg.connect(libpq(status.admin_url)) as connection:
            version = connection.info.server_version // 10_000
        yield Servers(database_url(status.admin_url), status.redis_url, version)


@pytest.fixture
def cluster(own_cluster: Servers) -> Iterator[Servers]:
    """The cluster without the role, and with an owner who may create it."""
    execute(own_cluster, f"DROP ROLE IF EXISTS {APP_ROLE}", f"ALTER ROLE {OWNER} CREATEROLE")
    yield own_cluster
    execute(own_cluster, f"DROP ROLE IF EXISTS {APP_ROLE}")


@pytest.fixture
def first(cluster: Servers) -> Iterator[Settings]:
    with new_database(cluster) as settings:
        yield settings


@pytest.fixture
def second(cluster: Servers) -> Iterator[Settings]:
    with new_database(cluster) as settings:
        yield settings


def execute(servers: Servers, *statements: str) -> None:
    with servers.connect() as connection:
        for statement in statements:
            connection.execute(statement)


def attributes(servers: Servers) -> tuple[object, ...] | None:
    with servers.connect() as connection:
        return connection.execute(
            "SELECT rolsuper, rolbypassrls, rolcreaterole, rolcreatedb, rolinherit, rolcanlogin, rolpassword"
            " FROM pg_authid WHERE rolname = %s",
            [APP_ROLE],
        ).fetchone()


def test_the_upgrade_makes_a_role_that_may_log_in_and_nothing_else(
    cluster: Servers, first: Settings, migrate: MigrateTo
) -> None:
    migrate(first, "head")
    assert attributes(cluster) == (False, False, False, False, False, True, None)


def test_an_owner_who_may_not_create_roles_is_told_the_sql_that_a_superuser_runs(
    cluster: Servers, first: Settings, migrate: MigrateTo
) -> None:
    execute(cluster, f"ALTER ROLE {OWNER} NOCREATEROLE")
    with pytest.raises(PrivilegeMissing) as refused:
        migrate(first, "head")
    _, _, sql = refused.value.hint.partition(": ")
    assert sql.startswith(f"CREATE ROLE {APP_ROLE} ")
    with owner_connection(first) as connection:
        assert connection.execute("SELECT version_num FROM alembic_version").fetchone() == ("0009",)
    execute(cluster, sql)
    migrate(first, "head")
    assert attributes(cluster) == (False, False, False, False, False, True, None)
    migrate(first, "base", down=True)
    assert attributes(cluster) is not None, "an owner who may not create roles cannot drop them either"


@pytest.mark.parametrize("attribute", ["SUPERUSER", "BYPASSRLS"])
def test_a_role_that_bypasses_the_policies_is_refused(
    cluster: Servers, first: Settings, migrate: MigrateTo, attribute: str
) -> None:
    execute(cluster, f"CREATE ROLE {APP_ROLE} LOGIN {attribute}")
    with pytest.raises(RoleBypassesRowSecurity):
        migrate(first, "head")
    execute(cluster, f"ALTER ROLE {APP_ROLE} NOSUPERUSER NOBYPASSRLS")
    migrate(first, "head")


def test_a_downgrade_keeps_the_role_while_another_database_needs_it_and_the_last_one_drops_it(
    cluster: Servers, first: Settings, second: Settings, migrate: MigrateTo
) -> None:
    migrate(first, "head")
    migrate(second, "head")
    schema = described(second)
    migrate(first, "base", down=True)
    assert attributes(cluster) is not None
    assert described(second) == schema
    migrate(first, "head")
    migrate(second, "base", down=True)
    migrate(first, "base", down=True)
    assert attributes(cluster) is None


def test_a_downgrade_keeps_the_role_while_somebody_is_logged_in_with_it_elsewhere(
    cluster: Servers, first: Settings, second: Settings, migrate: MigrateTo
) -> None:
    migrate(first, "head")
    with psycopg.connect(libpq(second.application)):
        migrate(first, "base", down=True)
        assert attributes(cluster) is not None


def test_upgrades_of_two_databases_at_once_on_a_fresh_cluster_both_succeed(
    cluster: Servers, first: Settings, second: Settings, migrate: MigrateTo
) -> None:
    for _ in range(2):
        processes = [started(settings, "upgrade", "head") for settings in (first, second)]
        said = [process.communicate(timeout=120)[1] for process in processes]
        assert [process.returncode for process in processes] == [0, 0], said
        migrate(first, "base", down=True)
        migrate(second, "base", down=True)
        assert attributes(cluster) is None


def test_the_role_that_another_upgrade_is_making_is_waited_for(
    cluster: Servers, first: Settings, second: Settings, migrate: MigrateTo
) -> None:
    migrate(second, "0009")
    with psycopg.connect(libpq(cluster.admin)) as other:
        other.execute(f"CREATE ROLE {APP_ROLE} LOGIN NOINHERIT")
        process = started(second, "upgrade", "head")
        cluster.waiting(second.owner.database)
        other.commit()
        _, said = process.communicate(timeout=60)
    assert process.returncode == 0, said
