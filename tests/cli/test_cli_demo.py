"""`dataarch demo`: what it prints, what it writes, and that it can be repeated and stopped."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from cli.cli_support import (
    EXAMPLES,
    cells,
    dataarch,
    interrupt,
    numbers,
    order_lines,
)
from dataarch.database.settings import Settings
from fixtures.catalogs import contents, owner_connection

pytestmark = pytest.mark.pipeline

CSV_HEADER = "InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country"
GOOD = "1,A1,TEA POT,2,2025-01-01 08:00:00,2.50,7,{country}"


def rows_loaded(settings: Settings) -> dict[str, tuple[int, str]]:
    """Return the rows of all tables but those that runs write down."""
    return {table: found for table, found in contents(settings).items() if not table.startswith("pipeline_")}


def rejected_lines(folder: Path) -> list[list[str]]:
    """Return what the demonstration has written to its file of rejects."""
    with (folder / "servers" / "rejects.csv").open(newline="") as stream:
        return list(csv.reader(stream))


def test_the_sample_is_loaded_and_shown_with_every_line_accounted_for(settings: Settings, tmp_path: Path) -> None:
    ended = dataarch(settings, tmp_path, "demo", EXAMPLES)
    assert (ended.code, ended.complaints) == (0, "")
    found = numbers(ended.printed)
    assert found == {"read": 531, "loaded": 501, "duplicates": 6, "rejected": 24}
    assert cells(ended.printed, "Portugal")[3] == "118"
    assert cells(ended.printed, "user_activity_log_2025_01")[1] == "346"
    assert cells(ended.printed, "find_activity('{}')")[2] == "0"
    assert cells(ended.printed, "a partition, directly")[2] == "permission denied"
    assert "Index Scan" in ended.printed


def test_on_hand_and_ledger_sum_are_the_same_for_every_tenant(settings: Settings, tmp_path: Path) -> None:
    printed = dataarch(settings, tmp_path, "demo", EXAMPLES).printed
    for tenant in ("Portugal", "Iceland"):
        row = cells(printed, tenant)
        assert row[5] == row[6]


def test_a_second_run_finds_nothing_new_and_changes_nothing(settings: Settings, tmp_path: Path) -> None:
    dataarch(settings, tmp_path, "demo", EXAMPLES)
    before, rejects = rows_loaded(settings), rejected_lines(tmp_path)
    again = dataarch(settings, tmp_path, "demo", EXAMPLES)
    assert (again.code, numbers(again.printed)) == (0, {"read": 0, "loaded": 0, "duplicates": 0, "rejected": 0})
    assert "Nothing new: all of it was read before." in again.printed
    assert cells(again.printed, "Portugal")[3] == "118"
    assert rows_loaded(settings) == before
    assert rejected_lines(tmp_path) == rejects
    assert len(rejects) == 1 + 24


def test_the_tenant_that_keeps_the_runs_is_not_shown_as_a_shop(settings: Settings, tmp_path: Path) -> None:
    printed = dataarch(settings, tmp_path, "demo", EXAMPLES).printed
    assert "desk" not in printed.lower()


def test_every_rejected_line_is_written_with_file_record_field_reason_and_value(
    settings: Settings, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "a.csv").write_text(
        order_lines(
            GOOD.format(country="France"),
            "1,A1,TEA POT,six,2025-01-01 08:00:00,2.50,7,France",
            'x,"A\n1"',
            "1,A1,TEA POT,2,2025-01-01 08:00:00,2.50,,France",
        )
    )
    (data / "b.csv").write_text(order_lines("1,A1,TEA POT,2,soon,2.50,7,France"))
    rejects = tmp_path / "new" / "my rejects.csv"
    ended = dataarch(settings, tmp_path, "demo", data, "--rejects", rejects)
    assert numbers(ended.printed) == {"read": 5, "loaded": 1, "duplicates": 0, "rejected": 4}
    with rejects.open(newline="") as stream:
        assert list(csv.reader(stream)) == [
            ["file", "record", "field", "reason", "value"],
            ["a.csv", "2", "Quantity", "not a whole number", "six"],
            ["a.csv", "3", "", "Line 4 has 2 fields, and the header has 8.", f'{CSV_HEADER}\nx,"A\n1"'],
            ["a.csv", "4", "CustomerID", "blank", ""],
            ["b.csv", "1", "InvoiceDate", "not a date and time of ISO 8601", "soon"],
        ]


def test_a_folder_with_spaces_and_letters_of_all_scripts_is_read(settings: Settings, tmp_path: Path) -> None:
    data = tmp_path / "meine Bestellungen 注文 [bold]"
    data.mkdir()
    (data / "Jänner [1] 'x' %s.csv").write_text(order_lines(GOOD.format(country="France")))
    ended = dataarch(settings, tmp_path, "demo", data, "--rejects", data / "zurück [/].csv")
    assert (ended.code, numbers(ended.printed)["loaded"]) == (0, 1)
    assert "Jänner [1] 'x' %s.csv: 1 records read, 1 of them good, 0 rejected so far" in ended.printed


def test_a_file_whose_name_is_not_utf_8_is_read_and_shown_escaped(settings: Settings, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / b"caf\xe9.csv".decode(errors="surrogateescape")).write_text(
        order_lines(GOOD.format(country="France"), "1,A,B,0,2025-01-01 08:00:00,2.50,7,France")
    )
    ended = dataarch(settings, tmp_path, "demo", data)
    assert ended.code == 0
    assert "caf\\udce9.csv: 2 records read, 1 of them good, 1 rejected so far" in ended.printed


def test_names_are_shown_as_they_are_whatever_looks_like_markup_or_control(settings: Settings, tmp_path: Path) -> None:
    countries = ["[bold]x[/nope]", "a[/]", "[red]Red[/red]", "x\\[/b]", "{x} %s", "\x1b[31mred", ":smile:"]
    data = tmp_path / "data"
    data.mkdir()
    (data / "a.csv").write_text(order_lines(*(GOOD.format(country=name) for name in countries)))
    ended = dataarch(settings, tmp_path, "demo", data, COLUMNS="150")
    assert (ended.code, ended.complaints) == (0, "")
    for country in countries:
        assert cells(ended.printed, country.replace("\x1b", "\\x1b"))[3] == "1"


def test_a_stock_code_with_every_kind_of_quote_does_not_break_the_search_for_it(
    settings: Settings, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "a.csv").write_text(order_lines('1,"A""1\'\\:x%s[/]",TEA POT,2,2025-01-01 08:00:00,2.50,7,France'))
    ended = dataarch(settings, tmp_path, "demo", data)
    assert (ended.code, ended.complaints) == (0, "")
    assert "M15" in ended.printed


def test_rows_that_others_made_are_shown_too_whatever_their_times_and_metadata(
    settings: Settings, tmp_path: Path
) -> None:
    with owner_connection(settings) as connection:
        connection.execute("INSERT INTO tenants (slug, name) VALUES ('other', 'Other')")
        connection.execute("INSERT INTO users (tenant_id, external_id, full_name) SELECT id, '1', 'Ada' FROM tenants")
        for instant in ("-infinity", "infinity", "0044-03-15 BC", "now"):
            connection.execute(
                "INSERT INTO user_activity_log (tenant_id, user_id, activity_type, created_at)"
                " SELECT tenant_id, id, 'login', %s FROM users",
                [instant],
            )
    data = tmp_path / "data"
    data.mkdir()
    (data / "a.csv").write_text(order_lines("1,A,B,0,2025-01-01 08:00:00,2.50,7,France"))
    ended = dataarch(settings, tmp_path, "demo", data)
    assert (ended.code, ended.complaints) == (0, "")
    assert cells(ended.printed, "Other")[3] == "4"


def test_ctrl_c_ends_with_130_and_one_line_and_the_next_run_completes(settings: Settings, tmp_path: Path) -> None:
    data, years = tmp_path / "data", 24
    data.mkdir()
    for year in range(2000, 2000 + years):
        for file in EXAMPLES.glob("*.csv"):
            lines = file.read_text().replace("2025-", f"{year}-")
            (data / f"{year}-{'a long name' * 18}-{file.name}").write_text(lines)
    interrupt(settings, tmp_path, "demo", data, "--batch", "40")
    done = contents(settings)["user_activity_log"][0]
    assert 0 < done < years * 501
    again = dataarch(settings, tmp_path, "demo", data)
    found = numbers(again.printed)
    assert found["loaded"] + done == contents(settings)["user_activity_log"][0] == years * 501
    assert found["read"] < years * 531
    assert dataarch(settings, tmp_path, "load", "retail", data).printed.count("Nothing new") == 1
