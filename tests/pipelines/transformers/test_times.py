"""Times in one form: what RFC 3339 allows becomes the instant it means, and all else is rejected, never bent."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataarch.errors import ConfigurationError, InvalidValue, NaiveDatetime
from dataarch.pipelines.records import Stage
from dataarch.pipelines.transformers.times import normalised_time, times
from dataarch.proof.strategies import instants
from fixtures.shared_data import shared_file
from pipelines.steps_support import checked

pytestmark = pytest.mark.pipeline

BERLIN = ZoneInfo("Europe/Berlin")
LEAP_SECONDS = {"1998-12-31T23:59:60Z", "1998-12-31T15:59:60.123-08:00"}


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("2025-01-15T10:30:00Z", "2025-01-15T10:30:00+00:00"),
        ("2025-01-20 14:45:00", "2025-01-20T14:45:00+00:00"),
        ("2025-01-20T14:45:00+05:30", "2025-01-20T09:15:00+00:00"),
        ("2025-01-20t14:45:00z", "2025-01-20T14:45:00+00:00"),
        ("2025-01-20T14:45:00-00:00", "2025-01-20T14:45:00+00:00"),
        ("2025-01-20T14:45:00.5Z", "2025-01-20T14:45:00.500000+00:00"),
    ],
)
def test_m23_a_time_is_normalised_to_utc_with_its_offset(text: str, normal: str) -> None:
    assert normalised_time(text).isoformat() == normal
    batch = checked([{"created_at": text}], times("created_at"))
    assert [row["created_at"].isoformat() for row in batch.rows] == [normal]


def instant_of_the_suite(text: str) -> datetime:
    """Return the instant of a valid time of the suite, taken apart by hand."""
    day, clock, offset = text[:10], text[11:19], text[19:].lstrip(".0123456789")
    fraction = text[19 : len(text) - len(offset)].lstrip(".").ljust(6, "0")[:6]
    hours, minutes = (0, 0) if offset in "zZ" else map(int, offset[1:].split(":"))
    away = timedelta(hours=hours, minutes=minutes) * (-1 if offset[0] == "-" else 1)
    numbers = map(int, [*day.split("-"), *clock.split(":"), fraction])
    return datetime(*numbers, tzinfo=UTC) - away  # type: ignore[misc,arg-type]  # seven numbers


def test_every_date_time_of_the_json_schema_suite_is_the_right_instant_or_rejected() -> None:
    samples = json.loads(shared_file("formats", "date-time.json").read_bytes())[0]["tests"]
    texts = {sample["data"]: sample["valid"] for sample in samples if isinstance(sample["data"], str)}
    assert len(texts) > 25
    for text, is_valid in texts.items():
        if is_valid and text not in LEAP_SECONDS:
            assert normalised_time(text) == instant_of_the_suite(text), text
        else:
            with pytest.raises(InvalidValue):
                normalised_time(text)


def test_no_date_of_the_json_schema_suite_is_taken_for_a_time() -> None:
    samples = json.loads(shared_file("formats", "date.json").read_bytes())[0]["tests"]
    dates = [sample["data"] for sample in samples if isinstance(sample["data"], str) and sample["valid"]]
    assert len(dates) > 10
    for text in dates:
        with pytest.raises(InvalidValue, match="no date and time"):
            normalised_time(text)


def test_a_sixtieth_second_that_no_leap_second_can_be_is_just_no_time() -> None:
    for text in ("1998-12-31T23:58:60Z", "1998-12-31T22:59:60Z", "1998-02-31T23:59:60Z"):
        with pytest.raises(InvalidValue, match="is no date and time"):
            normalised_time(text)


@pytest.mark.parametrize("text", sorted(LEAP_SECONDS))
def test_a_leap_second_is_rejected_because_no_timestamp_can_be_it(text: str) -> None:
    with pytest.raises(InvalidValue, match="is a leap second, which neither Python nor PostgreSQL has"):
        normalised_time(text)


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "yesterday", "2025-01-15", "10:30:00", "2025-01-15T10:30Z", "2025-01-15T10:30:00+01", "1736937000",
        "2025-01-15T10:30:00+0100", "2025-01-15T24:00:00Z", "2025-02-29T10:30:00Z", "2025-13-01T10:30:00Z",
        "2025-01-15  10:30:00", "2025-01-15T10:30:00 Z", "2025-01-15T10:30:00,5Z", "2025-01-15T10:30:00.Z",
        "0000-01-01T00:00:00Z", "15/01/2025 10:30:00", "2025-01-15T10:30:60Z", "2025-01-15T10:30:00Z\n",
        "0001-01-01T00:00:00+00:01", "9999-12-31T23:59:59-00:01", "2025-01-15\x0010:30:00", "\uff12025-01-15T10:30:00Z",
    ],
)  # fmt: skip
def test_what_is_no_time_of_rfc_3339_is_rejected(text: str) -> None:
    with pytest.raises(InvalidValue):
        normalised_time(text)


@pytest.mark.parametrize("value", [20250115, 1.5, True, date(2025, 1, 15), None, b"2025-01-15T10:30:00Z", []])
def test_what_is_neither_text_nor_a_datetime_is_rejected(value: object) -> None:
    with pytest.raises(InvalidValue, match="not a time"):
        normalised_time(value)


def test_a_fraction_finer_than_a_microsecond_is_cut_off_and_never_rounded_up() -> None:
    assert normalised_time("1985-04-12T00:59:59.999999999999999Z").isoformat() == "1985-04-12T00:59:59.999999+00:00"


# ── zones ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_time_without_an_offset_is_read_in_the_zone_that_is_given() -> None:
    rows = [{"at": "2025-07-01 12:00:00"}, {"at": "2025-01-01 12:00:00"}, {"at": "2025-07-01T12:00:00Z"}]
    for zone in (BERLIN, "Europe/Berlin"):
        batch = checked(rows, times("at", zone=zone))
        assert [row["at"].hour for row in batch.rows] == [10, 11, 12]
    east = timezone(timedelta(hours=2))
    assert normalised_time("2025-07-01 12:00:00", east).hour == 10


def test_a_time_that_clocks_have_skipped_is_rejected() -> None:
    with pytest.raises(InvalidValue, match="does not exist in Europe/Berlin"):
        normalised_time("2025-03-30 02:30:00", BERLIN)
    assert normalised_time("2025-03-30 01:59:59", BERLIN).isoformat() == "2025-03-30T00:59:59+00:00"
    assert normalised_time("2025-03-30 03:00:00", BERLIN).isoformat() == "2025-03-30T01:00:00+00:00"
    with pytest.raises(InvalidValue, match="does not exist"):
        normalised_time("2025-03-30 02:30:00", BERLIN, fold=1)


def test_a_time_that_clocks_have_shown_twice_is_rejected_unless_it_is_said_which() -> None:
    with pytest.raises(InvalidValue, match="exists twice in Europe/Berlin"):
        normalised_time("2025-10-26 02:30:00", BERLIN)
    assert normalised_time("2025-10-26 02:30:00", BERLIN, fold=0).hour == 0
    assert normalised_time("2025-10-26 02:30:00", BERLIN, fold=1).hour == 1
    (row,) = checked([{"at": "2025-10-26 02:30:00"}], times("at", zone=BERLIN, fold=1)).rows
    assert row["at"].isoformat() == "2025-10-26T01:30:00+00:00"


def test_without_a_zone_a_time_that_has_no_offset_names_no_instant() -> None:
    with pytest.raises(NaiveDatetime):
        normalised_time("2025-10-26 02:30:00", None)


def test_a_zone_that_nobody_knows_is_refused_before_any_record() -> None:
    for name in ("Europe/Atlantis", "../etc/passwd", ""):
        with pytest.raises(ConfigurationError, match="no time zone"):
            times("at", zone=name)


@given(instant=instants())
def test_the_text_of_any_instant_is_that_instant_again(instant: datetime) -> None:
    # in its own zone it may be equal to no other datetime (PEP 495)
    instant_in_utc = instant.astimezone(UTC)
    assert normalised_time(instant) == instant_in_utc
    assert normalised_time(instant_in_utc.isoformat()) == instant_in_utc
    assert normalised_time(instant).tzinfo is UTC


@given(local=st.datetimes(datetime(1970, 1, 2), datetime(2037, 12, 30)), zone=st.timezones())  # noqa: DTZ001  # local
def test_a_local_time_is_an_instant_that_shows_it_on_the_clock_or_rejected(local: datetime, zone: ZoneInfo) -> None:
    try:
        instant = normalised_time(local.isoformat(" "), zone)
    except InvalidValue:
        both = [local.replace(tzinfo=zone, fold=fold).utcoffset() for fold in (0, 1)]
        assert both[0] != both[1]
    else:
        assert instant.astimezone(zone).replace(tzinfo=None, fold=0) == local


# ── the step ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_field_that_is_not_given_stays_so_and_a_bad_one_is_rejected_by_name() -> None:
    rows: list[dict[str, Any]] = [
        {"id": 1},
        {"id": 2, "at": None},
        {"id": 3, "at": ""},
        {"id": 4, "at": "soon"},
        {"id": 5, "at": 7},
    ]
    batch = checked(rows, times("at"))
    assert batch.rows == rows[:3]
    assert [(one.number, one.stage, one.field) for one in batch.rejects] == [
        (4, Stage.TRANSFORM, "at"),
        (5, Stage.TRANSFORM, "at"),
    ]
    assert batch.rejects[0].reason == "'soon' is no date and time as RFC 3339 has it."


def test_several_fields_are_normalised_at_once_and_records_stay_as_they_were() -> None:
    rows: list[dict[str, Any]] = [
        {"begin": "2025-01-15T10:30:00Z", "end": datetime(2025, 1, 15, 11, tzinfo=BERLIN), "x": 1}
    ]
    before = [dict(row) for row in rows]
    batch = checked(rows, times("begin", "end"))
    assert [value.isoformat() for value in list(batch.rows[0].values())[:2]] == [
        "2025-01-15T10:30:00+00:00",
        "2025-01-15T10:00:00+00:00",
    ]
    assert rows == before
