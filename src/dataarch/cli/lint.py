"""``dataarch lint``: what is dangerous about revisions and models, before they meet a server."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Group
from rich.panel import Panel
from rich.syntax import Syntax
from rich.text import Text

from dataarch.cli.terminal import console, plain
from dataarch.rollout.checks import Finding, Project, findings
from dataarch.rollout.checks.configured import configured

__all__ = ["lint"]

Revisions = Annotated[
    list[str] | None,
    typer.Argument(help="Ids or files of the revisions to check; without them, all revisions and the models."),
]
Ini = Annotated[
    str | None, typer.Option("--config", "-c", help="Alembic's configuration; by default alembic.ini here.")
]
Citus = Annotated[bool, typer.Option("--citus", help="Look for what Citus refuses, too.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]


def lint(revision: Revisions = None, *, config: Ini = None, citus: Citus = False, as_json: Json = False) -> None:
    """Say what is dangerous about revisions and models; exit code 1 if anything is."""
    project = configured(config, only=revision or (), citus=citus)
    found = findings(project)
    if as_json:
        typer.echo(json.dumps([_described(one) for one in found], indent=2))
    elif console().is_terminal:
        _show(found)
    else:
        for one in found:
            typer.echo(str(_near(one)))
    if not as_json:
        typer.echo(_summary(project, found))
    if found:
        raise typer.Exit(1)


def _summary(project: Project, found: list[Finding]) -> str:
    looked_at = f"{_counted(len(project.revisions), 'revision')} and {_counted(len(project.tables), 'table')}"
    return f"{_counted(len(found), 'finding')} in {looked_at}"


def _counted(number: int, what: str) -> str:
    return f"{number or 'no'} {what}{'' if number == 1 else 's'}"


def _near(one: Finding) -> Finding:
    """Return a finding with its file as it is named from here."""
    here = Path.cwd()
    inside = one.file is not None and one.file.is_relative_to(here)
    file = one.file.relative_to(here) if one.file is not None and inside else one.file
    return Finding(one.rule, file, one.line, one.what, one.blocks, one.why, one.instead)


def _show(found: list[Finding]) -> None:
    for one in map(_near, found):
        parts: list[Text | Syntax] = [
            plain(one.what),
            Text.assemble(("blocks   ", "bold"), plain(one.blocks)),
            Text.assemble(("why      ", "bold"), plain(one.why)),
        ]
        if one.instead:
            parts += [Text("instead", style="bold"), Syntax(one.instead, "python", word_wrap=True)]
        parts.append(Text.assemble(("or       ", "bold"), plain(one.override)))
        title = Text.assemble((one.rule, "bold red"), " ", plain(one.place))
        console().print(Panel(Group(*parts), title=title, title_align="left"))


def _described(one: Finding) -> dict[str, object]:
    return {
        "rule": one.rule,
        "file": None if one.file is None else str(_near(one).file),
        "line": one.line,
        "what": one.what,
        "blocks": one.blocks,
        "why": one.why,
        "instead": one.instead,
        "override": one.override,
    }
