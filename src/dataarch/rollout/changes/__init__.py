"""Changes of the schema that teams make, in forms under which everybody goes on working: one file each.

Each is a frozen dataclass built from names; ``drafts`` gives its revisions for a database, and
:func:`dataarch.rollout.drafting.project.write` makes files of them, as ``dataarch revision`` does.
"""

from __future__ import annotations

from dataarch.rollout.changes.add_check import AddCheck
from dataarch.rollout.changes.add_column import AddColumn
from dataarch.rollout.changes.add_foreign_key import AddForeignKey
from dataarch.rollout.changes.add_index import AddIndex
from dataarch.rollout.changes.add_unique import AddUnique
from dataarch.rollout.changes.change_type import ChangeType
from dataarch.rollout.changes.drop_column import DropColumn
from dataarch.rollout.changes.drop_index import DropIndex
from dataarch.rollout.changes.drop_table import DropTable
from dataarch.rollout.changes.merge_columns import MergeColumns
from dataarch.rollout.changes.partition_table import PartitionTable
from dataarch.rollout.changes.rename_column import RenameColumn
from dataarch.rollout.changes.set_not_null import SetNotNull
from dataarch.rollout.changes.split_columns import SplitColumns

__all__ = [
    "AddCheck",
    "AddColumn",
    "AddForeignKey",
    "AddIndex",
    "AddUnique",
    "ChangeType",
    "DropColumn",
    "DropIndex",
    "DropTable",
    "MergeColumns",
    "PartitionTable",
    "RenameColumn",
    "SetNotNull",
    "SplitColumns",
]
