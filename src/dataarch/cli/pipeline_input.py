"""What people write about pipelines on the command line: a pipeline of theirs, a tenant, a run, parameters."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal, InvalidOperation
from types import MappingProxyType
from typing import Annotated, Any
from uuid import UUID

import typer

from dataarch.cli.modules import imported
from dataarch.database.unit_of_work import Database
from dataarch.errors import ConfigurationError, InvalidSlug, InvalidValue, shown
from dataarch.pipelines.pipeline import Pipeline
from dataarch.pipelines.records import Source
from dataarch.pipelines.tenants import find_tenant

__all__ = ["AsJson", "Tenant", "id_of", "parameters_of", "pipeline_named", "sources_of", "tenant_named"]

EXAMPLE = "Write it as MODULE:NAME, for example shop.feeds:PRODUCTS for PRODUCTS = Pipeline(…) in shop/feeds.py."

PARAMETER = "Write it as name=value or name:type=value, for example since:date=2026-01-31."

Tenant = Annotated[str, typer.Option("--tenant", help="The tenant's slug.", show_default=False)]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]


def _decimal(text: str) -> Decimal:
    if not (found := Decimal(text)).is_finite():
        raise ValueError(text)
    return found


def _time(text: str) -> datetime:
    found = datetime.fromisoformat(text)
    if found.utcoffset() is None:
        raise ConfigurationError(f"The time {shown(text)} has no offset.", hint="Write Z or +01:00 behind it.")
    return found


TYPES: Mapping[str, Callable[[str], Any]] = MappingProxyType(
    {"text": str, "integer": int, "decimal": _decimal, "date": date.fromisoformat, "time": _time, "uuid": UUID}
)
"""What a parameter may be, and how it is made of text."""


def pipeline_named(written: str) -> Pipeline:
    """Return the pipeline that ``MODULE:NAME`` names; modules are looked for in the current folder too.

    Raises:
        ConfigurationError: there is no such module, it cannot be imported, or has no such pipeline.
    """
    module, colon, name = written.partition(":")
    if not colon or not name.isidentifier() or not all(part.isidentifier() for part in module.split(".")):
        raise ConfigurationError(f"{shown(written)} names no pipeline.", hint=EXAMPLE, value=written)
    found = getattr(imported(module), name, None)
    if not isinstance(found, Pipeline):
        what = f"has no {name}" if found is None else f"has a {name} that is no Pipeline but {type(found).__name__}"
        raise ConfigurationError(f"The module {module} {what}.", hint=EXAMPLE, value=written)
    return found


def tenant_named(db: Database, slug: str) -> UUID:
    """Return the id of a tenant; raises :class:`ConfigurationError` where there is none with this slug."""
    try:
        found = find_tenant(db, slug)
    except InvalidSlug as wrong:
        raise ConfigurationError(wrong.message, hint="Give the tenant's slug.", value=slug) from None
    if found is None:
        raise ConfigurationError(f"There is no tenant {slug}.", hint="Check its slug, and which database this is.")
    return found


def id_of(written: str, what: str) -> UUID:
    """Return an id as it was written; raises :class:`ConfigurationError` where it is none."""
    try:
        return UUID(written)
    except ValueError:
        raise ConfigurationError(
            f"{shown(written)} is not the id of a {what}.", hint="Give a UUID.", value=written
        ) from None


def parameters_of(written: Sequence[str]) -> dict[str, Any]:
    """Return parameters by their names; text, where no type is named.

    Raises:
        ConfigurationError: one is written in another way, is no value of its type, or is given twice.
    """
    found: dict[str, Any] = {}
    for one in written:
        named, equals, text = one.partition("=")
        name, _, kind = named.partition(":")
        if not equals or not name.isidentifier():
            raise ConfigurationError(f"{shown(one)} gives no parameter.", hint=PARAMETER, value=one)
        if name in found:
            raise ConfigurationError(f"The parameter {shown(name)} is given twice.", hint="Give it once.", value=one)
        found[name] = _typed(kind or "text", text)
    return found


def _typed(kind: str, text: str) -> Any:
    if kind not in TYPES:
        *some, last = TYPES
        raise ConfigurationError(
            f"{shown(kind)} is no type of a parameter.", hint=f"Use {', '.join(some)} or {last}.", value=kind
        )
    try:
        return TYPES[kind](text)
    except (ValueError, InvalidOperation):
        raise ConfigurationError(f"{shown(text)} is no {kind}.", hint=PARAMETER, value=text) from None


def sources_of(pipeline: Pipeline, source: str | None, parameters: Sequence[str]) -> tuple[Any, list[Source]]:
    """Return what a pipeline is given on the command line, and the sources that it finds there.

    Raises:
        ConfigurationError: it is given both, or parameters that say nothing to its extractor.
    """
    if not parameters:
        return source, pipeline.extract.sources(source)
    if source is not None:
        raise ConfigurationError("A source or parameters, not both.", hint="Parameters are for a query.", value=source)
    given = parameters_of(parameters)
    try:
        return given, pipeline.extract.sources(given)
    except InvalidValue as refused:
        raise ConfigurationError(
            f"The pipeline {pipeline.name} cannot be given parameters: {refused.message}",
            hint="Give it a SOURCE; parameters are for a query.",
        ) from None
