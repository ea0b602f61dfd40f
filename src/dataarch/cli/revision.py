"""``dataarch revision``: write the revision files of a change of the schema."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from dataclasses import MISSING, Field, fields
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import typer
from alembic.config import Config

from dataarch.cli.operator import operator_settings
from dataarch.cli.terminal import console, plain
from dataarch.errors import ConfigurationError
from dataarch.rollout import changes
from dataarch.rollout.drafting.draft import Change
from dataarch.rollout.drafting.project import drafted, write

__all__ = ["app"]

app = typer.Typer(
    help="Write the revisions of a change under which everybody goes on: expand, backfill, contract.",
    no_args_is_help=True,
)

CONFIG = Annotated[Path, typer.Option("--config", "-c", help="The project's alembic.ini.")]
DRY_RUN = Annotated[bool, typer.Option("--dry-run", help="Print the files instead of writing them.")]


def _command(kind: type[Change]) -> Callable[..., None]:
    """Return the command of a change: its fields are the arguments, those with a default are options."""

    def command(*, config: Path, dry_run: bool, **given: Any) -> None:
        values = {name: tuple(value) if isinstance(value, list) else value for name, value in given.items()}
        _make(kind(**values), config, dry_run=dry_run)

    hints = get_type_hints(kind, include_extras=True)
    own = [_parameter(one, hints[one.name]) for one in fields(kind)]  # type: ignore[arg-type]  # each is a dataclass
    more = [_keyword("config", CONFIG, Path("alembic.ini")), _keyword("dry_run", DRY_RUN, False)]  # noqa: FBT003
    command.__signature__ = inspect.Signature([*own, *more])  # type: ignore[attr-defined]  # what typer reads
    command.__annotations__ = {one.name: one.annotation for one in (*own, *more)}
    command.__doc__ = inspect.getdoc(kind)
    return command


def _keyword(name: str, annotation: Any, default: Any = inspect.Parameter.empty) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=annotation, default=default)


def _parameter(field: Field[Any], hint: Any) -> inspect.Parameter:
    kind, help_text = get_args(hint)
    several = get_origin(kind) is tuple
    shown = list[str] if several else kind
    if field.default is MISSING:
        return _keyword(field.name, Annotated[shown, typer.Argument(help=help_text)])
    flag = "--" + field.name.replace("_", "-")
    default = list(field.default) if several else field.default
    return _keyword(field.name, Annotated[shown, typer.Option(flag, help=help_text)], default)


def _make(change: Change, config: Path, *, dry_run: bool) -> None:
    if not config.is_file():
        raise ConfigurationError(
            f"There is no {config}.", hint="Name the project's alembic.ini with --config.", value=str(config)
        )
    alembic = Config(config)
    # dataarch's own environment takes them; another project's says itself where its database is
    alembic.attributes["settings"] = operator_settings()
    if dry_run:
        for path, text in drafted(alembic, change).items():
            typer.echo(f"# {_near(path)}\n{text}")
        return
    for path in write(alembic, change):
        console().print(plain(f"written: {_near(path)}"), soft_wrap=True)


def _near(path: Path) -> Path:
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def _name(kind: type) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "-", kind.__name__).lower()


for _kind in (getattr(changes, name) for name in changes.__all__):
    app.command(_name(_kind))(_command(_kind))
