"""Instants are aware, and come back in UTC."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone

import pytest
from hypothesis import given
from sqlalchemy.engine.default import DefaultDialect

from dataarch.errors import InvalidValue, NaiveDatetime
from dataarch.models.types import UtcDateTime
from dataarch.proof.strategies import instants

pytestmark = pytest.mark.schema

PG = DefaultDialect()
EAST, WEST = timezone(timedelta(hours=2)), timezone(timedelta(hours=-2))


@given(instant=instants())
def test_an_instant_of_any_zone_is_sent_in_utc(instant: datetime) -> None:
    sent = UtcDateTime().process_bind_param(instant, PG)
    assert sent is not None
    assert sent.tzinfo is UTC
    assert sent == instant.astimezone(UTC)


def test_a_naive_datetime_is_refused_with_the_way_to_mend_it() -> None:
    with pytest.raises(NaiveDatetime, match="tzinfo"):
        UtcDateTime().process_bind_param(datetime(2025, 1, 1), PG)  # noqa: DTZ001  # naive on purpose


@pytest.mark.parametrize("value", [datetime.min.replace(tzinfo=EAST), datetime.max.replace(tzinfo=WEST)])
def test_an_instant_outside_the_years_of_python_is_refused_by_name(value: datetime) -> None:
    with pytest.raises(InvalidValue, match="years 1 to 9999"):
        UtcDateTime().process_bind_param(value, PG)


@pytest.mark.parametrize("value", ["2025-01-01T00:00:00Z", 0, date(2025, 1, 1)])
def test_what_is_no_datetime_is_refused(value: object) -> None:
    with pytest.raises(InvalidValue, match="not an instant"):
        UtcDateTime().process_bind_param(value, PG)  # type: ignore[arg-type]  # what a careless caller does


def test_what_the_driver_gives_is_turned_to_utc() -> None:
    given_back = datetime(2025, 1, 1, 2, tzinfo=EAST)
    assert str(UtcDateTime().process_result_value(given_back, PG)) == "2025-01-01 00:00:00+00:00"
    assert UtcDateTime().process_result_value(None, PG) is None
    assert UtcDateTime().process_bind_param(None, PG) is None
