"""The rules of this project, one a file; each yields what it finds in a project's revisions and models."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from dataarch.rollout.checks.finding import Finding, Rule
from dataarch.rollout.checks.project import Project
from dataarch.rollout.checks.rules import (
    backfill_in_schema_revision,
    citus,
    commit_in_the_middle,
    downgrade_loses_data,
    index_on_partitioned_table,
    index_unusable_with_policies,
    policy_missing_on_partition,
    policy_shape,
    tenant_foreign_key,
    tenant_in_key,
)

__all__ = ["CHECKS", "RULES"]

MODULES = (
    backfill_in_schema_revision,
    citus,
    commit_in_the_middle,
    downgrade_loses_data,
    index_on_partitioned_table,
    index_unusable_with_policies,
    policy_missing_on_partition,
    policy_shape,
    tenant_foreign_key,
    tenant_in_key,
)

CHECKS: tuple[Callable[[Project], Iterator[Finding]], ...] = tuple(module.check for module in MODULES)

RULES: tuple[Rule, ...] = tuple(module.RULE for module in MODULES)
