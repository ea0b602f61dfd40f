"""What the demonstration shows: counts, partitions, plans, and what one tenant sees of another."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple
from uuid import UUID

from rich.console import Console
from rich.table import Column, Table
from sqlalchemy import text
from sqlalchemy.orm import Session

from dataarch.cli.terminal import plain
from dataarch.database.engine import owner_engine
from dataarch.database.unit_of_work import Database
from dataarch.errors import PrivilegeMissing
from dataarch.pipelines.feeds.retail import DESK

__all__ = ["contents"]

MOST_TENANTS = 40
FEW_ROWS = 20_000

TENANTS = text(
    """
    SELECT tenants.id, tenants.name,
           (SELECT count(*) FROM users WHERE tenant_id = tenants.id),
           (SELECT count(*) FROM products WHERE tenant_id = tenants.id),
           (SELECT count(*) FROM user_activity_log WHERE tenant_id = tenants.id) AS activity,
           (SELECT count(*) FROM inventory_movements WHERE tenant_id = tenants.id),
           (SELECT coalesce(sum(quantity), 0) FROM inventory WHERE tenant_id = tenants.id),
           (SELECT coalesce(sum(change), 0) FROM inventory_movements WHERE tenant_id = tenants.id)
    FROM tenants WHERE slug <> :desk ORDER BY activity DESC, tenants.name
    """
)
"""The shops, without the tenant that keeps the runs."""

PARTITIONS = text(
    """
    SELECT tableoid::regclass::text, count(*),
           to_char(min(created_at) AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI'),
           to_char(max(created_at) AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI')
    FROM user_activity_log GROUP BY 1 ORDER BY min(created_at)
    """
)
RAREST = text(
    """
    SELECT user_id, metadata ->> 'stock_code' FROM user_activity_log
    WHERE tenant_id = :tenant AND metadata ->> 'stock_code' IS NOT NULL GROUP BY 1, 2 ORDER BY count(*), 1, 2 LIMIT 1
    """
)
"""A user and a product that few rows are about: what an index is for."""

LATEST = (
    "SELECT * FROM user_activity_log WHERE tenant_id = :tenant AND user_id = :user ORDER BY created_at DESC LIMIT 50"
)
SEARCH = "SELECT * FROM user_activity_log WHERE tenant_id = :tenant AND metadata @> CAST(:filter AS jsonb)"
INTRUSIONS = {
    "users": "SELECT count(*) FROM users WHERE tenant_id = :tenant",
    "products": "SELECT count(*) FROM products WHERE tenant_id = :tenant",
    "inventory_movements": "SELECT count(*) FROM inventory_movements WHERE tenant_id = :tenant",
    "user_activity_log": "SELECT count(*) FROM user_activity_log WHERE tenant_id = :tenant",
    "find_activity('{}')": "SELECT count(*) FROM find_activity('{}', max_rows => 1000000) WHERE tenant_id = :tenant",
}
DIRECTLY = "SELECT count(*) FROM user_activity_log_rest_min"


class TenantRows(NamedTuple):
    """A tenant and how many rows it has."""

    id: UUID
    name: str
    users: int
    products: int
    activity: int
    movements: int
    on_hand: int
    ledger_sum: int


def contents(console: Console, db: Database) -> None:
    """Show what the database holds, how it is found, and that tenants do not see each other."""
    _vacuum(db)
    with db.owner() as session:
        # a role that the policies bind would be shown nothing, and not told so
        session.execute(text("SET LOCAL row_security = off"))
        tenants = [TenantRows(*row) for row in session.execute(TENANTS, {"desk": DESK.slug})]
        _tenants(console, tenants)
        _partitions(console, session)
        if tenants:
            _plans(console, db, session, tenants[0].id)
    if len(tenants) > 1:
        _intrusions(console, db, tenants[0], tenants[1])


def _vacuum(db: Database) -> None:
    """Bring statistics up to date, and empty the GIN index's list of pending entries: the planner counts its pages."""
    with owner_engine(db.settings).connect() as connection:
        connection.execution_options(isolation_level="AUTOCOMMIT").execute(text("VACUUM (ANALYZE) user_activity_log"))


def _tenants(console: Console, tenants: Sequence[TenantRows]) -> None:
    table = Table("tenant", title="rows per tenant")
    for header in ("users", "products", "activity", "movements", "on hand", "ledger sum"):
        # on a narrow terminal a number goes on in the next line: cut off, it would be another number
        table.add_column(header, justify="right", overflow="fold")
    for row in tenants[:MOST_TENANTS]:
        table.add_row(plain(row.name), *(f"{count:,}" for count in row[2:]))
    console.print(table)
    if len(tenants) > MOST_TENANTS:
        console.print(f"… and {len(tenants) - MOST_TENANTS} more")


def _partitions(console: Console, session: Session) -> None:
    rows_column = Column("rows", justify="right", overflow="fold")
    table = Table("partition", rows_column, "first", "last", title="rows per partition of user_activity_log")
    for name, rows, first, last in session.execute(PARTITIONS):
        table.add_row(name, f"{rows:,}", first, last)
    console.print(table)


def _plans(console: Console, db: Database, owner: Session, tenant: UUID) -> None:
    rarest = owner.execute(RAREST, {"tenant": tenant}).one_or_none()
    if rarest is None:
        return
    user, code = rarest
    small = owner.scalars(text("SELECT count(*) FROM user_activity_log")).one() < FEW_ROWS
    filled = {name for name, *_ in owner.execute(PARTITIONS)}
    console.print("\nplans, in the partitions that hold rows", style="italic")
    with db.tenant(tenant) as session:
        plan = _plan(session, LATEST, {"tenant": tenant, "user": user}, small=small)
        _show_plan(console, "M14 the latest 50 of a user, as dataarch_app", plan, filled)
    with db.owner() as session:
        plan = _plan(session, SEARCH, {"tenant": tenant, "filter": json.dumps({"stock_code": code})}, small=small)
        _show_plan(console, "M15 a search in metadata, inside find_activity()", plan, filled)
    if small:
        console.print("(sequential scans were switched off for these plans: on so few rows no index is needed)")


def _plan(session: Session, query: str, values: Mapping[str, object], *, small: bool) -> list[str]:
    if small:
        session.execute(text("SET LOCAL enable_seqscan = off"))
    return list(session.scalars(text(f"EXPLAIN (COSTS OFF) {query}"), values))


def _show_plan(console: Console, title: str, plan: list[str], filled: set[str]) -> None:
    console.print(title, highlight=False)
    for line in plan:
        scan = line.strip().removeprefix("->").strip()
        if any(re.search(rf"\b{name}", scan) for name in filled) and "Scan" in scan:
            console.print(plain(f"    {scan}"), soft_wrap=True)


def _intrusions(console: Console, db: Database, victim: TenantRows, intruder: TenantRows) -> None:
    table = Table("as dataarch_app, in a session of", title="what one tenant sees of another")
    table.add_column(plain(f"{intruder.name}: its own rows"), justify="right", overflow="fold")
    table.add_column(plain(f"rows of {victim.name}"), justify="right", overflow="fold")
    with db.tenant(intruder.id) as session:
        for what, query in INTRUSIONS.items():
            own, others = (session.scalar(text(query), {"tenant": tenant}) for tenant in (intruder.id, victim.id))
            table.add_row(what, f"{own:,}", f"{others:,}")
    table.add_row("a partition, directly", "", _directly(db, intruder.id))
    console.print(table)


def _directly(db: Database, tenant: UUID) -> str:
    try:
        with db.tenant(tenant) as session:
            return f"{session.scalar(text(DIRECTLY)):,}"
    except PrivilegeMissing:
        return "permission denied"
