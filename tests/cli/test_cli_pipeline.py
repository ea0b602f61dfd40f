"""`dataarch pipeline` and `dataarch lineage`: what they run, show and write, and how they end."""

from __future__ import annotations

import csv
import json
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from cli.cli_support import COMMAND, Ended, cells, dataarch, dataarch_on_terminal, environment, refusal
from dataarch.cli.pipeline_input import pipeline_named
from dataarch.database.settings import Settings
from dataarch.database.unit_of_work import Database
from dataarch.errors import ConfigurationError
from dataarch.models import Product, Tenant
from fixtures.caches import until
from pipelines.listed import home, stored

pytestmark = pytest.mark.pipeline

FEEDS = """
from dataarch import Product
from dataarch.pipelines.extractors import CsvFiles
from dataarch.pipelines.loaders.upsert import Upsert
from dataarch.pipelines.pipeline import Pipeline
from dataarch.pipelines.transformers.fields import renamed
from dataarch.pipelines.validators.model_rules import valid

PRODUCTS = Pipeline(
    "products",
    extract=CsvFiles(),
    steps=(renamed(Code="external_id", Slug="slug", Title="name", Price="price"), valid(Product)),
    load=Upsert(Product, key="external_id"),
)
NOTHING = object()
"""
HEADER = "Code,Slug,Title,Price,currency\n"
GOOD = "T1,tea-pot,Tea pot,9.95,GBP\nT2,kettle,Kettle,19.95,GBP\n"
BAD = "T3,No Slug,Cup,1.50,GBP\nT4,spoon,[bold]Spoon,dear,GBP\n"
WIDE = {"COLUMNS": "220"}


@pytest.fixture
def db(shared_db: Database) -> Database:
    """One database for this file: each test makes tenants of its own."""
    return shared_db


@pytest.fixture
def settings(db: Database) -> Settings:
    return db.settings


@pytest.fixture
def tenant_id(db: Database) -> UUID:
    return home(db)


@pytest.fixture
def slug(db: Database, tenant_id: UUID) -> str:
    [(found,)] = stored(db, tenant_id, Tenant, "slug")
    return str(found)


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """A folder with a module of pipelines and a file to read."""
    (tmp_path / "feeds.py").write_text(FEEDS)
    (tmp_path / "products.csv").write_text(HEADER + GOOD + BAD)
    return tmp_path


def load(settings: Settings, shop: Path, slug: str, *more: str) -> Ended:
    given = ("feeds:PRODUCTS", "products.csv", "--tenant", slug, *more)
    return dataarch(settings, shop, "pipeline", "run", *given, **WIDE)


def asked(settings: Settings, shop: Path, *arguments: str | Path) -> Any:
    """Return what a command that must succeed prints as JSON."""
    ended = dataarch(settings, shop, *arguments, "--json")
    assert (ended.code, ended.complaints) == (0, ""), ended
    return json.loads(ended.printed)


def test_a_run_tells_what_became_of_every_record_and_what_to_do_next(
    db: Database, settings: Settings, shop: Path, slug: str, tenant_id: UUID
) -> None:
    ended = load(settings, shop, slug)
    assert (ended.code, ended.complaints) == (0, "")
    assert "products.csv: 4 records read, 2 of them good, 2 rejected so far" in ended.printed
    # read, loaded, updated, unchanged, rejected, removed
    assert cells(ended.printed, "4")[:6] == ["4", "2", "0", "0", "2", "0"]
    assert len(re.findall(r"│ validate │ (?:slug |price) ", ended.printed)) == 2
    found = re.search(r"Look at them: dataarch (pipeline rejects \S+ --tenant \S+)", ended.printed)
    assert found
    assert dataarch(settings, shop, *found[1].split()).code == 0
    assert stored(db, tenant_id, Product, "external_id") == [("T1",), ("T2",)]
    again = load(settings, shop, slug)
    assert (again.code, again.printed.startswith("Nothing new. Run ")) == (0, True)


def test_a_run_can_be_asked_for_json(settings: Settings, shop: Path, slug: str) -> None:
    found = asked(settings, shop, "pipeline", "run", "feeds:PRODUCTS", "products.csv", "--tenant", slug)
    assert (found["read"], found["loaded"], found["rejected"], found["failed"]) == (4, 2, 2, [])
    assert {reason["field"] for reason in found["reasons"]} == {"slug", "price"}
    (latest,) = asked(settings, shop, "pipeline", "runs", "--tenant", slug)
    assert (latest["run"], latest["state"], latest["read"]) == (found["run"], "finished", 4)


