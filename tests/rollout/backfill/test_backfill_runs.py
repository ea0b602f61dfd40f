"""A backfill fills every row once, in bounded batches, whatever the key is, and goes on where it stopped."""

from __future__ import annotations

from typing import Any

import pytest

from dataarch.errors import InvalidChange
from dataarch.rollout.backfill import Definition, Pace, Progress
from dataarch.rollout.backfill.books import register_sql
from rollout.backfill.backfill_support import SETS, SMALL, Ground, count_updates, not_done

pytestmark = pytest.mark.migration


def test_m29_a_backfill_of_100_000_rows_goes_in_ten_batches_or_more_and_says_how_far_it_is(ground: Ground) -> None:
    ground.users("m29", 100_000)
    name = ground.register("m29", SETS)
    told: list[Progress] = []
    outcome = ground.run(name, told=told, pace=Pace(seconds=60.0, first=10_000))
    assert not_done(ground, ["m29"]) == 0
    assert (outcome.seen, outcome.changed, outcome.failed) == (100_000, 100_000, 0)
    assert outcome.batches >= 10
    assert 0 < outcome.largest <= 10_000
    batches = [one for one in told if one.last]
    assert len(batches) == outcome.batches
    assert [one.seen for one in batches] == sorted({one.seen for one in batches})
    assert batches[-1].seen == batches[-1].estimated == 100_000
    assert all(one.rate > 0 and one.remaining is not None for one in batches)
    assert ground.verify(name).differing == 0


def test_a_run_that_has_nothing_left_to_do_writes_nothing_and_stays_verified(ground: Ground) -> None:
    ground.users("twice", 1_000)
    name = ground.register("twice", SETS)
    ground.run(name)
    ground.verify(name)
    before = ground.rows("SELECT id, xmin FROM twice")
    books = ground.rows("SELECT * FROM dataarch_rollout.backfills")
    assert ground.run(name).batches == 0
    assert ground.rows("SELECT id, xmin FROM twice") == before
    assert ground.rows("SELECT * FROM dataarch_rollout.backfills") == books


def test_from_the_beginning_only_rows_are_written_that_have_come_to_differ(ground: Ground) -> None:
    ground.users("again", 1_000)
    name = ground.register("again", SETS)
    ground.run(name)
    ground.do("UPDATE again SET display_name = 'Other' WHERE id IN (17, 500)")
    count_updates(ground, "again")
    outcome = ground.run(name, again=True)
    assert (outcome.seen, outcome.changed) == (1_000, 2)
    assert ground.rows("SELECT id FROM again_updates ORDER BY id") == [("17",), ("500",)]
    assert ground.verify(name).differing == 0


def test_only_rows_that_are_concerned_are_filled_and_compared(ground: Ground) -> None:
    ground.users("concerned", 1_000)
    name = ground.register("concerned", SETS, where="id % 10 = 3")
    assert ground.run(name).changed == 100
    assert not_done(ground, ["concerned"]) == 900
    found = ground.verify(name)
    assert (found.rows, found.compared, found.differing) == (1_000, 100, 0)


KEYS = {
    "uuid": ("id uuid PRIMARY KEY", "gen_random_uuid()"),
    "text with a collation": ('id text COLLATE "C" PRIMARY KEY', "chr(60 + n % 60) || n"),
    "text with a language": ('id text COLLATE "{language}" PRIMARY KEY', "chr(60 + n % 60) || n"),
    "padded text": ("id character(9) PRIMARY KEY", "'k ' || n"),
    "instants": (
        "id timestamptz PRIMARY KEY",
        "'1850-01-01 00:00:00.000001+00'::timestamptz + n * interval '100 days'",
    ),
    "intervals": ("id interval PRIMARY KEY", "n * interval '1 month 3 days -00:00:01.5'"),
    "floats": ("id double precision PRIMARY KEY", "n / 7.0"),
    "numeric": ("id numeric PRIMARY KEY", "n / 7.0::numeric"),
    "bytes": ("id bytea PRIMARY KEY", "decode(lpad(to_hex(n * 7919 % 65536), 4, '0'), 'hex')"),
    "descending": ("id integer NOT NULL", "n"),
}


