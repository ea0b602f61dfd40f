"""The benchmark of peers measures them alike, believes no work that was not done, and says who is absent."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from functools import cache, partial
from importlib.util import find_spec
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from benchmarks.repositories import peers, peers_psycopg
from benchmarks.repositories.peers_ground import (
    WANTED,
    Ground,
    activities,
    before_upsert,
    check_activities,
    check_latest,
    check_products,
    products,
)
from benchmarks.repositories.peers_measure import INSTALL, Absent, Took, Turns, Way, by, measured, needed, ratio
from fixtures.servers import Servers

pytestmark = pytest.mark.performance

REQUIREMENTS = Path(__file__).resolve().parents[2] / "requirements" / "bench.txt"
SOME = 60
"""Rows: enough for the latest 50."""

MODULES = {"advanced-alchemy": "advanced_alchemy", "Django": "django", "asyncpg": "asyncpg"}
WORKS: dict[str, Callable[[Servers, Progress], Table]] = {
    "ingest": lambda servers, progress: peers.ingests(servers.admin, SOME, 1, progress),
    "upsert": lambda servers, progress: peers.upserts(servers.admin, SOME, 1, progress),
    "latest": lambda servers, progress: peers.reads(servers.admin, 100 * SOME, 2, 1, progress),
}


@pytest.fixture
def progress() -> Progress:
    return Progress(console=Console(file=StringIO()))


@pytest.fixture(scope="module")
def ground(servers: Servers) -> Iterator[Ground]:
    with peers.ground_of(servers.admin, peers.months_and_people) as made:
        yield made


def printed(table: Table) -> str:
    console = Console(file=StringIO(), width=200)
    with console.capture() as captured:
        console.print(table)
    return captured.get()


Shown = Callable[[str], str]


@pytest.fixture(scope="module")
def shown(servers: Servers) -> Shown:
    """What a work's table says; the work is done when it is first asked for."""
    progress = Progress(console=Console(file=StringIO()))
    return cache(lambda work: printed(WORKS[work](servers, progress)))


@pytest.mark.parametrize("work", WORKS)
def test_each_peer_is_measured_or_said_to_be_absent(work: str, shown: Shown) -> None:
    text = shown(work)
    assert " 1.00 │  1.00 " in text
    assert re.search(r"│ SQLAlchemy.* off ", text)
    for name, module in MODULES.items():
        expected = rf"│ {name},.* off " if find_spec(module) else rf"│ {name}: {INSTALL}"
        assert re.search(expected, text), text


def test_dataarch_reads_with_its_policies_on_and_peers_with_none(shown: Shown) -> None:
    text = shown("latest")
    assert len(re.findall(r"│ dataarch, .* on ", text)) == 2
    assert " on " not in "".join(line for line in text.splitlines() if "dataarch," not in line and " off " in line)


@pytest.mark.parametrize("module", ["no_such_peer", "no_such_package.peer"])
def test_what_is_not_installed_is_said_with_how_to_install_it(module: str) -> None:
    with pytest.raises(Absent, match=re.escape("not installed: python -m pip install -r requirements/bench.txt")):
        needed(module)


def test_a_peer_that_is_absent_has_a_row_of_its_own(ground: Ground) -> None:
    def absent(stack: ExitStack, ground: Ground) -> list[Way]:
        needed("no_such_peer")
        return []

    with ExitStack() as stack:
        found = peers.field_of({"first": lambda *_: [by("first", int)], "nobody": absent}, stack, ground)
    text = printed(peers.shown("", 1, found, {"first": [Took(1.0, 1.0)]}))
    assert [way.name for way in found.ways] == ["first"]
    assert re.search(rf"│ nobody: {INSTALL}", text)


def test_the_fastest_way_by_hand_is_what_others_are_measured_by() -> None:
    ways = [by(name, int) for name in ("slow by hand", "by hand", "peer")]
    took = {"slow by hand": [Took(4.0, 0.0)], "by hand": [Took(2.0, 0.0)], "peer": [Took(1.0, 0.0)]}
    text = printed(peers.shown("", 1, peers.Field(ways, by_hand=2), took))
    assert re.search(r"│ slow by hand .* 2.00 │ +0.50 ", text)
    assert re.search(r"│ by hand .* 1.00 │ +1.00 ", text)
    assert re.search(r"│ peer .* 0.50 │ +2.00 ", text)


def test_the_peers_are_required_by_name_and_floor_and_reason_alone() -> None:
    lines = [line for line in REQUIREMENTS.read_text().splitlines() if not line.startswith("#")]
    assert [line.split(">=")[0] for line in lines] == [name.lower() for name in MODULES]
    assert all(re.fullmatch(r"[a-z-]+>=[0-9.]+  # [^/]+", line) for line in lines)


def test_ways_take_turns_and_the_first_runs_do_not_count(progress: Progress) -> None:
    order: list[str] = []
    ways = [by(name, partial(order.append, name)) for name in "ab"]
    took = measured(ways, Turns(2, warm=1, runs=1), before=lambda: order.append("|"), progress=progress)
    assert "".join(order) == "|b|a|a|b|b|a"
    assert {name: len(found) for name, found in took.items()} == {"a": 2, "b": 2}


def test_runs_of_a_turn_follow_each_other(progress: Progress) -> None:
    order: list[str] = []
    ways = [by(name, partial(order.append, name)) for name in "ab"]
    took = measured(ways, Turns(1, warm=1, runs=3), progress=progress)
    assert "".join(order) == "bbbaaa" + "aaabbb"
    assert {name: len(found) for name, found in took.items()} == {"a": 3, "b": 3}


def test_times_are_compared_in_pairs_so_that_a_busy_moment_slows_both() -> None:
    baseline = [Took(seconds, 0.0) for seconds in (1.0, 10.0, 2.0)]
    mine = [Took(seconds, 0.0) for seconds in (3.0, 30.0, 6.0)]
    assert ratio(baseline, mine) == 3.0


def test_what_a_run_returns_is_looked_at(progress: Progress) -> None:
    with pytest.raises(AssertionError, match=f"49 activities were found and not {WANTED}"):
        measured([by("reads", lambda: [1] * 49)], Turns(1, warm=0), check=check_latest, progress=progress)


def test_activities_that_are_not_written_are_noticed(ground: Ground, progress: Progress) -> None:
    (user,) = peers.users_of(ground)[:1]
    given = replace(ground, rows=activities(3, ground.tenant_id, [user]))
    ground.owner.execute("TRUNCATE user_activity_log")
    with ExitStack() as stack:
        (way,) = peers_psycopg.ingest(stack, replace(given, rows=given.rows[1:]))
        with pytest.raises(AssertionError, match=re.escape("(2, 2) is there and not (3, 3)")):
            measured([way], Turns(1, warm=0), check=lambda _: check_activities(given), progress=progress)


def test_products_that_are_not_brought_up_to_date_are_noticed(ground: Ground) -> None:
    given = replace(ground, rows=products(4, ground.tenant_id))
    before_upsert(given)
    with pytest.raises(AssertionError, match="is there and not"):
        check_products(given)
    with ExitStack() as stack:
        (way,) = peers_psycopg.upsert(stack, given)
        way.measure()
    check_products(given)
