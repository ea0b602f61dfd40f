"""A small explicit-state checker: every state that can be reached, each visited once, the shortest way to a bad one.

A model gives, for a state, every step that can be taken next. States are values: equal ones are one state.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

S = TypeVar("S", bound=Hashable)


@dataclass(frozen=True)
class Explored(Generic[S]):
    """What was found.

    Attributes:
        states: how many states there are.
        ends: how many of them have no next step.
        trace: the steps to the nearest bad state; empty where there is none.
        wrong: what is wrong there.
    """

    states: int
    ends: int
    trace: tuple[str, ...] = ()
    wrong: str | None = None


def explore(
    initial: S,
    steps: Callable[[S], Iterable[tuple[str, S]]],
    wrong: Callable[[S], str | None],
    *,
    most: int = 3_000_000,
) -> Explored[S]:
    """Visit every state, nearest first, and stop at the first that is wrong."""
    came_from: dict[S, tuple[str, S] | None] = {initial: None}
    waiting = deque([initial])
    ends = 0
    while waiting:
        state = waiting.popleft()
        before = len(came_from)
        some = False
        for label, after in steps(state):
            some = True
            if after in came_from:
                continue
            came_from[after] = (label, state)
            if (why := wrong(after)) is not None:
                return Explored(len(came_from), ends, _way(after, came_from), why)
            waiting.append(after)
        ends += not some
        assert before <= most, "The model has more states than anybody waits for."
    return Explored(len(came_from), ends)


def _way(state: S, came_from: dict[S, tuple[str, S] | None]) -> tuple[str, ...]:
    labels: list[str] = []
    at = came_from[state]
    while at is not None:
        label, state = at
        labels.append(label)
        at = came_from[state]
    return tuple(reversed(labels))
