"""Attacks in SQL of the attacker's own, through SQLAlchemy and past it: the policies alone must hold."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from isolation.attack import Attempt, by_driver, params, sql
from isolation.reads import ORACLES, READS
from isolation.writes import WRITES

pytestmark = pytest.mark.isolation


@pytest.mark.parametrize("attempt", params([sql(*one) for one in READS]))
def test_m01_a_read_in_sql_sees_nothing_of_another_tenant(
    attempt: Attempt, defended: Callable[[Attempt], None]
) -> None:
    defended(attempt)


@pytest.mark.parametrize("attempt", params([by_driver(*one) for one in READS]))
def test_m01_a_read_past_the_client_sees_nothing_of_another_tenant(
    attempt: Attempt, defended: Callable[[Attempt], None]
) -> None:
    defended(attempt)


@pytest.mark.parametrize("attempt", params([sql(*one) for one in WRITES]))
def test_m01_a_write_in_sql_changes_nothing_of_another_tenant(
    attempt: Attempt, defended: Callable[[Attempt], None]
) -> None:
    defended(attempt)


@pytest.mark.parametrize("attempt", params([by_driver(*one) for one in WRITES]))
def test_m01_a_write_past_the_client_changes_nothing_of_another_tenant(
    attempt: Attempt, defended: Callable[[Attempt], None]
) -> None:
    defended(attempt)


@pytest.mark.parametrize("attempt", params([by_driver(*one) for one in ORACLES]))
def test_m01_an_error_or_a_count_tells_nothing_of_another_tenant(
    attempt: Attempt, defended: Callable[[Attempt], None]
) -> None:
    defended(attempt)
