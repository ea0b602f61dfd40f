"""Behind PgBouncer in transaction mode, where any transaction may run on any connection of the server."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import func, make_url, select, text, update

from dataarch.database.unit_of_work import AsyncDatabase, Database
from dataarch.errors import SlugTaken, StatementTimeout
from dataarch.models import Product, User
from database.opening import OpenDatabase
from database.wire import Proxy, closed_port
from fixtures.tenants import Inhabited

PROGRAM = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")

pytestmark = pytest.mark.skipif(PROGRAM is None, reason="PgBouncer is not installed here; it is no part of dataarch.")

CONFIGURATION = """
[databases]
* = host=127.0.0.1 port={server} user=dataarch_app

[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = 1
max_client_conn = 50
"""


@pytest.fixture
def bouncer(wire: Proxy, shared_db: Database, tmp_path: Path) -> Iterator[str]:
    """The URL of the file's database through a PgBouncer that has one connection to the server."""
    assert PROGRAM is not None
    port = make_url(closed_port()).port
    assert port is not None
    configuration = tmp_path / "pgbouncer.ini"
    configuration.write_text(CONFIGURATION.format(server=wire.port, port=port))
    # it refuses to run as root
    account = ["-u", "nobody"] if os.geteuid() == 0 else []
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen([PROGRAM, *account, str(configuration)], stdout=log, stderr=log)
    try:
        wait_until_it_listens(port, process)
        yield f"postgresql://dataarch_app@127.0.0.1:{port}/{shared_db.settings.application.database}"
    finally:
        process.terminate()
        process.wait(10)


def wait_until_it_listens(port: int, process: subprocess.Popen[bytes]) -> None:
    for _ in range(500):
        assert process.poll() is None, "PgBouncer did not start"
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except ConnectionRefusedError:
            time.sleep(0.01)
        else:
            return
    raise AssertionError("PgBouncer does not listen.")


def test_tenants_share_one_connection_of_the_server_and_see_their_own_rows_alone(
    bouncer: str, open_db: OpenDatabase, home: Inhabited, abroad: Inhabited
) -> None:
    db = open_db(database_url=bouncer, prepare_threshold=None, statement_timeout=7)
    pids: set[int | None] = set()
    mixed: list[object] = []
    failed: list[BaseException] = []

    def work(tenant: Inhabited) -> None:
        try:
            for _ in range(15):
                with db.tenant(tenant.id) as session:
                    pids.add(session.scalar(text("SELECT pg_backend_pid()")))
                    owners = set(session.scalars(select(User.tenant_id)))
                    if owners != {tenant.id}:
                        mixed.append(owners)
        except BaseException as error:  # noqa: BLE001  # shown by the test
            failed.append(error)

    threads = [threading.Thread(target=work, args=[tenant]) for tenant in (home, abroad, home, abroad)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert mixed == []
    assert len(pids) == 1


def test_time_outs_and_refusals_of_one_client_do_not_reach_another(
    bouncer: str, open_db: OpenDatabase, home: Inhabited, abroad: Inhabited
) -> None:
    hasty = open_db(database_url=bouncer, prepare_threshold=None, statement_timeout=0.05)
    patient = open_db(database_url=bouncer, prepare_threshold=None, statement_timeout=30)
    for _ in range(3):
        with pytest.raises(StatementTimeout), hasty.tenant(home.id) as session:
            session.execute(text("SELECT pg_sleep(30)"))
        with pytest.raises(SlugTaken), hasty.tenant(home.id) as session:
            session.add(Product(slug="tea-pot", name="Second", price=1, currency="EUR"))
        with patient.tenant(abroad.id) as session:
            session.execute(text("SELECT pg_sleep(0.1)"))
            assert set(session.scalars(select(User.tenant_id))) == {abroad.id}


def test_units_that_read_share_the_connection_too_and_leave_no_transaction_on_it(
    bouncer: str, open_db: OpenDatabase, home: Inhabited, abroad: Inhabited
) -> None:
    db = open_db(database_url=bouncer, prepare_threshold=None, pool_size=4)
    failed: list[BaseException] = []

    def work(tenant: Inhabited) -> None:
        try:
            for each in range(20):
                with db.reading(tenant.id) as session:
                    assert set(session.scalars(text("SELECT tenant_id FROM users"))) == {tenant.id}
                with db.tenant(tenant.id) as session:
                    session.execute(update(User).values(full_name=f"Ada {each}"))
                with db.reading(tenant.id) as session:
                    assert session.scalars(select(User.full_name)).one() == f"Ada {each}"
        except BaseException as error:  # noqa: BLE001  # shown by the test
            failed.append(error)

    threads = [threading.Thread(target=work, args=[tenant]) for tenant in (home, abroad)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    # with the only connection of the server in a transaction, nobody else would be served
    with open_db(database_url=bouncer, prepare_threshold=None).tenant(home.id) as session:
        assert session.scalar(select(func.count()).select_from(User)) == 1


def test_a_client_that_goes_away_with_a_commit_unanswered_is_in_nobodys_way(
    bouncer: str, open_db: OpenDatabase, home: Inhabited
) -> None:
    for _ in range(5):
        db = open_db(database_url=bouncer, prepare_threshold=None)
        for _ in range(2):
            with db.reading(home.id) as session:
                session.scalars(select(User.id)).one()
        db.close()


async def test_it_serves_asyncio_too(bouncer: str, open_db: OpenDatabase, home: Inhabited, abroad: Inhabited) -> None:
    settings = open_db(database_url=bouncer, prepare_threshold=None).settings
    async with AsyncDatabase(settings) as db:
        for tenant in (home, abroad) * 5:
            async with db.tenant(tenant.id) as session:
                assert set(await session.scalars(select(User.tenant_id))) == {tenant.id}
            async with db.reading(tenant.id) as session:
                assert set(await session.scalars(select(User.tenant_id))) == {tenant.id}
