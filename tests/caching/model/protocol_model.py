"""The protocol as a model: two writers, two readers, one crash, and every order of their steps.

The steps on the cache are the functions of :mod:`dataarch.caching.protocol` themselves, on a space whose clock is
logical. Each writer changes another row; the value that is remembered is made from both, under one tag that both fence.

In every state the question is what somebody would be served who reads just then: all that was committed, and nothing
else. So a later read, by whomever, is part of every state.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from dataarch.caching import protocol
from dataarch.caching.codec import prefix
from dataarch.caching.protocol import Grant, Lease, Leased, Space

ENTRY, LEASE, TAGS = "entry", "entry!", ("rows", "kind")
FENCED_TAGS = ("rows",)
LEASE_MS, FENCE_MS, LONG_MS = 1, 10, 1000
FOR_EVER = 1_000_000


class Cells(dict[str, tuple[bytes, int]]):
    """A space that is a dictionary with a clock that stands still during a step."""

    def __init__(self, held: Sequence[tuple[str, bytes, int]], clock: int) -> None:
        super().__init__({name: (value, until) for name, value, until in held if until > clock})
        self.clock = clock

    def get(self, name: str, _default: object = None) -> bytes | None:  # type: ignore[override]
        return self[name][0] if name in self else None

    def put(self, name: str, value: bytes, milliseconds: int) -> None:
        self[name] = (value, FOR_EVER if milliseconds >= LONG_MS else self.clock + milliseconds)

    def remove(self, name: str) -> None:
        self.pop(name, None)

    def now(self) -> int:
        return self.clock

    @property
    def frozen(self) -> tuple[tuple[str, bytes, int], ...]:
        return tuple(sorted((name, value, until) for name, (value, until) in self.items()))


class Writer(NamedTuple):
    """``step`` counts the steps done of its program; ``wrote`` is whether its row has changed, or will have."""

    at: str = "idle"  # idle, open, limbo, dead, done
    step: int = 0
    wrote: bool = False


class Reader(NamedTuple):
    """``seen`` is what it has read from the database, under ``stamps``."""

    at: str = "start"  # start, missed, leased, bare, have, dead, done
    round: int = 0
    stamps: tuple[bytes, ...] = ()
    seen: tuple[int, ...] | None = None


class World(NamedTuple):
    held: tuple[tuple[str, bytes, int], ...]
    clock: int
    rows: tuple[int, ...]
    writers: tuple[Writer, ...]
    readers: tuple[Reader, ...]
    left: tuple[str, ...]
    """What may still happen once: a crash, the end of leases, of fences, an invalidation by hand, a loss."""


def alive(space: Space, tags: Sequence[str]) -> bytes | None:
    """Return the value of the entry if its stamps are those of the tags, as a backend reads it."""
    return alive_entry(space, ENTRY, tags)


def alive_entry(space: Space, entry: str, tags: Sequence[str]) -> bytes | None:
    """Return the same of an entry by its name."""
    raw, stamps = space.get(entry), [space.get(tag) for tag in tags]
    known = [stamp for stamp in stamps if stamp is not None]
    if raw is None or len(known) < len(stamps) or not raw.startswith(prefix(known)):
        return None
    return raw[len(prefix(known)) :]


@dataclass(frozen=True)
class Rules:
    """The protocol, as it is or with one thing wrong.

    Attributes:
        writer: a writer's steps when it has written.
        reader: a reader's steps when it has missed.
        fences_outlast: whether a fence ends only when its writer's transaction is over.
        own: whether a writer keeps what it sees in its own transaction.
        token: whose lease or fence it is.
    """

    fence: Callable[[Space, Sequence[str], bytes, int], None] = protocol.fence
    clear: Callable[[Space, Sequence[str], bytes], None] = protocol.clear
    drop: Callable[[Space, Sequence[str]], None] = protocol.drop
    lease: Callable[..., Leased] = protocol.lease
    keep: Callable[[Space, Lease, Sequence[bytes], bytes, int], bool] = protocol.keep
    alive: Callable[[Space, Sequence[str]], bytes | None] = alive
    writer: tuple[str, ...] = ("fence", "commit", "clear")
    reader: tuple[str, ...] = ("lease", "read", "keep")
    fences_outlast: bool = True
    own: bool = False
    token: Callable[[str, int], bytes] = lambda who, turn: f"{who}t{turn}".encode()


Steps = Iterator[tuple[str, World]]


@dataclass(frozen=True)
class Model:
    """Every step of every process; ``rounds`` is how often each reader reads."""

    rules: Rules
    writers: int = 2
    readers: int = 2
    rounds: int = 1
    left: tuple[str, ...] = ("crash", "leases end", "fences end")
    at_once: bool = True
    """Whether a commit must be seen from when the database has it, or when the writer has returned."""

    @property
    def initial(self) -> World:
        """The state before anything has happened: nothing is remembered."""
        return World((), 0, (0,) * self.writers, (Writer(),) * self.writers, (Reader(),) * self.readers, self.left)

    def wrong(self, world: World) -> str | None:
        """Return what is wrong with what would be served now."""
        found = self.rules.alive(Cells(world.held, world.clock), TAGS)
        if found is None:
            return None
        got = tuple(int(part) for part in found.decode().split(","))
        due = world.rows if self.at_once else tuple(int(one.at == "done" and one.wrote) for one in world.writers)
        if any(one < row for one, row in zip(got, due, strict=True)):
            return f"{got} is served after {due} was committed"
        if any(one > row for one, row in zip(got, world.rows, strict=True)):
            return f"{got} is served, and only {world.rows} is committed"
        return None

    def steps(self, world: World) -> Steps:
        """Give every step that somebody can take."""
        for number in range(self.writers):
            yield from self._writer(world, number)
        for number in range(self.readers):
            yield from self._reader(world, number)
        yield from self._rest(world)

    # ── writers ───────────────────────────────────────────────────────────────────────────────────────────────────

    def _writer(self, world: World, number: int) -> Steps:
        me = world.writers[number]
        who = f"w{number}"
        if me.at == "idle":
            yield f"{who} writes", _with_writer(world, number, Writer("open", 0, wrote=True))
        elif me.at == "open":
            if me.step == 0:
                yield f"{who} rolls back", _with_writer(world, number, Writer("done"))
                if me.wrote:
                    yield f"{who} rolls its savepoint back", _with_writer(world, number, me._replace(wrote=False))
                if self.rules.own and me.wrote:
                    yield f"{who} keeps what it sees", self._keep_own(world, number)
            yield from self._next(world, number)
        elif me.at == "limbo":
            yield f"{who}'s commit arrives", _committed(_with_writer(world, number, me._replace(at="dead")), number)
            yield f"{who}'s commit is lost", _with_writer(world, number, me._replace(at="dead"))
        if "crash" in world.left and me.at == "open" and me.step:
            sent = self.rules.writer[me.step] == "commit"
            dead = me._replace(at="limbo" if sent else "dead")
            yield f"{who} dies", _without(_with_writer(world, number, dead), "crash")

    def _next(self, world: World, number: int) -> Steps:
        me, who = world.writers[number], f"w{number}"
        step = self.rules.writer[me.step]
        after = me._replace(step=me.step + 1)
        if after.step == len(self.rules.writer):
            after = me._replace(at="done", step=0)
        space = Cells(world.held, world.clock)
        token = self.rules.token(who, 0)
        if step == "fence":
            self.rules.fence(space, FENCED_TAGS, token, FENCE_MS)
        elif step == "clear":
            self.rules.clear(space, FENCED_TAGS, token)
        changed = _with_writer(world._replace(held=space.frozen), number, after)
        if step == "commit":
            yield f"{who}'s commit is refused", _with_writer(changed, number, after._replace(wrote=False))
            changed = _committed(world, number)
            changed = _with_writer(changed, number, after)
        yield f"{who}: {step}", changed

    def _keep_own(self, world: World, number: int) -> World:
        space = Cells(world.held, world.clock)
        asked = Lease(ENTRY, LEASE, TAGS, f"own{number}".encode())
        leased = self.rules.lease(space, asked, (LEASE_MS, LONG_MS), refresh=False)
        if leased.grant is Grant.GRANTED:
            seen = tuple(row + (at == number) for at, row in enumerate(world.rows))
            self.rules.keep(space, asked, leased.stamps, _encoded(seen), LONG_MS)
        return world._replace(held=space.frozen)

    # ── readers ───────────────────────────────────────────────────────────────────────────────────────────────────

    def _reader(self, world: World, number: int) -> Steps:
        me, who = world.readers[number], f"r{number}"
        if me.at in {"dead", "done"}:
            return
        if me.at == "start":
            yield self._look(world, number)
        elif me.at == "bare":
            yield f"{who} reads the database and keeps nothing", _with_reader(world, number, self._turn(me))
        else:
            yield from self._make(world, number)
        if "crash" in world.left and me.at in {"leased", "have"}:
            yield f"{who} dies", _without(_with_reader(world, number, Reader("dead")), "crash")

    def _turn(self, me: Reader) -> Reader:
        return Reader("start", me.round + 1) if me.round + 1 < self.rounds else Reader("done")

    def _look(self, world: World, number: int) -> tuple[str, World]:
        found = self.rules.alive(Cells(world.held, world.clock), TAGS)
        me = world.readers[number]
        if found is None:
            at = "missed" if self.rules.reader[0] == "lease" else "leased"
            return f"r{number} misses", _with_reader(world, number, me._replace(at=at))
        return f"r{number} hits", _with_reader(world, number, self._turn(me))

    def _make(self, world: World, number: int) -> Steps:
        me, who = world.readers[number], f"r{number}"
        space = Cells(world.held, world.clock)
        asked = Lease(ENTRY, LEASE, TAGS, self.rules.token(who, me.round))
        if me.at == "leased":
            last = self.rules.reader[-2] == "read"
            yield (
                f"{who} reads {world.rows}",
                _with_reader(world, number, me._replace(at="have" if last else "missed", seen=world.rows)),
            )
            protocol.release(space, asked)
            yield f"{who} fails", _with_reader(world._replace(held=space.frozen), number, self._turn(me))
        elif me.at == "missed":
            leased = self.rules.lease(space, asked, (LEASE_MS, LONG_MS), refresh=False)
            if leased.grant is Grant.BUSY:
                yield f"{who} waits", _with_reader(world, number, me._replace(at="start"))
            at = {Grant.BUSY: "bare", Grant.FENCED: "bare", Grant.PRESENT: "start"}.get(leased.grant)
            if at is None:
                at = "leased" if me.seen is None else "have"
            after = me._replace(at=at, stamps=leased.stamps, seen=me.seen if at == "have" else None)
            yield f"{who} asks: {leased.grant.value}", _with_reader(world._replace(held=space.frozen), number, after)
        elif me.seen is not None:
            kept = self.rules.keep(space, asked, me.stamps, _encoded(me.seen), LONG_MS)
            label = f"{who} {'keeps' if kept else 'may not keep'} {me.seen}"
            yield label, _with_reader(world._replace(held=space.frozen), number, self._turn(me))

    # ── what happens besides ──────────────────────────────────────────────────────────────────────────────────────

    def _rest(self, world: World) -> Steps:
        for what in world.left:
            after = _without(world, what)
            if what == "leases end" and any(name == LEASE for name, _, _ in world.held):
                yield what, _later(after, LEASE_MS)
            elif what == "fences end" and self._may_end(world):
                yield what, _later(after, FENCE_MS)
            elif what == "invalidation by hand":
                space = Cells(world.held, world.clock)
                self.rules.drop(space, FENCED_TAGS)
                yield what, after._replace(held=space.frozen)
            elif what == "everything is lost":
                yield what, after._replace(held=())

    def _may_end(self, world: World) -> bool:
        """Return whether the time of a fence may be over: not while the transaction of one who has fenced is open."""
        if not any(value.startswith(protocol.FENCE) for _, value, _ in world.held):
            return False
        unfinished = any(one.at == "limbo" or (one.at == "open" and one.step == 1) for one in world.writers)
        return not (self.rules.fences_outlast and unfinished)


def _later(world: World, milliseconds: int) -> World:
    clock = world.clock + milliseconds
    return world._replace(clock=clock, held=Cells(world.held, clock).frozen)


def _encoded(rows: tuple[int, ...]) -> bytes:
    return ",".join(map(str, rows)).encode()


def _committed(world: World, number: int) -> World:
    wrote = world.writers[number].wrote
    return world._replace(rows=tuple(row + (at == number and wrote) for at, row in enumerate(world.rows)))


def _with_writer(world: World, number: int, writer: Writer) -> World:
    return world._replace(writers=(*world.writers[:number], writer, *world.writers[number + 1 :]))


def _with_reader(world: World, number: int, reader: Reader) -> World:
    return world._replace(readers=(*world.readers[:number], reader, *world.readers[number + 1 :]))


def _without(world: World, what: str) -> World:
    return world._replace(left=tuple(one for one in world.left if one != what))
