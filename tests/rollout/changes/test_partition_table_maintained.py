"""A table that was partitioned gets its months while everybody reads and writes, from before the change to its end."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest
from sqlalchemy import select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from cli.cli_support import dataarch_installed
from dataarch.database.engine import owner_engine
from fixtures.catalogs import owner_connection
from fixtures.servers import libpq
from rollout.changes.change_support import Project
from rollout.changes.events import CHANGE, PLACE, contents, furnish

pytestmark = pytest.mark.migration

MODELS = """
from sqlalchemy import BigInteger, Column, DateTime, Integer, MetaData, Table

from dataarch.models import Policy, partitioned

metadata = MetaData()
Table(
    "Ereignis %",
    metadata,
    Column("tenant_id", Integer, primary_key=True),
    Column("id", BigInteger, primary_key=True),
    Column("When : it was", DateTime(timezone=True), primary_key=True),
    schema="place",
    **partitioned("When : it was", policy=Policy(premake=2)),
)
"""

MISPLACED = f"""
SELECT count(*)::int FROM {PLACE} AS e
WHERE (SELECT relname FROM pg_class AS c WHERE c.oid = e.tableoid)
    <> 'Ereignis %_' || to_char("When : it was" AT TIME ZONE 'UTC', 'YYYY_MM')
"""

LOOSE = """
SELECT relname FROM pg_class WHERE relnamespace = 'place'::regnamespace AND relkind IN ('r', 'p') AND NOT relispartition
"""


@pytest.fixture
def events(project: Project) -> Project:
    """A project with a table that has all that one may have, and the revisions that partition it."""
    furnish(project).write(CHANGE)
    return project


def maintain(project: Project) -> str:
    """Run the command for the models of that project, and return what it says."""
    (project.folder / "shop_models.py").write_text(MODELS)
    given = {"DATAARCH_MODELS": "shop_models:metadata", "PYTHONPATH": str(project.folder)}
    ended = dataarch_installed(project.settings, project.folder, "partitions", "maintain", **given)
    assert (ended.code, ended.complaints) == (0, "")
    return ended.printed


def test_the_maintenance_moves_every_row_to_its_month(events: Project) -> None:
    before = contents(events)
    events.up()
    assert contents(events) == before
    assert "moved" in maintain(events)
    assert contents(events) == before
    assert events.rows(MISPLACED) == [(0,)]
    assert "moved" not in maintain(events)
    assert events.rows(LOOSE) == [("Ereignis %",)]
    assert events.rows(
        "SELECT count(*)::int FROM pg_class JOIN pg_inherits ON inhrelid = oid, aclexplode(relacl)"
        f" WHERE inhparent = '{PLACE}'::regclass AND grantee <> relowner"
    ) == [(0,)]


class Before(DeclarativeBase):
    """The models of the version before the change."""


class Event(Before):
    """Its primary key lacks the time."""

    __tablename__ = "Ereignis %"
    __table_args__ = ({"schema": "place"},)
    tenant_id: Mapped[int] = mapped_column(primary_key=True)
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    account_id: Mapped[int]
    amount: Mapped[int]
    note: Mapped[str | None]


def test_the_model_of_the_version_before_goes_on_working(events: Project) -> None:
    events.up()
    maintain(events)
    engine = owner_engine(events.settings)
    try:
        with Session(engine) as session:
            session.add(Event(tenant_id=2, account_id=2, amount=1, note="orm"))
            session.commit()
            (made,) = session.scalars(select(Event).where(Event.note == "orm"))
            key = (made.tenant_id, made.id)
            made.amount = 3
            session.commit()
            session.expire_all()
            assert session.get_one(Event, key).amount == 3
            session.delete(made)
            session.commit()
            assert session.get(Event, key) is None
    finally:
        engine.dispose()


def test_a_query_for_a_month_reads_that_month_alone(events: Project) -> None:
    events.up()
    maintain(events)
    with owner_connection(events.settings) as connection:
        plan = "\n".join(
            str(line)
            for (line,) in connection.execute(
                f"EXPLAIN SELECT count(*) FROM {PLACE} WHERE \"When : it was\" >= date_trunc('month', now(), 'UTC')"
                " AND \"When : it was\" < date_trunc('month', now(), 'UTC') + interval '1 month'"
            )
        )
        (month,) = connection.execute("SELECT to_char(now() AT TIME ZONE 'UTC', 'YYYY_MM')").fetchone() or ("",)
    assert f"Ereignis %_{month}" in plan
    assert "Subplans Removed" in plan
    assert plan.count('on "Ereignis %_') <= 2


class Traffic(threading.Thread):
    """Somebody who writes rows, changes and deletes them, and counts what there is."""

    def __init__(self, project: Project) -> None:
        super().__init__()
        self.url = libpq(project.settings.owner)
        self.ended = threading.Event()
        self.written: list[int] = []
        self.wrong: list[str] = []

    def run(self) -> None:
        """Write until told to end; what was committed must be there from then on."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            while not self.ended.is_set():
                try:
                    self._round(connection)
                except psycopg.Error as error:
                    self.wrong.append(str(error))

    def _round(self, connection: psycopg.Connection[tuple[object, ...]]) -> None:
        made = connection.execute(
            f'INSERT INTO {PLACE} (tenant_id, account_id, amount, note, "When : it was")'
            " SELECT tenant_id, id, 1, 'traffic', now() - id * interval '9 days' FROM accounts WHERE id < 4"
            " RETURNING id"
        ).fetchall()
        first, second, third = (int(str(row[0])) for row in made)
        connection.execute(f"UPDATE {PLACE} SET amount = 2 WHERE id = {first}")
        connection.execute(f'UPDATE {PLACE} SET amount = 2, "When : it was" = now() WHERE id = {second}')
        connection.execute(f"DELETE FROM {PLACE} WHERE id = {third}")
        self.written += [first, second]
        seen = connection.execute(f"SELECT count(*) FROM {PLACE} WHERE note = 'traffic' AND amount = 2").fetchone()
        if seen != (len(self.written),):
            self.wrong.append(f"{seen} of {len(self.written)}")


@contextmanager
def traffic(project: Project) -> Iterator[Traffic]:
    """Let somebody write meanwhile."""
    one = Traffic(project)
    one.start()
    try:
        yield one
    finally:
        one.ended.set()
        one.join()


def test_who_reads_and_writes_through_the_whole_change_loses_nothing(events: Project) -> None:
    (before, _) = contents(events)
    with traffic(events) as busy:
        events.up()
        events.down("0001")
        events.up()
        maintain(events)
    assert busy.wrong == []
    assert busy.written
    assert contents(events)[0] == int(str(before)) + len(busy.written)
    maintain(events)
    assert events.rows(MISPLACED) == [(0,)]
