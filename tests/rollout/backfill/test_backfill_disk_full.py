"""A disk that is really full: the command says so, the books are right, and with room the next run completes it.

The table lies in a cluster of the test's own, on a small file system that is made larger then.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cli.cli_support import Ended, dataarch, refusal
from fixtures.clusters import Cluster, own_cluster
from fixtures.small_disks import small_disk
from rollout.backfill.backfill_support import SETS, Ground, count_updates, ground_of, not_done

pytestmark = pytest.mark.migration

ROWS = 30_000
SMALL = "3m"
"""Room for all rows as they are, and for some of their new versions."""


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    with own_cluster() as made:
        yield made


@pytest.fixture
def own_ground(cluster: Cluster) -> Iterator[Ground]:
    with ground_of(cluster.servers()) as made:
        yield made


def command(ground: Ground, folder: Path, *arguments: str) -> Ended:
    return dataarch(ground.settings, folder, "backfill", *arguments, COLUMNS="200")


def standing(ground: Ground, folder: Path, name: str) -> dict[str, Any]:
    (listed,) = json.loads(command(ground, folder, "list", name, "--json").printed)
    return dict(listed)


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_full_disk_ends_the_command_by_name_and_once_there_is_room_the_next_one_completes_it(
    cluster: Cluster, own_ground: Ground, tmp_path: Path, workers: str
) -> None:
    own_ground.users("crowded", ROWS)
    own_ground.do("ALTER TABLE crowded SET (autovacuum_enabled = off)")
    count_updates(own_ground, "crowded")
    name = own_ground.register("crowded", SETS)
    run = ("run", name, "--workers", workers)
    with small_disk(cluster, str(own_ground.settings.owner.database), "crowded", SMALL) as disk:
        done = 0
        for _ in range(2):
            # the second time there is no more room than before
            said = refusal(command(own_ground, tmp_path, *run), 1)
            assert "The server's disk is full" in said
            assert "No space left on device" in said
            assert "Make room on the server's disk, and run it again: what was committed stays." in said
            stands = standing(own_ground, tmp_path, name)
            assert stands["state"] == "stopped"
            assert done <= stands["changed"] == stands["seen"] == ROWS - not_done(own_ground, ["crowded"])
            done = stands["changed"]
            assert 0 < done < ROWS
            assert (stands["failures"], stands["verified_rows"]) == ([], None)
        assert "has not finished" in refusal(command(own_ground, tmp_path, "verify", name), 1)
        disk.make_room()
        ran = command(own_ground, tmp_path, *run)
        assert ran.code == 0, ran
        assert f"{ROWS - done:,} rows looked at, {ROWS - done:,} changed" in ran.printed
        # a row that is filled twice would be counted twice
        assert own_ground.rows("SELECT count(*), count(DISTINCT id) FROM crowded_updates") == [(ROWS, ROWS)]
        assert command(own_ground, tmp_path, "verify", name).code == 0
        stands = standing(own_ground, tmp_path, name)
        assert (stands["state"], stands["seen"], stands["verified_rows"]) == ("verified", ROWS, ROWS)
