"""Places outside our folder: short ones for sockets, reachable ones for what another account must read."""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import stat
import tempfile
from contextlib import suppress
from pathlib import Path

from dataarch.database.embedded.account import Account, can_enter
from dataarch.errors import EmbeddedServerError

__all__ = ["SHELL_SAFE", "is_private", "private_place", "socket_folder"]

SHELL_SAFE = re.compile(r"[\w/.,:@%+= ()'-]+")
"""A path that means itself inside double quotes in a shell."""

PLAIN = re.compile(r"[A-Za-z0-9/_.-]{1,60}")
"""A folder for sockets: without characters that a URL, a list or a shell would read, and short, because the whole path
of a socket may have about 100 bytes."""

PLAIN_PLACE = re.compile(r"[A-Za-z0-9/_.-]{1,60}/dataarch-\d+-[0-9a-f]{12}")

REACHABLE = Path("/var/tmp")  # noqa: S108  # every folder below it is checked for its owner before it is used
SHORT = Path("/tmp")  # noqa: S108  # the same


def private_place(key: str, *, mode: int, recorded: Path | None = None) -> Path:
    """Return a folder of the caller's in /var/tmp, made if it is missing, named from the user id and a hash of ``key``.

    Guarantee: the folder is the caller's own, no symbolic link, and nobody else may write to it; where another has
    taken the name, a random one is used.
    """
    for folder in _names(REACHABLE, key, recorded if recorded and recorded.parent == REACHABLE else None):
        with suppress(FileExistsError):
            folder.mkdir(mode=0o700)
        if _belongs_to(folder, os.geteuid()) and not folder.lstat().st_mode & 0o022:
            folder.chmod(mode)
            return folder
    raise EmbeddedServerError(f"No folder of our own could be made in {REACHABLE}.", hint="Look who fills that folder.")


def socket_folder(key: str, account: Account, *, recorded: Path | None) -> Path:
    """Return the folder for sockets: the recorded one while it can be trusted, otherwise a new one.

    Raises:
        EmbeddedServerError: there is no short folder for temporary files that the account can reach.

    Guarantee: it belongs to the account, only the account may enter it, and no symbolic link leads to it.
    """
    for folder in _names(_short_base(account), key, recorded):
        with suppress(FileExistsError, FileNotFoundError):
            folder.mkdir(mode=0o700)
            if account.demoted:
                os.chown(folder, account.uid, account.gid)
        if is_private(folder, account.uid):
            return folder
    raise EmbeddedServerError("No private folder for sockets could be made.", hint="Set TMPDIR to a folder of yours.")


def is_private(folder: Path, uid: int) -> bool:
    """Return whether a folder is a real one, belongs to ``uid``, and is closed to everybody else."""
    return _belongs_to(folder, uid) and stat.S_IMODE(folder.lstat().st_mode) == 0o700


def _belongs_to(folder: Path, uid: int) -> bool:
    try:
        found = folder.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == uid


def _names(base: Path, key: str, recorded: Path | None) -> list[Path]:
    """Return the names to try: the recorded one if we made it, the one that belongs to the key, random ones."""
    prefix = f"dataarch-{os.geteuid()}-"
    digest = hashlib.sha256(key.encode(errors="surrogateescape")).hexdigest()[:12]
    kept = [recorded] if recorded and PLAIN_PLACE.fullmatch(str(recorded)) else []
    return [*kept, base / f"{prefix}{digest}", *(base / f"{prefix}{secrets.token_hex(6)}" for _ in range(3))]


def _short_base(account: Account) -> Path:
    for base in (Path(tempfile.gettempdir()), SHORT):
        if PLAIN.fullmatch(str(base)) and base.is_dir() and can_enter(account, base):
            return base
    raise EmbeddedServerError(
        f"The sockets need a folder with a short name, and neither {tempfile.gettempdir()} nor {SHORT} will do.",
        hint="Set TMPDIR to a folder with at most 60 plain characters.",
    )
