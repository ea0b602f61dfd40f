"""``op.create_dual_write`` and ``op.drop_dual_write``."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import BigInteger, MetaData, Text, create_engine, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from dataarch.database.embedded.binaries import find_psql
from dataarch.database.engine import owner_engine
from dataarch.database.settings import Settings
from dataarch.errors import DualWriteConflict, InvalidChange, LockTimeout
from dataarch.rollout.dual_write import DualWrite, in_force
from dataarch.rollout.operations import CreateDualWriteOp, DropDualWriteOp
from fixtures.catalogs import owner_connection
from fixtures.servers import libpq
from migrations.autogenerate_support import connected, proposed
from migrations.operation_support import Revisions, answers, assert_goes_up_and_down, rendered, schema_of

pytestmark = pytest.mark.migration

TABLE = """
CREATE TABLE people (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, full_name text, display_name text
);
GRANT SELECT, INSERT, UPDATE ON people TO dataarch_app
"""

UP = """op.create_dual_write(
    'people_name', 'people',
    forward={'display_name': "upper(full_name)"}, backward={'full_name': "lower(display_name)"},
)"""
DOWN = "op.drop_dual_write('people_name', 'people')"

WRITE = DualWrite("people_name", "people", {"display_name": "upper(full_name)"}, {"full_name": "lower(display_name)"})


class Previous(DeclarativeBase):
    """The models of the previous version."""


class Next(DeclarativeBase):
    """The models of the next version."""


class OldPerson(Previous):
    """Knows the old form alone."""

    __tablename__ = "people"
    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    full_name: Mapped[str | None] = mapped_column(Text)


class NewPerson(Next):
    """Knows the new form alone."""

    __tablename__ = "people"
    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    display_name: Mapped[str | None] = mapped_column(Text)


@pytest.fixture
def revisions(template: str, tmp_path: Path, empty_database: Settings) -> Revisions:
    """A folder of revisions, and a table; the application's role exists."""
    with owner_connection(empty_database) as connection:
        connection.execute(TABLE)
    return Revisions(tmp_path / "revisions", empty_database)


@pytest.fixture
def session(revisions: Revisions) -> Iterator[Session]:
    """A session of the application's role."""
    engine = create_engine(revisions.settings.application)
    with Session(engine) as session:
        yield session
    engine.dispose()


def forms(settings: Settings) -> list[tuple[Any, ...]]:
    with owner_connection(settings) as connection:
        return connection.execute("SELECT full_name, display_name FROM people ORDER BY id").fetchall()


