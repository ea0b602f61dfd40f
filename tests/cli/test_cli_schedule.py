"""The command of schedules: what is due is shown and run, and the system's clock is told how to call it."""

from __future__ import annotations

import configparser
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

import pytest
from sqlalchemy import select, text

from cli.cli_support import Ended, dataarch, refusal
from dataarch.cli.schedule_input import schedules_of
from dataarch.database.unit_of_work import Database
from dataarch.errors import ConfigurationError, DataArchError
from dataarch.models import PipelineRun
from dataarch.pipelines.books import guarded
from pipelines.listed import home

pytestmark = pytest.mark.pipeline

SCHEDULE = ("pipeline", "schedule")
"""The words that lead to the commands."""

FEEDS = """
from dataarch.models import Product
from dataarch.pipelines.extractors import JsonLines
from dataarch.pipelines.loaders.upsert import Upsert
from dataarch.pipelines.pipeline import Pipeline
from dataarch.pipelines.schedulers.schedule import Missed, Schedule


def broken(batch):
    return 1 / 0


def products(name, *steps):
    return Pipeline(name, JsonLines(), steps, Upsert(Product, key="external_id"))


LATE = products("late")
YEARLY = Schedule(products("products"), "0 0 1 1 *", given="incoming/*.jsonl", tenant="{tenant}", zone="Europe/Berlin")
MORE = [
    YEARLY,
    Schedule(products("broken", broken), "0 0 1 1 *", given="incoming/*.jsonl", tenant="{tenant}"),
    Schedule(LATE, "0 0 1 1 *", given="incoming/*.jsonl", tenant="{tenant}", missed=Missed.SKIP),
    Schedule(products("nowhere"), "@yearly", given="incoming/*.jsonl", tenant="no-such-tenant"),
]
"""

RECORD = '{"external_id": "T1", "slug": "tea-1", "name": "Tea", "price": 995, "currency": "GBP"}\n'


@dataclass(frozen=True)
class Shop:
    """A folder with a module of schedules, and the tenant that they are for."""

    db: Database
    folder: Path
    tenant_id: UUID

    def command(self, *arguments: str) -> Ended:
        return dataarch(self.db.settings, self.folder, *SCHEDULE, *arguments, COLUMNS="200")

    def runs(self) -> list[PipelineRun]:
        with self.db.tenant(self.tenant_id) as session:
            return list(session.scalars(select(PipelineRun).order_by(PipelineRun.started_at)))


@pytest.fixture
def shop(shared_db: Database, tmp_path: Path) -> Shop:
    tenant_id = home(shared_db, "shop")
    (tmp_path / "feeds.py").write_text(FEEDS.replace("{tenant}", f"shop-{tenant_id.hex[-12:]}"))
    (tmp_path / "incoming").mkdir()
    (tmp_path / "incoming" / "a.jsonl").write_text(RECORD)
    return Shop(shared_db, tmp_path, tenant_id)


def rows(printed: str) -> dict[str, list[str]]:
    """Return the cells of each row of the table, by the pipeline's name."""
    found = [
        [cell.strip() for cell in line.strip("│").split("│")] for line in printed.splitlines() if line.startswith("│")
    ]
    return {cells[0]: cells[1:] for cells in found}


def test_schedules_are_listed_with_what_is_due(shop: Shop) -> None:
    ended = shop.command("list", "feeds")
    assert ended.code == 0, ended
    found = rows(ended.printed)
    assert list(found) == ["products", "broken", "late", "nowhere"]
    slug, when, last, following, missed = found["products"]
    assert (slug, when, last, missed) == (f"shop-{shop.tenant_id.hex[-12:]}", "0 0 1 1 * · Europe/Berlin", "never", "0")
    assert re.fullmatch(r"now, for \d{4}-01-01 00:00 CET", following)
    assert re.fullmatch(r"\d{4}-01-01 00:00 UTC", found["late"][3])
    assert found["nowhere"][2] == "no such tenant"


def test_what_is_due_runs_once_and_what_fails_is_said_with_exit_code_1(shop: Shop) -> None:
    ended = shop.command("run-due", "feeds")
    assert ended.code == 1
    [done] = ended.printed.splitlines()
    assert re.fullmatch(
        r"products for shop-\w+, due \d{4}-01-01 00:00 CET: 1 read, 1 loaded \(run [0-9a-f-]{36}\)", done
    )
    broken, nowhere = ended.complaints.splitlines()
    assert broken.endswith("UTC: ZeroDivisionError: division by zero")
    assert "There is no tenant no-such-tenant" in nowhere
    again = shop.command("run-due", "feeds", "--pipeline", "products", "--pipeline", "broken")
    assert (again.code, again.printed, again.complaints) == (0, "", "")
    assert {one.pipeline: one.state for one in shop.runs()} == {"products": "finished", "broken": "failed"}
    listed = rows(shop.command("list", "feeds").printed)
    assert re.fullmatch(r"\d{4}-01-01 00:00 CET finished", listed["products"][2])
    assert re.fullmatch(r"\d{4}-01-01 00:00 UTC failed", listed["broken"][2])
    assert re.fullmatch(r"\d{4}-01-01 00:00 CET", listed["products"][3])


