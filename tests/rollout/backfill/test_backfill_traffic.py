"""While writers change, add, move and delete rows, a backfill and its verification lose none and hinder none."""

from __future__ import annotations

import random
from threading import Event, Thread

import pytest

from dataarch.rollout.backfill import Pace
from rollout.backfill.backfill_support import SETS, Ground, not_done

pytestmark = pytest.mark.migration

ROWS = 10_000

WRITES = (
    "UPDATE traffic SET full_name = full_name || '!' WHERE id = {old}",
    "UPDATE traffic SET id = {far} WHERE id = {old}",
    "UPDATE traffic SET id = -{far} WHERE id = {old}",
    "DELETE FROM traffic WHERE id = {old}",
    "INSERT INTO traffic (id, full_name) VALUES ({new}, 'New') ON CONFLICT (id) DO UPDATE SET full_name = 'Both'",
)


def test_writers_go_on_and_nothing_differs_at_the_end(ground: Ground) -> None:
    ground.users("traffic", ROWS)
    ground.do(
        "CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS"
        " $$BEGIN NEW.display_name := NEW.full_name; RETURN NEW; END$$",
        "CREATE TRIGGER keep BEFORE INSERT OR UPDATE ON traffic FOR EACH ROW EXECUTE FUNCTION keep()",
    )
    name = ground.register("traffic", SETS)
    stop, wrong, written = Event(), [], []

    def write(seed: int) -> None:
        chance = random.Random(seed)
        try:
            with ground.connect() as connection:
                connection.execute("SET lock_timeout = '10s'")
                while not stop.is_set():
                    keys = {"old": chance.randrange(ROWS), "new": chance.randrange(-ROWS, 2 * ROWS)}
                    keys["far"] = chance.randrange(10**9, 10**15)
                    connection.execute(chance.choice(WRITES).format(**keys).encode())
                    written.append(seed)
        except Exception as error:  # noqa: BLE001  # it is looked at below
            wrong.append(error)

    writers = [Thread(target=write, args=(seed,), daemon=True) for seed in range(2)]
    for writer in writers:
        writer.start()
    outcome = ground.run(name, workers=2, pace=Pace(seconds=0.005, most=500, first=50))
    verified = ground.verify(name)
    stop.set()
    for writer in writers:
        writer.join(timeout=60)
    assert wrong == []
    assert {0, 1} == set(written)
    assert outcome.failed == verified.differing == 0
    assert not_done(ground, ["traffic"]) == 0
    assert verified.compared == verified.rows
