"""The folder of the servers: what lies in it, its lock, and the record of what had to be put elsewhere."""

from __future__ import annotations

import fcntl
import json
import os
import re
import secrets
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from dataarch.database.embedded.account import Account, account_for, can_enter
from dataarch.database.embedded.places import is_private, private_place, socket_folder
from dataarch.errors import EmbeddedServerError, shown

__all__ = [
    "Site",
    "explained",
    "known_site",
    "locked",
    "open_log",
    "prepare",
    "quoted_end",
    "replace_file",
    "settled_site",
]

LOCK_PATIENCE = 120.0
"""Seconds that a start or stop waits for another one of the same folder; the longest of these takes about 60."""

LARGEST_LOG = 10_000_000
"""Bytes; a log that is larger when a server starts is set aside, one old one is kept."""

IGNORE_ALL = "*\n"

CONTROL_CHARACTER = re.compile(r"[\x00-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class Site:
    """Where everything of one folder is.

    Attributes:
        folder: the folder, resolved.
        place: where the data is: the folder, unless the account of the servers cannot reach it.
        sockets: the folder of the sockets.
        account: the account that runs the servers.
    """

    folder: Path
    place: Path
    sockets: Path
    account: Account

    @property
    def data(self) -> Path:
        """The data directory of PostgreSQL."""
        return self.place / "postgres"

    @property
    def postgres_log(self) -> Path:
        """The log of PostgreSQL."""
        return self.folder / "log" / "postgres.log"

    @property
    def valkey_log(self) -> Path:
        """The log of Valkey."""
        return self.folder / "log" / "valkey.log"

    @property
    def valkey_pid(self) -> Path:
        """The file with the process id of Valkey."""
        return self.folder / "valkey.pid"

    def sockets_are_private(self) -> bool:
        """Return whether the sockets may be trusted: nobody but the account of the servers can have put them there."""
        return is_private(self.sockets, self.account.uid)

    def clear_sockets(self, names: Sequence[str]) -> None:
        """Remove sockets that nobody of ours listens on any more, and nothing where the folder is not to be trusted."""
        if self.sockets_are_private():
            for name in names:
                (self.sockets / name).unlink(missing_ok=True)


def prepare(folder: Path) -> None:
    """Make the folder if it is missing: closed to other users, and ignored by git.

    Guarantee: a folder that holds somebody's files gets neither other permissions nor a ``.gitignore``.
    """
    if CONTROL_CHARACTER.search(str(folder)):
        raise EmbeddedServerError(
            f"The folder {shown(str(folder))} has a control character in its name, which PostgreSQL cannot record.",
            hint="Set DATAARCH_SERVER_DIR to a folder without.",
        )
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
    if all(found.suffix == ".part" for found in folder.iterdir()):
        replace_file(folder / ".gitignore", IGNORE_ALL)
    if not (folder / "log").is_dir():
        (folder / "log").mkdir(mode=0o700, exist_ok=True)
        _give(folder / "log", folder)


@contextmanager
def locked(folder: Path) -> Iterator[int]:
    """Hold the lock of the folder and give its file descriptor, for children that must end before others begin.

    Raises:
        EmbeddedServerError: another start or stop of this folder did not come to an end in time.

    Guarantee: one holder at a time; the lock of a process that was killed is free as soon as its children have ended.
    """
    lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        _give(folder / "lock", folder)
        deadline = time.monotonic() + LOCK_PATIENCE
        while not _lock_taken(lock):
            if time.monotonic() > deadline:
                raise EmbeddedServerError(
                    f"Another process has been starting or stopping the servers in {folder} for {LOCK_PATIENCE:.0f} s.",
                    hint="See which process has its file `lock` open, and try again when that has ended.",
                )
            time.sleep(0.02)
        yield lock
    finally:
        os.close(lock)


def settled_site(folder: Path) -> Site:
    """Return where everything is to be, made ready and recorded; the caller holds the lock.

    Raises:
        EmbeddedServerError: the data is there, and the account of the servers cannot reach it.

    Guarantee: idempotent; the record of a folder that this one was copied from is not used.
    """
    record = _record(folder)
    place = _settled_place(folder, record)
    account = account_for(place / "postgres", folder)
    _settle_owner(place / "postgres", account)
    sockets = socket_folder(_key(folder), account, recorded=record.get("sockets"))
    site = Site(folder, place, sockets, account)
    _remember(site)
    return site


def known_site(folder: Path) -> Site | None:
    """Return where everything is as it was recorded; None if there is no data.

    Without a record the sockets are where none can be: a server may then still be ended, but not be asked.

    Guarantee: reads only.
    """
    record = _record(folder)
    place = record.get("place", folder)
    site = Site(folder, place, record.get("sockets", folder / "sockets"), account_for(place / "postgres", folder))
    return site if site.data.is_dir() else None


def open_log(log: Path) -> int:
    """Open a log for appending and return its file descriptor; the servers inherit it, so they need not reach it."""
    with suppress(FileNotFoundError):
        if log.stat().st_size > LARGEST_LOG:
            log.replace(log.with_suffix(".old.log"))
    opened = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    _give(log, log.parent)
    return opened


def replace_file(path: Path, text: str) -> None:
    """Write a small file of the folder. Guarantee: a reader, also after a kill, never sees half of it."""
    unfinished = path.with_name(f"{path.name}.{secrets.token_hex(4)}.part")
    unfinished.touch(mode=0o600, exist_ok=False)
    unfinished.write_text(text)
    _give(unfinished, path.parent)
    unfinished.replace(path)


def quoted_end(text: str) -> str:
    """Return the last lines of a log, as an error quotes them."""
    return "\n".join(text.strip().splitlines()[-6:]) or "(nothing)"


@contextmanager
def explained(folder: Path, doing: str) -> Iterator[None]:
    """Turn what the operating system refuses into an error that says what was being done."""
    try:
        yield
    except OSError as refused:
        about = f": {refused.filename}" if refused.filename else ""
        raise EmbeddedServerError(
            f"The servers in {folder} cannot be {doing}: {refused.strerror or refused}{about}.",
            hint="Make the folder writable to you and the disk have room, or set DATAARCH_SERVER_DIR to another one.",
        ) from refused


# ── the place of the data ─────────────────────────────────────────────────────────────────────────────────────────


def _settled_place(folder: Path, record: dict[str, Path]) -> Path:
    account = account_for(folder / "postgres", folder)
    if not account.demoted:
        return folder
    if folder.stat().st_uid == os.geteuid() and _is_ours(folder):
        os.chown(folder, -1, account.gid)
        folder.chmod(0o710)
    if can_enter(account, folder):
        return folder
    if (folder / "postgres").exists():
        raise EmbeddedServerError(
            f"The data in {folder} cannot be reached by user id {account.uid}, which PostgreSQL runs as under root.",
            hint="Open the folders above it for that user, or move the folder to where it can be reached.",
        )
    place = private_place(_key(folder), mode=0o711, recorded=record.get("place"))
    os.chown(place, -1, account.gid)
    place.chmod(0o710)
    return place


def _settle_owner(data: Path, account: Account) -> None:
    if not data.exists() or (owner := data.stat().st_uid) == account.uid:
        return
    if account.demoted and owner == os.geteuid():
        # Root made a copy of the folder, and with it the data became root's.
        for found in (data, *data.rglob("*")):
            os.chown(found, account.uid, account.gid, follow_symlinks=False)
    else:
        raise EmbeddedServerError(
            f"The data in {data} belongs to user id {owner}, and you are user id {account.uid}.",
            hint="Start the servers as that user, or set DATAARCH_SERVER_DIR to a folder of your own.",
        )


def _is_ours(folder: Path) -> bool:
    try:
        return (folder / ".gitignore").read_text() == IGNORE_ALL
    except OSError:
        return False


# ── the record ────────────────────────────────────────────────────────────────────────────────────────────────────


def _key(folder: Path) -> str:
    return f"{folder}:{folder.stat().st_ino}"


def _record(folder: Path) -> dict[str, Path]:
    """Return what was recorded for this very folder, or nothing: a copy has another inode than its original.

    A folder that was moved keeps its record: it has the same inode, and nothing is left where it was.
    """
    try:
        read = json.loads((folder / "state.json").read_text(errors="surrogateescape"))
        found = folder.stat()
        same = (read["inode"], read["device"]) == (found.st_ino, found.st_dev)
        if not same or (read["folder"] != str(folder) and Path(read["folder"]).exists()):
            return {}
        return {"place": folder if read["inside"] else Path(read["place"]), "sockets": Path(read["sockets"])}
    except (FileNotFoundError, NotADirectoryError, ValueError, KeyError, TypeError):
        return {}


def _remember(site: Site) -> None:
    found = site.folder.stat()
    text = json.dumps(
        {
            "folder": str(site.folder),
            "inode": found.st_ino,
            "device": found.st_dev,
            "inside": site.place == site.folder,
            "place": str(site.place),
            "sockets": str(site.sockets),
        },
        indent=2,
    )
    state = site.folder / "state.json"
    if not state.exists() or state.read_text() != text:
        replace_file(state, text)


def _give(path: Path, folder: Path) -> None:
    # Root in somebody's checkout must not leave files there that their owner cannot change.
    owner = folder.stat()
    if os.geteuid() == 0 and owner.st_uid != 0:
        os.chown(path, owner.st_uid, owner.st_gid, follow_symlinks=False)


def _lock_taken(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
