"""Who writes while a change goes up and down again is refused nothing, and loses nothing."""

from __future__ import annotations

import threading
from itertools import count

import psycopg
import pytest

from dataarch.database.settings import Settings
from dataarch.rollout import changes
from dataarch.rollout.drafting.draft import Change
from fixtures.servers import libpq
from rollout.changes.change_support import Project

pytestmark = pytest.mark.migration

ROWS = 3000

FILLED = f"""
INSERT INTO orders SELECT n, n % 20 + 1, 0, 'note ' || n FROM generate_series(301, {ROWS}) AS n;
UPDATE orders SET amount = 0;
CREATE INDEX by_note ON orders (note);
"""

CHANGES: dict[str, tuple[Change, str | None]] = {
    "rename-column": (changes.RenameColumn("orders", "note", "remark"), "contract_rename"),
    "change-type": (changes.ChangeType("orders", "amount", "bigint"), "contract_type"),
    "split-columns": (
        changes.SplitColumns("orders", "note", into=("a=split_part(note, ' ', 1)", "b=note"), back="b"),
        "contract_split",
    ),
    "set-not-null": (changes.SetNotNull("orders", "note"), None),
    "add-column": (changes.AddColumn("orders", "t", "uuid", default="gen_random_uuid()", not_null=True), None),
    "add-check": (changes.AddCheck("orders", "ck", "amount >= 0"), None),
    "add-foreign-key": (changes.AddForeignKey("orders", "customer_id", "customers"), None),
    "add-unique": (changes.AddUnique("orders", ("id", "note")), None),
    "add-index": (changes.AddIndex("orders", ("note", "amount")), None),
    "drop-index": (changes.DropIndex("orders", "by_note"), None),
    "drop-column": (changes.DropColumn("orders", "Mixed %Case"), None),
}


class Writer(threading.Thread):
    """The version of the application that is there before the change."""

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self.url = libpq(settings.owner)
        self.ended = threading.Event()
        self.written = 0
        self.refused: list[str] = []

    def run(self) -> None:
        """Write until told to end."""
        statement = "UPDATE orders SET note = %s, amount = amount + 1 WHERE id = %s"
        with psycopg.connect(self.url, autocommit=True) as connection:
            for number in count(1):
                if self.ended.is_set():
                    return
                try:
                    connection.execute(statement, [f"v {number}", number * 7919 % ROWS + 1])
                    self.written += 1
                except psycopg.Error as error:
                    self.refused.append(str(error))


@pytest.mark.parametrize(("change", "last"), CHANGES.values(), ids=CHANGES.keys())
def test_who_writes_is_refused_nothing_and_loses_nothing(project: Project, change: Change, last: str | None) -> None:
    project.sql(FILLED)
    names = project.write(change)
    # what comes after it is for when this version no longer runs
    numbers = [name[:4] for name in names if last is None or last not in name]
    backfill = next((name[:4] for name in names if "_backfill_" in name), None)
    writer = Writer(project.settings)
    writer.start()
    try:
        if backfill is not None:
            project.up(backfill)
            project.backfill(names[0].removesuffix(".py").partition("_expand_")[2])
        project.up(numbers[-1])
        project.down("0001")
    finally:
        writer.ended.set()
        writer.join()
    assert writer.refused == []
    assert writer.written > 0
    assert project.rows("SELECT sum(amount)::int, count(note)::int FROM orders") == [(writer.written, ROWS)]
