"""What a bulk says of its rows adds up."""

from __future__ import annotations

from itertools import accumulate
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataarch.errors import InvalidText, InvalidValue
from dataarch.repositories.bulk.outcome import BulkResult, Refused, WrittenIds

pytestmark = pytest.mark.pipeline


def test_a_result_whose_numbers_do_not_add_up_is_refused() -> None:
    with pytest.raises(InvalidValue, match="3 rows were read, and 2 are accounted for"):
        BulkResult(read=3, inserted=2)


def test_a_result_with_less_than_nothing_is_refused() -> None:
    with pytest.raises(InvalidValue):
        BulkResult(read=1, inserted=2, duplicate=-1)


def test_results_add_up() -> None:
    bad = Refused(1, {"name": ""}, InvalidText("too short", column="name", constraint=None))
    together = BulkResult(read=3, inserted=1, updated=1, refused=(bad,)) + BulkResult(read=2, duplicate=2)
    assert together == BulkResult(read=5, inserted=1, updated=1, duplicate=2, refused=(bad,))
    assert together.counts == "1 inserted, 1 updated, 0 unchanged, 2 duplicate, 1 refused"


def test_a_refused_row_tells_what_its_error_tells() -> None:
    refused = Refused(7, {}, InvalidText("The text is too long.", hint="Shorten it.", column="name", constraint="ck"))
    assert (refused.column, refused.constraint, refused.reason) == ("name", "ck", "The text is too long.")


@given(st.lists(st.integers(0, 9), max_size=6), st.data())
def test_the_ids_of_each_part_are_those_of_its_rows_in_whatever_order_they_were_told(
    sizes: list[int], data: st.DataObject
) -> None:
    told = data.draw(st.lists(st.integers(0, max(0, sum(sizes) - 1)), unique=True, max_size=sum(sizes)))
    written = WrittenIds()
    for place in told:
        written.add(UUID(int=place).bytes, (0).to_bytes(4, "big"), 0, [place])
    ends = list(accumulate(sizes))
    for begin, end, part in zip([0, *ends], ends, written.parts(ends), strict=False):
        expected = [place for place in range(begin, end) if place in told]
        assert [begin + place for place in part.places] == [one.int for one in part.ids] == expected
