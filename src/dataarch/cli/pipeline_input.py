"""What people write about pipelines on the command line: a pipeline of theirs, a tenant, a run."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

import typer

from dataarch.cli.modules import imported
from dataarch.database.unit_of_work import Database
from dataarch.errors import ConfigurationError, InvalidSlug, shown
from dataarch.pipelines.pipeline import Pipeline
from dataarch.pipelines.tenants import find_tenant

__all__ = ["AsJson", "Tenant", "id_of", "pipeline_named", "tenant_named"]

EXAMPLE = "Write it as MODULE:NAME, for example shop.feeds:PRODUCTS for PRODUCTS = Pipeline(…) in shop/feeds.py."

Tenant = Annotated[str, typer.Option("--tenant", help="The tenant's slug.", show_default=False)]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]


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
