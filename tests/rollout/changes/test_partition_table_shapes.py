"""Tables of odd names, double indexes, keys to partitioned tables and a change under way are partitioned as well."""

from __future__ import annotations

import pytest

from dataarch.rollout.changes import PartitionTable, RenameColumn
from rollout.changes.change_support import Project

pytestmark = pytest.mark.migration

LONG = "x" * 60 + "äb"

NAMES = f"""
CREATE TABLE "{LONG}" (id integer PRIMARY KEY, at timestamp NOT NULL, note text);
CREATE INDEX a ON "{LONG}" (note);
CREATE INDEX "{"y" * 63}" ON "{LONG}" (note, id);
CREATE INDEX "{"y" * 62}" ON "{LONG}" (id, note);
CREATE STATISTICS "{"z" * 63}" ON id, note FROM "{LONG}";
INSERT INTO "{LONG}" SELECT n, now(), 'n' FROM generate_series(1, 100) AS n;
"""

REFERRING = """
CREATE TABLE days (id integer, day date, PRIMARY KEY (id, day)) PARTITION BY RANGE (day);
CREATE TABLE days_min PARTITION OF days FOR VALUES FROM (MINVALUE) TO ('2026-01-01');
CREATE TABLE days_max PARTITION OF days FOR VALUES FROM ('2026-01-01') TO (MAXVALUE);
INSERT INTO days SELECT n, date '2025-12-20' + n FROM generate_series(1, 100) AS n;
CREATE TABLE visits (
    id integer PRIMARY KEY, at timestamptz NOT NULL, of_id integer, of_day date,
    FOREIGN KEY (of_id, of_day) REFERENCES days ON DELETE SET NULL DEFERRABLE INITIALLY DEFERRED
);
INSERT INTO visits SELECT id, now(), id, day FROM days;
"""

DOUBLE = """
CREATE TABLE visits (id integer, at date NOT NULL, note text, PRIMARY KEY (id, at), CONSTRAINT u UNIQUE (id, at));
CREATE INDEX a ON visits (note);
CREATE INDEX b ON visits (note);
CREATE UNIQUE INDEX c ON visits (id, at);
"""

INCLUDING = """
CREATE TABLE visits (
    id integer, at date NOT NULL, note text, more text,
    CONSTRAINT k PRIMARY KEY (id) INCLUDE (note, at, more) WITH (fillfactor = 70)
);
INSERT INTO visits SELECT n, now(), 'n' FROM generate_series(1, 100) AS n;
"""

CASES = {
    "names as long as they may be": (NAMES, LONG),
    "indexes that are the same": (DOUBLE, "visits"),
    "a key that includes other columns": (INCLUDING, "visits"),
}


@pytest.mark.parametrize(("made", "table"), CASES.values(), ids=CASES.keys())
def test_it_goes_up_and_down_step_by_step(project: Project, made: str, table: str) -> None:
    project.sql(made)
    bare = project.schema()
    names = project.write(PartitionTable(table, "at"))
    project.there_and_back(*(name[:4] for name in names))
    project.down("0001")
    assert project.schema() == bare


def outline(project: Project) -> list[str]:
    # for each partition that is referred to the server has a constraint of its own, and names it as it likes
    return [line for line in project.schema() if "REFERENCES public.days_" not in line]


def test_a_deferred_foreign_key_to_a_partitioned_table_acts_in_either_form(project: Project) -> None:
    project.sql(REFERRING)
    bare = outline(project)
    project.write(PartitionTable("visits", "at"))
    for number, revision in enumerate(("0004", "0001", "0004")):
        (project.down if revision == "0001" else project.up)(revision)
        project.sql(f"DELETE FROM days WHERE id = {number + 1}")
        assert project.rows(f"SELECT of_id FROM visits WHERE id = {number + 1}") == [(None,)]
        orphan = "INSERT INTO visits VALUES (1000, now(), 5000, '2026-01-01'); SET CONSTRAINTS ALL IMMEDIATE"
        assert project.refused(orphan) == "23503"
    project.down("0001")
    assert outline(project) == bare


def test_a_dual_write_goes_on(project: Project) -> None:
    project.sql("CREATE TABLE visits (id integer, at date, note text, PRIMARY KEY (id, at))")
    project.sql("INSERT INTO visits SELECT n, now(), 'n' FROM generate_series(1, 100) AS n")
    bare = project.schema()
    for name in project.write(RenameColumn("visits", "note", "remark")):
        if "_contract_" in name:
            (project.versions / name).unlink()
    project.up()
    project.backfill("rename_visits_note")
    project.write(PartitionTable("visits", "at"))
    project.up()
    project.sql("UPDATE visits SET note = 'a' WHERE id = 1; UPDATE visits SET remark = 'b' WHERE id = 2")
    assert project.rows("SELECT note, remark FROM visits WHERE id < 3 ORDER BY id") == [("a", "a"), ("b", "b")]
    project.down("0001")
    assert project.schema() == bare
