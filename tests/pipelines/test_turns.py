"""Transactions of one tenant: two are under way at the most, and they are committed in their order."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotYet

import pytest

from dataarch.errors import InvalidValue, Retryable
from dataarch.pipelines.turns import Turn

pytestmark = pytest.mark.pipeline


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as pool:
        yield pool


def still_waits(one: Future[None]) -> bool:
    """Return whether it still waits a moment later."""
    try:
        one.result(timeout=0.05)
    except NotYet:
        return True
    return False


def test_the_first_half_begins_once_the_one_before_is_in_its_second(threads: ThreadPoolExecutor) -> None:
    first = Turn()
    second = Turn(first)
    first.begin(eagerly=True)
    begun = threads.submit(second.begin, eagerly=True)
    assert still_waits(begun)
    first.take()
    begun.result(timeout=10)
    assert second.waits


def test_the_second_half_begins_once_the_one_before_has_ended(threads: ThreadPoolExecutor) -> None:
    first = Turn()
    second = Turn(first)
    first.begin(eagerly=True)
    first.take()
    second.begin(eagerly=True)
    taken = threads.submit(second.take)
    assert still_waits(taken)
    first.end()
    taken.result(timeout=10)
    assert not second.waits


def test_who_cannot_begin_early_waits_for_the_end_of_the_one_before(threads: ThreadPoolExecutor) -> None:
    first = Turn()
    second = Turn(first)
    first.begin(eagerly=False)
    first.take()
    begun = threads.submit(second.begin, eagerly=False)
    assert still_waits(begun)
    first.end()
    begun.result(timeout=10)
    second.take()


def test_who_is_tried_again_sends_back_who_is_behind(threads: ThreadPoolExecutor) -> None:
    first = Turn()
    second = Turn(first)
    first.begin(eagerly=True)
    first.take()
    second.begin(eagerly=True)
    taken = threads.submit(second.take)
    assert still_waits(taken)
    first.begin(eagerly=True)
    with pytest.raises(Retryable):
        taken.result(timeout=10)
    begun = threads.submit(second.begin, eagerly=True)
    assert still_waits(begun)
    first.take()
    begun.result(timeout=10)
    first.end()
    second.take()


def test_nothing_is_committed_behind_what_has_failed(threads: ThreadPoolExecutor) -> None:
    first = Turn()
    second = Turn(first)
    third = Turn(second)
    first.begin(eagerly=True)
    first.take()
    second.begin(eagerly=True)
    taken = threads.submit(second.take)
    assert still_waits(taken)
    first.end(InvalidValue("It broke."))
    with pytest.raises(InvalidValue, match="It broke"):
        taken.result(timeout=10)
    second.end(InvalidValue("It broke."))
    third.begin(eagerly=True)
    with pytest.raises(InvalidValue, match="It broke"):
        third.take()
