"""Whoever looks on while an upgrade waits is gone when the upgrade is, also after Ctrl-C."""

from __future__ import annotations

from threading import enumerate as enumerate_threads

import pytest

from dataarch.database.engine import owner_engine
from dataarch.database.settings import Settings
from dataarch.rollout.blockers import Watcher
from fixtures.interrupts import CtrlC

pytestmark = pytest.mark.migration


@pytest.mark.parametrize("at", range(1, 9))
def test_ctrl_c_in_the_midst_of_a_lock_leaves_nobody_looking_on(
    empty_database: Settings, ctrl_c_in_a_lock: CtrlC, at: int
) -> None:
    engine = owner_engine(empty_database)
    with engine.connect() as connection:
        watcher = Watcher(connection, 0)
        ctrl_c_in_a_lock(at)
        with pytest.raises(KeyboardInterrupt):
            for _ in range(2):
                with watcher.watching():
                    pass
            watcher.close()
        watcher.close()
    engine.dispose()
    assert not [one for one in enumerate_threads() if one.name == "dataarch lock watcher"]
