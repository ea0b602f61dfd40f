"""The rooms of the house, and the one way through them."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src" / "dataarch"

ROOMS = {
    "errors": 0,
    "clock": 0,
    "models": 1,
    "database": 2,
    "partitions": 3,
    "caching": 3,
    "repositories": 4,
    "pipelines": 5,
    "rollout": 5,
    "proof": 6,
    "cli": 7,
}
"""Each room and its floor: a module imports from floors above its own (smaller numbers) or from its own room."""

SAME_FLOOR = {("clock", "errors")}
ALSO_FORBIDDEN = {("rollout", "repositories")}
SEEN_BY_NOBODY = {"proof", "cli"}
NAMELESS = {"utils", "helpers", "common", "core", "misc"}
LONGEST_FILE = 500
LONGEST_FUNCTION = 50
MOST_PARAMETERS = 6

MODULES = sorted(PACKAGE.rglob("*.py"))
SOURCES = [*MODULES, *sorted((ROOT / "tests").rglob("*.py")), *sorted((ROOT / "alembic").rglob("*.py"))]


def room_of(module: Path) -> str:
    return module.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported_rooms(module: Path) -> Iterator[tuple[str, int]]:
    """Yield each room that a module imports from, with the line; imports under TYPE_CHECKING count too."""
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}:{node.lineno} imports relatively"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        for name in names:
            parts = name.split(".")
            if parts[0] == "dataarch" and len(parts) > 1:
                yield parts[1], node.lineno


def breaches(module: Path) -> list[str]:
    """Return the imports of a module that go the wrong way."""
    own = room_of(module)
    found = []
    for room, line in imported_rooms(module):
        if own in {room, "__init__"}:
            continue
        if (own, room) in SAME_FLOOR:
            continue
        if room not in ROOMS or ROOMS[room] >= ROOMS[own] or (own, room) in ALSO_FORBIDDEN:
            found.append(f"{module.relative_to(PACKAGE)}:{line} imports from {room}")
    return found


@pytest.mark.parametrize("module", MODULES, ids=lambda module: str(module.relative_to(PACKAGE)))
def test_a_module_imports_only_from_rooms_above_its_own(module: Path) -> None:
    assert room_of(module) in {*ROOMS, "__init__"}
    assert breaches(module) == []


def test_the_facade_shows_neither_the_proof_kit_nor_the_command() -> None:
    assert SEEN_BY_NOBODY.isdisjoint(room for room, _ in imported_rooms(PACKAGE / "__init__.py"))


@pytest.mark.parametrize("module", SOURCES, ids=lambda module: str(module.relative_to(ROOT)))
def test_m31_no_file_is_over_500_lines_and_none_is_nameless(module: Path) -> None:
    assert len(module.read_text().splitlines()) <= LONGEST_FILE
    assert module.stem not in NAMELESS


@pytest.mark.parametrize("module", MODULES, ids=lambda module: str(module.relative_to(PACKAGE)))
def test_no_function_is_too_long_or_takes_too_much(module: Path) -> None:
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            length = node.end_lineno - node.lineno + 1
            assert length <= LONGEST_FUNCTION, f"{node.name} has {length} lines"
            arguments = [a.arg for a in (*node.args.args, *node.args.kwonlyargs) if a.arg not in {"self", "cls"}]
            assert len(arguments) <= MOST_PARAMETERS, f"{node.name} takes {len(arguments)} parameters"


@pytest.mark.parametrize("module", MODULES, ids=lambda module: str(module.relative_to(PACKAGE)))
def test_every_list_of_public_names_is_sorted(module: Path) -> None:
    for node in ast.parse(module.read_text()).body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__all__":
            names = ast.literal_eval(node.value)
            constants = sorted(name for name in names if name.isupper())
            assert names == [
                *constants,
                *sorted(name for name in names if name[0].isupper() and not name.isupper()),
                *sorted(name for name in names if not name[0].isupper()),
            ]


def test_a_folder_of_revisions_does_not_shadow_alembic() -> None:
    assert not (ROOT / "alembic" / "__init__.py").exists()
