"""The gate as a model: a writer and a reader, somebody who closes it, a cache that is lost, and every order of it.

A lease is one tick of a clock, which goes on between any two steps; what is known is either fresh or over. A commit in
the database takes its time: what a transaction has reckoned, others see later. :func:`looked` is what the function
``cache_gate`` does, and a test compares the two.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from caching.model.protocol_model import Cells, alive_entry
from dataarch.caching import protocol
from dataarch.caching.protocol import Grant, Lease

LONG = 1000
MOST_EPOCHS = 3


class Row(NamedTuple):
    """The gate's row; ``age`` is 1 when a lease has passed since it was seen, ``horizon`` who must end before."""

    state: str = "open"
    epoch: int = 1
    server: str = "A"
    age: int | None = 0
    horizon: str = ""  # none yet, or "waits", or "over"


class Writer(NamedTuple):
    """``state`` and ``epoch`` are its view, ``fresh`` whether that holds; ``trust`` is the server that it believes."""

    at: str = "begin"
    state: str = "open"
    epoch: int = 1
    fresh: bool = True
    trust: str = "A"
    commits: int = 0


class Reader(NamedTuple):
    """As a writer; besides, the read that is under way: its view, what is due to it, and what it has learned."""

    at: str = "idle"
    state: str = "open"
    epoch: int = 1
    fresh: bool = True
    trust: str = "A"
    under: int = 0
    held: bool = False
    """Whether the view that the read began with still holds."""
    due: int = 0
    stamps: tuple[bytes, ...] = ()
    seen: int = 0
    turns: int = 0


class World(NamedTuple):
    row: Row
    next: tuple[Row, str] | None
    server: str
    cells: tuple[tuple[str, bytes, int], ...]
    saved: tuple[tuple[str, bytes, int], ...]
    reach: bool
    writer: Writer
    reader: Reader
    committed: int
    returned: int
    left: tuple[str, ...]
    wrong: str | None = None


@dataclass(frozen=True)
class Rules:
    """The gate as it is; each False is one thing wrong."""

    closed_for_a_lease: bool = True
    opening_for_a_lease: bool = True
    waits_for_transactions: bool = True
    closer_waits: bool = True
    closing_is_not_closed: bool = True
    reckoned_when_seen: bool = True
    announced_while_opening: bool = True
    reads_on_fresh_views: bool = True
    answers_on_fresh_views: bool = True
    another_epoch: bool = True
    only_the_server_known: bool = True


def looked(row: Row, answers: str | None, *, writing: bool, rules: Rules) -> Row:
    """Return the row as ``cache_gate`` leaves it, called with the server that answers."""
    first = None if rules.reckoned_when_seen else 0
    if row.state != "closed" and answers is not None and row.server != answers:
        return row._replace(state="closed", horizon="", age=first)
    if row.age is None:
        return row._replace(age=0)
    if answers is None:
        return row
    if row.state == "closed" and (row.age or not rules.closed_for_a_lease) and row.epoch < MOST_EPOCHS:
        row = Row("opening", row.epoch + 1 if rules.another_epoch else row.epoch, answers, first, "")
    elif row.state == "opening" and (row.age or not rules.opening_for_a_lease):
        if row.horizon == "over":
            row = row._replace(state="open", age=first)
        elif row.horizon == "":
            row = row._replace(horizon="waits" if writing and rules.waits_for_transactions else "over")
    return row


def closed(row: Row, epoch: int, rules: Rules) -> Row:
    """Return the row as ``close_cache_gate`` leaves it."""
    if row.state == "closed" or row.epoch != epoch:
        return row
    return row._replace(state="closed", horizon="", age=None if rules.reckoned_when_seen else 0)


Steps = Iterator[tuple[str, World]]


