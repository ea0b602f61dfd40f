"""The size of batches, and the pieces that an interval of keys is cut into: pure, for any speed and any keys."""

from __future__ import annotations

from itertools import product

from hypothesis import given
from hypothesis import strategies as st

from dataarch.rollout.backfill.pace import Pace, next_size
from dataarch.rollout.backfill.statements import Key, pieces
from dataarch.rollout.backfill.watch import Limits, Pressure, why_wait

PACES = st.builds(
    Pace, seconds=st.floats(0.001, 10), most=st.integers(1, 10_000), first=st.integers(1, 10_000)
)  # fmt: skip


@given(PACES, st.integers(1, 10_000), st.integers(0, 20_000), st.floats(0, 1_000))
def test_a_size_is_between_one_and_the_most_and_at_most_doubles(pace: Pace, size: int, rows: int, took: float) -> None:
    found = next_size(size, rows, took, pace)
    assert 1 <= found <= pace.most
    assert found <= max(1, size * 2)
    if rows and took > pace.seconds:
        assert found < size or found == 1
    elif took <= pace.seconds:
        assert found >= min(size, pace.most)


@given(PACES, st.floats(1e-6, 0.5), st.floats(0, 0.5), st.integers(1, 10_000))
def test_batches_come_to_take_the_time_aimed_at_whatever_a_row_and_a_commit_cost(
    pace: Pace, row: float, part: float, size: int
) -> None:
    commit = part * pace.seconds
    for _ in range(100):
        size = next_size(size, size, commit + size * row, pace)
    fitting = (pace.seconds - commit) / row
    assert size in {1, pace.most} or 0.9 * fitting - 2 <= size <= 1.1 * fitting + 2
    assert size < pace.most or fitting >= 0.9 * pace.most - 2
    assert size > 1 or pace.most == 1 or fitting <= 4


DIGITS = "0123"


@given(st.integers(1, 3), st.data())
def test_pieces_hold_each_key_of_the_interval_once_and_no_other(columns: int, data: st.DataObject) -> None:
    keys = sorted(product(DIGITS, repeat=columns))
    lower: Key | None = data.draw(st.none() | st.sampled_from(keys))
    upper: Key | None = data.draw(st.none() | st.sampled_from([key for key in keys if lower is None or key >= lower]))
    equal = 0
    if lower is not None and upper is not None:
        while equal < columns and lower[equal] == upper[equal]:
            equal += 1
    found = [
        key
        for piece in pieces(lower, upper, equal)
        for key in keys
        if all(COMPARED[sign](key[at], value) for at, sign, value in piece)
    ]
    wanted = [key for key in keys if (lower is None or key > lower) and (upper is None or key <= upper)]
    assert sorted(found) == wanted


COMPARED = {
    "=": lambda a, b: a == b,
    ">": lambda a, b: a > b,
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
}


def test_it_waits_for_what_is_above_its_limit_and_says_so() -> None:
    assert why_wait(Pressure(), Limits()) is None
    assert why_wait(Pressure(lag=11.5), Limits(lag=10)) == "a replica is 11.5 s behind; the limit is 10"
    assert why_wait(Pressure(lag=11.5), Limits(lag=None)) is None
    old = Pressure(age=4000.0, oldest="17 of app (psql)")
    assert why_wait(old, Limits()) == "a transaction is 4000 s old: process 17 of app (psql); the limit is 3600"
    assert why_wait(Pressure(waiting=3), Limits(waiting=2)) == "3 sessions wait for locks; the limit is 2"
    assert why_wait(Pressure(active=9), Limits(active=8)) == "9 sessions are at work; the limit is 8"
    assert why_wait(Pressure(active=9), Limits()) is None
