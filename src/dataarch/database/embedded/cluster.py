"""The data directory of PostgreSQL: made whole or not at all, and never touched where another version made it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from dataarch.database.embedded.account import run
from dataarch.database.embedded.binaries import PostgresPrograms
from dataarch.database.embedded.folder import Site, quoted_end
from dataarch.database.embedded.status import ADMIN_ROLE
from dataarch.errors import EmbeddedServerError

__all__ = ["create_cluster"]

HOST_BASED_AUTHENTICATION = """\
# Whoever can enter the folder of the socket is trusted; that folder is closed to everybody else. No TCP at all.
local all all trust
"""

FITTING_A_SMALL_MACHINE = """
# written by dataarch; what follows may be changed
max_connections = 100
shared_buffers = 128MB
timezone = 'UTC'
log_timezone = 'UTC'
"""


def create_cluster(site: Site, programs: PostgresPrograms, *, lock: int, durable: bool) -> None:
    """Make the data directory if it is missing; the caller holds ``lock``.

    Raises:
        EmbeddedServerError: it cannot be made, or what is there was made by another major version or is no cluster.

    Guarantee: idempotent; a directory that has its name is complete, because it is made beside it and then renamed.
    """
    for unfinished in site.place.glob("postgres.*.part"):
        shutil.rmtree(unfinished, ignore_errors=True)
    if site.data.exists():
        _refuse_other_major(site, programs)
        return
    unfinished = site.place / f"postgres.{os.getpid()}.part"
    unfinished.mkdir(mode=0o700)
    if site.account.demoted:
        os.chown(unfinished, site.account.uid, site.account.gid)
    _initdb(site, programs, unfinished, lock=lock, durable=durable)
    (unfinished / "pg_hba.conf").write_text(HOST_BASED_AUTHENTICATION)
    with (unfinished / "postgresql.conf").open("a") as configuration:
        configuration.write(FITTING_A_SMALL_MACHINE)
    unfinished.rename(site.data)


def _initdb(site: Site, programs: PostgresPrograms, target: Path, *, lock: int, durable: bool) -> None:
    arguments = [programs.path("initdb"), "--pgdata", str(target), "--username", ADMIN_ROLE, "--auth=trust"]
    arguments += ["--encoding=UTF8", "--locale=C"]
    if programs.major >= 17:
        arguments += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
    if not durable:
        arguments.append("--no-sync")
    # initdb inherits the lock: where this process is killed, the next start waits until initdb has ended too.
    made = run(arguments, account=site.account, timeout=120, keep=[lock])
    if made.returncode != 0:
        shutil.rmtree(target, ignore_errors=True)
        raise EmbeddedServerError(
            f"PostgreSQL {programs.version} could not make a database in {site.place}:\n{quoted_end(made.stdout)}\n",
            hint="Make room or permissions there, or set DATAARCH_SERVER_DIR to another folder.",
        )


def _refuse_other_major(site: Site, programs: PostgresPrograms) -> None:
    try:
        major = (site.data / "PG_VERSION").read_text().strip()
    except FileNotFoundError as absent:
        raise EmbeddedServerError(
            f"{site.data} holds no data of PostgreSQL, so no server can start there.",
            hint="Move it away, or set DATAARCH_SERVER_DIR to another folder.",
        ) from absent
    if major != str(programs.major):
        raise EmbeddedServerError(
            f"The data in {site.data} was made by PostgreSQL {major}, and the programs here are PostgreSQL "
            f"{programs.version}, which cannot read it. Nothing was changed.",
            hint=f"Move {site.folder} away to begin anew, or convert the data with pg_upgrade.",
        )
