"""Text under any collation: each row of a text key is visited once, and each row that differs is found.

The order of keys is the server's own. Under a nondeterministic collation texts are equal that are not the same: as keys
they name one row, and as values they differ.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import count
from unicodedata import normalize

import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from psycopg.sql import SQL, Identifier

from dataarch.rollout.backfill import Pace
from dataarch.rollout.dual_write import DualWrite
from fixtures.servers import Servers
from rollout.backfill.backfill_support import SETS, Ground, count_updates, ground_of, not_done

pytestmark = pytest.mark.migration

COLLATIONS = {
    "C": None,
    "phonebook": "provider = icu, locale = 'de-u-co-phonebk'",
    "numbers": "provider = icu, locale = 'en-u-kn-true'",
    "caseless": "provider = icu, locale = 'und-u-ks-level2', deterministic = false",
    "accentless": "provider = icu, locale = 'und-u-ks-level1', deterministic = false",
}
NUMBERS = count(1)
ALIKE = (str, str.swapcase, partial(normalize, "NFD"), partial(normalize, "NFC"))
TEXTS = st.text("aAbBäÄ0129 -_'\\\u0308é", max_size=4)
PAIRS = st.one_of(
    st.tuples(TEXTS, TEXTS | st.none()),
    st.builds(lambda text, alike: (text, alike(text)), TEXTS, st.sampled_from(ALIKE)),
)
FEW = Pace(seconds=10.0, most=3, first=3)


@pytest.fixture(scope="module")
def icu(with_icu: Servers) -> Iterator[Ground]:
    """A database with these collations."""
    with ground_of(with_icu) as ground:
        make_collations(ground)
        yield ground


def make_collations(ground: Ground) -> None:
    ground.do(*(f"CREATE COLLATION {name} ({how})" for name, how in COLLATIONS.items() if how))


def table_of(ground: Ground, columns: str, rows: list[tuple[object, ...]]) -> str:
    """Make a table with rows, but for those whose key is there already."""
    table = f"t{next(NUMBERS)}"
    ground.do(f"CREATE TABLE {table} ({columns})")
    with ground.connect() as connection, connection.cursor() as cursor:
        for row in rows:
            marks = SQL(", ").join(SQL("%s") for _ in row)
            insert = SQL("INSERT INTO {} VALUES ({}) ON CONFLICT DO NOTHING").format(Identifier(table), marks)
            cursor.execute(insert, row)
    return table


def is_walked_once(ground: Ground, table: str, key: str) -> None:
    """Fill a table in small batches, see each row visited once, and verify it."""
    rows = ground.value(f"SELECT count(*) FROM {table}")
    ground.do(
        f"CREATE TABLE {table}_updates (id text)",
        f"CREATE FUNCTION {table}_count() RETURNS trigger LANGUAGE plpgsql AS"
        f" $$BEGIN INSERT INTO {table}_updates VALUES (ROW({key})::text); RETURN NEW; END$$",
        f"CREATE TRIGGER counted AFTER UPDATE ON {table} FOR EACH ROW EXECUTE FUNCTION {table}_count()",
    )
    # no row ever counts as done, so that a second visit would be a second update
    outcome = ground.run(ground.register(table, SETS, matches="false"), pace=FEW)
    assert (outcome.seen, outcome.changed, outcome.failed) == (rows, rows, 0)
    assert ground.rows(f"SELECT count(*), count(DISTINCT id) FROM {table}_updates") == [(rows, rows)]
    name = ground.register(table, SETS)
    assert ground.run(name).changed == 0
    verified = ground.verify(name)
    assert (verified.rows, verified.differing) == (rows, 0)


@pytest.mark.parametrize("collation", COLLATIONS)
@given(keys=st.lists(TEXTS, max_size=15))
@settings(settings.get_profile("brief"))
def test_each_row_of_a_text_key_is_visited_once(icu: Ground, collation: str, keys: list[str]) -> None:
    columns = f'id text COLLATE "{collation}" PRIMARY KEY, full_name text NOT NULL, display_name text'
    table = table_of(icu, columns, [(key, f"of {key}") for key in keys])
    is_walked_once(icu, table, "NEW.id")


@pytest.mark.parametrize("collations", [("caseless", "C"), ("phonebook", "accentless")])
@given(keys=st.lists(st.tuples(st.sampled_from(["a", "A", "ä", "b"]), TEXTS), max_size=15))
@settings(settings.get_profile("brief"))
def test_each_row_of_a_key_of_two_texts_is_visited_once(
    icu: Ground, collations: tuple[str, str], keys: list[tuple[str, str]]
) -> None:
    first, second = collations
    columns = (
        f'one text COLLATE "{first}", two text COLLATE "{second}", full_name text NOT NULL, display_name text,'
        " PRIMARY KEY (one, two)"
    )
    table = table_of(icu, columns, [(*key, "name") for key in keys])
    is_walked_once(icu, table, "NEW.one, NEW.two")


@pytest.mark.parametrize("collation", COLLATIONS)
@given(values=st.lists(PAIRS, min_size=1, max_size=20))
@settings(settings.get_profile("brief"))
def test_each_row_that_differs_to_the_byte_is_found_and_filled(
    icu: Ground, collation: str, values: list[tuple[str, str | None]]
) -> None:
    columns = f'id int PRIMARY KEY, full_name text COLLATE "{collation}", display_name text COLLATE "{collation}"'
    table = table_of(icu, columns, [(number, *both) for number, both in enumerate(values)])
    name = icu.register(table, SETS)
    differing = [number for number, (old, new) in enumerate(values) if old != new]
    assert icu.run(name).changed == len(differing)
    assert icu.rows(f"SELECT full_name, display_name FROM {table} ORDER BY id") == [(old, old) for old, _ in values]
    with icu.connect() as connection:
        for number, (_, new) in enumerate(values):
            tamper = SQL("UPDATE {} SET display_name = %s WHERE id = %s").format(Identifier(table))
            connection.execute(tamper, (new, number))
    verified = icu.verify(name)
    assert verified.differing == len(differing)
    assert [one["key"] for one in verified.differences] == [[str(number)] for number in differing[:5]]


@pytest.mark.parametrize("collation", ["phonebook", "caseless"])
def test_workers_share_the_ranges_of_a_text_key(icu: Ground, collation: str) -> None:
    table = f"shared_{collation}"
    icu.do(
        f'CREATE TABLE {table} (id text COLLATE "{collation}" PRIMARY KEY, full_name text, display_name text)',
        f"INSERT INTO {table} SELECT CASE n % 2 WHEN 0 THEN upper(md5(n::text)) ELSE md5(n::text) END, n"
        " FROM generate_series(1, 30000) AS n",
        f"ANALYZE {table}",
    )
    count_updates(icu, table)
    name = icu.register(table, SETS)
    assert icu.run(name, workers=2).changed == 30_000
    assert icu.value(f"SELECT count(*) FROM dataarch_rollout.backfill_ranges WHERE name = '{name}'") > 1
    assert icu.rows(f"SELECT count(*), count(DISTINCT id) FROM {table}_updates") == [(30_000, 30_000)]
    assert not_done(icu, [table]) == 0
    assert icu.verify(name).rows == 30_000


def test_columns_of_two_collations_are_compared_to_the_byte(icu: Ground) -> None:
    columns = 'id int PRIMARY KEY, full_name varchar(9) COLLATE caseless, display_name text COLLATE "C"'
    table = table_of(icu, columns, [(1, "a", "A"), (2, "a", "a"), (3, "ä", None)])
    name = icu.register(table, SETS)
    assert icu.run(name).changed == 2
    icu.do(f"UPDATE {table} SET display_name = 'A' WHERE id = 2")
    assert [one["key"] for one in icu.verify(name).differences] == [["2"]]


@pytest.mark.parametrize("kind", ["text[] COLLATE caseless", "words", "citext"])
def test_what_holds_texts_is_compared_to_the_byte(icu: Ground, kind: str) -> None:
    icu.do("CREATE EXTENSION IF NOT EXISTS citext", "CREATE DOMAIN words AS text[] COLLATE caseless")
    columns = f"id int PRIMARY KEY, full_name {kind}, display_name {kind}"
    table = table_of(icu, columns, [(1, "{a,b}", "{a,B}"), (2, "{a}", "{a}")])
    name = icu.register(table, SETS)
    assert icu.run(name).changed == 1
    assert icu.rows(f"SELECT display_name::text FROM {table} ORDER BY id") == [("{a,b}",), ("{a}",)]
    icu.do(f"DROP TABLE {table}", "DROP DOMAIN words")


@pytest.mark.parametrize("old", ["caseless", "C"])
def test_a_dual_write_refuses_forms_that_are_equal_to_the_collation_only(icu: Ground, old: str) -> None:
    columns = f'id int PRIMARY KEY, full_name text COLLATE "{old}", display_name text COLLATE caseless'
    table = table_of(icu, columns, [])
    write = DualWrite(f"{table}_write", table, {"display_name": "full_name"}, {"full_name": "display_name"})
    icu.do(write.create_sql(), f"INSERT INTO {table} VALUES (1, 'a', NULL), (2, NULL, 'B'), (3, 'ä', 'ä')")
    with pytest.raises(psycopg.Error) as refused:
        icu.do(f"INSERT INTO {table} VALUES (4, 'a', 'A')")
    assert refused.value.sqlstate == "DA008"
    icu.do(f"UPDATE {table} SET full_name = 'A' WHERE id = 1", f"UPDATE {table} SET display_name = 'b' WHERE id = 2")
    assert icu.rows(f"SELECT * FROM {table} ORDER BY id") == [(1, "A", "A"), (2, "b", "b"), (3, "ä", "ä")]
    name = icu.register(table, SETS)
    assert icu.run(name).changed == 0
    assert icu.verify(name).differing == 0


def test_a_key_whose_domain_has_another_collation_is_walked(icu: Ground) -> None:
    icu.do('CREATE SCHEMA "Of us"', "CREATE COLLATION \"Of us\".mine (provider = icu, locale = 'de')")
    icu.do('CREATE DOMAIN code AS text COLLATE "C"')
    columns = 'id code COLLATE "Of us".mine PRIMARY KEY, full_name text NOT NULL, display_name text'
    table = table_of(icu, columns, [(key, "name") for key in ("b", "A", "a", "B", "ä", "c", "d")])
    is_walked_once(icu, table, "NEW.id")


def test_rows_that_fail_are_found_among_keys_that_are_equal_to_the_collation_only(icu: Ground) -> None:
    columns = "one text COLLATE caseless, two int, written text, amount int, PRIMARY KEY (one, two)"
    rows = [("aA"[n % 2] + "bB"[n // 2 % 2], n, "none" if n % 7 == 3 else str(n)) for n in range(40)]
    table = table_of(icu, columns, [(*row, None) for row in rows])
    name = icu.register(table, {"amount": "written::integer"})
    outcome = icu.run(name, pace=FEW)
    assert (outcome.changed, outcome.failed) == (34, 6)
    failed = icu.rows(f"SELECT key FROM dataarch_rollout.backfill_failures WHERE name = '{name}' ORDER BY key[2]::int")
    assert [key for (key,) in failed] == [[one, str(two)] for one, two, written in rows if written == "none"]
    icu.do(f"UPDATE {table} SET written = two")
    assert icu.run(name).failed == 0
    assert icu.verify(name).differing == 0
