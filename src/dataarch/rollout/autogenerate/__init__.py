"""Let ``alembic revision --autogenerate`` and ``alembic check`` see partitions, policies, functions and triggers.

An environment asks for it with one call in its ``env.py``::

    context.configure(connection=connection, target_metadata=metadata, **configure_arguments(connection))
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection

from dataarch.rollout.autogenerate.names import IncludeName, without_partitions
from dataarch.rollout.autogenerate.partitioning_changed import PartitioningChangedOp
from dataarch.rollout.autogenerate.plugin import PLUGIN

__all__ = ["PartitioningChangedOp", "configure_arguments"]


def configure_arguments(
    connection: Connection, *, include_name: IncludeName | None = None, remove_undeclared: Sequence[str] = ()
) -> dict[str, Any]:
    """Return what ``context.configure`` needs so that autogenerate is right on partitioned tables.

    Args:
        connection: the one that Alembic is configured with.
        include_name: a filter of the project's own; it is asked about functions, triggers and policies too.
        remove_undeclared: shell patterns of names: functions and triggers that are in the database, declared nowhere,
            and match one of them are proposed for removal. By default none is.

    Nothing is sent to the server before Alembic compares; an upgrade asks nothing. Comparing changes nothing, and locks
    no table more than a reader does.
    """
    return {
        "include_name": without_partitions(connection, include_name),
        "autogenerate_plugins": ["alembic.autogenerate.*", PLUGIN],
        "dataarch_remove_undeclared": tuple(remove_undeclared),
    }
