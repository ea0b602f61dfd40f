"""Run a backfill as a process of its own, to be killed: python -m rollout.backfill.killed_backfill NAME WORKERS"""

from __future__ import annotations

import os
import sys

from dataarch.database.engine import owner_engine
from dataarch.database.settings import Settings
from dataarch.rollout.backfill import Options, Pace, run


def main() -> None:
    """Say when it begins, and run."""
    os.write(1, b"ready\n")
    pace = Pace(seconds=0.005, most=300, first=100)
    run(owner_engine(Settings.load()), sys.argv[1], Options(workers=int(sys.argv[2]), pace=pace))


if __name__ == "__main__":
    main()
