"""`dataarch backfill`: what it shows, how it goes on after it was stopped, and how it ends."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli.cli_support import COMMAND, Ended, dataarch, dataarch_on_terminal, environment, refusal
from fixtures.caches import until
from fixtures.servers import Servers
from rollout.backfill.backfill_support import SETS, Ground, ground_of, not_done

pytestmark = pytest.mark.migration

WIDE = {"COLUMNS": "200"}


@pytest.fixture(scope="module")
def ground(servers: Servers) -> Iterator[Ground]:
    with ground_of(servers) as made:
        yield made


def backfill(ground: Ground, folder: Path, *arguments: str) -> Ended:
    return dataarch(ground.settings, folder, "backfill", *arguments, **WIDE)


def test_it_is_listed_run_and_verified(ground: Ground, tmp_path: Path) -> None:
    ground.users("users", 3_000)
    name = ground.register("users", SETS, name="name [bold]users[/]")
    assert re.search(r"│ name \[bold\]users\[/\] +│ registered +│ +0 │", backfill(ground, tmp_path, "list").printed)
    ran = backfill(ground, tmp_path, "run", name, "--workers", "2", "--limit", "lag=none", "--limit", "active=1000")
    assert (ran.code, ran.complaints) == (0, ""), ran
    assert re.search(r"of about 3,000 rows filled \(\d+ %\), [\d,]+/s, \d+ s left\n", ran.printed)
    assert "3,000 rows looked at, 3,000 changed" in ran.printed
    assert f"dataarch backfill verify {name}" in ran.printed
    assert "nothing was left to do" in backfill(ground, tmp_path, "run", name).printed
    verified = backfill(ground, tmp_path, "verify", name)
    assert verified.code == 0
    assert "is verified: 3,000 of 3,000 rows are concerned, and none differs." in verified.printed
    (listed,) = json.loads(backfill(ground, tmp_path, "list", name, "--json").printed)
    assert (listed["state"], listed["seen"], listed["verified_rows"]) == ("verified", 3_000, 3_000)


def test_on_a_terminal_a_bar_moves(ground: Ground, tmp_path: Path) -> None:
    ground.users("on_terminal", 3_000)
    name = ground.register("on_terminal", SETS)
    ended = dataarch_on_terminal(ground.settings, tmp_path, "backfill", "run", name, **WIDE)
    assert ended.code == 0
    assert "100%" in ended.printed
    assert "3,000 of about 3,000 rows filled" in ended.printed


def test_rows_that_fail_and_rows_that_differ_end_it_with_1_and_are_shown(ground: Ground, tmp_path: Path) -> None:
    ground.do(
        "CREATE TABLE amounts (id integer PRIMARY KEY, written text, amount integer)",
        "INSERT INTO amounts SELECT n, n FROM generate_series(1, 1000) AS n",
        "UPDATE amounts SET written = 'many' WHERE id = 700",
    )
    name = ground.register("amounts", {"amount": "written::integer"})
    ran = backfill(ground, tmp_path, "run", name)
    assert "1 rows could not be filled" in refusal(ran, 1)
    listed = backfill(ground, tmp_path, "list").printed
    assert re.search(r"│ public.amounts │ 700 │ 22P02 +│ invalid input syntax for type integer: \"many\" │", listed)
    ground.do("UPDATE amounts SET written = '7' WHERE id = 700")
    assert backfill(ground, tmp_path, "run", name).code == 0
    ground.do("UPDATE amounts SET amount = 8 WHERE id = 700")
    verified = backfill(ground, tmp_path, "verify", name)
    assert f"1 of 1,000 rows differ, so {name} is not verified." in refusal(verified, 1)
    assert re.search(r"│ public.amounts │ 700 │ amount │ 8  │ 7 ", verified.printed)
    assert f"dataarch backfill run {name} --again" in verified.complaints
    assert backfill(ground, tmp_path, "run", name, "--again").code == 0
    assert backfill(ground, tmp_path, "verify", name, "--json").code == 0


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("run", "nothing"), 1, "There is no backfill nothing."),
        (("verify", "nothing"), 1, "There is no backfill nothing."),
        (("pause", "nothing"), 1, "There is no backfill nothing."),
        (("list", "nothing"), 1, "There is no backfill nothing."),
        (("run", "nothing", "--limit", "lag=soon"), 2, "'lag=soon' is no limit."),
        (("run", "nothing", "--limit", "speed=3"), 2, "'speed=3' is no limit."),
    ],
)
def test_what_is_not_there_is_refused(
    ground: Ground, tmp_path: Path, arguments: tuple[str, ...], code: int, words: str
) -> None:
    assert words in refusal(backfill(ground, tmp_path, *arguments), code)


def test_ctrl_c_ends_after_a_batch_and_pause_makes_it_wait(ground: Ground, tmp_path: Path) -> None:
    ground.users("slow", 4_000)
    ground.do(
        "CREATE FUNCTION slowly() RETURNS trigger LANGUAGE plpgsql AS"
        " $$BEGIN PERFORM pg_sleep(0.005); RETURN NEW; END$$",
        "CREATE TRIGGER slowly BEFORE UPDATE ON slow FOR EACH ROW EXECUTE FUNCTION slowly()",
    )
    name = ground.register("slow", SETS)
    process = subprocess.Popen(
        [*COMMAND, "backfill", "run", name],
        cwd=tmp_path,
        env=environment(ground.settings, tmp_path),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    seen = "SELECT sum(seen) FROM dataarch_rollout.backfill_ranges"
    until(lambda: (ground.value(f"{seen} WHERE name = '{name}'") or 0) > 0, "a batch")
    assert backfill(ground, tmp_path, "pause", name).code == 0
    assert process.stdout is not None
    until(lambda: "waits: it was paused" in (process.stdout.readline() if process.stdout else ""), "the pause")
    before = ground.value(f"{seen} WHERE name = '{name}'")
    time.sleep(0.5)
    assert ground.value(f"{seen} WHERE name = '{name}'") == before
    assert f"{name} goes on." in backfill(ground, tmp_path, "resume", name).printed
    until(lambda: ground.value(f"{seen} WHERE name = '{name}'") > before, "another batch")
    process.send_signal(signal.SIGINT)
    _, complaints = process.communicate(timeout=60)
    assert process.returncode == 130
    assert complaints == "error: Stopped. What was committed stays, and the same command goes on from there.\n"
    reached = ground.value(f"{seen} WHERE name = '{name}'")
    assert 0 < reached < 4_000
    assert not_done(ground, ["slow"]) == 4_000 - reached
    ground.do("DROP TRIGGER slowly ON slow")
    ended = backfill(ground, tmp_path, "run", name)
    assert f"{4_000 - reached:,} rows looked at, {4_000 - reached:,} changed" in ended.printed
    assert "nobody runs it" in backfill(ground, tmp_path, "resume", name).printed
