"""What a transaction has written is told before its commit and after its end: too much perhaps, never too little."""

from __future__ import annotations

from collections.abc import Callable
from uuid import UUID, uuid4

import pytest
from sqlalchemy import Connection, and_, bindparam, delete, func, insert, or_, select, text, update
from sqlalchemy.dialects import postgresql
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session, aliased

from dataarch.database.changes import written_tables
from dataarch.database.commit_hooks import MOST_ROWS, Ending, Unit, current_unit
from dataarch.database.unit_of_work import AsyncDatabase, Database
from dataarch.errors import DataArchError
from dataarch.models import Product, User, UserProfile, UserSettings
from fixtures.tenants import Inhabited

Told = tuple[str | None, UUID | None, tuple[str, ...] | None]


class Recorder:
    """Hears of commits, and remembers what it heard."""

    def __init__(self) -> None:
        self.told: list[Told] = []
        self.endings: list[Ending] = []
        self.commits = 0

    def before_commit(self, unit: Unit, _connection: Connection | None, /) -> object:
        self.told += [(one.table, one.tenant_id, one.key) for one in unit.changes]
        self.commits += 1
        return self.commits

    def after_end(self, ticket: object, ending: Ending) -> None:
        assert ticket == self.commits
        self.endings.append(ending)


@pytest.fixture
def heard(db: Database, acme: Inhabited) -> Recorder:
    recorder = Recorder()
    db.listener = recorder
    return recorder


USERS = User.metadata.tables["users"]

Way = Callable[[Session, Inhabited], object]


def version_of(session: Session, tenant: Inhabited) -> int | None:
    return session.scalar(select(User.version).where(User.id == tenant.user_id))


OF_THE_ROW: dict[str, Way] = {
    "an object that was changed": lambda s, t: setattr(s.get_one(User, (t.id, t.user_id)), "full_name", "Ada King"),
    "a statement on the key": lambda s, t: s.execute(update(User).where(User.id == t.user_id).values(full_name="A")),
    "the whole key": lambda s, t: s.execute(
        update(USERS).where(USERS.c.tenant_id == t.id, USERS.c.id == t.user_id).values(full_name="A")
    ),
    "a key and more": lambda s, t: s.execute(
        update(User)
        .where(and_(User.id == t.user_id, or_(User.email.is_(None), User.full_name.like("%"))))
        .values(full_name="A")
    ),
    "rows by their keys": lambda s, t: s.execute(
        update(User), [{"tenant_id": t.id, "id": t.user_id, "full_name": "A", "version": version_of(s, t)}]
    ),
    "an id in another form": lambda s, t: s.execute(
        update(User).where(User.id == f"{{{str(t.user_id).upper()}}}").values(full_name="A")
    ),
    "a parameter": lambda s, t: s.connection().execute(
        update(USERS).where(USERS.c.id == bindparam("which")).values(full_name="A"), [{"which": t.user_id}]
    ),
}

OF_THE_TABLE: dict[str, Way] = {
    "all rows": lambda s, t: s.execute(update(User).values(full_name="A")),
    "a condition": lambda s, t: s.execute(update(User).where(User.email.is_not(None)).values(full_name="A")),
    "one key or another": lambda s, t: s.execute(
        update(User).where(or_(User.id == t.user_id, User.email.is_not(None))).values(full_name="A")
    ),
    "another table's key": lambda s, t: s.execute(
        update(User).where(Product.id == t.product_id, Product.tenant_id == User.tenant_id).values(full_name="A")
    ),
    "a key that is greater": lambda s, t: s.execute(update(User).where(User.id >= t.user_id).values(full_name="A")),
    "the key itself": lambda s, t: s.connection().execute(
        update(USERS).where(USERS.c.email.like("nobody%"), USERS.c.id == t.user_id).values(id=uuid4())
    ),
    "an upsert": lambda s, t: s.execute(
        postgresql.insert(User)
        .values(tenant_id=t.id, id=uuid4(), email="ada@acme.example.com", full_name="A")
        .on_conflict_do_update(index_elements=["tenant_id", "email"], set_={"full_name": "A"})
    ),
    "rows of a select": lambda s, t: s.execute(
        insert(User).from_select(
            ["tenant_id", "email", "full_name"], select(User.tenant_id, func.concat("x", User.email), User.full_name)
        )
    ),
    "several rows at once": lambda s, t: s.execute(
        insert(USERS).values([{"tenant_id": t.id, "email": f"{n}@example.com", "full_name": "N"} for n in range(2)])
    ),
    "text": lambda s, t: s.execute(text("UPDATE users SET full_name = 'A'")),
    "text with a comment": lambda s, t: s.execute(text("/* no */ UPDATE/**/users SET full_name = 'A'")),
    "text of the driver": lambda s, t: s.connection().exec_driver_sql("UPDATE only public.users SET full_name = 'A'"),
    "a quoted name": lambda s, t: s.execute(text("UPDATE \"users\" SET full_name = 'A'")),
    "a select that writes": lambda s, t: s.execute(
        select(update(USERS).values(full_name="A").returning(USERS.c.id).cte("w").c.id)
    ),
    "text that writes in its WITH": lambda s, t: s.execute(
        text("WITH w AS (UPDATE users SET full_name = 'A' RETURNING 1) SELECT * FROM w")
    ),
    "what nobody saw": lambda s, t: (
        s.execute(text("SELECT 1")),
        current_unit() and current_unit().changed(USERS),  # type: ignore[union-attr]  # it was just asked
    ),
}


