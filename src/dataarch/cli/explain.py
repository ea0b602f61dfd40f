"""``dataarch explain``: how PostgreSQL would carry out a statement, and what looks wrong about it."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from sqlalchemy import TextClause, bindparam, text
from sqlalchemy.types import NullType

from dataarch.cli.operator import operator_settings
from dataarch.cli.terminal import plain
from dataarch.database.changes import TOKEN
from dataarch.database.plans import Plan
from dataarch.database.unit_of_work import Database
from dataarch.errors import ConfigurationError, InputMissing

__all__ = ["explain"]

PARAMETER = re.compile(r"(?<![:\w\\]):([^\W\d]\w*)")

Statement = Annotated[
    str, typer.Argument(metavar="[SQL]", help="The SQL, or @FILE to read it from a file; without it, standard input.")
]
Tenant = Annotated[str | None, typer.Option(help="Id of the tenant that asks, as the application's role.")]
Owner = Annotated[bool, typer.Option("--owner", help="Ask as the owner of the tables, outside the policies.")]
Analyze = Annotated[bool, typer.Option("--analyze", help="Run it, to measure; what it writes is undone.")]
Params = Annotated[list[str] | None, typer.Option("--param", "-p", help="A value for :name, as name=value.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]


def explain(
    statement: Statement = "-",
    *,
    tenant: Tenant = None,
    owner: Owner = False,
    analyze: Analyze = False,
    param: Params = None,
    as_json: Json = False,
) -> None:
    """Show the plan of a statement: its steps, indexes, partitions and pages, and what looks wrong."""
    if owner == (tenant is not None):
        raise ConfigurationError(
            "Somebody must ask: one tenant, or the owner.", hint="Add --tenant with its id, or --owner; not both."
        )
    asked = _with_values(_sql(statement), _values(param or ()))
    with Database(operator_settings()) as db:
        plan = db.explain(asked, tenant_id=tenant, owner=owner, analyze=analyze)
    if as_json:
        typer.echo(json.dumps(described(plan), indent=2))
    else:
        _show(plan)


def _sql(given: str) -> str:
    """Return the SQL that was given, or that the file or standard input holds."""
    if given == "-":
        return sys.stdin.read()
    if not given.startswith("@"):
        return given
    try:
        return Path(given[1:]).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as missing:
        raise InputMissing(
            f"The file {given[1:]!r} cannot be read: {missing}.", hint="Name a file of SQL as @FILE.", value=given
        ) from None


def _values(given: Iterable[str]) -> dict[str, str]:
    found = {}
    for one in given:
        name, equals, value = one.partition("=")
        if not equals or not name.isidentifier():
            raise ConfigurationError(f"{one!r} is no parameter.", hint="Write it as --param name=value.", value=one)
        found[name] = value
    return found


def _with_values(sql: str, values: dict[str, str]) -> TextClause:
    """Return SQL with its parameters; what looks like one within a text or a comment is none."""
    named = set(PARAMETER.findall(TOKEN.sub("''", sql)))
    for missing in sorted(named - values.keys()):
        raise ConfigurationError(
            f"The statement has a parameter :{missing} without a value.", hint=f"Add --param {missing}=…"
        )
    for unknown in sorted(values.keys() - named):
        raise ConfigurationError(
            f"The statement has no parameter :{unknown}.", hint="Write it where the value belongs, outside of quotes."
        )
    # the server finds out what each value is, from where it stands
    binds = [bindparam(name, value, type_=NullType()) for name, value in values.items()]
    return text("".join(_readable(sql))).bindparams(*binds)


def _readable(sql: str) -> Iterator[str]:
    """Give the parts of SQL as SQLAlchemy reads them: no parameter in a text, and one before a cast too."""
    end = 0
    for token in TOKEN.finditer(sql):
        yield PARAMETER.sub(r":\1 ", sql[end : token.start()])
        yield token[0].replace(":", r"\:")
        end = token.end()
    yield PARAMETER.sub(r":\1 ", sql[end:])


def described(plan: Plan) -> dict[str, Any]:
    """Return a plan as JSON takes it: what the objects say, and EXPLAIN's own words."""
    measured: dict[str, Any] = {}
    if plan.ran:
        measured = {
            "rows": plan.rows,
            "execution_ms": plan.execution_ms,
            "buffers": {name: getattr(plan.buffers, name) for name in plan.buffers.__slots__},
            "partitions_touched": plan.partitions_touched,
            "partitions_never_executed": plan.partitions_never_executed,
            "wal_bytes": plan.wal_bytes,
        }
    return {
        "statement": plan.statement,
        "ran": plan.ran,
        "indexes": plan.indexes,
        "index_names": plan.index_names,
        "tables": plan.tables,
        "sequential_scans": plan.sequential_scans,
        "partitions": plan.partitions,
        "pruned_when_planned": plan.pruned_when_planned,
        "pruned_at_start": plan.pruned_at_start,
        "rows_expected": plan.rows_expected,
        "planning_ms": plan.planning_ms,
        **measured,
        "hints": [{"table": one.table, "message": one.message, "advice": one.advice} for one in plan.hints],
        "plan": dict(plan.raw),
    }


def _show(plan: Plan) -> None:
    console = Console(highlight=False)
    for line in plan.tree:
        console.print(plain(line), soft_wrap=True)
    table = Table(show_header=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for name, value in plan.summary:
        table.add_row(plain(name), plain(value))
    console.print(table)
    for hint in plan.hints:
        console.print(plain(f"hint: {hint}"), style="yellow", soft_wrap=True)
