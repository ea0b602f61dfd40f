"""Errors in words that may leave the process."""

from __future__ import annotations

from sqlalchemy.exc import DBAPIError

from dataarch.errors import DataArchError

__all__ = ["said"]


def said(error: BaseException) -> str:
    """Return an error in words, without the statement and the values that one of the database would have."""
    if isinstance(error, DataArchError):
        return error.message
    if isinstance(error, DBAPIError):
        return f"{type(error.orig).__name__}: {str(error.orig).partition(chr(10))[0]}"
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
