"""The Parquet library, loaded when an archive is written or read and not before."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from dataarch.errors import DependencyMissing

__all__ = ["pyarrow"]

PARTS = ("compute", "csv", "parquet")


def pyarrow() -> Any:
    """Return the module ``pyarrow`` with its parts for CSV and Parquet loaded.

    Raises:
        DependencyMissing: it is not installed, or cannot be loaded.
    """
    try:
        for part in PARTS:
            import_module(f"pyarrow.{part}")
        return import_module("pyarrow")
    except ImportError as missing:
        raise DependencyMissing(
            f"Archives are Parquet files, and pyarrow, which reads and writes them, cannot be loaded: {missing}.",
            hint="Install it with `pip install 'dataarch[archive]'`.",
        ) from missing
