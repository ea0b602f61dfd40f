"""What a terminal sees and what a pipe sees."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from cli.cli_support import (
    COMMAND,
    EXAMPLES,
    dataarch,
    dataarch_installed,
    dataarch_on_terminal,
    environment,
    numbers,
    refusal,
)
from dataarch.database.settings import Settings

pytestmark = pytest.mark.pipeline

COLOUR = re.compile(r"\x1b\[[0-9;]*[1-9][0-9;]*m")


def test_a_pipe_gets_plain_lines_without_control_characters(settings: Settings, tmp_path: Path) -> None:
    printed = dataarch(settings, tmp_path, "demo", EXAMPLES).printed
    assert all(sign.isprintable() or sign == "\n" for sign in printed)
    assert "2025-01-30.csv … 2025-02-01.csv: 531 records read, 507 of them good, 24 rejected so far" in printed


def test_a_terminal_gets_a_progress_bar_and_colours(settings: Settings, tmp_path: Path) -> None:
    ended = dataarch_on_terminal(settings, tmp_path, "demo", EXAMPLES)
    assert ended.code == 0
    assert "━" in ended.printed
    assert re.search(r"100%.* 531 records · [0-9,]+/s · 24\s+rejected", ended.printed)
    assert COLOUR.search(ended.printed)


def test_no_color_takes_the_colours_away(settings: Settings, tmp_path: Path) -> None:
    printed = dataarch_on_terminal(settings, tmp_path, "demo", EXAMPLES, NO_COLOR="1").printed
    assert not re.search(r"\x1b\[(?:[0-9;]*;)?(?:3[0-9]|4[0-9]|9[0-9])(?:;[0-9;]*)?m", printed)


@pytest.mark.parametrize("columns", ["40", "1"])
def test_a_narrow_terminal_loses_no_digit_of_a_count(settings: Settings, tmp_path: Path, columns: str) -> None:
    ended = dataarch(settings, tmp_path, "demo", EXAMPLES, COLUMNS=columns)
    assert (ended.code, ended.complaints) == (0, "")
    if columns == "40":
        assert numbers(ended.printed)["read"] == 531


def test_a_terminal_without_unicode_gets_signs_that_it_has(settings: Settings, tmp_path: Path) -> None:
    ended = dataarch_installed(settings, tmp_path, "demo", EXAMPLES, PYTHONIOENCODING="ascii")
    assert (ended.code, ended.complaints) == (0, "")
    assert ended.printed.isascii()
    assert "C\\xf4te" in ended.printed


def test_an_error_on_a_terminal_is_one_line_too(settings: Settings, tmp_path: Path) -> None:
    ended = dataarch_on_terminal(settings, tmp_path, "demo", "missing", COLUMNS="40")
    assert ended.code == 2
    assert len(ended.printed.splitlines()) == 1
    assert refusal(dataarch(settings, tmp_path, "demo", "missing", COLUMNS="40"), 2)


def test_a_reader_that_goes_away_is_no_traceback(settings: Settings, tmp_path: Path) -> None:
    process = subprocess.Popen(
        [*COMMAND, "demo", str(EXAMPLES)],
        env={**environment(settings, tmp_path), "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    complaints = process.stderr.read()
    process.stderr.close()
    assert process.wait(timeout=60) in {0, 1}
    assert "Traceback" not in complaints