@pytest.mark.parametrize("kind", KEYS)
def test_any_type_of_key_will_do(ground: Ground, kind: str) -> None:
    column, value = KEYS[kind]
    table = "of_" + kind.replace(" ", "_")
    # a server that is built without ICU has few collations
    found = {one for (one,) in ground.rows("SELECT collname FROM pg_collation WHERE collencoding IN (-1, 6)")}
    column = column.replace("{language}", next(one for one in ("en-x-icu", "C.utf8", "POSIX") if one in found))
    ground.do(
        f"CREATE TABLE {table} ({column}, full_name text DEFAULT 'a', display_name text)",
        f"INSERT INTO {table} (id) SELECT {value} FROM generate_series(1, 1050) AS n",
    )
    if kind == "descending":
        ground.do(f"CREATE UNIQUE INDEX ON {table} (id DESC)")
    name = ground.register(table, SETS, key=["id"] if kind == "descending" else None)
    count_updates(ground, table)
    outcome = ground.run(name, pace=SMALL)
    assert (outcome.seen, outcome.changed, outcome.batches) == (1_050, 1_050, 11)
    assert ground.rows(f"SELECT count(*), count(DISTINCT id) FROM {table}_updates") == [(1_050, 1_050)]
    assert ground.verify(name).compared == 1_050


REFUSED: dict[str, tuple[str | None, dict[str, str], dict[str, Any], str]] = {
    "no key": ("id integer, a text, b text", {"b": "a"}, {}, "no primary key"),
    "no table": (None, {"b": "a"}, {}, "no table"),
    "no column": ("id integer PRIMARY KEY, a text", {"b": "a"}, {}, "no column b"),
    "generated": ("id int PRIMARY KEY, a text, b text GENERATED ALWAYS AS (a) STORED", {"b": "a"}, {}, "is generated"),
    "expression": ("id integer PRIMARY KEY, a text, b text", {"b": "c + 1"}, {}, 'column "c" does not exist'),
    "type": (
        "id integer PRIMARY KEY, a text, b integer",
        {"b": "a"},
        {},
        "type integer but expression is of type text",
    ),
    "key column": ("id integer PRIMARY KEY, a text", {"id": "id + 1"}, {}, "itself changes"),
    "moving where": ("id integer PRIMARY KEY, a text, b text", {"b": "a"}, {"where": "b IS NULL"}, "where reads"),
    "nullable key": ("id integer UNIQUE, a text, b text", {"b": "a"}, {"key": ["id"]}, "unique index of NOT NULL"),
    "partial key": ("id int NOT NULL, a text, b text", {"b": "a"}, {"key": ["id"]}, "unique index of NOT NULL"),
}


@pytest.mark.parametrize("why", REFUSED)
def test_what_cannot_be_done_is_refused_when_it_is_registered(ground: Ground, why: str) -> None:
    columns, sets, given, words = REFUSED[why]
    table = "refused_" + why.replace(" ", "_")
    if columns:
        ground.do(f"CREATE TABLE {table} ({columns})")
    if why == "partial key":
        ground.do(f"CREATE UNIQUE INDEX ON {table} (id) WHERE id > 0")
    with pytest.raises(InvalidChange, match=words) as refused:
        ground.register(table, sets, name="refused", **given)
    assert refused.value.hint
    with pytest.raises(InvalidChange, match="There is no backfill refused"):
        ground.run("refused")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"name": ""}, "names no backfill"),
        ({"name": "a\nb"}, "names no backfill"),
        ({"sets": {}}, "fills no column"),
        ({"sets": {"a": " "}}, "no expression for a"),
        ({"where": ""}, "no expression for where"),
        ({"key": []}, "a key of no columns"),
        ({"key": ["a", "a"]}, "a key of no columns, or of one twice"),
    ],
)
def test_a_definition_that_says_nothing_is_refused(given: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidChange, match=words):
        Definition.of(**{"name": "empty", "table": "users", "sets": {"a": "b"}, **given})


def test_what_a_script_has_registered_unseen_is_looked_at_when_it_is_run(ground: Ground) -> None:
    ground.users("unseen", 10)
    ground.register("unseen", SETS)
    for name, sets, given in (("moves", SETS, {"where": "display_name IS NULL"}), ("fails", {"display_name": "b"}, {})):
        ground.do(register_sql(Definition.of(name, "unseen", sets, **given)))
        with pytest.raises(InvalidChange, match=r"where reads|does not exist"):
            ground.run(name)
    assert not_done(ground, ["unseen"]) == 10


