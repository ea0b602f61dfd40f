"""Every order of the protocol's steps, and a protocol with one thing wrong, of which the checker must say so."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from caching.model.checker import Explored, explore
from caching.model.protocol_model import ENTRY, LEASE, Model, Rules, World
from dataarch.caching import protocol
from dataarch.caching.codec import prefix
from dataarch.caching.protocol import FENCE, Lease, Leased, Space

pytestmark = [pytest.mark.cache, pytest.mark.no_cover]  # much work on few lines, which other tests run as well


BY_HAND = ("invalidation by hand", "leases end")
LOSS = ("everything is lost", "leases end")


def explored(model: Model) -> Explored[World]:
    return explore(model.initial, model.steps, model.wrong)


@pytest.mark.parametrize(
    ("writers", "readers", "rounds"), [(2, 2, 1), (1, 2, 2), (2, 1, 3)], ids=["2 and 2", "1 and 2", "2 and 1"]
)
def test_m18_in_no_order_of_steps_and_after_no_crash_is_a_value_served_from_before_a_commit(
    writers: int, readers: int, rounds: int
) -> None:
    found = explored(Model(Rules(), writers, readers, rounds))
    assert found.trace == (), found.wrong
    assert found.ends > 0


@pytest.mark.parametrize("left", [BY_HAND, LOSS])
def test_m18_neither_an_invalidation_by_hand_nor_the_loss_of_everything_lets_a_value_survive_a_commit(
    left: tuple[str, ...],
) -> None:
    found = explored(Model(Rules(), readers=2, rounds=1, left=left, at_once=left is not LOSS))
    assert found.trace == (), found.wrong


# ── the same with one thing wrong ─────────────────────────────────────────────────────────────────────────────────


def keep_under_the_stamps_of_now(
    space: Space, held: Lease, stamps: Sequence[bytes], value: bytes, milliseconds: int
) -> bool:
    now = [space.get(tag) or b"" for tag in held.tags]
    space.put(ENTRY, prefix(now) + value, milliseconds)
    space.remove(LEASE)
    return True


def alive_without_stamps(space: Space, tags: Sequence[str]) -> bytes | None:
    raw = space.get(ENTRY)
    return None if raw is None else raw[raw.index(b"|") + 1 :]


def alive_unless_fenced(space: Space, tags: Sequence[str]) -> bytes | None:
    if any(protocol.fenced(space.get(tag), space.now()) for tag in tags):
        return None
    return alive_without_stamps(space, tags)


def fence_beside_the_stamp(space: Space, tags: Sequence[str], token: bytes, milliseconds: int) -> None:
    for tag in tags:
        space.put(f"{tag} before", space.get(tag) or b"s", milliseconds)
    protocol.fence(space, tags, token, milliseconds)


def clear_and_leave_the_stamp(space: Space, tags: Sequence[str], token: bytes) -> None:
    protocol.clear(space, tags, token)
    for tag in tags:
        before = space.get(f"{tag} before")
        if before is not None and space.get(tag) is None:
            space.put(tag, before, 1000)


def fence_alone(space: Space, tags: Sequence[str], token: bytes, milliseconds: int) -> None:
    for tag in tags:
        space.put(tag, FENCE + token + b":" + str(space.now() + milliseconds).encode(), milliseconds)


def clear_whatever_is_there(space: Space, tags: Sequence[str], token: bytes) -> None:
    for tag in tags:
        space.remove(tag)


def clear_only_ones_own(space: Space, tags: Sequence[str], token: bytes) -> None:
    protocol.clear(space, [tag for tag in tags if token in (space.get(tag) or b"")], token)


def drop_fences_too(space: Space, tags: Sequence[str]) -> None:
    clear_whatever_is_there(space, tags, b"")


def lease_although_fenced(space: Space, asked: Lease, milliseconds: tuple[int, int], *, refresh: bool) -> Leased:
    for tag in asked.tags:
        if protocol.fenced(space.get(tag), space.now()):
            space.remove(tag)
    return protocol.lease(space, asked, milliseconds, refresh=refresh)


RIGHT = Rules()

MUTANTS: dict[str, Model] = {
    "no fence before the commit": Model(replace(RIGHT, writer=("commit", "clear"))),
    "the fence after the commit": Model(replace(RIGHT, writer=("commit", "fence", "clear"))),
    "the fence cleared before the commit": Model(replace(RIGHT, writer=("fence", "clear", "commit"))),
    "a drop before the commit alone": Model(
        replace(RIGHT, fence=lambda space, tags, *_: protocol.drop(space, tags), writer=("fence", "commit"))
    ),
    "keeping under the stamps of now": Model(replace(RIGHT, keep=keep_under_the_stamps_of_now)),
    "entries without stamps": Model(
        replace(RIGHT, keep=keep_under_the_stamps_of_now, alive=alive_without_stamps),
    ),
    "entries that only a fence hides": Model(replace(RIGHT, alive=alive_unless_fenced)),
    "a clearing that leaves the stamp": Model(
        replace(RIGHT, fence=fence_beside_the_stamp, clear=clear_and_leave_the_stamp)
    ),
    "fences of one writer at a time": Model(replace(RIGHT, fence=fence_alone, clear=clear_whatever_is_there)),
    "a clearing that takes others' fences": Model(replace(RIGHT, clear=clear_whatever_is_there)),
    "a clearing that trusts its fence to be there": Model(
        replace(RIGHT, clear=clear_only_ones_own), readers=1, left=LOSS, at_once=False
    ),
    "a lease taken after the database was read": Model(replace(RIGHT, reader=("read", "lease", "keep"))),
    "a lease in spite of a fence": Model(replace(RIGHT, lease=lease_although_fenced)),
    "stamps that are used twice": Model(replace(RIGHT, token=lambda who, turn: b"same")),
    "fences that end before the transaction": Model(replace(RIGHT, fences_outlast=False)),
    "a writer that keeps what only it sees": Model(replace(RIGHT, own=True)),
    "an invalidation that takes fences away": Model(replace(RIGHT, drop=drop_fences_too), left=BY_HAND),
}


@pytest.mark.parametrize("mutant", MUTANTS)
def test_the_checker_finds_what_is_wrong_with(mutant: str) -> None:
    found = explored(MUTANTS[mutant])
    assert found.wrong is not None, f"{found.states} states, and nothing wrong in them"
