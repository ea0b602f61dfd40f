"""Rows leave a catch-all while values that must be unique pass from one row to another: none of them is left behind."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dataarch.errors import PartitionRefused
from fixtures.catalogs import owner_connection
from fixtures.retirement import Place

pytestmark = pytest.mark.integrity

MANY = """
INSERT INTO visits SELECT n, timestamptz '2019-05-02 00:00+00' + n * interval '1 second', 2, 'early ' || n
FROM generate_series(10001, 30000) AS n
"""
"""More than one batch of the copy."""

PASSED_ON = """
DELETE FROM visits WHERE id BETWEEN 10001 AND 10010;
INSERT INTO visits SELECT 80000 + n, timestamptz '2019-05-02 00:00+00' + n * interval '1 second', 2, 'early ' || n
FROM generate_series(10001, 10010) AS n
"""


@pytest.mark.parametrize("deferred", ["", "DEFERRABLE INITIALLY DEFERRED"], ids=["at once", "put off"])
@pytest.mark.parametrize("isolation", ["READ COMMITTED", "REPEATABLE READ"])
@pytest.mark.parametrize("batch", [1, 2])
def test_m13_a_value_that_passes_to_another_row_while_rows_are_copied_is_copied_with_it(
    place: Place, batch: int, isolation: str, deferred: str
) -> None:
    place.sql(f"ALTER TABLE visits ADD CONSTRAINT once UNIQUE (person, note, at) {deferred}")
    place.sql(MANY)
    # room in the last pages, for rows that come later: they are copied last
    place.sql("DELETE FROM visits WHERE id > 29000 AND id < 29500")
    place.sql("VACUUM visits")
    said: list[str] = []
    ids: list[int] = []
    with owner_connection(place.settings) as writer:
        writer.execute(f"BEGIN ISOLATION LEVEL {isolation}")
        # with an old snapshot, its trigger does not see the copies of what it deletes
        writer.execute("SELECT FROM people")

        def say(what: str) -> None:
            said.append(what)
            if what.startswith("copied") and len(said) == batch:
                writer.execute(PASSED_ON)
                writer.execute("COMMIT")
                ids.extend(place.ids())

        done = replace(place.maintenance(keep=None), say=say).maintain()
    assert "visits_2019_05" in done.made
    assert ids
    assert place.ids() == ids
    assert place.ids("visits_rest_min") == []
    place.assert_tidy()


def test_m13_rows_that_break_a_rule_all_the_time_are_named_and_stay_where_they_are(place: Place) -> None:
    place.sql(MANY)
    place.sql("ALTER TABLE visits ADD CONSTRAINT early CHECK (at > '2019-06-01') NOT VALID")
    rows = place.checksum()
    with pytest.raises(PartitionRefused, match=r"visits .* break its constraints: .* early"):
        place.maintenance(keep=None, patience=1).maintain()
    assert place.checksum() == rows
