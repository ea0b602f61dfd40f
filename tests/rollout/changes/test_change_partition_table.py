"""``dataarch revision partition-table``."""

from __future__ import annotations

import pytest
from sqlalchemy import BigInteger, Column, DateTime, ForeignKey, Integer, MetaData, Table, Text

from dataarch.errors import AlreadyExists, InvalidChange
from dataarch.models import partitioned
from dataarch.rollout.changes import PartitionTable
from dataarch.rollout.checks import Project as Revisions
from dataarch.rollout.checks import findings
from migrations.autogenerate_support import proposed
from rollout.changes.change_support import Project, strongest_locks, watched
from rollout.changes.events import CHANGE, PLACE, REST, contents, furnish

pytestmark = pytest.mark.migration

VISITS = """
CREATE TABLE visits (
    id integer PRIMARY KEY, at timestamptz, customer_id bigint NOT NULL REFERENCES customers, note text
);
CREATE INDEX ix_visits_note ON visits (note);
INSERT INTO visits SELECT n, timestamptz '2025-12-25 00:00+00' + n * interval '1 day', n % 20 + 1, 'note ' || n
    FROM generate_series(1, 300) AS n;
"""


@pytest.fixture
def events(project: Project) -> Project:
    """A project with a table that has all that one may have."""
    return furnish(project)


@pytest.fixture
def visits(project: Project) -> Project:
    """A project with a table whose time may be NULL, and never is."""
    project.sql(VISITS)
    return project


def test_it_goes_up_and_down_step_by_step_with_its_rows(events: Project) -> None:
    bare, rows = events.schema(), contents(events)
    names = events.write(CHANGE)
    assert [name[5:] for name in names] == [
        "expand_unique_uq_ereignis__tenant_id_id_when_it_was.py",
        "contract_key_place_ereignis__when_it_was.py",
        "contract_partition_place_ereignis.py",
        "contract_analyze_place_ereignis.py",
    ]
    events.there_and_back("0002", "0003", "0004", "0005")
    assert contents(events) == rows
    events.down("0001")
    assert events.schema() == bare
    assert contents(events) == rows


def test_the_printed_script_does_the_same_when_psql_runs_it(events: Project) -> None:
    events.write(CHANGE)
    events.up()
    online = events.schema()
    events.down("0001")
    events.psql(events.script("0001:head"))
    assert events.schema() == online


def test_a_time_that_may_be_null_is_set_not_null_first(visits: Project) -> None:
    names = visits.write(PartitionTable("visits", "at"))
    assert [name[5:] for name in names] == [
        "expand_not_null_visits_at.py",
        "contract_validate_not_null_visits_at.py",
        "contract_set_not_null_visits_at.py",
        "expand_unique_uq_visits_id_at.py",
        "contract_key_visits_at.py",
        "contract_partition_visits.py",
        "contract_analyze_visits.py",
    ]
    visits.there_and_back("0002", "0003", "0004", "0005", "0006", "0007")


def test_a_key_that_has_the_time_already_is_left_as_it_is(visits: Project) -> None:
    visits.sql("ALTER TABLE visits DROP CONSTRAINT visits_pkey, ADD CONSTRAINT k PRIMARY KEY (at, id)")
    assert len(visits.write(PartitionTable("visits", "at"))) == 2
    visits.there_and_back("0002")
    assert visits.rows("SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE contype = 'p' AND conname = 'k'") == [
        ("PRIMARY KEY (at, id)",)
    ]


def test_the_strongest_locks_of_each_phase(visits: Project) -> None:
    visits.sql("ALTER TABLE visits ALTER at SET NOT NULL")
    visits.write(PartitionTable("visits", "at"))
    visits.up("0002")
    assert strongest_locks(visits, "0003") == {"visits": "AccessExclusiveLock"}
    assert strongest_locks(visits, "0004") == {
        "visits": "AccessExclusiveLock",
        "visits_rest_min": "AccessExclusiveLock",
        "customers": "AccessExclusiveLock",
    }


READ = """
SELECT relname, seq_scan, seq_tup_read, coalesce(idx_scan, 0) FROM pg_stat_xact_user_tables
WHERE relname IN ('Ereignis %', 'Ereignis %_rest_min', 'accounts') AND seq_scan + coalesce(idx_scan, 0) > 0
"""
"""What the session has read of the tables with rows."""

FILES = """
SELECT relfilenode FROM pg_class
WHERE oid = '{0}'::regclass OR oid IN (SELECT indexrelid FROM pg_index WHERE indrelid = '{0}'::regclass) ORDER BY 1
"""


def test_no_row_is_read_and_no_index_is_built_under_the_exclusive_lock(events: Project) -> None:
    events.write(CHANGE)
    events.up("0002")
    with watched(events, "0003", READ) as read:
        events.up("0003")
    assert read == []
    files = events.rows(FILES.format(PLACE))
    with watched(events, "0004", READ) as read:
        events.up("0004")
        assert read == []
        assert events.rows(FILES.format(REST)) == files
        events.down("0003")
    assert read == []
    assert events.rows(FILES.format(PLACE)) == files


