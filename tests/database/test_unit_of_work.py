"""The unit of work: one transaction, committed at its end, and nothing left behind by what goes wrong."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable
from uuid import uuid4

import pytest
from sqlalchemy import QueuePool, func, insert, select, text
from sqlalchemy.exc import InvalidRequestError, PendingRollbackError

from dataarch.database.settings import Settings
from dataarch.database.unit_of_work import AsyncDatabase, Database, TenantSession
from dataarch.errors import DatabaseUrlMissing, EmailTaken, SlugTaken, TenantNotSet
from dataarch.models import Product, Tenant, User
from database.opening import OpenDatabase
from fixtures.tenants import Inhabited


def person(name: str) -> User:
    return User(email=f"{uuid4().hex}@example.com", full_name=name)


def names(db: Database, tenant: Inhabited) -> set[str]:
    with db.tenant(tenant.id) as session:
        return set(session.scalars(select(User.full_name)))


def in_use(db: Database) -> int:
    """Return how many connections are out of the pool."""
    assert isinstance(db.engine.pool, QueuePool)
    return db.engine.pool.checkedout()


# ── commit and rollback ───────────────────────────────────────────────────────────────────────────────────────────


def test_it_commits_at_its_end(shared_db: Database, home: Inhabited) -> None:
    with shared_db.tenant(home.id) as session:
        session.add(person("Committed"))
        assert "Committed" not in names(shared_db, home)
    assert "Committed" in names(shared_db, home)


@pytest.mark.parametrize("kind", [ZeroDivisionError, KeyboardInterrupt, GeneratorExit])
def test_an_error_leaves_nothing_of_it(kind: type[BaseException], shared_db: Database, home: Inhabited) -> None:
    with pytest.raises(kind), shared_db.tenant(home.id) as session:
        session.add(person("Lost"))
        session.flush()
        raise kind
    assert "Lost" not in names(shared_db, home)
    assert in_use(shared_db) == 0


def test_an_error_of_the_database_leaves_nothing_of_it_and_a_clean_connection(
    open_db: OpenDatabase, home: Inhabited
) -> None:
    db = open_db(pool_size=1, pool_overflow=0)
    taken = person("First")
    with db.tenant(home.id) as session:
        session.add(taken)
    with pytest.raises(EmailTaken), db.tenant(home.id) as session:
        session.add(person("Before"))
        session.flush()
        session.add(User(email=taken.email, full_name="Again"))
    assert names(db, home).isdisjoint({"Before", "Again"})


def test_a_caught_error_of_the_database_does_not_commit_what_came_before_it(
    shared_db: Database, home: Inhabited
) -> None:
    with pytest.raises(PendingRollbackError), shared_db.tenant(home.id) as session:
        session.add(person("Before"))
        session.flush()
        session.add(Product(slug="tea-pot", name="Second", price=1, currency="EUR"))
        with pytest.raises(SlugTaken):
            session.flush()
        session.add(person("After"))
        session.flush()
    assert names(shared_db, home).isdisjoint({"Before", "After"})


def test_a_savepoint_keeps_what_came_before_it(shared_db: Database, home: Inhabited) -> None:
    with shared_db.tenant(home.id) as session:
        session.add(person("Outside"))
        with pytest.raises(SlugTaken), session.begin_nested():
            session.add(person("Inside"))
            session.add(Product(slug="tea-pot", name="Second", price=1, currency="EUR"))
            session.flush()
        with session.begin_nested():
            session.add(person("Second savepoint"))
            with pytest.raises(ZeroDivisionError), session.begin_nested():
                session.add(person("Third savepoint"))
                session.flush()
                raise ZeroDivisionError
    found = names(shared_db, home)
    assert {"Outside", "Second savepoint"} <= found
    assert found.isdisjoint({"Inside", "Third savepoint"})


def test_objects_can_be_used_after_it_without_a_statement(
    shared_db: Database, home: Inhabited, executed: list[str]
) -> None:
    made = person("Kept")
    with shared_db.tenant(home.id) as session:
        session.add(made)
        loaded = session.scalars(select(User).where(User.id == home.user_id)).one()
    count = len(executed)
    assert (made.full_name, made.tenant_id, loaded.full_name) == ("Kept", home.id, "Ada Lovelace")
    assert made.created_at.tzinfo is not None
    assert len(executed) == count


def test_it_may_be_committed_early(shared_db: Database, home: Inhabited) -> None:
    with shared_db.tenant(home.id) as session:
        session.add(person("Early"))
        session.flush()
        session.get_transaction().commit()  # type: ignore[union-attr]  # one is open
        assert "Early" in names(shared_db, home)


@pytest.mark.parametrize("wrong", ["", "acme", None, 7, "01a20891-88ba-70f6-855a-5949d26d70e"])
def test_a_tenant_that_is_no_uuid_is_refused_before_anything_is_sent(
    wrong: object, shared_db: Database, executed: list[str]
) -> None:
    with pytest.raises(TenantNotSet) as refused, shared_db.tenant(wrong):  # type: ignore[arg-type]  # what is tested
        raise AssertionError
    assert refused.value.value == wrong
    assert executed == []


def test_a_tenant_may_be_given_as_text(shared_db: Database, home: Inhabited) -> None:
    with shared_db.tenant(str(home.id)) as session:
        assert isinstance(session, TenantSession)
        assert session.tenant_id == home.id
        assert session.scalars(select(Tenant.id)).one() == home.id


# ── without a tenant, and as the owner ────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "statement",
    [
        select(User),
        select(func.count()).select_from(Product),
        select(User.__table__.c.id),
        insert(Tenant).values(slug="x", name="X"),
        text("SELECT 1"),
        select(1).where(text("true")),
    ],
)
def test_a_session_of_no_tenant_refuses_tenants_tables_and_text_before_anything_is_sent(
    statement: object, shared_db: Database, executed: list[str]
) -> None:
    with pytest.raises(TenantNotSet), shared_db.session() as session:
        session.execute(statement)  # type: ignore[call-overload]  # any statement
    assert [sent for sent in executed if not sent.startswith("BEGIN ISOLATION ")] == []


def test_a_session_of_no_tenant_answers_what_belongs_to_nobody(shared_db: Database, home: Inhabited) -> None:
    with shared_db.session() as session:
        assert session.scalar(select(func.find_tenant(home.slug))) == home.id


def test_the_owner_sees_every_tenant(shared_db: Database, home: Inhabited, abroad: Inhabited) -> None:
    with shared_db.owner() as session:
        assert {home.id, abroad.id} <= set(session.scalars(select(Tenant.id)))


def test_the_owner_commits_and_rolls_back_as_the_others_do(shared_db: Database, home: Inhabited) -> None:
    with shared_db.owner() as session:
        session.add(User(tenant_id=home.id, email="by-owner@example.com", full_name="By owner"))
    with pytest.raises(ZeroDivisionError), shared_db.owner() as session:
        session.add(User(tenant_id=home.id, email="lost@example.com", full_name="Lost by owner"))
        session.flush()
        raise ZeroDivisionError
    found = names(shared_db, home)
    assert "By owner" in found
    assert "Lost by owner" not in found


# ── the database itself ───────────────────────────────────────────────────────────────────────────────────────────


def test_nothing_connects_before_the_first_statement() -> None:
    with Database(Settings(database_url="postgresql://nobody@nowhere.invalid/nothing")) as db:
        with db.tenant(uuid4()), db.session(), db.owner():
            pass
        assert in_use(db) == 0


def test_a_database_without_a_url_is_refused_when_it_is_made(tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(str(tmp_path))
    for kind in (Database, AsyncDatabase):
        with pytest.raises(DatabaseUrlMissing):
            kind()


def test_closing_twice_does_no_harm_and_a_closed_database_connects_anew(open_db: OpenDatabase, home: Inhabited) -> None:
    db = open_db()
    before = names(db, home)
    db.close()
    db.close()
    assert names(db, home) == before


def test_leaving_the_block_of_a_database_closes_its_connections(shared_db: Database, home: Inhabited) -> None:
    with Database(shared_db.settings) as db:
        names(db, home)
        with db.owner() as session:
            session.execute(select(1))
    for engine in (db.engine, db._owner_engine):
        assert isinstance(engine.pool, QueuePool)
        assert engine.pool.checkedin() == 0


def test_threads_share_a_database_and_never_a_tenant(open_db: OpenDatabase, home: Inhabited, abroad: Inhabited) -> None:
    db = open_db(pool_size=2, pool_overflow=1)
    mixed: list[object] = []

    def work(tenant: Inhabited) -> None:
        for _ in range(10):
            with db.tenant(tenant.id) as session:
                owners = set(session.scalars(select(User.tenant_id)))
                if owners != {tenant.id}:
                    mixed.append(owners)

    in_threads([lambda tenant=tenant: work(tenant) for tenant in (home, abroad) * 4])  # type: ignore[misc]  # the default binds
    assert mixed == []
    assert in_use(db) == 0


def test_threads_that_become_the_owner_at_once_share_one_pool(open_db: OpenDatabase) -> None:
    db = open_db()
    together = threading.Barrier(8)
    pools: list[object] = []

    def work() -> None:
        together.wait()
        with db.owner() as session:
            pools.append(session.connection().engine.pool)

    in_threads([work] * 8)
    assert len(pools) == 8
    assert len(set(map(id, pools))) == 1


def in_threads(tasks: list[Callable[[], None]]) -> None:
    threads = [threading.Thread(target=task) for task in tasks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_a_unit_of_work_that_is_never_left_gives_its_connection_back_and_writes_nothing(
    open_db: OpenDatabase, home: Inhabited
) -> None:
    db = open_db(pool_size=1, pool_overflow=0)
    block = db.tenant(home.id)
    session = block.__enter__()
    session.add(person("Abandoned"))
    session.flush()
    assert in_use(db) == 1
    del block, session
    gc.collect()
    assert in_use(db) == 0
    assert "Abandoned" not in names(db, home)


@pytest.mark.parametrize("kind", ["tenant", "session", "owner"])
def test_a_session_is_refused_after_its_block(kind: str, shared_db: Database, home: Inhabited) -> None:
    with shared_db.tenant(home.id) if kind == "tenant" else getattr(shared_db, kind)() as session:
        session.execute(select(1))
    with pytest.raises(InvalidRequestError):
        session.execute(select(1))
    assert in_use(shared_db) == 0
