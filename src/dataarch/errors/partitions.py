"""Partitions: how they are declared, made and archived."""

from __future__ import annotations

from dataarch.errors.configuration import ConfigurationError
from dataarch.errors.server import Retryable, ServerError
from dataarch.errors.values import InvalidValue


class PartitionRefused(ServerError):
    """A partition cannot be made as things are: another lies in its way, or the transaction's snapshot is too old."""


class PartitionMissing(Retryable):
    """A row's period had no partition at this moment: it is being made, or the table has no catch-alls."""

    default_hint = "Try again; if it persists, run `dataarch partitions maintain`."


class InvalidPartitioning(InvalidValue):
    """A model's declaration of its partitions that cannot work."""


class ArchiveError(ConfigurationError):
    """An archive of a partition cannot be written or read, or does not hold what it should."""
