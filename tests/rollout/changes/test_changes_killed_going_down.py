"""A way down that commits in its middle, and is killed there, can be run again, and ends with the same schema."""

from __future__ import annotations

import pytest

from dataarch.rollout import changes
from dataarch.rollout.drafting.draft import Change
from rollout.changes.change_support import Project
from rollout.changes.test_change_drop_column import CHANGES as DROPPED
from rollout.changes.test_change_rename_column import CHANGES as RENAMED

pytestmark = pytest.mark.migration

DRESSED = "with all that can be on it"

CASES: dict[str, tuple[Change, str, str]] = {
    "rename-column": (RENAMED[DRESSED][0], RENAMED[DRESSED][2], "loosen"),
    "rename-column, partitioned": (RENAMED["partitioned"][0], RENAMED["partitioned"][2], "loosen"),
    "drop-column": (DROPPED[DRESSED][0], DROPPED[DRESSED][1], "drop"),
    "drop-column, left out": (changes.DropColumn("orders", "amount"), "SELECT", "leave_out"),
    "set-not-null": (changes.SetNotNull("orders", "note"), "SELECT", "set"),
}


@pytest.mark.parametrize(("change", "dressed", "what"), CASES.values(), ids=CASES.keys())
def test_it_begins_once_more_and_ends_with_the_same_schema(
    project: Project, change: Change, dressed: str, what: str
) -> None:
    project.sql(dressed)
    (name,) = [name for name in project.write(change) if f"_{what}_" in name]
    below = f"{int(name[:4]) - 1:04}"
    for number in range(2, int(name[:4])):
        project.up(f"{number:04}")
        project.fill()
    before = project.schema()
    project.up(name[:4])
    written = project.text(name)
    # its last line: all that has committed by then is there
    (project.versions / name).write_text(f'{written.rstrip()}\n    raise RuntimeError("killed")\n')
    for _ in range(2):
        with pytest.raises(RuntimeError, match="killed"):
            project.down(below)
    (project.versions / name).write_text(written)
    project.down(below)
    assert project.schema() == before
