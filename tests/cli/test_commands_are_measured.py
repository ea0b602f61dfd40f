"""What a command runs is counted by coverage, although its process is forked and not started."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest
from coverage import Coverage, CoverageData

from cli.cli_support import environment
from dataarch.cli import main
from fixtures.zygote import Zygote

ROOT = Path(__file__).resolve().parents[2]
MAIN = inspect.getsourcelines(main)
REFUSED = next(number for number, line in enumerate(MAIN[0], MAIN[1]) if "sys.exit(error.exit_code)" in line)


def test_lines_that_run_in_each_forked_command_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measuring = Coverage(data_file=str(tmp_path / "measured"), config_file=str(ROOT / "pyproject.toml"))
    monkeypatch.setenv("COVERAGE_PROCESS_CONFIG", measuring.config.serialize())
    zygote = Zygote()
    for _ in range(2):
        code, _, _ = zygote.run(["upgrade"], tmp_path, environment(None, tmp_path, DATAARCH_DATABASE_URL="nonsense"))
        assert code == 2
    written = [CoverageData(str(file)) for file in tmp_path.glob("measured.*")]
    assert len(written) == 2
    for data in written:
        data.read()
        assert REFUSED in (data.lines(str(inspect.getsourcefile(main))) or ())
    zygote.end()