def test_what_names_the_key_with_the_time_works_from_the_expand_on(visits: Project) -> None:
    visits.sql("ALTER TABLE visits ALTER at SET NOT NULL")
    visits.write(PartitionTable("visits", "at"))
    for revision in ("0002", "0003", "0004"):
        visits.up(revision)
        upsert = "INSERT INTO visits SELECT * FROM visits WHERE id = 7 ON CONFLICT (id, at) DO UPDATE SET note = '{}'"
        visits.sql(upsert.format(revision))
        assert visits.rows("SELECT note FROM visits WHERE id = 7") == [(revision,)]


def test_the_planner_knows_the_rows_of_the_whole_at_once(visits: Project) -> None:
    visits.write(PartitionTable("visits", "at"))
    visits.up()
    known = "SELECT n_distinct::int FROM pg_stats WHERE tablename = 'visits' AND attname = 'customer_id' AND inherited"
    assert visits.rows(known) == [(20,)]


def test_two_rows_with_the_former_key_keep_the_primary_key_from_going_back(visits: Project) -> None:
    visits.write(PartitionTable("visits", "at"))
    visits.up()
    visits.sql("INSERT INTO visits VALUES (1, now(), 1, 'again')")
    with pytest.raises(AlreadyExists):
        visits.down("0001")
    visits.sql("DELETE FROM visits WHERE note = 'again'")
    visits.down("0001")
    assert visits.refused("INSERT INTO visits VALUES (1, now(), 1, 'again')") == "23505"


def test_it_does_not_go_back_while_rows_are_in_other_partitions(visits: Project) -> None:
    visits.write(PartitionTable("visits", "at"))
    visits.up()
    visits.sql(
        "BEGIN; ALTER TABLE visits DETACH PARTITION visits_rest_min;"
        "ALTER TABLE visits ATTACH PARTITION visits_rest_min FOR VALUES FROM (MINVALUE) TO ('2099-01-01 00:00+00');"
        "CREATE TABLE late PARTITION OF visits FOR VALUES FROM ('2099-01-01 00:00+00') TO (MAXVALUE); COMMIT"
    )
    before = visits.schema()
    with pytest.raises(InvalidChange, match=r"it has 2 partitions, and it can go back while.*Leave it"):
        visits.down("0001")
    assert visits.schema() == before


def test_it_does_not_go_back_while_something_else_counts_on_it(visits: Project) -> None:
    visits.write(PartitionTable("visits", "at"))
    visits.up()
    before = visits.schema()
    for made, says, kind in (
        ("VIEW v AS SELECT note FROM visits", r"view v depends on it", "VIEW"),
        ("TABLE v (a int, b timestamptz, CONSTRAINT fk FOREIGN KEY (a, b) REFERENCES visits)", "key fk of v", "TABLE"),
    ):
        visits.sql(f"CREATE {made}")
        with pytest.raises(InvalidChange, match=says):
            visits.down("0001")
        visits.sql(f"DROP {kind} v")
    assert visits.schema() == before
    visits.down("0001")


def test_lint_finds_nothing_in_its_files(visits: Project) -> None:
    names = visits.write(PartitionTable("visits", "at"))
    files = tuple(str(visits.versions / name) for name in names)
    assert findings(Revisions(visits.config(), None, files)) == []


def test_autogenerate_proposes_nothing_once_the_model_is_partitioned(visits: Project) -> None:
    visits.write(PartitionTable("visits", "at"))
    visits.up()
    metadata = MetaData()
    Table("customers", metadata, Column("id", BigInteger, primary_key=True), Column("name", Text, nullable=False))
    Table(
        "visits",
        metadata,
        Column("id", Integer, primary_key=True),
        Column("at", DateTime(timezone=True), primary_key=True),
        Column("customer_id", BigInteger, ForeignKey("customers.id"), nullable=False),
        Column("note", Text, index=True),
        **partitioned("at"),
    )
    ours = lambda name, kind, _: kind != "table" or name in metadata.tables  # noqa: E731
    assert proposed(visits.settings, metadata, include_name=ours).kinds == []


