"""``dataarch lineage``: where a row comes from."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from dataarch.cli.pipeline_input import AsJson, Tenant, id_of, tenant_named
from dataarch.cli.pipeline_tables import origin_table, print_json
from dataarch.cli.terminal import console
from dataarch.database.settings import Settings
from dataarch.database.unit_of_work import Database
from dataarch.pipelines.lineage import origins

__all__ = ["lineage"]

Row = Annotated[str, typer.Argument(metavar="ROW", help="The row's id.")]
Table = Annotated[str | None, typer.Option("--table", help="The table that it is in; ids are unique without it too.")]


def lineage(row: Row, *, tenant: Tenant, table: Table = None, as_json: AsJson = False) -> None:
    """Show every run of a pipeline that wrote a row, the newest last: its source, record, bytes and times."""
    row_id = id_of(row, "row")
    with Database(Settings.load()) as db, db.tenant(tenant_named(db, tenant)) as session:
        found = origins(session, row_id, table)
    if as_json:
        print_json([asdict(one) for one in found])
    elif found:
        console().print(origin_table(found))
    else:
        console().print("No pipeline wrote such a row of this tenant.", soft_wrap=True)