def test_another_unique_key_is_gone_by_when_it_is_named(ground: Ground) -> None:
    ground.do(
        "CREATE TABLE keyless (a integer NOT NULL, b text NOT NULL, full_name text, display_name text, UNIQUE (b, a))",
        "INSERT INTO keyless SELECT n / 7, n % 7, n FROM generate_series(1, 1000) AS n",
    )
    with pytest.raises(InvalidChange, match=r"key=\['b', 'a'\]"):
        ground.register("keyless", SETS)
    name = ground.register("keyless", SETS, key=["a", "b"])
    assert ground.run(name, pace=SMALL).changed == 1_000
    assert ground.verify(name).differing == 0


def test_names_and_expressions_may_have_any_signs(ground: Ground) -> None:
    table = 'Or%der\'s "Lines"'
    quoted = table.replace('"', '""')
    columns = (
        '"key" text, "User" uuid DEFAULT gen_random_uuid(), "array" integer, "old%s" text, ":new" json, place point'
    )
    ground.do(
        f'CREATE TABLE "{quoted}" ({columns}, PRIMARY KEY ("key", "array", "User"))',
        f'INSERT INTO "{quoted}" ("key", "array", "old%s")'
        r" SELECT E'it''s 50%\\ ' || n % 10, n, 'a:b %(x)s' FROM generate_series(1, 1000) AS n",
    )
    sets = {":new": "json_build_object('old:x', \"old%s\") -- all of it", "place": 'point("array", 1)'}
    name = ground.register(table, sets, name='it\'s 100% "new"; --', where="\"old%s\" LIKE 'a%'", schema="public")
    told: list[Progress] = []
    assert ground.run(name, told=told, pace=SMALL).changed == 1_000
    assert ground.verify(name).compared == 1_000
    assert told[-1].name == name


def test_a_table_with_partitions_is_filled_and_partitions_that_come_meanwhile_too(ground: Ground) -> None:
    ground.do(
        "CREATE TABLE parts (id integer, at date, full_name text DEFAULT 'a', display_name text, PRIMARY KEY (at, id))"
        " PARTITION BY RANGE (at)",
        "CREATE TABLE parts_old PARTITION OF parts FOR VALUES FROM (MINVALUE) TO ('2026-01-01')",
        "CREATE TABLE parts_new PARTITION OF parts FOR VALUES FROM ('2026-01-01') TO ('2027-01-01')"
        " PARTITION BY HASH (id)",
        'CREATE TABLE "parts New" PARTITION OF parts_new FOR VALUES WITH (MODULUS 2, REMAINDER 0)',
        "CREATE TABLE parts_new_1 PARTITION OF parts_new FOR VALUES WITH (MODULUS 2, REMAINDER 1)",
        "INSERT INTO parts SELECT n, date '2025-12-01' + n / 20 FROM generate_series(1, 1000) AS n",
        "CREATE TABLE late (LIKE parts INCLUDING ALL)",
        "INSERT INTO late SELECT n, '2027-03-01' FROM generate_series(1, 10) AS n",
    )
    name = ground.register("parts", SETS)
    outcome = ground.run(name, pace=SMALL)
    assert outcome.changed == 1_000
    ground.do("ALTER TABLE parts ATTACH PARTITION late FOR VALUES FROM ('2027-01-01') TO ('2028-01-01')")
    assert ground.verify(name).differing == 10
    assert ground.run(name).changed == 10
    assert ground.verify(name).compared == 1_010
    ground.do("ALTER TABLE parts DETACH PARTITION parts_old", "DROP TABLE parts_old")
    assert ground.run(name, again=True).failed == 0
    assert ground.verify(name).differing == 0


def test_a_table_whose_children_inherit_is_refused(ground: Ground) -> None:
    ground.do("CREATE TABLE mother (id integer PRIMARY KEY, a text, b text)", "CREATE TABLE child () INHERITS (mother)")
    with pytest.raises(InvalidChange, match="has children"):
        ground.register("mother", {"b": "a"})
