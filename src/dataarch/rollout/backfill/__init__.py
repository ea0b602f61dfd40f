"""Backfills: fill columns of large tables in small batches while everything runs, and prove that every row is right.

A revision registers one with ``op.start_backfill``; ``dataarch backfill run`` does it, ``dataarch backfill verify``
compares every row, and ``op.require_verified`` is the gate before old columns go.
"""

from __future__ import annotations

from dataarch.rollout.backfill.definition import Definition
from dataarch.rollout.backfill.gate import require
from dataarch.rollout.backfill.pace import Pace
from dataarch.rollout.backfill.progress import Outcome, Progress
from dataarch.rollout.backfill.registration import register
from dataarch.rollout.backfill.runner import Options, run
from dataarch.rollout.backfill.standing import pause, resume
from dataarch.rollout.backfill.verify import Verified, verify
from dataarch.rollout.backfill.watch import Limits

__all__ = [
    "Definition",
    "Limits",
    "Options",
    "Outcome",
    "Pace",
    "Progress",
    "Verified",
    "pause",
    "register",
    "require",
    "resume",
    "run",
    "verify",
]
