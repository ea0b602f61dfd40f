"""While a process loads, threads take turns quickly and old objects are seldom looked at; young cycles are freed."""

from __future__ import annotations

import gc
import sys
import weakref

import pytest

from dataarch.pipelines.process import made_for_loading

pytestmark = pytest.mark.pipeline


class Node:
    """Refers to itself."""

    def __init__(self) -> None:
        self.me = self


def survivors(count: int) -> list[list[int]]:
    """Make objects that the collector looks at, all of which stay."""
    return [[number] for number in range(count)]


def full_looks(count: int) -> int:
    """Return how often all objects are looked at while so many come to stay."""
    looks: list[int] = []

    def seen(phase: str, info: dict[str, int]) -> None:
        if phase == "start" and info["generation"] == 2:
            looks.append(1)

    gc.callbacks.append(seen)
    try:
        kept = survivors(count)
    finally:
        gc.callbacks.remove(seen)
    assert len(kept) == count
    return len(looks)


def test_all_objects_are_not_looked_at_while_many_come_to_stay() -> None:
    many = 2_000_000
    assert full_looks(many) > 0
    with made_for_loading():
        assert full_looks(many) == 0


def test_young_cycles_are_freed_meanwhile() -> None:
    with made_for_loading():
        watched = [weakref.ref(Node()) for _ in range(100)]
        survivors(30_000)
        assert not [one for one in watched if one() is not None]


def test_threads_take_turns_quickly_and_not_more_slowly_than_before() -> None:
    before = sys.getswitchinterval()
    with made_for_loading():
        assert sys.getswitchinterval() < before / 5
    try:
        sys.setswitchinterval(0.0001)
        with made_for_loading():
            assert sys.getswitchinterval() == pytest.approx(0.0001, rel=0.1)
    finally:
        sys.setswitchinterval(before)


def test_what_was_set_before_is_set_again_after_an_error() -> None:
    before = gc.get_threshold(), sys.getswitchinterval()
    with pytest.raises(ValueError, match="stop"), made_for_loading():
        assert gc.get_threshold() != before[0]
        raise ValueError("stop")
    assert (gc.get_threshold(), sys.getswitchinterval()) == before