def test_a_terminal_gets_a_bar_with_records_a_second_rejects_and_bytes(
    settings: Settings, shop: Path, slug: str
) -> None:
    given = ("pipeline", "run", "feeds:PRODUCTS", "products.csv", "--tenant", slug)
    ended = dataarch_on_terminal(settings, shop, *given, **WIDE)
    assert ended.code == 0
    assert "━" in ended.printed
    size = (shop / "products.csv").stat().st_size
    assert re.search(rf"100%.*{size}/{size} bytes.*4 records · [\d,]+/s · 2 rejected", ended.printed)


def test_a_source_that_is_cut_off_is_said_and_exits_with_1_and_the_others_are_loaded(
    db: Database, settings: Settings, shop: Path, slug: str, tenant_id: UUID
) -> None:
    (shop / "all").mkdir()
    (shop / "all" / "a.csv").write_text(HEADER + GOOD.removesuffix("\n"))
    (shop / "all" / "b.csv").write_text(HEADER + "T9,tray,Tray,5.00,GBP\n")
    ended = dataarch(settings, shop, "pipeline", "run", "feeds:PRODUCTS", "all", "--tenant", slug)
    assert "a.csv" in refusal(ended, 1)
    assert stored(db, tenant_id, Product, "external_id") == [("T1",), ("T9",)]
    shown = dataarch(settings, shop, "pipeline", "runs", "--tenant", slug, **WIDE)
    assert "failed" in shown.printed
    assert "1 of its sources failed" in shown.printed


def test_runs_and_sources_of_a_tenant_are_listed_and_those_of_others_are_not(
    db: Database, settings: Settings, shop: Path, slug: str
) -> None:
    assert dataarch(settings, shop, "pipeline", "runs", "--tenant", slug).printed == "No run yet.\n"
    assert dataarch(settings, shop, "pipeline", "sources", "--tenant", slug).printed == "No source was read yet.\n"
    load(settings, shop, slug)
    shown = dataarch(settings, shop, "pipeline", "runs", "products", "--tenant", slug, **WIDE)
    assert "4 read" in shown.printed
    assert asked(settings, shop, "pipeline", "runs", "others", "--tenant", slug) == []
    sources = dataarch(settings, shop, "pipeline", "sources", "--tenant", slug, **WIDE)
    size = (shop / "products.csv").stat().st_size
    assert cells(sources.printed, "products")[1:5] == ["products.csv", "4", f"{size}", "yes"]
    [(other,)] = stored(db, home(db), Tenant, "slug")
    assert asked(settings, shop, "pipeline", "sources", "--tenant", other) == []


