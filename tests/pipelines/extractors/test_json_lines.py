"""JSON Lines: one object a line, read as strictly as the standard is written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dataarch.errors import InvalidValue
from dataarch.pipelines.extractors.json_lines import JsonLines
from fixtures.shared_data import shared_file
from pipelines.extractors_support import all_of, numbers_of, rejects_of, rows_of, until_refused, written

pytestmark = pytest.mark.pipeline

READ = JsonLines()
VALUES = JsonLines(field="value")


def on_one_line(content: bytes) -> bytes:
    return content.replace(b"\r", b" ").replace(b"\n", b" ") + b"\n"


def suite(kind: str) -> list[Path]:
    files = sorted(shared_file("json-test-suite", "test_parsing").glob(f"{kind}_*.json"))
    assert len(files) > 30
    return files


def test_all_that_the_test_suite_accepts_is_accepted(tmp_path: Path) -> None:
    files = suite("y")
    batches = all_of(VALUES, written(tmp_path, b"".join(on_one_line(file.read_bytes()) for file in files)))
    assert rejects_of(batches) == []
    for file, row in zip(files, rows_of(batches), strict=True):
        assert row == {"value": json.loads(file.read_bytes())}, file.name


def test_all_that_the_test_suite_refuses_is_rejected_with_line_and_column(tmp_path: Path) -> None:
    files = [file for file in suite("n") if file.read_bytes().strip() and "newline" not in file.name]
    good = b'{"good": 1}\n'
    content = b"".join(on_one_line(file.read_bytes()) + good for file in files)
    batches = all_of(READ, written(tmp_path, content))
    assert rows_of(batches) == [{"good": 1}] * len(files)
    rejects = rejects_of(batches)
    assert [number for number, _, _ in rejects] == list(range(1, 2 * len(files), 2))
    for file, (number, reason, record) in zip(files, rejects, strict=True):
        assert reason.startswith(f"Line {number:,}, column "), file.name
        assert record == on_one_line(file.read_bytes()).decode(errors="backslashreplace")[:-1]
        with pytest.raises(InvalidValue):
            READ.parse(str(record))


def test_what_the_test_suite_leaves_open_crashes_nothing(tmp_path: Path) -> None:
    files = suite("i")
    batches = all_of(VALUES, written(tmp_path, b"".join(on_one_line(file.read_bytes()) for file in files)))
    assert batches[-1].after.records == len(files)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"a": NaN}', "column 7: invalid character"),
        (b'{"a": -Infinity}', "column 8: invalid character"),
        (b'{"a": 1,}', "column 9: trailing comma in object"),
        (b'{"a": 1} x', "column 10: trailing characters"),
        ('{"é": x}'.encode(), "column 7: invalid character"),
        (b'{"a": "caf\xe9"}', "column 11: it is not UTF-8 text (byte 0xe9)"),
        (b'{"a": [1, 2', "column 12: it ends before its value does"),
        (b'{"a": "\\ud800"}', "column 16: it ends before its value does, or holds half of a surrogate pair"),
        (b"[" * 5000 + b"]" * 5000, "column 1: it is nested too deeply"),
        (b'{"a": 1e999}', "column 1: number out of range"),
        (b"[1]", "column 1: it holds an array, and a record is an object"),
        (b"7", "column 1: it holds a number, and a record is an object"),
        (b"null", "column 1: it holds null, and a record is an object"),
        (b'{"a": 1}{"a": 2}', "column 9: trailing characters"),
        (b"\0", "column 1: invalid character"),
    ],
)
def test_a_line_that_is_no_record_is_rejected_and_the_others_are_read(tmp_path: Path, line: bytes, reason: str) -> None:
    content = b'{"a": 1}\n' + line + b'\n{"a": 3}\n'
    batches = all_of(READ, written(tmp_path, content))
    assert rows_of(batches) == [{"a": 1}, {"a": 3}]
    assert numbers_of(batches) == [1, 3]
    ((number, told, record),) = rejects_of(batches)
    assert number == 2
    assert told.startswith(f"Line 2, {reason}")
    assert told.endswith(".")
    assert record == line.decode(errors="backslashreplace")
    assert batches[-1].after.bytes == len(content)


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_numbers_texts_and_nested_values_come_as_they_stand(tmp_path: Path, end: bytes) -> None:
    values = [{"n": 10**30, "m": -1, "f": 2.55}, {"t": 'é😀\u2028\x00"\\'}, {"o": {"a": [None, True, {}]}}]
    lines = [json.dumps(value, ensure_ascii=number % 2 == 0).encode() for number, value in enumerate(values)]
    assert rows_of(all_of(READ, written(tmp_path, b"\xef\xbb\xbf" + end.join([*lines, b""])))) == values


def test_blank_lines_are_passed_over(tmp_path: Path) -> None:
    batches = all_of(READ, written(tmp_path, b'\n{"a": 1}\n \t\r\n\r{"a": 2}\n\nx\n'))
    assert rows_of(batches) == [{"a": 1}, {"a": 2}]
    assert numbers_of(batches) == [1, 2]
    assert [(number, reason[:16]) for number, reason, _ in rejects_of(batches)] == [(3, "Line 7, column 1")]


def test_a_name_that_stands_twice_has_its_last_value(tmp_path: Path) -> None:
    assert rows_of(all_of(READ, written(tmp_path, b'{"a": 1, "a": 2}\n'))) == [{"a": 2}]


def test_a_last_line_without_its_end_is_not_read(tmp_path: Path) -> None:
    batches, error = until_refused(READ, written(tmp_path, b'{"a": 1}\n{"a": 22}'))
    assert rows_of(batches) == [{"a": 1}]
    assert batches[-1].after.bytes == 9
    assert (error.line, "cut off" in error.message) == (2, True)


def test_any_value_is_a_record_where_a_field_is_named(tmp_path: Path) -> None:
    content = b'7\n"seven"\nnull\n[7]\n{"a": 7}\nx\n'
    batches = all_of(VALUES, written(tmp_path, content))
    assert rows_of(batches) == [{"value": value} for value in (7, "seven", None, [7], {"a": 7})]
    assert len(rejects_of(batches)) == 1


def test_a_rejected_text_is_a_record_again_when_it_is_mended() -> None:
    assert READ.parse('{"a":\n 1}') == {"a": 1}
    assert VALUES.parse("7") == {"value": 7}
    for text in ("", "7", '{"a": 1', "\ud800"):
        with pytest.raises(InvalidValue, match="no record"):
            READ.parse(text)