def psql(settings: Settings, script: str) -> None:
    done = subprocess.run(
        [find_psql(), "--no-psqlrc", "--quiet", "-v", "ON_ERROR_STOP=1", libpq(settings.application)],
        input=script,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr


def test_m28_both_forms_are_written_whoever_writes(revisions: Revisions, session: Session) -> None:
    with owner_connection(revisions.settings) as connection:
        connection.execute("INSERT INTO people (full_name) VALUES ('before')")
    revisions.write(UP, DOWN)
    revisions.up()
    # the previous version of the application, and the next one
    for person in (OldPerson(full_name="Ann"), NewPerson(display_name="Bob")):
        session.add(person)
        session.commit()
    session.scalars(select(OldPerson).where(OldPerson.full_name == "Ann")).one().full_name = "Anna"
    session.scalars(select(NewPerson).where(NewPerson.display_name == "Bob")).one().display_name = "Bobby"
    session.commit()
    psql(
        revisions.settings,
        "INSERT INTO people (full_name) VALUES ('Carl');\n"
        "\\copy people (display_name) FROM STDIN\nDora\nEve\n\\.\n"
        "UPDATE people SET full_name = 'Eva' WHERE display_name = 'Eve';\n",
    )
    assert forms(revisions.settings) == [
        # whoever is there already is the backfill's
        ("before", None),
        ("Anna", "ANNA"),
        ("bobby", "Bobby"),
        ("Carl", "CARL"),
        ("dora", "Dora"),
        ("Eva", "EVA"),
    ]


def test_a_conflict_has_its_name_in_a_session(revisions: Revisions) -> None:
    revisions.write(UP, DOWN)
    revisions.up()
    engine = owner_engine(revisions.settings)
    with engine.connect() as connection, pytest.raises(DualWriteConflict) as refused:
        connection.exec_driver_sql("INSERT INTO people (full_name, display_name) VALUES ('secret', 'other')")
    engine.dispose()
    assert (refused.value.table, refused.value.constraint) == ("people", "people_name")
    assert "secret" not in str(refused.value) + str(refused.value.__cause__)


def test_it_goes_down_and_up_again_and_is_in_force(revisions: Revisions) -> None:
    revisions.write(UP, DOWN)
    bare = schema_of(revisions.settings)
    revisions.up()
    with connected(revisions.settings) as connection:
        assert in_force(connection, "people_name")
    made = schema_of(revisions.settings)
    assert made != bare
    revisions.down()
    assert schema_of(revisions.settings) == bare
    revisions.up()
    assert schema_of(revisions.settings) == made


def test_the_printed_sql_does_the_same_when_psql_runs_it(revisions: Revisions) -> None:
    revisions.write(UP, DOWN)
    bare = schema_of(revisions.settings)
    up, down = revisions.script("head"), revisions.script("0001:base", down=True)
    revisions.psql(up)
    with connected(revisions.settings) as connection:
        assert in_force(connection, "people_name")
    printed = schema_of(revisions.settings)
    revisions.psql(down)
    assert schema_of(revisions.settings) == bare
    revisions.up()
    assert schema_of(revisions.settings) == printed


@pytest.mark.parametrize("printed", [False, True])
def test_names_and_expressions_arrive_as_they_were_given(revisions: Revisions, *, printed: bool) -> None:
    with owner_connection(revisions.settings) as connection:
        connection.execute('CREATE TABLE "od:d %s" ("from" text, "To %s :x" text)')
    name, table, new = 'it\'s "50%" :n', "od:d %s", "To %s :x"
    forward, backward = {new: "upper(\"from\") || ':x %s' -- y"}, {"from": f'"{new}"'}
    revisions.write(
        f"op.create_dual_write({name!r}, {table!r}, forward={forward!r}, backward={backward!r})",
        f"op.drop_dual_write({name!r}, {table!r})",
    )
    bare = schema_of(revisions.settings)
    scripts = revisions.script("head"), revisions.script("0001:base", down=True)
    revisions.psql(scripts[0]) if printed else revisions.up()
    with owner_connection(revisions.settings) as connection:
        connection.execute('INSERT INTO "od:d %s" ("from") VALUES (\'a\')')
    assert answers(revisions.settings, 'SELECT "To %s :x" FROM "od:d %s"') == ["A:x %s"]
    revisions.psql(scripts[1]) if printed else revisions.down()
    assert schema_of(revisions.settings) == bare


@pytest.mark.parametrize(
    ("operation", "code"),
    [
        (
            CreateDualWriteOp(WRITE),
            "op.create_dual_write(\n    'people_name',\n    'people',\n"
            "    forward={'display_name': 'upper(full_name)'},\n    backward={'full_name': 'lower(display_name)'},\n)",
        ),
        (
            CreateDualWriteOp(DualWrite("one", "t", {}, {"a": "'it''s'"}, "Apart", "old")),
            "op.create_dual_write(\n    'one',\n    't',\n    forward={},\n"
            "    backward={'a': \"'it''s'\"},\n    schema='Apart',\n    on_conflict='old',\n)",
        ),
        (
            DropDualWriteOp("one", "t", schema="Apart", reversed_by=CreateDualWriteOp(WRITE)),
            "op.drop_dual_write('one', 't', schema='Apart')",
        ),
    ],
    ids=["create", "create one way", "drop"],
)
def test_it_is_rendered_as_code_and_reverses(operation: CreateDualWriteOp | DropDualWriteOp, code: str) -> None:
    assert rendered(operation) == code
    assert type(operation.reverse()) is not type(operation)
    assert operation.to_diff_tuple()[0] in {"add_dual_write", "remove_dual_write"}


def test_what_was_dropped_without_its_expressions_cannot_be_made_again() -> None:
    with pytest.raises(InvalidChange, match="people_name"):
        DropDualWriteOp("people_name", "people").reverse()
    made = CreateDualWriteOp(WRITE)
    assert made.reverse().reverse() is made


def test_the_plain_functions_do_the_same(revisions: Revisions) -> None:
    into = "from dataarch.rollout.operations import create_dual_write, drop_dual_write\n"
    revisions.write(into + UP.removeprefix("op."), into + DOWN.removeprefix("op."))
    assert_goes_up_and_down(revisions)


def test_what_this_table_does_not_allow_is_refused_by_name(revisions: Revisions) -> None:
    bare = schema_of(revisions.settings)
    revisions.write("op.create_dual_write('in_step', 'people', forward={'nowhere': 'full_name'}, backward={})")
    with pytest.raises(InvalidChange, match="has no column nowhere"):
        revisions.up()
    assert schema_of(revisions.settings) == bare
    revisions.write("pass", DOWN)
    (revisions.folder / "versions" / "0001.py").write_text(
        (revisions.folder / "versions" / "0002.py").read_text().replace('"0002"', '"0001"').replace("'0001'", "None")
    )
    revisions.up()
    with pytest.raises(InvalidChange, match="no dual write people_name on people"):
        revisions.down()


@pytest.mark.parametrize("going", ["up", "down"])
def test_who_holds_the_table_is_waited_for_in_short_tries_and_nothing_is_half_done(
    revisions: Revisions, going: str
) -> None:
    revisions.settings = revisions.settings.model_copy(update={"upgrade_patience": 0.3})
    revisions.write(UP, DOWN)
    if going == "down":
        revisions.up()
    before = schema_of(revisions.settings)
    go = revisions.up if going == "up" else revisions.down
    with psycopg.connect(libpq(revisions.settings.owner)) as other:
        other.execute("LOCK people IN ROW EXCLUSIVE MODE")
        with pytest.raises(LockTimeout):
            go()
    assert schema_of(revisions.settings) == before
    go()
    assert schema_of(revisions.settings) != before


def test_readers_do_not_hold_it_up(revisions: Revisions) -> None:
    revisions.write(UP, DOWN)
    with psycopg.connect(libpq(revisions.settings.owner)) as reader:
        reader.execute("SELECT FROM people")
        revisions.up()
    assert answers(revisions.settings, "SELECT tgname FROM pg_trigger WHERE NOT tgisinternal") == ["people_name"]


def write_until(stopped: threading.Event, made: threading.Event, settings: Settings, column: str) -> list[int]:
    """Write one form again and again; return the rows that were begun when the dual write was made."""
    written: list[int] = []
    with psycopg.connect(libpq(settings.application), autocommit=True) as connection:
        while not stopped.is_set() or len(written) < 20:
            known = made.is_set()
            row = connection.execute(f"INSERT INTO people ({column}) VALUES ('Ann') RETURNING id".encode()).fetchone()
            connection.execute(f"UPDATE people SET {column} = 'Bob' WHERE id = %s".encode(), row)
            if known and row is not None:
                written.append(row[0])
    return written


def test_writers_of_both_versions_go_on_while_it_is_made_and_leave_nothing_out_of_step(revisions: Revisions) -> None:
    revisions.write(UP, DOWN)
    stopped, made = threading.Event(), threading.Event()
    with ThreadPoolExecutor() as pool:
        works = [
            pool.submit(write_until, stopped, made, revisions.settings, column)
            for column in ("full_name", "display_name")
        ]
        try:
            revisions.up()
        finally:
            made.set()
            stopped.set()
        written = [number for work in works for number in work.result()]
    out_of_step = f"SELECT id FROM people WHERE ({WRITE.consistent_sql()}) IS NOT TRUE AND id = ANY (%s)"
    assert answers(revisions.settings, out_of_step, written) == []


def test_autogenerate_leaves_it_alone_also_where_undeclared_triggers_and_functions_go(revisions: Revisions) -> None:
    revisions.write(UP, DOWN)
    revisions.up()
    with connected(revisions.settings) as connection:
        models = MetaData()
        models.reflect(connection)
    found = proposed(revisions.settings, models, remove_undeclared=["*"])
    assert found.kinds == []
    assert "people_name" not in found.upgrade


def test_the_example_on_its_page_goes_up_and_down(revisions: Revisions) -> None:
    revisions.write_page("dual_write")
    assert_goes_up_and_down(revisions)
