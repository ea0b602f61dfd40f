"""`dataarch load retail`: what it shows, and that it goes on where it stopped."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from cli.cli_support import COLUMNS, EXAMPLES, dataarch, dataarch_on_terminal, interrupt, numbers, refusal
from dataarch.database.settings import Settings
from fixtures.catalogs import contents

pytestmark = pytest.mark.pipeline


def test_files_are_loaded_and_every_line_is_accounted_for_once(settings: Settings, tmp_path: Path) -> None:
    first = dataarch(settings, tmp_path, "load", "retail", EXAMPLES)
    assert (first.code, first.complaints) == (0, "")
    assert numbers(first.printed) == {"read": 531, "loaded": 501, "duplicates": 6, "rejected": 24}
    assert "2025-01-30.csv … 2025-02-01.csv: 531 records read, 507 of them good, 24 rejected so far" in first.printed
    assert re.search(r"│ CustomerID +│ blank +│ +\d+ +│", first.printed)
    again = dataarch(settings, tmp_path, "load", "retail", f"{EXAMPLES}/*.csv")
    assert (again.code, numbers(again.printed)["read"]) == (0, 0)
    assert "Nothing new" in again.printed
    assert contents(settings)["user_activity_log"][0] == 501


def test_a_terminal_gets_a_bar_by_bytes_with_lines_a_second_and_rejects(settings: Settings, tmp_path: Path) -> None:
    ended = dataarch_on_terminal(settings, tmp_path, "load", "retail", EXAMPLES, COLUMNS="120")
    assert ended.code == 0
    printed = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", ended.printed)
    assert re.search(r"━ +100% (\S+)/\1 kB 531 records · [0-9,]+/s · 24 rejected 0:00:00", printed)


def test_tenants_can_be_told_by_another_column(settings: Settings, tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    line = "1,A1,TEA POT,2,2025-01-01 08:00:00,2.50,7,France"
    file.write_text(f"{COLUMNS},Shop\n{line},North\n{line},South\n")
    ended = dataarch(settings, tmp_path, "load", "retail", file, "--tenant-by", "Shop")
    assert (ended.code, numbers(ended.printed)["loaded"]) == (0, 2)
    assert contents(settings)["tenants"][0] == 3
    assert "Quantity" in refusal(dataarch(settings, tmp_path, "load", "retail", file, "--tenant-by", "Quantity"), 1)


def test_ctrl_c_ends_with_130_and_the_same_command_goes_on(settings: Settings, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    for number in range(80):
        lines = [
            f"{at},A{at},TEA POT,2,2025-01-01 08:00:00,2.50,7,France" for at in range(50 * number, 50 * number + 50)
        ]
        (data / f"{number}-{'a long name' * 18}.csv").write_text("\n".join([COLUMNS, *lines, ""]))
    interrupt(settings, tmp_path, "load", "retail", data, "--batch", "25")
    done = contents(settings)["user_activity_log"][0]
    assert 0 < done < 4000
    again = numbers(dataarch(settings, tmp_path, "load", "retail", data).printed)
    assert again == {"read": 4000 - done, "loaded": 4000 - done, "duplicates": 0, "rejected": 0}
