"""Both versions of an application write and read while a change goes there and back: nothing fails, nothing is lost."""

from __future__ import annotations

import psycopg
import pytest

from fixtures.servers import libpq
from rollout.changes.change_support import Project
from rollout.changes.traffic import Orm, Sql, Threads
from rollout.changes.traffic_books import Form
from rollout.changes.traffic_cases import CASES, Case, PlainCustomer
from rollout.changes.traffic_road import Road, books_of, prepared

pytestmark = pytest.mark.migration

ROWS = 3000


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_no_statement_fails_and_every_row_is_as_written_there_and_back(project: Project, case: Case) -> None:
    prepared(project, case, ROWS)
    books, url = books_of(case, ROWS), libpq(project.settings.owner)
    previous = Threads("the previous version", case.previous, books, url)
    following = Threads("the next version", case.following, books, url)
    road = Road(project, case, previous, following, books)
    try:
        wrong = road.travel()
    finally:
        previous.stop()
        following.stop()
    assert previous.failed + following.failed == []
    assert wrong == []


PREPARED = "SELECT count(*) FROM pg_prepared_statements"


def test_statements_are_prepared_by_the_server_so_that_a_star_would_fail_once_a_column_comes(project: Project) -> None:
    by_sql, by_sessions = Sql(libpq(project.settings.owner)), Orm(libpq(project.settings.owner))
    form, connection = Form(PlainCustomer), by_sql.connection
    for hands in (by_sql, by_sessions):
        hands.several(form, 1, 5)
    with by_sessions.engine.connect() as session:
        prepared = [connection.execute(PREPARED).fetchone(), session.exec_driver_sql(PREPARED).fetchone()]
    connection.execute("SELECT * FROM customers WHERE id = %s", [7])
    project.sql("ALTER TABLE customers ADD state text")
    assert len(by_sql.several(form, 1, 5)) == len(by_sessions.several(form, 1, 5)) == 5
    with pytest.raises(psycopg.errors.FeatureNotSupported, match="cached plan must not change result type"):
        connection.execute("SELECT * FROM customers WHERE id = %s", [7])
    by_sql.close()
    by_sessions.close()
    assert all(found and found[0] > 0 for found in prepared)
