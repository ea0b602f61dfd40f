"""What people write about partitions on the command line: tables, periods, lengths of time."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import date
from importlib import import_module

from sqlalchemy import MetaData, Table

from dataarch.clock import Grain, Period
from dataarch.database.settings import Settings
from dataarch.errors import ConfigurationError, InvalidPeriod
from dataarch.models.partitioning import partitioning_of

__all__ = ["metadata_of", "partitioned_tables", "period", "seconds"]

UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}

FORMS = {
    Grain.DAY: (re.compile(r"(\d{4})-(\d\d)-(\d\d)"), "2026-11-23"),
    Grain.WEEK: (re.compile(r"(\d{4})-?[wW](\d\d)"), "2026-W48"),
    Grain.MONTH: (re.compile(r"(\d{4})-(\d\d)"), "2026-11"),
    Grain.YEAR: (re.compile(r"(\d{4})"), "2026"),
}


def partitioned_tables(settings: Settings, names: Sequence[str] | None = None) -> list[Table]:
    """Return the tables that declare their partitions, or those of them that are named.

    Raises:
        ConfigurationError: the models cannot be imported, or one of the names is none of their tables.
    """
    metadata = metadata_of(settings.models)
    tables = {table.fullname: table for table in metadata.sorted_tables if partitioning_of(table) is not None}
    if not tables:
        raise ConfigurationError(
            f"No table of {settings.models} says how it is partitioned.",
            hint='Let a model do so: __table_args__ = (…, partitioned("created_at")).',
        )
    unknown = [name for name in names or () if name not in tables]
    if unknown:
        raise ConfigurationError(
            f"{unknown[0]!r} is no partitioned table of {settings.models}.",
            hint=f"There are: {', '.join(tables)}.",
            value=unknown[0],
        )
    return [tables[name] for name in names] if names else list(tables.values())


def metadata_of(where: str) -> MetaData:
    """Return the tables of the models that ``module:attribute`` names; raises :class:`ConfigurationError`."""
    module, _, attribute = where.partition(":")
    try:
        found = getattr(import_module(module), attribute or "Base")
    except (ImportError, AttributeError, ValueError) as missing:
        raise ConfigurationError(
            f"The models {where!r} cannot be imported: {missing}.",
            hint="Name them as module:attribute in DATAARCH_MODELS, for example app.models:Base.",
            value=where,
        ) from None
    metadata = found if isinstance(found, MetaData) else getattr(found, "metadata", None)
    if not isinstance(metadata, MetaData):
        raise ConfigurationError(
            f"{where} is neither a declarative base nor a MetaData.",
            hint="Name one of them in DATAARCH_MODELS, for example app.models:Base.",
            value=where,
        )
    return metadata


def period(written: str, grain: Grain) -> Period:
    """Return a period as people write it; raises :class:`InvalidPeriod` with the form that its grain has."""
    form, example = FORMS[grain]
    matched = form.fullmatch(written.strip())
    try:
        if matched is None:
            raise ValueError  # noqa: TRY301  # one message for what has no form and what is in no calendar
        year, *rest = (int(group) for group in matched.groups())
        part, day = (*rest, 1, 1)[:2]
        first = date.fromisocalendar(year, part, 1) if grain is Grain.WEEK else date(year, part, day)
    except ValueError:
        raise InvalidPeriod(f"{written!r} is no {grain}.", hint=f"Write it as {example}.", value=written) from None
    return Period(first, grain)


def seconds(written: str) -> float:
    """Return a length of time such as ``90s``, ``30m``, ``1h`` or ``1d`` in seconds."""
    matched = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smhd]?)", written.strip().lower())
    length = float(matched[1]) * UNITS[matched[2] or "s"] if matched else 0.0
    if length <= 0:
        raise ConfigurationError(
            f"{written!r} is no length of time.", hint="Write it as 90s, 30m, 1h or 1d.", value=written
        )
    return length
