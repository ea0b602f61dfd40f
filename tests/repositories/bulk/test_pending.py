"""After a large load the owner flushes what the index of metadata has put off."""

from __future__ import annotations

import pytest

from dataarch.database.unit_of_work import Database
from dataarch.errors import DataArchError, PrivilegeMissing, TenantNotSet
from dataarch.repositories.bulk.ingest import ingest
from dataarch.repositories.bulk.pending import flush_pending
from fixtures.tenants import Inhabited

pytestmark = pytest.mark.pipeline


def test_the_owner_flushes_what_ingest_has_put_off(db: Database, acme: Inhabited) -> None:
    rows = [{"user_id": acme.user_id, "activity_type": "view", "metadata": {"n": n}} for n in range(2000)]
    with db.tenant(acme.id) as session:
        assert ingest(session, rows).inserted == 2000
    with db.owner() as session:
        assert flush_pending(session) > 0
        assert flush_pending(session) == 0


def test_nobody_else_may(db: Database, acme: Inhabited) -> None:
    refused: tuple[type[DataArchError], ...] = (PrivilegeMissing, TenantNotSet)
    with pytest.raises(refused), db.tenant(acme.id) as session:
        flush_pending(session)
