"""Every order of the gate's steps; a gate with one thing wrong, of which the checker must say so; and the real one."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import psycopg
import pytest
from alembic import command

from caching.model.checker import Explored, explore
from caching.model.gate_model import Model, Row, Rules, World, closed, looked
from dataarch.database.settings import Settings
from fixtures.caches import until
from fixtures.catalogs import owner_connection
from fixtures.clusters import own_cluster, own_replica
from fixtures.databases import alembic_config, new_database

pytestmark = [pytest.mark.cache, pytest.mark.no_cover]  # much work on few lines, which other tests run as well

LOST = ("the cache is lost",)
BACK = ("the cache comes back as it was",)
CUT = ("the writer is cut off",)
CLOSED = ("somebody closes",)


def explored(model: Model) -> Explored[World]:
    return explore(model.initial, model.steps, model.wrong)


@pytest.mark.parametrize(
    ("left", "commits", "turns"),
    [
        (CLOSED + CUT, 1, 1),
        (LOST, 1, 1),
        (BACK, 1, 1),
        (CLOSED + BACK, 1, 0),
        (CUT + BACK, 1, 1),
        (CLOSED + CUT, 2, 0),
        (CUT, 2, 1),
    ],
    ids=lambda value: " and ".join(value) if isinstance(value, tuple) else str(value),
)
def test_m18_in_no_order_of_steps_does_the_gate_let_a_value_through_from_before_a_commit(
    left: tuple[str, ...], commits: int, turns: int
) -> None:
    found = explored(Model(Rules(), left, commits, turns))
    assert found.trace == (), f"{found.wrong}: {found.trace}"


RIGHT = Rules()
MUTANTS: dict[str, Model] = {
    "it opens before the lease of the closed one is over": Model(replace(RIGHT, closed_for_a_lease=False), CUT),
    "it opens before every writer knows": Model(replace(RIGHT, opening_for_a_lease=False), CLOSED),
    "it opens before the transactions have ended": Model(replace(RIGHT, waits_for_transactions=False), CLOSED),
    "who closes it does not wait": Model(replace(RIGHT, closer_waits=False), CUT),
    "who finds it closed does not wait": Model(replace(RIGHT, closing_is_not_closed=False), CLOSED),
    "the lease is reckoned before the closing is seen": Model(replace(RIGHT, reckoned_when_seen=False), CUT),
    "nothing is announced while it opens": Model(replace(RIGHT, announced_while_opening=False), CLOSED),
    "it is read on a view that is over": Model(
        replace(RIGHT, reads_on_fresh_views=False, answers_on_fresh_views=False), CUT
    ),
    "an answer is believed that came too late": Model(replace(RIGHT, answers_on_fresh_views=False), BACK),
    "it opens under the same epoch": Model(replace(RIGHT, another_epoch=False), CUT),
    "any server is believed": Model(replace(RIGHT, only_the_server_known=False), BACK),
}


@pytest.mark.parametrize("mutant", MUTANTS)
def test_the_checker_finds_what_is_wrong_when(mutant: str) -> None:
    found = explored(MUTANTS[mutant])
    assert found.wrong is not None, f"{found.states} states, and nothing wrong in them"


# ── the functions in the database do the same ─────────────────────────────────────────────────────────────────────

SHORT, FAR = 3, 2**62
"""Numbers of transactions: one that is over since the cluster was made, and one that nobody will ever have."""

ROWS = [
    Row(state, 1, server, age, horizon)
    for state, server, age, horizon in product(("closed", "opening", "open"), "AB", (None, 0, 1), ("", "waits", "over"))
    if horizon == "" or (state == "opening" and age == 1)
]


def put(connection: psycopg.Connection[tuple[object, ...]], row: Row) -> None:
    connection.execute(
        "UPDATE dataarch_cache.gate SET state = %s, epoch = %s, server = %s, horizon = %s, lease_ms = 60000,"
        " seen_at = clock_timestamp() - %s * interval '1 s'",
        [
            row.state,
            str(row.epoch),
            row.server,
            {"": None, "waits": FAR, "over": SHORT}[row.horizon],
            None if row.age is None else row.age * 61,
        ],
    )


def found_in(connection: psycopg.Connection[tuple[object, ...]]) -> Row:
    found = connection.execute(
        "SELECT state, epoch, server, extract(epoch FROM clock_timestamp() - seen_at) > 60, horizon"
        " FROM dataarch_cache.gate"
    ).fetchone()
    assert found is not None
    state, epoch, server, old, horizon = found
    waits = "" if horizon is None else "over" if horizon == SHORT else "waits"
    return Row(str(state), 1 if epoch == "1" else 2, str(server), None if old is None else int(bool(old)), waits)


def test_the_gate_of_the_model_is_that_of_the_database(settings: Settings) -> None:
    with owner_connection(settings) as connection:
        connection.execute("SELECT public.cache_gate(NULL)")
        for row, answers in product(ROWS, (None, "A", "B")):
            put(connection, row)
            connection.execute("SELECT public.cache_gate(%s)", [answers])
            assert found_in(connection) == looked(row, answers, writing=True, rules=RIGHT), (row, answers)
        for row, epoch in product(ROWS, (1, 7)):
            put(connection, row)
            connection.execute("SELECT public.close_cache_gate(%s)", [str(epoch)])
            assert found_in(connection) == closed(row, epoch, RIGHT), (row, epoch)


def test_m18_the_gate_opens_when_the_transactions_have_ended_that_were_open(settings: Settings) -> None:
    with owner_connection(settings) as connection, owner_connection(settings) as writing:
        connection.execute("SELECT public.cache_gate(NULL)")
        put(connection, Row("opening", 1, "A", 1, ""))
        writing.execute("BEGIN")
        writing.execute("SELECT pg_current_xact_id()")
        for _ in range(3):
            connection.execute("SELECT public.cache_gate('A')")
            assert found_in(connection).state == "opening"
        writing.execute("COMMIT")

        def opened() -> bool:
            connection.execute("SELECT public.cache_gate('A')")
            return found_in(connection).state == "open"

        until(opened)


def test_a_standby_says_nothing_of_the_gate() -> None:
    """It may be behind, and so would be what is read from it and kept."""
    with (
        own_cluster({"wal_level": "replica", "hot_standby": "on"}) as cluster,
        new_database(cluster.servers()) as settings,
    ):
        command.upgrade(alembic_config(settings), "head")
        name = settings.owner.database
        assert name is not None
        with (
            own_replica(cluster) as replica,
            replica.connect(name) as connection,
            pytest.raises(psycopg.errors.ReadOnlySqlTransaction),
        ):
            connection.execute("SELECT public.cache_gate(NULL)")