def test_rejects_are_shown_shortened_and_written_whole_as_csv_and_json_lines(
    settings: Settings, shop: Path, slug: str
) -> None:
    long = f'T5,"cup {"x" * 200}",Cup,1.50,GBP\n"T6"x,a,b,c,d\n'
    (shop / "products.csv").write_text(HEADER + BAD + long)
    run = asked(settings, shop, "pipeline", "run", "feeds:PRODUCTS", "products.csv", "--tenant", slug)["run"]
    of_run = ("pipeline", "rejects", run, "--tenant", slug)
    shown = dataarch(settings, shop, *of_run, "--limit", "3", **WIDE)
    assert "3 of 4; all of them: --csv FILE or --jsonl FILE." in shown.printed
    assert "validate" in shown.printed
    assert "x" * 200 not in shown.printed
    assert "[bold]Spoon" in shown.printed
    assert "4 rejects are in out.csv" in dataarch(settings, shop, *of_run, "--csv", "out.csv").printed
    assert "4 rejects are in out.jsonl" in dataarch(settings, shop, *of_run, "--jsonl", "out.jsonl").printed
    with (shop / "out.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    lines = [json.loads(line) for line in (shop / "out.jsonl").read_text().splitlines()]
    assert [(row["number"], row["stage"], row["field"]) for row in rows] == [
        ("1", "validate", "slug"),
        ("2", "validate", "price"),
        ("3", "validate", "slug"),
        ("4", "extract", ""),
    ]
    assert [line["reason"].endswith(" slugify(text) makes one.") for line in lines] == [True, False, True, False]
    assert json.loads(rows[2]["record"]) == lines[2]["record"]
    assert lines[2]["record"]["Slug"] == f"cup {'x' * 200}"
    assert rows[3]["record"] == lines[3]["record"] == f'{HEADER}"T6"x,a,b,c,d\n'.removesuffix("\n")


def test_rejects_are_replayed_once_their_cause_is_mended_and_a_row_tells_both_runs(
    db: Database, settings: Settings, shop: Path, slug: str, tenant_id: UUID
) -> None:
    run = asked(settings, shop, "pipeline", "run", "feeds:PRODUCTS", "products.csv", "--tenant", slug)["run"]
    mended = FEEDS.replace("steps=(", "steps=(computed(Slug=lambda row: slugify(row['Slug'])), ").replace(
        "import renamed", "import computed, renamed\nfrom dataarch.models.types import slugify"
    )
    (shop / "feeds.py").write_text(mended)
    again = dataarch(
        settings, shop, "pipeline", "replay", run, "--tenant", slug, "--pipeline", "feeds:PRODUCTS", **WIDE
    )
    assert (again.code, again.complaints) == (0, "")
    assert cells(again.printed, "2")[:6] == ["2", "1", "0", "0", "1", "0"]
    waiting = dataarch(settings, shop, "pipeline", "rejects", run, "--tenant", slug)
    assert waiting.printed == "No reject waits to be mended.\n"
    everything = dataarch(settings, shop, "pipeline", "rejects", run, "--tenant", slug, "--all", **WIDE)
    assert "No Slug" in everything.printed
    cup = str(dict(stored(db, tenant_id, Product, "external_id", "id"))["T3"])
    (origin,) = asked(settings, shop, "lineage", cup, "--tenant", slug)
    assert (origin["replay_of"], origin["record"], origin["source"]) == (run, 3, "products.csv")
    pot = str(dict(stored(db, tenant_id, Product, "external_id", "id"))["T1"])
    shown = dataarch(settings, shop, "lineage", pot, "--tenant", slug, "--table", "products", **WIDE)
    assert run in shown.printed
    assert "SHA-256" in shown.printed
    [(other,)] = stored(db, home(db), Tenant, "slug")
    nothing = dataarch(settings, shop, "lineage", pot, "--tenant", other)
    assert nothing.printed == "No pipeline wrote such a row of this tenant.\n"


SHOPS = """
from feeds import PRODUCTS
from dataclasses import replace
from decimal import Decimal
from dataarch.pipelines.loaders.upsert import Upsert
from dataarch.pipelines.pipeline import TenantName
from dataarch.pipelines.transformers.fields import computed


class OfShops(Upsert):
    def load(self, session, rows):
        return super().load(session, [{name: row[name] for name in row if name != "Shop"} for row in rows])


PRODUCTS = replace(
    PRODUCTS,
    steps=(PRODUCTS.steps[0], computed(price=lambda row: Decimal(row["price"]))),
    load=OfShops(PRODUCTS.load.model, key="external_id"),
    tenant_by=lambda row: TenantName(row["Shop"], row["Shop"]),
)
"""


def test_rejects_that_wait_with_other_tenants_are_said_to(
    db: Database, settings: Settings, shop: Path, slug: str, tenant_id: UUID
) -> None:
    (shop / "shops.py").write_text(SHOPS)
    header = HEADER.replace("Code", "Shop,Code")
    other = f"other-{tenant_id.hex[-12:]}"
    whose = (other, slug, slug, other, other, other)
    lines = [f"{one},T{n},tea,Tea,9.95,GBP\n" for n, one in enumerate(whose)]
    (shop / "shops.csv").write_text(header + "".join(lines))
    given = ("pipeline", "run", "shops:PRODUCTS", "shops.csv", "--tenant", slug)
    ended = dataarch(settings, shop, *given, **WIDE)
    assert cells(ended.printed, "6")[:6] == ["6", "2", "0", "0", "4", "0"], ended
    assert "3 of them wait with the tenants that they are of: look at them, and replay them" in ended.printed
    (shop / "shops.csv").write_text(header + "".join(lines[1:]))
    again = asked(settings, shop, *given)
    assert (again["rejected"], again["rejected_elsewhere"]) == (4, 3)


@pytest.mark.parametrize(
    ("named", "words"),
    [
        ("feeds", "names no pipeline. Write it as MODULE:NAME"),
        ("feeds:", "names no pipeline"),
        ("nowhere:PRODUCTS", "There is no module nowhere. Start in the folder"),
        ("feeds:USERS", "The module feeds has no USERS."),
        ("feeds:NOTHING", "has a NOTHING that is no Pipeline but object"),
        ("broken:PRODUCTS", "The module broken cannot be imported: ModuleNotFoundError: No module named 'missing_one'"),
        ("wrong:PRODUCTS", "The module wrong cannot be imported: SyntaxError"),
    ],
)
def test_what_is_no_pipeline_is_refused(shop: Path, named: str, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (shop / "broken.py").write_text("import missing_one\n")
    (shop / "wrong.py").write_text("PRODUCTS = (\n")
    monkeypatch.chdir(shop)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "feeds", raising=False)
    with pytest.raises(ConfigurationError) as refused:
        pipeline_named(named)
    assert words in str(refused.value)


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("run", "feeds:USERS", "products.csv", "--tenant", "SLUG"), 2, "The module feeds has no USERS."),
        (("run", "feeds:PRODUCTS", "missing.csv", "--tenant", "SLUG"), 2, "There is no file or folder"),
        (("run", "feeds:PRODUCTS", "products.csv", "--tenant", "no-such"), 2, "There is no tenant no-such."),
        (("run", "feeds:PRODUCTS", "products.csv", "--tenant", "No Slug"), 2, "is not a slug"),
        (("rejects", "7", "--tenant", "SLUG"), 2, "'7' is not the id of a run."),
        (("rejects", str(UUID(int=7)), "--tenant", "SLUG"), 1, "This tenant has no run"),
        (("rejects", str(UUID(int=7)), "--tenant", "SLUG", "--csv", "a", "--jsonl", "b"), 2, "One file"),
        (("replay", str(UUID(int=7)), "--tenant", "SLUG", "--pipeline", "feeds:PRODUCTS"), 1, "has no run"),
    ],
)
def test_what_is_not_there_is_refused(
    settings: Settings, shop: Path, slug: str, arguments: tuple[str, ...], code: int, words: str
) -> None:
    given = [slug if one == "SLUG" else one for one in arguments]
    assert words in refusal(dataarch(settings, shop, "pipeline", *given), code)


