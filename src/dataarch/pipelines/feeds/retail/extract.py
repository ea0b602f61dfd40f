"""Read order lines from CSV files, plain or gzipped; nothing here knows what the fields mean."""

from __future__ import annotations

import csv
import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, TextIO

from dataarch.errors import FeedError, InputMissing, shown

__all__ = ["COLUMNS", "RawLine", "read_lines", "source_files", "source_name"]

COLUMNS = ("InvoiceNo", "StockCode", "Description", "Quantity", "InvoiceDate", "UnitPrice", "CustomerID", "Country")
ENDINGS = (".csv", ".csv.gz")
HINT = "Give a folder of files named *.csv or *.csv.gz, or one of them."

LONGEST_LINE = 1_000_000
"""Characters: a file without line ends, or a gzip bomb, is given up here and not read into memory."""

AGAIN = "Fetch it again."
ENDED = "Fetch it again; if it is whole, end its last line with a line break."


class RawLine(NamedTuple):
    """One record as it stands in the file; ``number`` counts lines from 1, the header included."""

    number: int
    fields: list[str]


def source_files(path: Path) -> list[Path]:
    """Return the files to read, in the order of their names: one file, or all of a folder.

    Raises:
        InputMissing: there is nothing there, or no CSV file.
    """
    try:
        if path.is_dir():
            files = sorted(file for file in path.iterdir() if _is_source(file))
        elif path.is_file():
            files = [path] if _is_source(path) else []
        else:
            raise InputMissing(f"There is no file or folder {shown(str(path))}.", hint="Check the path given as DATA.")
    except OSError as broken:
        raise InputMissing(
            f"{shown(str(path))} cannot be read ({broken.strerror}).", hint="Check the path and its permissions."
        ) from broken
    if not files:
        raise InputMissing(f"{shown(str(path))} {'holds' if path.is_dir() else 'is'} no CSV file.", hint=HINT)
    return files


def source_name(file: Path) -> str:
    """Return a file's name as it can be stored and shown: what cannot be printed is escaped."""
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode("ascii") for sign in file.name)


def read_lines(file: Path) -> Iterator[RawLine]:
    """Read the records of one file.

    Raises:
        FeedError: the file cannot be read to its end (cut off, not UTF-8, not CSV), or its header names other columns.

    The last line must end with a line break: without one, nobody can tell "United Kin" cut off from a country.
    """
    reader = None
    try:
        with _opened(file) as stream:
            reader = csv.reader(_whole_lines(stream), strict=True)
            _check_header(file, next(reader, []))
            for fields in reader:
                yield RawLine(reader.line_num, fields)
    except (EOFError, zlib.error, gzip.BadGzipFile) as broken:
        raise _unreadable(file, reader, f"is cut off or no gzip file ({broken})", AGAIN) from broken
    except CutOff as broken:
        raise _unreadable(file, reader, "is cut off: its last line has no end", ENDED) from broken
    except UnicodeDecodeError as broken:
        byte = f"byte 0x{broken.object[broken.start]:02x}"
        raise _unreadable(
            file, reader, f"is not UTF-8 text ({byte})", "Convert it, for example with iconv."
        ) from broken
    except csv.Error as broken:
        raise _unreadable(file, reader, f"is not CSV ({broken})", "Fetch it again, or mend the line.") from broken
    except OSError as broken:
        raise _unreadable(file, reader, f"cannot be read ({broken.strerror})", "Check its permissions.") from broken


class CutOff(Exception):  # never leaves this file
    """The file ends in the middle of a line."""


def _opened(file: Path) -> TextIO:
    if file.name.lower().endswith(".gz"):
        return gzip.open(file, "rt", encoding="utf-8-sig", newline="")
    return file.open(encoding="utf-8-sig", newline="")


def _is_source(file: Path) -> bool:
    return file.name.lower().endswith(ENDINGS) and file.is_file()


def _whole_lines(stream: TextIO) -> Iterator[str]:
    while line := stream.readline(LONGEST_LINE):
        if line[-1] not in "\r\n":
            if len(line) == LONGEST_LINE:
                raise csv.Error(f"line of more than {LONGEST_LINE:,} characters")
            raise CutOff
        yield line


def _check_header(file: Path, header: list[str]) -> None:
    if tuple(header) != COLUMNS:
        name = source_name(file)
        raise FeedError(
            f"The file {name} does not begin with the columns of order lines; nothing of it was loaded.",
            source=name,
            line=1,
            hint=f"Its first line must be: {','.join(COLUMNS)}",
        )


def _unreadable(file: Path, reader: object, why: str, hint: str) -> FeedError:
    line = getattr(reader, "line_num", 0) + 1
    name = source_name(file)
    return FeedError(
        f"The file {name} {why} at about line {line}; nothing of it was loaded.", source=name, line=line, hint=hint
    )
