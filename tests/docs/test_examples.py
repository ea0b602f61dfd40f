"""The sample data and the package as a stranger gets them."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from dataarch.database.settings import Settings
from dataarch.pipelines.feeds.retail import RETAIL
from dataarch.pipelines.records import Position

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT / "examples" / "data"


def test_the_sample_has_the_dirt_of_real_data() -> None:
    extract = RETAIL.extract
    batches = [batch for source in extract.sources(DATA) for batch in extract.read(source, Position(), 1000)]
    reasons = {(reject.field, reject.reason) for batch in batches for reject in RETAIL.through(batch).rejects}
    assert ("CustomerID", "blank") in reasons
    assert len(reasons) >= 6


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package as its wheel lays it down, away from the checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True, timeout=120)
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


def run_installed(installed: Path, code: str, settings: Settings, folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {
        **os.environ,
        "PYTHONPATH": str(installed),
        "DATAARCH_DATABASE_URL": str(settings.database_url),
        "DATAARCH_OWNER_URL": str(settings.owner_url),
    }
    return subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env=environment, capture_output=True, text=True, timeout=120
    )


def test_the_wheel_upgrades_a_database_without_the_repository(
    installed: Path, empty_database: Settings, tmp_path: Path
) -> None:
    code = "import sys; sys.argv[1:] = ['upgrade']; from dataarch.cli import main; main()"
    done = run_installed(installed, code, empty_database, tmp_path)
    assert done.returncode == 0, done.stderr
    assert "head" in done.stdout


def test_an_alembic_ini_of_ones_own_can_point_at_the_package(
    installed: Path, empty_database: Settings, tmp_path: Path
) -> None:
    (tmp_path / "alembic.ini").write_text("[alembic]\nscript_location = dataarch:migrations\n")
    code = "from alembic.config import main; main(argv=['upgrade', 'head']); main(argv=['check'])"
    done = run_installed(installed, code, empty_database, tmp_path)
    assert done.returncode == 0, done.stderr
    assert "No new upgrade operations detected" in done.stdout


def test_a_project_can_have_its_revisions_beside_those_of_the_package(
    installed: Path, empty_database: Settings, tmp_path: Path
) -> None:
    page = (ROOT / "docs" / "how-to" / "installed.md").read_text()
    (tmp_path / "alembic.ini").write_text(page.split("```ini\n")[-1].split("```")[0])
    (tmp_path / "alembic" / "versions").mkdir(parents=True)
    (tmp_path / "alembic" / "env.py").write_text("from dataarch.rollout.environment import run\n\nrun()\n")
    own = "revision = 'own'\ndown_revision = None\n\n\ndef upgrade():\n    pass\n"
    (tmp_path / "alembic" / "versions" / "own.py").write_text(own)
    code = "from alembic.config import main; main(argv=['upgrade', 'heads']); main(argv=['current'])"
    done = run_installed(installed, code, empty_database, tmp_path)
    assert done.returncode == 0, done.stderr
    assert {line.split()[-1] for line in done.stdout.splitlines()} == {"(head)"}
    assert "own (head)" in done.stdout


def test_the_wheel_carries_every_revision_and_nothing_of_the_tests(installed: Path) -> None:
    carried = {file.name for file in (installed / "dataarch" / "migrations" / "versions").glob("*.py")}
    assert carried == {file.name for file in (ROOT / "alembic" / "versions").glob("*.py")}
    assert not (installed / "tests").exists()


def test_the_example_ships_stock_and_is_refused_what_is_not_there(settings: Settings) -> None:
    environment = {**os.environ, "DATAARCH_DATABASE_URL": str(settings.database_url)}
    done = subprocess.run(
        [sys.executable, "-W", "error", str(ROOT / "examples" / "ship_stock.py")],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "received, on hand: 5",
        "shipped, on hand: 3",
        "refused by ck_inventory_quantity_not_negative",
        "still on hand: 3",
    ]
