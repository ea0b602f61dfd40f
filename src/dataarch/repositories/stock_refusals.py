"""Turn what the stock's functions answer into named errors. None of them ends the transaction."""

from __future__ import annotations

from uuid import UUID

from dataarch.errors import (
    DataArchError,
    IdempotencyKeyReused,
    InsufficientStock,
    InvalidValue,
    ReservationEnded,
    ReservationExpired,
    StockOverflow,
    UnknownProduct,
    UnknownReservation,
)

__all__ = ["refusal"]


def refusal(outcome: str, about: UUID, asked: int, available: int | None) -> DataArchError:
    """Return the error for an outcome that is a refusal.

    Args:
        outcome: the function's word.
        about: the product, the reservation or the key that it is about.
        asked: how many were asked for, as a number above 0; 0 where no number was.
        available: how many there were, where the function said so.
    """
    match outcome:
        case "insufficient":
            return _insufficient(about, asked, available or 0)
        case "unknown product":
            return UnknownProduct(
                f"The tenant has no product {about}.", hint="Add the product first.", table="products", value=about
            )
        case "key reused":
            return IdempotencyKeyReused(
                "This call's key was used before for a call that said something else.",
                hint="Give each call a key of its own, and repeat a call as it was.",
                table="inventory",
                value=about,
            )
        case "too much":
            return StockOverflow(
                f"Of product {about} there are {available} on hand, and {asked} more are beyond a bigint.",
                hint="Count in larger units.",
                table="inventory",
                value=asked,
            )
    return _of_reservation(outcome, about)


def _insufficient(product_id: UUID, asked: int, available: int) -> InsufficientStock:
    error = InsufficientStock(
        f"Of product {product_id} {asked} were asked for, and {available} are there that nobody has reserved.",
        hint="Ask for less, or receive more first; nothing of this call was done, and the transaction goes on.",
        table="inventory",
        value=asked,
    )
    error.asked, error.available = asked, available
    return error


def _of_reservation(outcome: str, about: UUID) -> DataArchError:
    about_table = "inventory_reservations"
    match outcome:
        case "past":
            return InvalidValue(
                "A reservation would have expired before it began.",
                hint="Give a moment to come, by the clock of the database.",
                table=about_table,
                column="expires_at",
            )
        case "unknown reservation":
            return UnknownReservation(
                f"The tenant has no reservation {about}.", hint="Reserve first.", table=about_table, value=about
            )
        case "expired":
            return ReservationExpired(
                f"The reservation {about} has expired.",
                hint="Reserve anew, with another key, or ship from what is free.",
                table=about_table,
                value=about,
            )
    return ReservationEnded(
        f"The reservation {about} was {outcome} before.",
        hint="A reservation ends once; make another one.",
        table=about_table,
        value=about,
    )
