"""What the inventory's calls accept: refused here, before anything is sent."""

from __future__ import annotations

from datetime import datetime

from dataarch.clock import aware
from dataarch.errors import InvalidText, InvalidValue, shown
from dataarch.models.inventory import REASONS
from dataarch.models.types import BIGINT_MOST, storable_text

__all__ = ["change_of", "how_many", "instant", "reason_for", "reference_of"]

REFERENCE_LONGEST = 200


def how_many(quantity: object, *, most: int = BIGINT_MOST) -> int:
    """Return a number of items; raises :class:`InvalidValue` unless it is a whole number of 1 to ``most``."""
    if not isinstance(quantity, int) or isinstance(quantity, bool) or not 1 <= quantity <= most:
        raise InvalidValue(
            f"{shown(quantity)} is no number of items.", hint=f"Give a whole number of 1 to {most}.", value=quantity
        )
    return int(quantity)


def change_of(change: object) -> int:
    """Return what is added or taken; raises :class:`InvalidValue` for 0 and for what is no whole number of bigint."""
    if not isinstance(change, int) or isinstance(change, bool) or not 1 <= abs(change) <= BIGINT_MOST:
        raise InvalidValue(
            f"{shown(change)} is no change of a stock.",
            hint=f"Give a whole number other than 0, of {BIGINT_MOST} at the most either way.",
            value=change,
        )
    return int(change)


def instant(value: datetime) -> datetime:
    """Return an instant in UTC; raises :class:`InvalidValue` for no datetime and for one without a zone."""
    if not isinstance(value, datetime):
        raise InvalidValue(f"{shown(value)} is no instant.", hint="Give an aware datetime.", value=value)
    return aware(value)


def reason_for(reason: str, change: int) -> str:
    """Return the reason of a movement; raises :class:`InvalidValue` where it is none, or not one for this change."""
    if reason not in REASONS:
        raise InvalidValue(
            f"{shown(reason)} is no reason for a movement.", hint=f"Use {', '.join(REASONS)}.", value=reason
        )
    if (reason == "sale" and change > 0) or (reason in ("receipt", "return") and change < 0):
        way = "takes" if reason == "sale" else "adds"
        raise InvalidValue(
            f"A {reason} {way} stock, so its change is not {change}.",
            hint="Turn the sign, or give another reason: adjustment and transfer go either way.",
            value=change,
        )
    return str.__str__(reason)


def reference_of(reference: str | None) -> str | None:
    """Return a reference; raises :class:`InvalidText` unless it is text of 1 to 200 characters, or None."""
    if reference is None:
        return None
    if not isinstance(reference, str):
        raise InvalidText(f"{shown(reference)} is no text.", hint="Give a str.", value=reference)
    if not 1 <= len(reference) <= REFERENCE_LONGEST:
        raise InvalidText(
            f"The reference {shown(reference)} has {len(reference)} characters.",
            hint=f"Give 1 to {REFERENCE_LONGEST}, or none.",
            value=reference,
        )
    return storable_text(reference)
