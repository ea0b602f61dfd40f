"""Changes of the schema that teams make, in forms under which everybody goes on working: one file each.

Each is a frozen dataclass built from names; ``drafts`` gives its revisions for a database, and
:func:`dataarch.rollout.drafting.project.write` makes files of them, as ``dataarch revision`` does.

Not here yet: moving a table into monthly partitions. It needs no copy, because the table itself can become the
catch-all of a partitioned one, out of which :mod:`dataarch.partitions` carves months while everybody goes on:

1. expand: a unique index on (key, time), concurrently; CHECK that the time is NOT NULL and before a month to come, NOT
   VALID, validated in a transaction of its own. Foreign keys to the table are refused: none can refer to a key without
   the time; so is a model that counts on the key alone being unique.
2. contract, one transaction: the table is renamed to ``…_rest_min``; a partitioned table of its name, columns, owner,
   grants, policies and triggers is made; the primary key takes over the index; the table is attached FROM (MINVALUE) TO
   that month, which the CHECK saves from being read, and its indexes and foreign keys to those of the whole; months to
   come and ``…_rest_…`` follow. ACCESS EXCLUSIVE for a moment. Going down detaches the catch-all and renames it back,
   while no row is in another partition.
3. ``dataarch partitions maintain`` then moves the rows month by month, a batch at a time.
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
    "RenameColumn",
    "SetNotNull",
    "SplitColumns",
]
