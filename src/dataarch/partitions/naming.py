"""What partitions are called: pure, so that every maker of partitions gives the same names.

A partition is called after its table and its period, ``orders_2026_11``; a catch-all after its lower bound,
``orders_rest_min`` or ``orders_rest_2027_12``. PostgreSQL cuts names after 63 bytes, and would cut off the period: so
it is the table's part that is shortened.
"""

from __future__ import annotations

from datetime import datetime
from hashlib import sha256

from dataarch.clock import Grain, Period, aware

__all__ = ["LONGEST_NAME", "catch_all_name", "name_stem", "partition_name"]

LONGEST_NAME = 63
"""Bytes of a name that PostgreSQL keeps."""

DIGEST_LENGTH = 8
"""Hexadecimal digits that tell two shortened tables apart."""


def partition_name(table: str, period: Period) -> str:
    """Return what the partition of a period is called.

    Args:
        table: name of the partitioned table, without its schema and without quotes.
        period: the day, week, month or year that the partition holds.

    Guarantee: at most 63 bytes in UTF-8; the same for the same arguments, always.
    """
    return _named(table, str(period))


def catch_all_name(table: str, lower: datetime | None, grain: Grain = Grain.MONTH) -> str:
    """Return what the catch-all that begins at a bound is called.

    Args:
        table: name of the partitioned table, without its schema and without quotes.
        lower: aware lower bound, inclusive; None for the catch-all that begins at MINVALUE.
        grain: the grain of the table's partitions.

    Returns:
        ``…_rest_min``, or ``…_rest_`` and the label of the period that begins at the bound; where none does, the day
        of the bound, with its time of day unless that is midnight.

    Raises:
        NaiveDatetime: the bound has no UTC offset.

    Guarantee: as for :func:`partition_name`.
    """
    return _named(table, "rest_min" if lower is None else f"rest_{_bound_label(aware(lower), grain)}")


def name_stem(table: str, label_bytes: int) -> str:
    """Return a name's part before the label: the table's name, shortened where the whole would be over 63 bytes.

    Args:
        table: name of the partitioned table.
        label_bytes: how long what follows is, without the underscore between them.
    """
    room = LONGEST_NAME - label_bytes - 1
    encoded = table.encode()
    if len(encoded) <= room:
        return table
    kept = encoded[: room - DIGEST_LENGTH - 1].decode(errors="ignore")
    return f"{kept}_{sha256(encoded).hexdigest()[:DIGEST_LENGTH]}"


def _named(table: str, label: str) -> str:
    return f"{name_stem(table, len(label))}_{label}"


def _bound_label(lower: datetime, grain: Grain) -> str:
    period = Period.of(lower, grain)
    if period.start == lower:
        return str(period)
    day = Period.of(lower, Grain.DAY)
    return str(day) if day.start == lower else f"{day}_{lower:%H%M%S}"