REFUSED = {
    "no table": (PartitionTable("visit", "at"), "", "no table.*Did you mean visits"),
    "no column": (PartitionTable("visits", "atte"), "", "no column.*Did you mean at"),
    "partitioned": (PartitionTable("log", "at"), "", "partitioned already"),
    "no time": (PartitionTable("visits", "note"), "", "note is of type text, which has no months.*timestamptz"),
    "no key": (PartitionTable("visits", "at"), "ALTER TABLE visits DROP CONSTRAINT visits_pkey", "no primary key"),
    "no time in rows": (
        PartitionTable("visits", "at"),
        "UPDATE visits SET at = NULL WHERE id < 8",
        r"at.*NULL in 7 rows.*Their id: \(1\), \(2\), \(3\), \(4\), \(5\), ….*set-not-null visits at --fill",
    ),
    "referred to": (
        PartitionTable("visits", "at"),
        "CREATE TABLE r (v integer CONSTRAINT fk REFERENCES visits)",
        "foreign key fk of r refers to it, and none can refer to a key without the time.*Drop",
    ),
    "refers to itself": (
        PartitionTable("visits", "at"),
        "ALTER TABLE visits ADD before integer CONSTRAINT own REFERENCES visits",
        "foreign key own of visits refers to it",
    ),
    "unique without the time": (
        PartitionTable("visits", "at"),
        "ALTER TABLE visits ADD CONSTRAINT uq UNIQUE (note) INCLUDE (at)",
        "uq is unique without at.*add-unique",
    ),
    "a view": (
        PartitionTable("visits", "at"),
        "CREATE VIEW v AS SELECT note FROM visits",
        "view v depends.*make it again",
    ),
    "a function": (
        PartitionTable("visits", "at"),
        "CREATE FUNCTION f() RETURNS SETOF visits LANGUAGE sql AS 'SELECT * FROM visits'",
        r"function f\(\) depends on it",
    ),
    "a policy of another table": (
        PartitionTable("visits", "at"),
        "CREATE POLICY p ON orders USING (EXISTS (SELECT FROM visits WHERE visits.id = orders.id))",
        "policy p on table orders depends on it",
    ),
    "children": (PartitionTable("visits", "at"), "CREATE TABLE c () INHERITS (visits)", "c inherits from visits"),
    "rules": (PartitionTable("visits", "at"), "CREATE RULE r AS ON DELETE TO visits DO INSTEAD NOTHING", "rules"),
    "exclusion": (
        PartitionTable("visits", "at"),
        "ALTER TABLE visits ADD CONSTRAINT ex EXCLUDE USING btree (note WITH =)",
        "ex is an exclusion constraint",
    ),
    "not valid": (
        PartitionTable("visits", "at"),
        "ALTER TABLE visits ADD CONSTRAINT ck CHECK (id > 0) NOT VALID",
        "ck is not valid yet.*VALIDATE",
    ),
    "no inherit": (
        PartitionTable("visits", "at"),
        "ALTER TABLE visits ADD CONSTRAINT ck CHECK (id > 0) NO INHERIT",
        "ck is NO INHERIT",
    ),
    "deferrable key": (
        PartitionTable("visits", "at"),
        "ALTER TABLE visits DROP CONSTRAINT visits_pkey, ADD CONSTRAINT k PRIMARY KEY (id) DEFERRABLE",
        "primary key k is deferrable",
    ),
    "replica identity": (
        PartitionTable("visits", "at"),
        "ALTER TABLE visits REPLICA IDENTITY USING INDEX visits_pkey",
        "replica identity is visits_pkey.*DEFAULT",
    ),
    "generated": (
        PartitionTable("visits", "day"),
        "ALTER TABLE visits ADD day date GENERATED ALWAYS AS (date '2026-01-01' + id) STORED",
        "day is a generated column",
    ),
    "a trigger that sets the time": (
        PartitionTable("visits", "at"),
        "CREATE FUNCTION t() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN new.at := now(); RETURN new; END $$;"
        "CREATE TRIGGER t BEFORE INSERT ON visits FOR EACH ROW EXECUTE FUNCTION t()",
        "trigger t sets at.*DEFAULT",
    ),
    "a trigger with the rows of a statement": (
        PartitionTable("visits", "at"),
        "CREATE FUNCTION t() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN new; END $$;"
        "CREATE TRIGGER t AFTER INSERT ON visits REFERENCING NEW TABLE AS n FOR EACH ROW EXECUTE FUNCTION t()",
        "trigger t is FOR EACH ROW and has transition tables.*STATEMENT",
    ),
    "a publication": (PartitionTable("visits", "at"), "CREATE PUBLICATION p FOR TABLE visits", "publication p has it"),
    "a name taken": (
        PartitionTable("visits", "at"),
        "CREATE TABLE visits_rest_min ()",
        "relation visits_rest_min already",
    ),
    "an index's name taken": (
        PartitionTable("visits", "at"),
        "CREATE INDEX uq_visits_id_at ON visits (note)",
        "uq_visits_id_at is taken.*Drop or rename",
    ),
}


@pytest.mark.parametrize(("change", "before", "says"), REFUSED.values(), ids=REFUSED.keys())
def test_what_does_not_fit_is_refused(visits: Project, change: PartitionTable, before: str, says: str) -> None:
    if before:
        visits.sql(before)
    with pytest.raises(InvalidChange, match=says):
        visits.write(change)
