"""Operations for Alembic's revisions: partitioned tables, tenants, dual writes, backfills, tables set aside.

Importing this package registers them, so that revisions can write ``op.create_partitioned_table(…)``; the functions
here do the same and are known to type checkers.
"""

from __future__ import annotations

from dataarch.rollout.operations.create_partitioned_foreign_key import (
    CreatePartitionedForeignKeyOp,
    create_partitioned_foreign_key,
)
from dataarch.rollout.operations.create_partitioned_index import (
    CreatePartitionedIndexOp,
    DropPartitionedIndexOp,
    create_partitioned_index,
    drop_partitioned_index,
)
from dataarch.rollout.operations.create_partitioned_table import (
    CreatePartitionedTableOp,
    DropPartitionedTableOp,
    create_partitioned_table,
    drop_partitioned_table,
)
from dataarch.rollout.operations.dual_write import (
    CreateDualWriteOp,
    DropDualWriteOp,
    create_dual_write,
    drop_dual_write,
)
from dataarch.rollout.operations.enable_tenant_isolation import (
    DisableTenantIsolationOp,
    EnableTenantIsolationOp,
    disable_tenant_isolation,
    enable_tenant_isolation,
)
from dataarch.rollout.operations.partition_table import (
    PartitionTableOp,
    UnpartitionTableOp,
    partition_table,
    unpartition_table,
)
from dataarch.rollout.operations.require_verified import RequireVerifiedOp, require_verified
from dataarch.rollout.operations.set_table_aside import (
    SetTableAsideOp,
    TakeTableBackOp,
    set_table_aside,
    take_table_back,
)
from dataarch.rollout.operations.start_backfill import (
    ForgetBackfillOp,
    StartBackfillOp,
    forget_backfill,
    start_backfill,
)

__all__ = [
    "CreateDualWriteOp",
    "CreatePartitionedForeignKeyOp",
    "CreatePartitionedIndexOp",
    "CreatePartitionedTableOp",
    "DisableTenantIsolationOp",
    "DropDualWriteOp",
    "DropPartitionedIndexOp",
    "DropPartitionedTableOp",
    "EnableTenantIsolationOp",
    "ForgetBackfillOp",
    "PartitionTableOp",
    "RequireVerifiedOp",
    "SetTableAsideOp",
    "StartBackfillOp",
    "TakeTableBackOp",
    "UnpartitionTableOp",
    "create_dual_write",
    "create_partitioned_foreign_key",
    "create_partitioned_index",
    "create_partitioned_table",
    "disable_tenant_isolation",
    "drop_dual_write",
    "drop_partitioned_index",
    "drop_partitioned_table",
    "enable_tenant_isolation",
    "forget_backfill",
    "partition_table",
    "require_verified",
    "set_table_aside",
    "start_backfill",
    "take_table_back",
    "unpartition_table",
]
