"""The driver's connection, where a statement runs while Python does something else."""

from __future__ import annotations

import pytest

from dataarch.database.unit_of_work import Database
from dataarch.repositories.bulk.wire import Wire
from fixtures.interrupts import CtrlC
from fixtures.tenants import Inhabited

pytestmark = pytest.mark.integrity


@pytest.mark.parametrize("at", [1, 2, 3])
def test_ctrl_c_in_the_midst_of_a_lock_waits_for_the_statement_and_the_connection_is_free_again(
    db: Database, acme: Inhabited, ctrl_c_in_a_lock: CtrlC, at: int
) -> None:
    with db.tenant(acme.id) as session:
        wire = Wire(session)
        ctrl_c_in_a_lock(at)
        with pytest.raises(KeyboardInterrupt), wire.meanwhile("SELECT pg_sleep(0.1)") as answer:
            assert answer() == 1
        assert wire.rows("SELECT 1") == [(1,)]
