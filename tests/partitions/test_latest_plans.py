"""What latest() touches, from EXPLAIN (ANALYZE, BUFFERS) as the application role, with the policies in force."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest
from sqlalchemy import select

from benchmarks.partitions.history import Person, connected, fill, people
from benchmarks.partitions.plans import Cost, Planned, costs, sent_by
from dataarch.database.settings import APP_ROLE, database_url
from dataarch.database.unit_of_work import Database
from dataarch.models import UserActivity
from dataarch.partitions.windows import latest
from fixtures.databases import new_database
from fixtures.servers import Servers

pytestmark = pytest.mark.performance

WANTED = 50
AHEAD = 13
"""The twelve months ahead and the catch-all behind them: empty, and looked into each time."""

EVERY_PLAN = pytest.mark.parametrize("planned", Planned, ids=["planned for the user", "planned for any user"])


@dataclass(frozen=True)
class Log:
    """A filled log and those who wrote it."""

    db: Database
    busy: Person
    rare: Person
    dormant: Person

    def cost(self, person: Person, planned: Planned) -> Cost:
        """Return what the latest activities of a person cost as the application role."""
        with self.db.tenant(person.tenant_id) as session:
            assert session.connection().exec_driver_sql("SELECT current_user").scalar_one() == APP_ROLE
            mine = select(UserActivity).where(UserActivity.user_id == person.user_id)
            return costs(session, lambda: latest(session, mine, limit=WANTED), planned)


@contextmanager
def filled(servers: Servers, template: str, months: int, *, rows: int, every: int) -> Iterator[Log]:
    with new_database(servers, template) as settings, Database(settings) as db:
        admin = servers.login(str(servers.admin.username), str(settings.owner.database))
        with connected(database_url(admin)) as connection:
            fill(connection, months, rows, every=every)
            found = people(connection)
        yield Log(db, *found)


@pytest.fixture(scope="module")
def one_month(servers: Servers, template: str) -> Iterator[Log]:
    with filled(servers, template, 1, rows=30_000, every=100) as log:
        yield log


@pytest.fixture(scope="module")
def ten_years(servers: Servers, template: str) -> Iterator[Log]:
    with filled(servers, template, 120, rows=36_000, every=10) as log:
        yield log


@EVERY_PLAN
def test_the_latest_of_a_busy_user_touch_no_more_after_ten_years_than_after_a_month(
    one_month: Log, ten_years: Log, planned: Planned
) -> None:
    first, later = (log.cost(log.busy, planned) for log in (one_month, ten_years))
    # a page for each row, the way down the index of each partition, and a row looked at ahead
    assert first.buffers <= WANTED + 5 + AHEAD
    assert later.buffers <= first.buffers + 3 * 4
    assert later.partitions <= AHEAD + 4
    assert later.trips == 1


@EVERY_PLAN
def test_the_latest_of_a_rare_user_touch_no_more_after_ten_years_than_after_a_month(
    one_month: Log, ten_years: Log, planned: Planned
) -> None:
    first, later = (log.cost(log.rare, planned) for log in (one_month, ten_years))
    assert later.buffers <= first.buffers + 3 * 4
    assert later.partitions <= AHEAD + 4
    assert later.trips == 1


@EVERY_PLAN
def test_a_user_who_has_been_gone_for_long_costs_three_pages_a_month_and_two_trips(
    ten_years: Log, planned: Planned
) -> None:
    cost = ten_years.cost(ten_years.dormant, planned)
    assert cost.trips == 2
    assert cost.buffers <= 3 * (AHEAD + 120 + 1)


@EVERY_PLAN
def test_months_outside_a_window_are_left_out_when_it_is_planned(ten_years: Log, planned: Planned) -> None:
    cost = ten_years.cost(ten_years.busy, planned)
    assert cost.pruned_late == 0
    assert cost.planned <= AHEAD + 4


@EVERY_PLAN
def test_no_more_rows_are_read_than_wanted_though_the_planner_expects_few(
    one_month: Log, ten_years: Log, planned: Planned
) -> None:
    assert WANTED <= one_month.cost(one_month.busy, planned).rows <= WANTED + 1
    assert WANTED <= ten_years.cost(ten_years.busy, planned).rows <= WANTED + 1


def test_bounds_stand_in_the_sql_and_values_do_not(ten_years: Log) -> None:
    with ten_years.db.tenant(ten_years.busy.tenant_id) as session:
        mine = select(UserActivity).where(UserActivity.user_id == ten_years.busy.user_id)
        sent = sent_by(session, lambda: latest(session, mine, limit=WANTED))
    (recent,) = sent
    assert recent.statement.count("00:00:00+00:00'") == 3, "the beginning of the future, and a window's two"
    assert str(ten_years.busy.user_id) not in recent.statement
    assert ten_years.busy.user_id in recent.parameters.values()


def test_the_driver_prepares_one_statement_for_all_users_of_a_window(ten_years: Log) -> None:
    with ten_years.db.tenant(ten_years.busy.tenant_id) as session:
        sent = {
            one.statement
            for person in (ten_years.busy, ten_years.rare)
            for one in sent_by(
                session,
                lambda user=person.user_id: latest(  # type: ignore[misc]  # mypy cannot infer a default of a lambda
                    session, select(UserActivity).where(UserActivity.user_id == user), limit=WANTED
                ),
            )
        }
    assert len(sent) == 1
