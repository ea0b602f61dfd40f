"""Keep an old and a new form of a table's columns in step, whoever writes: a trigger, as a value that gives its SQL."""

from __future__ import annotations

from dataarch.rollout.dual_write.standing import faults, faults_sql, in_force
from dataarch.rollout.dual_write.value import DualWrite

__all__ = ["DualWrite", "faults", "faults_sql", "in_force"]