def test_a_file_that_cannot_be_written_is_refused(settings: Settings, shop: Path, slug: str) -> None:
    run = asked(settings, shop, "pipeline", "run", "feeds:PRODUCTS", "products.csv", "--tenant", slug)["run"]
    refused = dataarch(settings, shop, "pipeline", "rejects", run, "--tenant", slug, "--csv", "no/such/folder.csv")
    assert "cannot be written (No such file or directory)" in refusal(refused, 2)


SLOW = """
import time
from dataclasses import dataclass
from pathlib import Path

from feeds import PRODUCTS as FAST
from dataarch.pipelines.extractors import CsvFiles
from dataclasses import replace


class Waiting(CsvFiles):
    def read(self, source, position, size):
        for number, batch in enumerate(super().read(source, position, size)):
            if number == 2 and not position.records:
                Path("waiting").touch()
                while not Path("released").exists():
                    time.sleep(0.01)
            yield batch


PRODUCTS = replace(FAST, extract=Waiting())
"""


def test_ctrl_c_ends_with_130_and_the_same_command_goes_on_from_there(
    db: Database, settings: Settings, shop: Path, slug: str, tenant_id: UUID
) -> None:
    (shop / "slow.py").write_text(SLOW)
    arguments = ["pipeline", "run", "slow:PRODUCTS", "products.csv", "--tenant", slug, "--batch", "1"]
    process = subprocess.Popen(
        [*COMMAND, *arguments],
        cwd=shop,
        env=environment(settings, shop),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    until((shop / "waiting").exists, "the third record")
    until(lambda: stored(db, tenant_id, Product, "external_id") == [("T1",), ("T2",)], "the second record")
    process.send_signal(signal.SIGINT)
    (shop / "released").touch()
    _, complaints = process.communicate(timeout=60)
    assert process.returncode == 130
    assert complaints == "error: Stopped. What was committed stays, and the same command goes on from there.\n"
    (stopped,) = asked(settings, shop, "pipeline", "runs", "--tenant", slug)
    assert (stopped["state"], stopped["loaded"]) == ("failed", 2)
    again = asked(settings, shop, *arguments)
    # nothing that came after Ctrl-C was begun
    assert (stopped["read"], again["read"], again["rejected"]) == (2, 2, 2)
