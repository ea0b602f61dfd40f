"""Which account the servers run as, and the one place where a program is run as it."""

from __future__ import annotations

import os
import pwd
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dataarch.errors import EmbeddedServerError

__all__ = ["Account", "account_for", "can_enter", "run"]

UNPRIVILEGED = ("postgres", "_postgres", "nobody")
"""Accounts that PostgreSQL may run as where the caller is root, in order of preference; none is ever created."""


@dataclass(frozen=True, slots=True)
class Account:
    """The account of the servers; ``demoted`` says that it is another than the caller's, which is then root."""

    uid: int
    gid: int
    demoted: bool


def account_for(*paths: Path) -> Account:
    """Return the account that runs the servers of a folder.

    It is the caller's. Root, which PostgreSQL refuses, hands over to the owner of the first of ``paths`` that exists
    and is not root's own, otherwise to an account without privileges.

    Raises:
        EmbeddedServerError: the caller is root and the system has no account without privileges.

    Guarantee: reads only.
    """
    if os.geteuid() != 0:
        return Account(os.geteuid(), os.getegid(), demoted=False)
    for path in paths:
        if path.exists() and (found := path.stat()).st_uid != 0:
            return Account(found.st_uid, found.st_gid, demoted=True)
    for name in UNPRIVILEGED:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(entry.pw_uid, entry.pw_gid, demoted=True)
    raise EmbeddedServerError(
        "PostgreSQL refuses to run as root, and this system has neither an account postgres nor nobody to run it as.",
        hint="Run dataarch as an ordinary user, or set DATAARCH_DATABASE_URL.",
    )


def run(
    arguments: Sequence[str],
    *,
    account: Account,
    timeout: float,
    environment: Mapping[str, str] | None = None,
    streams: tuple[int, int] = (subprocess.PIPE, subprocess.STDOUT),
    keep: Sequence[int] = (),
) -> subprocess.CompletedProcess[str]:
    """Run a program as an account, in a session of its own, and return what it answered.

    Args:
        timeout: seconds; after that the program is ended.
        streams: where its output and its errors go, as in :mod:`subprocess`; by default both are returned.
        keep: further file descriptors that it inherits.

    Raises:
        EmbeddedServerError: it took longer than ``timeout``.
        OSError: it cannot be executed, for example by this account.

    Guarantee: no variable of the caller's that libpq, PostgreSQL or the locale reads has an influence.
    """
    try:
        return subprocess.run(  # noqa: S603  # only programs found by binaries.py, never through a shell
            arguments,
            stdin=subprocess.DEVNULL,
            stdout=streams[0],
            stderr=streams[1],
            text=True,
            errors="replace",
            check=False,
            cwd="/",  # the caller's folder may be closed to the account
            env={**_clean_environment(), **(environment or {})},
            timeout=timeout,
            pass_fds=tuple(keep),
            umask=0o077,
            start_new_session=True,  # Ctrl-C in the terminal ends neither a server nor initdb in the middle
            user=account.uid if account.demoted else None,
            group=account.gid if account.demoted else None,
            extra_groups=[] if account.demoted else None,
        )
    except subprocess.TimeoutExpired as late:
        raise EmbeddedServerError(
            f"{Path(arguments[0]).name} did not come to an end in {timeout:.0f} seconds.",
            hint="Try again when the machine is less busy; the log in the folder of the server may say more.",
        ) from late


def can_enter(account: Account, folder: Path) -> bool:
    """Return whether an account may pass through a folder and all above it; found out by trying."""
    if not account.demoted:
        return os.access(folder, os.X_OK)
    return run(["/bin/sh", "-c", 'cd "$1"', "sh", str(folder)], account=account, timeout=10).returncode == 0


def _clean_environment() -> dict[str, str]:
    # PGPORT, PGOPTIONS or PGTZ would reach the server too; a locale other than C makes PostgreSQL on macOS threaded.
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PG", "LC_", "LANG", "TZ"))}
    return {**kept, "LC_ALL": "C", "TZ": "UTC"}
