"""Whatever is done through two doors, in whatever order: a read gives what is committed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from uuid import UUID

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test
from sqlalchemy import delete, insert, select, text, update
from sqlalchemy.dialects.postgresql import insert as upsert

from dataarch.caching.database import Database
from dataarch.caching.kinds import Kind
from dataarch.database import commit_hooks
from dataarch.database.unit_of_work import TenantSession
from dataarch.models import Tenant, User
from dataarch.models.base import new_id
from fixtures.caches import opened

pytestmark = pytest.mark.cache

NAME = Kind("machine_name", ttl=60, soft_ttl=30, rows=(User,))
NAMES = Kind("machine_names", ttl=60, reads=(User,))

EMAILS = "uq_users_tenant_id_email"

Write = Callable[[TenantSession, UUID, str], None]


def by_orm(session: TenantSession, user: UUID, name: str) -> None:
    row = session.get(User, (session.tenant_id, user))
    if row is None:
        session.add(User(id=user, email=f"{user}@example.com", full_name=name))
    else:
        row.full_name = name


def by_update(session: TenantSession, user: UUID, name: str) -> None:
    session.execute(update(User).where(User.id == user).values(full_name=name))


def by_core(session: TenantSession, user: UUID, name: str) -> None:
    users = User.metadata.tables["users"]
    session.connection().execute(update(users).where(users.c.id.in_([user])).values(full_name=name))


def by_bulk_update(session: TenantSession, user: UUID, name: str) -> None:
    version = session.scalar(select(User.version).where(User.id == user).with_for_update())
    if version is not None:
        row = {"tenant_id": session.tenant_id, "id": user, "full_name": name, "version": version}
        session.execute(update(User), [row])


def by_text(session: TenantSession, user: UUID, name: str) -> None:
    session.execute(text("UPDATE users SET full_name = :name WHERE id = :id"), {"name": name, "id": user})


def by_upsert(session: TenantSession, user: UUID, name: str) -> None:
    new = upsert(User).values(tenant_id=session.tenant_id, id=user, email=f"{user}@example.com", full_name=name)
    session.execute(new.on_conflict_do_update(constraint="pk_users", set_={"full_name": new.excluded.full_name}))


def by_upsert_under_another_id(session: TenantSession, user: UUID, name: str) -> None:
    """The row that is there already is changed, under a key that the statement does not say."""
    email = f"{user}@example.com"
    new = upsert(User).values(tenant_id=session.tenant_id, id=new_id(), email=email, full_name=name)
    if session.scalar(select(User.id).where(User.id == user)) is not None:
        session.execute(new.on_conflict_do_update(constraint=EMAILS, set_={"full_name": new.excluded.full_name}))


def by_insert(session: TenantSession, user: UUID, name: str) -> None:
    session.execute(delete(User).where(User.id == user))
    row = {"tenant_id": session.tenant_id, "id": user, "email": f"{user}@example.com", "full_name": name}
    session.execute(insert(User), [row])


def by_deletion(session: TenantSession, user: UUID, _name: str) -> None:
    session.execute(delete(User).where(User.id == user))


def by_deletion_of_an_object(session: TenantSession, user: UUID, _name: str) -> None:
    if (row := session.get(User, (session.tenant_id, user))) is not None:
        session.delete(row)


def in_a_savepoint(session: TenantSession, user: UUID, name: str) -> None:
    with session.begin_nested():
        by_upsert(session, user, name)


def in_a_savepoint_that_is_undone(session: TenantSession, user: UUID, name: str) -> None:
    nested = session.begin_nested()
    by_upsert(session, user, name)
    nested.rollback()


WRITES: list[Write] = [
    by_orm,
    by_update,
    by_core,
    by_bulk_update,
    by_text,
    by_upsert,
    by_upsert_under_another_id,
    by_insert,
    by_deletion,
    by_deletion_of_an_object,
    in_a_savepoint,
    in_a_savepoint_that_is_undone,
]


class Undone(Exception):
    """The unit of work is to be rolled back."""


@dataclass
class Open:
    """A unit of work that is open, and what its transaction alone sees."""

    door: int
    stack: ExitStack
    session: TenantSession
    sees: dict[UUID, str] = field(default_factory=dict)
    wrote: bool = False


@contextmanager
def elsewhere(open_unit: Open | None) -> Iterator[None]:
    """Do something as if in another thread, where the unit of work that is open here is not the current one."""
    token = None if open_unit is None else commit_hooks._CURRENT.set(None)
    try:
        yield
    finally:
        if token is not None:
            commit_hooks._CURRENT.reset(token)


sides = st.integers(0, 1)
numbers = st.integers(0, 1)
writes = st.sampled_from(WRITES)


class Machine(RuleBasedStateMachine):
    """Two doors to one database and one cache; the model is what is committed."""

    doors: tuple[Database, Database]

    @initialize()
    def begin(self) -> None:
        self.tenant = new_id()
        self.users = [new_id() for _ in range(2)]
        self.open: Open | None = None
        self.names = 0
        self.regions = [(db.cache.define(NAME), db.cache.define(NAMES)) for db in self.doors]
        with self.doors[0].tenant(self.tenant) as session:
            session.add(Tenant(id=self.tenant, slug=f"m-{self.tenant.hex[-12:]}", name="machine"))
            session.flush()
            session.add_all(User(id=user, email=f"{user}@example.com", full_name="first") for user in self.users)
        self.committed = dict.fromkeys(self.users, "first")

    # ── writes ────────────────────────────────────────────────────────────────────────────────────────────────────

    def applied(self, write: Write, session: TenantSession, user: UUID) -> dict[UUID, str]:
        """Write, and return what the transaction then sees."""
        self.names += 1
        write(session, user, f"name {self.names}")
        session.flush()
        found = session.execute(select(User.id, User.full_name))
        return {user: name or "" for user, name in found}

    # a second writer would wait for the first one's rows
    @precondition(lambda self: not self.dirty)
    @rule(door=sides, write=writes, number=numbers, undone=st.booleans())
    def write(self, door: int, write: Write, number: int, undone: bool) -> None:
        for side in range(2):
            self.read(side, number)
        self.written(door, write, number, undone=undone)
        for side in range(2):
            self.read(side, number)
            self.read_all(side)

    def written(self, door: int, write: Write, number: int, *, undone: bool) -> None:
        with self.doors[door].tenant(self.tenant) as session:
            after = self.applied(write, session, self.users[number])
            if undone:
                session.rollback()
        if not undone:
            self.committed = after

    @precondition(lambda self: self.open is None)
    @rule(door=sides, number=numbers)
    def open_a_unit(self, door: int, number: int) -> None:
        self.read(door, number)
        stack = ExitStack()
        self.open = Open(door, stack, stack.enter_context(self.doors[door].tenant(self.tenant)))

    @precondition(lambda self: self.open is not None)
    @rule(write=writes, number=numbers)
    def write_in_it(self, write: Write, number: int) -> None:
        assert self.open is not None
        self.open.sees = self.applied(write, self.open.session, self.users[number])
        self.open.wrote = True
        self.read_in_it(number, multi=False)

    @property
    def dirty(self) -> bool:
        return self.open is not None and self.open.wrote

    @precondition(lambda self: self.open is not None)
    @rule(number=numbers, multi=st.booleans())
    def read_in_it(self, number: int, multi: bool) -> None:
        """Its own reads show what it has written, and nothing of that is kept."""
        assert self.open is not None
        due = self.open.sees if self.open.wrote else self.committed
        session = self.open.session
        user = self.users[number]
        region, _ = self.regions[self.open.door]
        key = region.key(user, tenant=self.tenant)
        if multi:
            got = region.get_or_create_multi([key], lambda *_: [self.name_in(session, user)])[0]
        else:
            got = region.get_or_create(key, lambda: self.name_in(session, user))
        assert got == due.get(user)

    @precondition(lambda self: self.open is not None and not self.dirty)
    @rule(door=sides, write=writes, number=numbers)
    def take_from_an_object_that_is_older(self, door: int, write: Write, number: int) -> None:
        assert self.open is not None
        user, region = self.users[number], self.regions[self.open.door][0]
        row = self.open.session.get(User, (self.tenant, user))
        self.written(door, write, number, undone=False)
        if row is not None:
            region.get_or_create(region.key(user, tenant=self.tenant), lambda: row.full_name)
            self.open.session.expunge(row)
        self.read(door, number)

    @precondition(lambda self: self.open is not None)
    @rule(committed=st.booleans())
    def end_it(self, committed: bool) -> None:
        assert self.open is not None
        over, self.open = self.open, None
        if committed:
            over.stack.close()
            if over.wrote:
                self.committed = over.sees
        else:
            with pytest.raises(Undone), over.stack:
                raise Undone
        for number in range(2):
            self.read(over.door, number)

    # ── reads ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def name_in(self, session: TenantSession, user: UUID) -> str | None:
        return session.scalar(select(User.full_name).where(User.id == user))

    def name(self, door: int, user: UUID) -> str | None:
        with self.doors[door].tenant(self.tenant) as session:
            return self.name_in(session, user)

    @rule(door=sides, number=numbers)
    def read(self, door: int, number: int) -> None:
        user, region = self.users[number], self.regions[door][0]
        with elsewhere(self.open):
            key = region.key(user, tenant=self.tenant)
            assert region.get_or_create(key, lambda: self.name(door, user)) == self.committed.get(user)

    @precondition(lambda self: not self.dirty)
    @rule(door=sides, other=sides, write=writes, number=numbers)
    def read_while_somebody_writes(self, door: int, other: int, write: Write, number: int) -> None:
        """Whoever makes the value may be given what was there when he began; nobody is after him."""
        user, region = self.users[number], self.regions[door][0]

        def make() -> str | None:
            found = self.name(door, user)
            self.written(other, write, number, undone=False)
            return found

        with elsewhere(self.open):
            began = self.committed.get(user)
            key = region.key(user, tenant=self.tenant)
            region.delete(key)
            assert region.get_or_create(key, make) == began
            assert region.get_or_create(key, lambda: self.name(door, user)) == self.committed.get(user)

    @rule(door=sides)
    def read_several(self, door: int) -> None:
        region = self.regions[door][0]
        with elsewhere(self.open):
            keys = {region.key(user, tenant=self.tenant): user for user in self.users}
            got = region.get_or_create_multi(list(keys), lambda *missing: [self.name(door, keys[k]) for k in missing])
        assert got == [self.committed.get(user) for user in self.users]

    @rule(door=sides)
    def read_all(self, door: int) -> None:
        region = self.regions[door][1]

        def make() -> dict[UUID, str]:
            with self.doors[door].tenant(self.tenant) as session:
                return {user: name or "" for user, name in session.execute(select(User.id, User.full_name))}

        with elsewhere(self.open):
            assert region.get_or_create(region.key(tenant=self.tenant), make) == self.committed

    @rule(door=sides, number=numbers)
    def look(self, door: int, number: int) -> None:
        """What is there without anybody's making it is what is committed, or nothing."""
        user, region = self.users[number], self.regions[door][0]
        with elsewhere(self.open):
            got = region.get(region.key(user, tenant=self.tenant), ignore_expiration=True)
        assert not isinstance(got, str | None) or got == self.committed.get(user)

    # ── by hand ───────────────────────────────────────────────────────────────────────────────────────────────────

    @rule(door=sides, number=numbers, how=st.sampled_from(["all", "kind", "tenant", "table", "row", "key", "set"]))
    def by_hand(self, door: int, number: int, how: str) -> None:
        cache, (region, _), user = self.doors[door].cache, self.regions[door], self.users[number]
        key = region.key(user, tenant=self.tenant)
        done: dict[str, Callable[[], object]] = {
            "all": cache.invalidate_all,
            "kind": lambda: cache.invalidate_kind(NAME.name),
            "tenant": lambda: cache.invalidate_tenant(self.tenant),
            "table": lambda: cache.invalidate_rows(User, self.tenant),
            "row": lambda: cache.invalidate_rows(User, self.tenant, key=(user,)),
            "key": lambda: region.delete(key),
            "set": lambda: region.set(key, "somebody's idea"),
        }
        done[how]()

    def teardown(self) -> None:
        if getattr(self, "open", None) is not None:
            self.end_it(committed=False)


@pytest.fixture
def machine(cached: Database, another: Callable[[], Database]) -> type[Machine]:
    class WithDoors(Machine):
        doors = (cached, another())

    for door in WithDoors.doors:
        door.cache.define(NAME)
        opened(door)
    return WithDoors


def test_m18_a_read_gives_what_is_committed_whatever_was_done_before(machine: type[Machine]) -> None:
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=30, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
    hits = sum(stats.hit for db in machine.doors for stats in db.cache.stats().values())
    assert hits > 100