@pytest.mark.parametrize("way", OF_THE_ROW)
def test_a_row_is_told_by_its_key_where_the_statement_names_it(
    db: Database, acme: Inhabited, heard: Recorder, way: str
) -> None:
    with db.tenant(acme.id) as session:
        OF_THE_ROW[way](session, acme)
    assert heard.told == [("users", acme.id, (str(acme.user_id),))]
    assert heard.endings == [Ending.COMMITTED]


@pytest.mark.parametrize("way", OF_THE_TABLE)
def test_the_table_is_told_where_nobody_can_say_which_rows(
    db: Database, acme: Inhabited, heard: Recorder, way: str
) -> None:
    with db.tenant(acme.id) as session:
        OF_THE_TABLE[way](session, acme)
    assert heard.told == [("users", acme.id, None)]


def test_new_rows_are_told_by_their_keys_however_many_are_sent_at_once(
    db: Database, acme: Inhabited, heard: Recorder
) -> None:
    with db.tenant(acme.id) as session:
        session.add_all(made := [User(email=f"{n}@example.com", full_name="New") for n in range(3)])
    assert sorted(heard.told, key=str) == sorted((("users", acme.id, (str(one.id),)) for one in made), key=str)


def test_of_many_rows_the_table_is_told(db: Database, acme: Inhabited, heard: Recorder) -> None:
    with db.tenant(acme.id) as session:
        session.add_all(User(email=f"{n}@example.com", full_name="New") for n in range(MOST_ROWS + 1))
        session.flush()
        session.add(Product(slug="cup", name="Cup", price=1, currency="EUR"))
    assert [told for told in heard.told if told[0] == "users"] == [("users", acme.id, None)]
    assert [told[2] for told in heard.told if told[0] == "products"] != [None]


@pytest.mark.parametrize("by_text", [False, True])
def test_what_a_deletion_takes_along_is_told_too(db: Database, acme: Inhabited, heard: Recorder, by_text: bool) -> None:
    with db.tenant(acme.id) as session:
        session.execute(text("DELETE FROM users") if by_text else delete(User).where(User.id == acme.user_id))
    tables = {"users", "user_profiles", "user_settings", "user_activity_log"}
    assert {told[0] for told in heard.told} >= tables


def test_reads_are_no_news(db: Database, acme: Inhabited, heard: Recorder) -> None:
    with db.tenant(acme.id) as session:
        session.scalars(select(User).with_for_update()).all()
        session.execute(select(aliased(User)))
        session.execute(text("SELECT full_name FROM users FOR UPDATE"))
        session.execute(text("WITH one AS (SELECT 1) SELECT * FROM one"))
        session.execute(text("SHOW timezone"))
    assert heard.commits == 0


def test_what_the_owner_writes_is_anybodys(db: Database, acme: Inhabited, heard: Recorder) -> None:
    with db.owner() as session:
        session.execute(update(User).values(full_name="A"))
        session.add(User(tenant_id=acme.id, email="new@example.com", full_name="New"))
    assert ("users", None, None) in heard.told
    assert any(told[:2] == ("users", acme.id) and told[2] for told in heard.told)


def test_a_savepoint_ends_nothing_and_what_it_undid_is_told_all_the_same(
    db: Database, acme: Inhabited, heard: Recorder
) -> None:
    with db.tenant(acme.id) as session:
        with session.begin_nested():
            session.execute(update(UserProfile).values(bio="one"))
        assert heard.commits == 0
        nested = session.begin_nested()
        session.execute(update(UserSettings).values(locale="de"))
        nested.rollback()
        assert heard.commits == 0
    assert {told[0] for told in heard.told} == {"user_profiles", "user_settings"}
    assert heard.endings == [Ending.COMMITTED]


