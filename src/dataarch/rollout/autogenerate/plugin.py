"""The plugin that Alembic runs after its own comparators, in the environments that ask for it."""

from __future__ import annotations

from alembic.autogenerate.api import AutogenContext
from alembic.operations.ops import UpgradeOps
from alembic.runtime.plugins import Plugin
from alembic.util import DispatchPriority, PriorityDispatchResult

from dataarch.rollout.autogenerate.functions import compare_functions
from dataarch.rollout.autogenerate.indexes import compare_indexes
from dataarch.rollout.autogenerate.policies import compare_policies
from dataarch.rollout.autogenerate.run import Run
from dataarch.rollout.autogenerate.tables import compare_partitioning
from dataarch.rollout.autogenerate.triggers import compare_triggers

__all__ = ["PLUGIN"]

PLUGIN = "dataarch.autogenerate"

COMPARATORS = (compare_indexes, compare_functions, compare_policies, compare_triggers, compare_partitioning)
"""In this order: a change of partitioning is proposed before all else, policies and triggers after all else."""


def _compare(context: AutogenContext, operations: UpgradeOps, schemas: set[str | None]) -> PriorityDispatchResult:
    run = Run.of(context, operations, schemas)
    for compare in COMPARATORS:
        compare(run)
    return PriorityDispatchResult.CONTINUE


Plugin(PLUGIN).add_autogenerate_comparator(
    _compare, "schema", "dataarch", qualifier="postgresql", priority=DispatchPriority.LAST
)
