"""One statement object that several tenants run: what is remembered with it is never another tenant's."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Barrier
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import Select, delete, event, select, union_all, update
from sqlalchemy.orm import joinedload, selectinload

from dataarch.database.tenant_criteria import MOST_TENANTS
from dataarch.database.unit_of_work import Database
from dataarch.models import Product, Tenant, User, UserProfile
from fixtures.tenants import Inhabited, inhabit

pytestmark = pytest.mark.isolation


@pytest.fixture(scope="module")
def db(shared_db: Database) -> Database:
    """One database for all of this file."""
    return shared_db


@pytest.fixture(scope="module")
def acme(db: Database) -> Inhabited:
    """A tenant."""
    return inhabit(db, "acme")


@pytest.fixture(scope="module")
def rival(db: Database) -> Inhabited:
    """Another one."""
    return inhabit(db, "rival")


@contextmanager
def sent(db: Database) -> Iterator[list[dict[str, Any]]]:
    """Collect the parameters of all that is sent: the policies would hide from the rows whose they are."""
    seen: list[dict[str, Any]] = []

    def collect(
        _connection: object, _cursor: object, _statement: str, given: Any, _context: object, _many: object
    ) -> None:
        # how a transaction begins has none
        if given:
            seen.append(dict(given))

    event.listen(db.engine, "before_cursor_execute", collect)
    try:
        yield seen
    finally:
        event.remove(db.engine, "before_cursor_execute", collect)


STATEMENTS: dict[str, Any] = {
    "columns": select(User.id),
    "objects": select(User),
    "a join": select(User.id, UserProfile.display_name).join(UserProfile),
    "joined eagerly": select(User).options(joinedload(User.profile)),
    "in a second statement": select(User).options(selectinload(User.profile)),
    "the tenant": select(Tenant),
    "a union": union_all(select(User.full_name), select(Product.name)),
    "an update": update(User).values(full_name="Ada Lovelace"),
    "a deletion": delete(User).where(User.full_name == "nobody"),
}


def lazily(users: Any) -> object:
    return [user.profile for user in users if isinstance(user, User)]


@pytest.mark.parametrize("name", STATEMENTS)
def test_m01_a_statement_that_two_tenants_run_in_turn_is_each_ones_own(
    name: str, db: Database, acme: Inhabited, rival: Inhabited
) -> None:
    for tenant, other in 3 * [(acme, rival), (rival, acme)]:
        with sent(db) as seen, db.tenant(tenant.id) as session:
            found = session.execute(STATEMENTS[name])
            if isinstance(STATEMENTS[name], Select):
                lazily(found.unique().scalars().all())
        assert seen
        for parameters in seen:
            assert tenant.id in parameters.values()
            assert other.id not in parameters.values()


def test_m01_each_tenant_gets_its_own_rows_by_the_same_statement(
    db: Database, acme: Inhabited, rival: Inhabited
) -> None:
    statement = select(User.id)
    for tenant in 3 * [acme, rival]:
        for opens in (db.tenant, db.reading):
            with opens(tenant.id) as session:
                assert session.scalars(statement).all() == [tenant.user_id]


def test_m01_more_tenants_than_are_remembered_run_a_statement_in_threads_at_once(db: Database) -> None:
    statement = select(User.id).where(User.full_name != "nobody")
    tenants = [uuid4() for _ in range(2 * MOST_TENANTS)]
    together = Barrier(4)

    def run(start: int) -> None:
        together.wait()
        for at in range(len(tenants)):
            # two threads of the same tenant at a time, and two of another
            tenant = tenants[(at + start) % len(tenants)]
            with db.tenant(tenant) as session:
                running[session.connection().connection.driver_connection] = tenant
                session.scalars(statement).all()

    running: dict[object, UUID] = {}
    wrong: list[object] = []

    def compare(connection: Any, _cursor: object, _text: str, given: Any, _context: object, _many: object) -> None:
        whose = running.get(connection.connection.driver_connection)
        if given and whose not in given.values():
            wrong.append((whose, given))

    event.listen(db.engine, "before_cursor_execute", compare)
    try:
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(run, (0, 0, 1, MOST_TENANTS)))
    finally:
        event.remove(db.engine, "before_cursor_execute", compare)
    assert len(running) > 1
    assert wrong == []


def test_m01_a_session_that_is_told_that_it_is_anothers_leaves_nothing_with_a_statement(
    db: Database, acme: Inhabited, rival: Inhabited
) -> None:
    statement = select(User.id)
    with db.tenant(acme.id) as session:
        session.tenant_id = rival.id
        session.scalars(statement).all()
    with sent(db) as seen, db.tenant(rival.id) as session:
        assert session.scalars(statement).all() == [rival.user_id]
    assert all(acme.id not in parameters.values() for parameters in seen)


@pytest.mark.parametrize(
    "changed", [lambda given: given.where(User.full_name == "nobody"), lambda given: given.limit(0)]
)
def test_a_statement_that_is_made_from_one_that_was_run_is_another_statement(
    changed: Callable[[Any], Any], db: Database, acme: Inhabited
) -> None:
    statement = select(User.id)
    with db.tenant(acme.id) as session:
        assert session.scalars(statement).all() == [acme.user_id]
        assert session.scalars(changed(statement)).all() == []
        assert session.scalars(statement).all() == [acme.user_id]


def test_what_is_remembered_goes_with_the_statement(db: Database, acme: Inhabited) -> None:
    statement = select(User.id).where(User.full_name == uuid4().hex)
    with db.tenant(acme.id) as session:
        session.execute(statement)
    gone = weakref.ref(statement)
    del statement
    gc.collect()
    assert gone() is None