def test_a_rollback_tells_nothing(db: Database, acme: Inhabited, heard: Recorder) -> None:
    with pytest.raises(ZeroDivisionError), db.tenant(acme.id) as session:
        session.execute(update(User).values(full_name="A"))
        raise ZeroDivisionError
    assert (heard.commits, heard.endings) == (0, [])


def test_a_commit_that_the_server_refuses_ends_as_a_rollback(db: Database, acme: Inhabited, heard: Recorder) -> None:
    with db.owner() as session:
        session.execute(text("ALTER TABLE users ADD CONSTRAINT late UNIQUE (full_name) DEFERRABLE INITIALLY DEFERRED"))
    heard.endings.clear()
    with pytest.raises((DataArchError, IntegrityError)), db.tenant(acme.id) as session:
        session.add(User(email="twin@example.com", full_name="Ada Lovelace"))
    assert heard.endings == [Ending.ROLLED_BACK]


def test_what_a_listener_raises_keeps_the_transaction_from_being_committed(db: Database, acme: Inhabited) -> None:
    class Refusing(Recorder):
        def before_commit(self, _unit: Unit, _connection: Connection | None, /) -> object:
            raise ZeroDivisionError

    db.listener = Refusing()
    with pytest.raises(ZeroDivisionError), db.tenant(acme.id) as session:
        session.execute(update(User).values(full_name="Nobody"))
    db.listener = None
    with db.tenant(acme.id) as session:
        assert session.scalar(select(User.full_name)) == "Ada Lovelace"


async def test_units_of_work_under_asyncio_tell_the_same(db: Database, acme: Inhabited) -> None:
    recorder = Recorder()
    async_db = AsyncDatabase(db.settings)
    async_db.listener = recorder
    try:
        async with async_db.tenant(acme.id) as session:
            await session.execute(update(User).where(User.id == acme.user_id).values(full_name="A"))
            assert await session.run_sync(lambda _: current_unit()) is not None
        async with async_db.owner() as session:
            await session.execute(update(User).values(full_name="B"))
    finally:
        await async_db.close()
    assert recorder.told == [("users", acme.id, (str(acme.user_id),)), ("users", None, None)]
    assert recorder.endings == [Ending.COMMITTED] * 2


def test_the_innermost_unit_of_work_is_the_current_one(db: Database, acme: Inhabited, rival: Inhabited) -> None:
    assert current_unit() is None
    with db.tenant(acme.id):
        with db.tenant(rival.id):
            inner = current_unit()
        outer = current_unit()
    assert (inner and inner.tenant_id, outer and outer.tenant_id) == (rival.id, acme.id)
    assert current_unit() is None


def test_what_happens_beside_every_unit_of_work_can_be_told_too(db: Database, heard: Recorder) -> None:
    with db.changing(USERS):
        assert heard.told == [("users", None, None)]
        assert heard.endings == []
    assert heard.endings == [Ending.COMMITTED]


@pytest.mark.parametrize(
    ("statement", "tables"),
    [
        ("insert into products (slug) values ('a')", ("products",)),
        ("INSERT INTO public.products SELECT * FROM users", ("products",)),
        (
            "MERGE INTO products USING users ON true WHEN MATCHED THEN DELETE",
            ("inventory", "inventory_movements", "inventory_reservations", "products"),
        ),
        ("COPY products FROM STDIN", ("products",)),
        ("UPDATE user_activity_log_2026_11 SET activity_type = 'x'", ("user_activity_log",)),
        (
            "with a as (insert into users select 1), b as (update products set slug = 'b') select 1",
            ("products", "users"),
        ),
        ("select 'update users'", ()),
        ("select '--'; update users set full_name = 'x'", ("users",)),
        ("select * from users where full_name = 'x'", ()),
        ("-- update users\nselect 1", ()),
        ("SELECT 1 FOR NO KEY UPDATE", ()),
        ("UPDATE elsewhere SET a = 1", (None,)),
        ("UPDATE other.users SET a = 1", (None,)),
        ("DO $$ BEGIN PERFORM 1; END $$", (None,)),
        ("DO $$ BEGIN UPDATE users SET full_name = 'x'; END $$", (None,)),
        ("CALL anything()", (None,)),
        ("ALTER TABLE users ADD COLUMN x int", (None,)),
        ("EXECUTE prepared", (None,)),
    ],
)
def test_sql_written_by_hand_tells_the_tables_that_it_may_write(statement: str, tables: tuple[str | None, ...]) -> None:
    assert written_tables(statement) == tables