def test_a_pipeline_that_is_running_is_no_failure(shop: Shop) -> None:
    with guarded(shop.db, shop.tenant_id, "products"):
        ended = shop.command("run-due", "feeds", "--pipeline", "products")
    assert (ended.code, ended.complaints) == (0, "")
    assert ended.printed.endswith("it is running already; the next call looks again.\n")


def test_a_folder_without_new_files_is_no_failure(shop: Shop) -> None:
    (shop.folder / "incoming" / "a.jsonl").unlink()
    ended = shop.command("run-due", "feeds", "--pipeline", "products")
    assert (ended.code, ended.complaints) == (0, "")
    assert "nothing to read: No file fits the pattern 'incoming/*.jsonl'." in ended.printed


def test_a_run_that_was_killed_is_listed_as_due_again(shop: Shop) -> None:
    shop.command("run-due", "feeds", "--pipeline", "products")
    with shop.db.tenant(shop.tenant_id) as session:
        session.execute(text("UPDATE pipeline_runs SET state = 'running', finished_at = NULL"))
    found = json.loads(shop.command("list", "feeds", "--pipeline", "products", "--json").printed)
    [one] = found
    assert (one["state"], one["again"], one["missed"], one["zone"]) == ("running", True, 0, "Europe/Berlin")
    assert one["due"] == one["last"]
    assert " again" in rows(shop.command("list", "feeds").printed)["products"][3]


def test_a_module_without_schedules_is_refused_with_one_line(shop: Shop) -> None:
    assert "The module json has no schedule" in refusal(shop.command("list", "json"), 2)


@pytest.fixture
def here(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The shop's folder as the current one, whose modules are forgotten afterwards."""
    # another test may have imported a module of this name from a folder of its own
    sys.modules.pop("feeds", None)
    before = set(sys.modules)
    monkeypatch.chdir(shop.folder)
    monkeypatch.setattr(sys, "path", sys.path[:])
    yield shop.folder
    for name in set(sys.modules) - before:
        del sys.modules[name]


@pytest.mark.parametrize(
    ("module", "source", "said"),
    [
        ("nothing_there", "", "There is no module nothing_there"),
        ("../feeds", "", "names no module"),
        ("wrong", "1 / 0\n", "cannot be imported: ZeroDivisionError"),
        ("empty", "SCHEDULES = []\n", "has no schedule"),
        (
            "twice",
            "from feeds import *\nAGAIN = [Schedule(LATE, '@daily', tenant=YEARLY.tenant)]\n",
            "late is scheduled twice",
        ),
    ],
)
def test_a_module_that_schedules_nothing_or_one_pipeline_twice_is_refused(
    here: Path, module: str, source: str, said: str
) -> None:
    if source:
        (here / f"{module}.py").write_text(source)
    with pytest.raises(DataArchError, match=said):
        schedules_of(module)


def test_schedules_stand_in_the_order_of_their_module_and_those_of_a_pipeline_can_be_picked(here: Path) -> None:
    assert [one.pipeline.name for one in schedules_of("feeds")] == ["products", "broken", "late", "nowhere"]
    assert [one.pipeline.name for one in schedules_of("feeds", ["late", "broken"])] == ["broken", "late"]
    with pytest.raises(ConfigurationError, match=r"There are: broken, late, nowhere, products\."):
        schedules_of("feeds", ["product"])


def test_the_timer_of_systemd_calls_the_command_every_minute(shop: Shop) -> None:
    ended = shop.command("timer", "feeds", "--user", "app", "--pipeline", "products")
    service, timer = (configparser.ConfigParser(interpolation=None, comment_prefixes=()) for _ in range(2))
    first, second = re.split(
        r"^# /etc/systemd/system/dataarch-feeds-products\.(?:service|timer)\n", ended.printed, flags=re.MULTILINE
    )[1:]
    service.read_string(first)
    timer.read_string(second.partition("\n# then")[0])
    command = shlex.split(service["Service"]["ExecStart"])
    assert Path(command[0]).name == "dataarch"
    assert command[1:] == [*SCHEDULE, "run-due", "feeds", "--pipeline", "products"]
    assert service["Service"]["User"] == "app"
    assert service["Service"]["WorkingDirectory"] == str(shop.folder)
    assert timer["Timer"]["OnCalendar"] == "*-*-* *:*:00"
    assert "systemctl enable --now dataarch-feeds-products.timer" in second


def test_the_line_of_a_crontab_does_what_is_due(shop: Shop) -> None:
    variables = shop.folder / "the settings.env"
    variables.write_text(f"DATAARCH_DATABASE_URL='{shop.db.settings.database_url}'\n")
    only = ("--pipeline", "products")
    line = shop.command("timer", "feeds", "--cron", "--env-file", str(variables), *only).printed
    assert line.startswith("* * * * * ")
    # a shell gets what stands behind the five fields, as cron gives it
    shell = subprocess.run(
        ["/bin/sh", "-c", line.removeprefix("* * * * * ").replace(r"\%", "%")],
        env={"PATH": "/usr/bin:/bin", "HOME": "/"}, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert (shell.returncode, shell.stdout, shell.stderr) == (0, "", "")
    [one] = shop.runs()
    assert (one.pipeline, one.loaded) == ("products", 1)