@dataclass(frozen=True)
class Model:
    """Every step; the gate is open in the beginning, and a value is remembered from before any commit."""

    rules: Rules
    left: tuple[str, ...]
    commits: int = 2
    turns: int = 1

    @property
    def initial(self) -> World:
        cells = Cells((), 0)
        asked = _lease(1, b"first")
        leased = protocol.lease(cells, asked, (LONG, LONG), refresh=False)
        protocol.keep(cells, asked, leased.stamps, b"0", LONG)
        held = cells.frozen
        return World(Row(), None, "A", held, held, True, Writer(), Reader(), 0, 0, self.left)

    def wrong(self, world: World) -> str | None:
        return world.wrong

    def steps(self, world: World) -> Steps:
        yield from self._writer(world)
        yield from self._reader(world)
        yield from self._rest(world)

    # ── the database ──────────────────────────────────────────────────────────────────────────────────────────────

    def _called(self, world: World, who: str, after: Row) -> World | None:
        """Return the world where the row is being changed; None where nothing changes, or somebody else does so."""
        if world.next is not None or after == world.row:
            return None
        return world._replace(next=(after, who))

    def _look(self, world: World, server: str | None) -> Row:
        writing = world.writer.at not in {"begin", "clear", "end"}
        return looked(world.row, server, writing=writing, rules=self.rules)

    def _known(self, row: Row) -> str:
        closing = self.rules.closing_is_not_closed and row.state == "closed" and not row.age
        return "closing" if closing else row.state

    # ── the writer ────────────────────────────────────────────────────────────────────────────────────────────────

    def _writer(self, world: World) -> Steps:
        me = world.writer
        at = me.at.removesuffix("!")
        if me.at.endswith("!"):
            assert world.next is not None
            landed = world._replace(row=world.next[0], next=None)
            yield f"w: {at} is committed", self._went_on(landed, at)
        elif at == "begin" and me.commits < self.commits:
            yield "w writes", world._replace(writer=me._replace(at="know"))
        elif at == "know":
            if me.fresh:
                yield from self._decided(world)
            yield "w asks", world._replace(writer=me._replace(at="look", fresh=True))
        elif at in {"look", "wait", "close"}:
            yield from self._asked(world, at)
        elif at == "fence":
            yield self._fenced(world)
        elif at != "begin":
            yield f"w: {at}", self._cleared(world) if at == "clear" else self._commit(world)

    def _cleared(self, world: World) -> World:
        me, cells = world.writer, self._cells(world)
        if self._reached(world, me.trust) and world.reach:
            protocol.clear(cells, _tags(me.epoch), _token(me))
        done = me._replace(at="begin", commits=me.commits + 1)
        return world._replace(cells=cells.frozen, writer=done, returned=world.committed)

    def _decided(self, world: World) -> Steps:
        me = world.writer
        announced = me.state == "open" or (me.state == "opening" and self.rules.announced_while_opening)
        silent = me.state == "closed" or (me.state == "opening" and not announced)
        at = "commit" if silent else "fence" if announced else "close"
        yield f"w finds it {me.state}", world._replace(writer=me._replace(at=at))

    def _asked(self, world: World, at: str) -> Steps:
        me = world.writer
        if at == "close":
            after = closed(world.row, me.epoch, self.rules)
            if after != world.row and world.next is not None:
                return
        else:
            after = self._look(world, world.server if world.reach and at == "look" else None)
        called = self._called(world, "w", after)
        if called is not None:
            yield f"w: {at}: {after}", called._replace(writer=me._replace(at=f"{at}!"))
        else:
            yield f"w: {at} changes nothing", self._went_on(world, at)

    def _went_on(self, world: World, at: str) -> World:
        me, row = world.writer, world.row
        if at == "look":
            known = self._known(row)
            return world._replace(writer=me._replace(at="know", state=known, epoch=row.epoch, trust=row.server))
        if at == "close":
            at = "wait" if self.rules.closer_waits else "commit"
            return world._replace(writer=me._replace(at=at))
        over = row.epoch != me.epoch or (row.state == "closed" and bool(row.age))
        return world._replace(writer=me._replace(at="commit" if over else "close", fresh=me.fresh and not over))

    def _fenced(self, world: World) -> tuple[str, World]:
        me = world.writer
        if not (self._reached(world, me.trust) and world.reach):
            return "w cannot fence", world._replace(writer=me._replace(at="close"))
        cells = self._cells(world)
        protocol.fence(cells, _tags(me.epoch), _token(me), LONG)
        return "w fences", world._replace(cells=cells.frozen, writer=me._replace(at="fenced"))

    def _commit(self, world: World) -> World:
        me, row, coming = world.writer, world.row, world.next
        # its transaction is over: who waited for it need not wait any more
        row = row._replace(horizon="over") if row.horizon == "waits" else row
        if coming is not None and coming[0].horizon == "waits":
            coming = (coming[0]._replace(horizon="over"), coming[1])
        world = world._replace(row=row, next=coming, committed=world.committed + 1)
        if me.at == "fenced":
            return world._replace(writer=me._replace(at="clear"))
        done = me._replace(at="begin", commits=me.commits + 1)
        return world._replace(writer=done, returned=world.committed)

    # ── the reader ────────────────────────────────────────────────────────────────────────────────────────────────

    def _reader(self, world: World) -> Steps:
        me = world.reader
        if me.at == "look!":
            assert world.next is not None
            yield "r: look is committed", self._informed(world._replace(row=world.next[0], next=None))
        elif me.at == "look":
            after = self._look(world, world.server)
            called = self._called(world, "r", after)
            if called is not None:
                yield f"r: look: {after}", called._replace(reader=me._replace(at="look!"))
            else:
                yield "r: look changes nothing", self._informed(world)
        elif me.at == "idle":
            yield "r asks", world._replace(reader=me._replace(at="look", fresh=True))
            if me.state == "open" and (me.fresh or not self.rules.reads_on_fresh_views):
                begun = me._replace(at="read", under=me.epoch, held=me.fresh, due=world.returned)
                yield "r begins to read", world._replace(reader=begun)
        else:
            yield from self._reading(world)

    def _informed(self, world: World) -> World:
        me, row = world.reader, world.row
        known = me._replace(at="idle", state=self._known(row), epoch=row.epoch, trust=row.server)
        return world._replace(reader=known)

    def _reading(self, world: World) -> Steps:
        me = world.reader
        idle = me._replace(at="idle", under=0, held=False, due=0, stamps=(), seen=0)
        cells = self._cells(world)
        asked = _lease(me.under, b"t%d" % me.turns)
        if me.at == "database":
            yield f"r reads {world.committed}", world._replace(reader=me._replace(at="keep", seen=world.committed))
        elif not self._reached(world, me.trust):
            yield "r is not answered", world._replace(reader=idle)
        elif me.at == "read":
            yield from self._answered(world, idle)
        elif me.at == "lease":
            leased = protocol.lease(cells, asked, (LONG, LONG), refresh=False)
            if leased.grant is not Grant.GRANTED:
                yield f"r asks: {leased.grant}", world._replace(reader=idle)
            else:
                after = me._replace(at="database", stamps=leased.stamps, turns=me.turns + 1)
                yield "r has a lease", world._replace(cells=cells.frozen, reader=after)
        elif me.at == "keep":
            asked = _lease(me.under, b"t%d" % (me.turns - 1))
            protocol.keep(cells, asked, me.stamps, str(me.seen).encode(), LONG)
            yield f"r keeps {me.seen}", world._replace(cells=cells.frozen, reader=idle)

    def _answered(self, world: World, idle: Reader) -> Steps:
        me = world.reader
        found = alive_entry(self._cells(world), f"{me.under}:entry", _tags(me.under))
        if not (me.held or not self.rules.answers_on_fresh_views):
            yield "r is answered too late", world._replace(reader=idle)
        elif found is not None:
            after = world._replace(reader=idle)
            if int(found) < me.due:
                after = after._replace(wrong=f"{int(found)} is served, and {me.due} had returned when the read began")
            yield f"r hits {int(found)}", after
        elif me.turns < self.turns:
            yield "r misses", world._replace(reader=me._replace(at="lease"))
        else:
            yield "r misses, and is done", world._replace(reader=idle)

    # ── what happens besides ──────────────────────────────────────────────────────────────────────────────────────

    def _rest(self, world: World) -> Steps:
        yield "a lease passes", _later(world)
        me, row = world.reader, world.row
        if me.at != "idle" and not me.at.startswith("look"):
            known = me._replace(state=self._known(row), epoch=row.epoch, trust=row.server, fresh=True)
            yield "another thread of r looks", world._replace(reader=known)
        if world.next is not None and world.next[1] == "somebody":
            yield "somebody's change is committed", world._replace(row=world.next[0], next=None)
        looking = self._called(world, "somebody", self._look(world, world.server))
        if looking is not None:
            yield f"somebody looks: {looking.next}", looking
        for what in world.left:
            yield from self._once(world._replace(left=tuple(one for one in world.left if one != what)), what)

    def _once(self, world: World, what: str) -> Steps:
        if what == "somebody closes":
            shut = self._called(world, "somebody", closed(world.row, world.row.epoch, self.rules))
            if shut is not None:
                yield what, shut
        elif what == "the writer is cut off":
            yield what, world._replace(reach=False)
        elif what == "the cache is lost":
            yield what, world._replace(server="B", cells=())
        elif what == "the cache comes back as it was":
            yield what, world._replace(server="B", cells=world.saved)

    def _cells(self, world: World) -> Cells:
        return Cells(world.cells, 0)

    def _reached(self, world: World, trust: str) -> bool:
        return trust == world.server or not self.rules.only_the_server_known


def _later(world: World) -> World:
    def older(row: Row) -> Row:
        return row if row.age is None else row._replace(age=1)

    coming = None if world.next is None else (older(world.next[0]), world.next[1])
    return world._replace(
        row=older(world.row),
        next=coming,
        writer=world.writer._replace(fresh=False),
        reader=world.reader._replace(fresh=False, held=False),
    )


def _tags(epoch: int) -> tuple[str, ...]:
    return (f"{epoch}:rows",)


def _token(me: Writer) -> bytes:
    return b"w%d" % me.commits


def _lease(epoch: int, token: bytes) -> Lease:
    return Lease(f"{epoch}:entry", f"{epoch}:entry!", _tags(epoch), token)
