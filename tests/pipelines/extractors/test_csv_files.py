"""CSV: every good record of a file, each bad one with its reason, and one clear stop where nobody can go on."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest

from dataarch.errors import InvalidValue
from dataarch.pipelines.extractors.csv_files import CsvFiles
from dataarch.pipelines.extractors.opening import BLOCK
from pipelines.extractors_support import all_of, numbers_of, rejects_of, rows_of, until_refused, written

pytestmark = pytest.mark.pipeline

READ = CsvFiles()
TEA = {"Code": "T1", "Title": "Tea pot"}
CUP = {"Code": "C1", "Title": "Cup"}


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"Code,Title\nT1,Tea pot\nC1,Cup\n", id="LF"),
        pytest.param(b"Code,Title\r\nT1,Tea pot\r\nC1,Cup\r\n", id="CR LF"),
        pytest.param(b"Code,Title\rT1,Tea pot\rC1,Cup\r", id="CR alone"),
        pytest.param(b"Code,Title\r\nT1,Tea pot\rC1,Cup\n", id="mixed"),
        pytest.param(b"\xef\xbb\xbfCode,Title\nT1,Tea pot\nC1,Cup\n", id="byte order mark"),
        pytest.param(b'\xef\xbb\xbf"Code","Title"\n"T1","Tea pot"\n"C1","Cup"\n', id="mark and quotes"),
        pytest.param(b"\n\r\nCode,Title\n\nT1,Tea pot\n\n\nC1,Cup\n\n", id="blank lines"),
    ],
)
def test_records_are_read_whatever_the_line_ends_marks_and_blank_lines(tmp_path: Path, content: bytes) -> None:
    batches = all_of(READ, written(tmp_path, content))
    assert rows_of(batches) == [TEA, CUP]
    assert numbers_of(batches) == [1, 2]
    assert batches[-1].after.bytes == len(content)
    assert batches[-1].after.end


def test_quoted_delimiters_quotes_and_line_breaks_belong_to_their_field(tmp_path: Path) -> None:
    content = b'Code,Title\nT1,"Tea ""pot"",\r\nblue\rold\nnew"\nC1,Cup\n'
    batches = all_of(READ, written(tmp_path, content), size=1)
    assert rows_of(batches) == [{"Code": "T1", "Title": 'Tea "pot",\r\nblue\rold\nnew'}, CUP]
    assert [batch.after.bytes for batch in batches] == [len(content) - 7, len(content), len(content)]


def test_a_row_is_known_by_the_names_of_its_own_file(tmp_path: Path) -> None:
    one = written(tmp_path, b"Code,Title\nT1,Tea pot\n", "1.csv")
    two = written(tmp_path, b"Title,Colour,Code\nTea pot,blue,T1\n", "2.csv")
    assert rows_of(all_of(READ, one)) == [TEA]
    assert rows_of(all_of(READ, two)) == [{"Title": "Tea pot", "Colour": "blue", "Code": "T1"}]


@pytest.mark.parametrize("content", [b"", b"\n\n", b"\xef\xbb\xbf", b"Code,Title\n", b"Code,Title\r\n\r\n"])
def test_a_file_without_records_gives_one_empty_batch(tmp_path: Path, content: bytes) -> None:
    if content == b"\xef\xbb\xbf":
        until_refused(READ, written(tmp_path, content))  # a line that is not ended
        return
    (batch,) = all_of(READ, written(tmp_path, content))
    assert (batch.rows, batch.rejects, batch.after.records) == ([], [], 0)
    assert (batch.after.bytes, batch.after.end) == (len(content), True)


def test_one_column_and_empty_fields_are_read_as_they_are(tmp_path: Path) -> None:
    assert rows_of(all_of(READ, written(tmp_path, b'Code\nA\n""\n\n B \n'))) == [
        {"Code": "A"},
        {"Code": ""},
        {"Code": " B "},
    ]
    assert rows_of(all_of(READ, written(tmp_path, b"Code\nA\n\nB\n"))) == [{"Code": "A"}, {"Code": "B"}]
    assert rows_of(all_of(READ, written(tmp_path, b"Code,Title\n,\n"))) == [{"Code": "", "Title": ""}]


@pytest.mark.parametrize("delimiter", [";", "\t", "|", " "])
def test_another_delimiter_and_another_encoding_are_read(tmp_path: Path, delimiter: str) -> None:
    text = f"Code{delimiter}Title\nT1{delimiter}Café\n"
    extractor = CsvFiles(delimiter=delimiter, encoding="latin-1")
    assert rows_of(all_of(extractor, written(tmp_path, text.encode("latin-1")))) == [{"Code": "T1", "Title": "Café"}]


# ── records that are none ─────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"T2", "has 1 fields, and the header has 2"),
        (b"T2,Tea,pot", "has 3 fields, and the header has 2"),
        (b'"T2"x,Tea', "is not CSV: "),
        (b'T2,"6 inch pot', "is not CSV: "),
        (b"T2,Caf\xe9", "is not utf-8 text: byte 0xe9 at column 7"),
        (b"T2,\xff\xfe", "is not utf-8 text: byte 0xff at column 4"),
        (b"T2," + b"x" * 140_000, "is not CSV: field larger than field limit"),
    ],
)
def test_m26_a_bad_record_is_rejected_with_its_line_and_the_others_are_read(
    tmp_path: Path, line: bytes, reason: str
) -> None:
    for other in (b"C1,Cup", b'C1,"Cup"'):
        content = b"Code,Title\nT1,Tea pot\n" + line + b"\n" + other + b"\n"
        batches = all_of(READ, written(tmp_path, content))
        assert rows_of(batches) == [TEA, CUP]
        assert numbers_of(batches) == [1, 3]
        ((number, told, record),) = rejects_of(batches)
        assert number == 2
        assert told.startswith(f"Line 3 {reason}")
        assert record == "Code,Title\n" + line.decode("utf-8", "backslashreplace")
        assert batches[-1].after.bytes == len(content)


def test_a_line_that_is_not_utf_8_within_quotes_takes_its_whole_record_along(tmp_path: Path) -> None:
    batches = all_of(READ, written(tmp_path, b'Code,Title\nT1,"a\nCaf\xe9\nb"\nC1,Cup\n'))
    assert rows_of(batches) == [CUP]
    assert rejects_of(batches) == [
        (1, "Line 2 is not utf-8 text: byte 0xe9 at column 10.", 'Code,Title\nT1,"a\nCaf\\xe9\nb"')
    ]


def test_a_stray_quote_costs_its_own_line_and_no_other(tmp_path: Path) -> None:
    good = [[f"T{number}", "Tea pot"] for number in range(6000)]
    lines = [f"{code},{title}\n" for code, title in good]
    for at in (0, 3000, 5998):
        broken = [*lines[:at], 'X,"6 inch\n', *lines[at:]]
        batches = all_of(READ, written(tmp_path, "".join(["Code,Title\n", *broken]).encode()))
        assert [list(row.values()) for row in rows_of(batches)] == good
        assert [number for number, _, _ in rejects_of(batches)] == [at + 1]


@pytest.mark.parametrize("behind", [b"T2\n", b"T2,a\n\n", b"T2,a\nT3,\xe9\n"])
def test_an_open_quote_stops_the_file_where_what_follows_is_no_row_of_records(tmp_path: Path, behind: bytes) -> None:
    batches, error = until_refused(READ, written(tmp_path, b'Code,Title\nT1,Tea pot\nX,"a\n' + behind))
    assert rows_of(batches) == [TEA]
    assert (batches[-1].after.bytes, error.line) == (22, 3)


def test_an_open_quote_ends_somewhere_where_python_knows_no_limit(tmp_path: Path) -> None:
    lines = [b"Code,Title\n", b'X,"a\n', *[b"T1,Tea pot\n"] * 93_000, b'Y,"b\n', b'"Z"z,c\n' * 2, b"T1,Tea pot\n"]
    before = csv.field_size_limit(10**9)
    try:
        batches = all_of(READ, written(tmp_path, b"".join(lines)), size=1_000_000)
    finally:
        csv.field_size_limit(before)
    assert len(rows_of(batches)) == 93_001
    assert [number for number, _, _ in rejects_of(batches)] == [1, *range(93_002, 93_005)]


def test_nul_bytes_are_left_to_validation(tmp_path: Path) -> None:
    assert rows_of(all_of(READ, written(tmp_path, b"Code,Title\nT1,a\0b\n"))) == [{"Code": "T1", "Title": "a\0b"}]


def test_a_rejected_text_is_a_record_again_when_it_is_mended(tmp_path: Path) -> None:
    batches = all_of(READ, written(tmp_path, b'Title,Code\nTea pot,T1,x\n"C"up,C1\n,,\n'))
    texts = [str(record) for _, _, record in rejects_of(batches)]
    assert READ.parse(texts[0].removesuffix(",x")) == TEA
    for text in (texts[0], texts[2], "", "Title,Code", 'a,b\n"', "a,a\n1,2", "a,\n1,2", "a,b\n1,2\n3,4"):
        with pytest.raises(InvalidValue) as caught:
            READ.parse(text)
        assert caught.value.hint
    assert CsvFiles(columns=("Code", "Title")).parse("Title,Code\nTea pot,T1\n") == TEA
    with pytest.raises(InvalidValue, match="has other columns"):
        CsvFiles(columns=("Code",)).parse("Title,Code\nTea pot,T1\n")


# ── where reading stops ───────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("last", ["X", "X,Cu", "X,Cup", '"X', 'X,"Cup\nC2,Cup\nC3,Cu', 'X,"a\nb', 'X,"a\n'])
def test_a_last_line_without_its_end_is_not_read_and_all_before_is(tmp_path: Path, last: str) -> None:
    start = b"Code,Title\nT1,Tea pot\nC1,Cup\n"
    batches, error = until_refused(READ, written(tmp_path, start + last.encode()))
    assert rows_of(batches) == [TEA, CUP]
    assert batches[-1].after.bytes == len(start)
    assert error.line == 4
    assert "cut off" in error.message or "quote" in error.message


@pytest.mark.parametrize(
    ("header", "told"),
    [
        ("Code,Code", "two columns named 'Code'"),
        ("Code,,Title", "no name for its column 2 of 3"),
        ("Code,  ", "no name for its column 2"),
        ("C\0o,Title", "cannot be printed"),
        ('"Code"x,Title', "header that is not CSV"),
        ('"Code,Title', "header that is not CSV"),
        ("Code,Caf\udce9", "header that is not utf-8 text"),
        ("C" * 1_000_001, "header of more than 1,000,000 bytes"),
    ],
)
def test_a_header_that_names_no_fields_stops_the_file_at_its_first_line(tmp_path: Path, header: str, told: str) -> None:
    batches, error = until_refused(READ, written(tmp_path, f"{header}\na,b\n".encode(errors="surrogateescape")))
    assert batches == []
    assert told in error.message
    assert error.line == 1


def test_columns_that_are_expected_may_come_in_any_order_and_no_others(tmp_path: Path) -> None:
    extractor = CsvFiles(columns=("Code", "Title"), optional=("Colour",))
    assert rows_of(all_of(extractor, written(tmp_path, b"Title,Code\nTea pot,T1\n"))) == [TEA]
    assert rows_of(all_of(extractor, written(tmp_path, b"Colour,Code,Title\nblue,T1,Tea pot\n")))[0]["Colour"] == "blue"
    for content, told in {
        b"Code\nT1\n": "it lacks 'Title'",
        b"Code,Title,Size\nT1,Tea pot,3\n": "it has 'Size', which nobody expects",
        b"Code,Size\nT1,3\n": "it lacks 'Title' and has 'Size', which nobody expects",
        b"": "it is empty",
    }.items():
        batches, error = until_refused(extractor, written(tmp_path, content))
        assert (batches, error.line) == ([], 1)
        assert told in error.message
        assert "Code" in error.hint


@pytest.mark.parametrize(
    "wrong",
    [
        {"delimiter": ""},
        {"delimiter": ",,"},
        {"delimiter": '"'},
        {"delimiter": "\n"},
        {"delimiter": "→"},
        {"encoding": "utf-16"},
        {"encoding": "cp500"},
        {"encoding": "nonsense"},
        {"encoding": "base64"},
        {"columns": "Code"},
        {"columns": ("Code", "Code")},
        {"columns": ("Code",), "optional": ("Code",)},
        {"optional": ("Code",)},
    ],
)
def test_what_cannot_be_read_is_refused_when_it_is_asked_for(wrong: dict[str, str]) -> None:
    with pytest.raises(InvalidValue) as caught:
        CsvFiles(**wrong)  # type: ignore[arg-type]
    assert caught.value.hint


def test_lines_are_counted_alike_wherever_they_are_cut_while_they_are_read(tmp_path: Path) -> None:
    for long in range(BLOCK - 3, BLOCK + 3):
        first = b"Code,Title\r\n"
        lines = [first, b"T1," + b"x" * 100_000 + b"\r\n"]
        lines.append(b"T1," + b"x" * (long - sum(map(len, lines)) - 5) + b"\r\n")
        batches = all_of(READ, written(tmp_path, b"".join([*lines, b"T2\r\n"])))
        assert [reason[:6] for _, reason, _ in rejects_of(batches)][-1] == "Line 4"


def test_what_python_writes_is_read_back(tmp_path: Path) -> None:
    rows = [["a", 'q"', "new\nline"], ["", ",", "\r\n"], ["é", "😀", " "], ['""', "'", "\t"]]
    text = io.StringIO()
    csv.writer(text).writerows([["x", "y", "z"], *rows])
    assert [list(row.values()) for row in rows_of(all_of(READ, written(tmp_path, text.getvalue().encode())))] == rows
