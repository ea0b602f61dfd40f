"""Order lines that somebody else loads at the same time are loaded once: whoever comes second tries again."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from dataarch.database.unit_of_work import Database
from dataarch.errors import Retryable
from dataarch.models import UserActivity
from dataarch.pipelines.feeds.retail import RetailLines
from fixtures.servers import Servers
from pipelines.listed import home, stored
from pipelines.retail_support import valid

pytestmark = pytest.mark.pipeline


def test_lines_that_another_load_is_writing_are_waited_for_and_then_there(db: Database, servers: Servers) -> None:
    tenant_id = home(db)
    # what they refer to is there, so that it is the lines themselves that are waited for
    with db.tenant(tenant_id) as session:
        RetailLines().load(session, [valid(InvoiceNo="0", InvoiceDate="2010-12-30 10:00:00")])
    lines = [valid(InvoiceNo="1"), valid(InvoiceNo="2"), valid(InvoiceNo="3")]

    def second() -> int:
        with db.tenant(tenant_id) as session:
            return RetailLines().start(session, lines[1:])().result.inserted

    with ThreadPoolExecutor(1) as pool:
        with db.tenant(tenant_id) as session:
            finish = RetailLines().start(session, lines[:2])
            later = pool.submit(second)
            servers.waiting(db.settings.application.database)
            assert finish().result.inserted == 2
        with pytest.raises(Retryable, match="meanwhile"):
            later.result(timeout=30)
    assert second() == 1
    assert second() == 0
    assert len(stored(db, tenant_id, UserActivity, "id")) == 4
