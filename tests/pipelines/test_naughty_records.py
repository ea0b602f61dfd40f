"""Strings that break software, in every text column, from a file to the table: that very text, or a named reject."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID

import pytest
from sqlalchemy.engine.default import DefaultDialect

from dataarch.database.unit_of_work import Database
from dataarch.errors import InvalidValue
from dataarch.models import PipelineReject, PipelineRun, Product
from dataarch.models.types import Words
from dataarch.pipelines.extractors import CsvFiles, JsonLines
from dataarch.pipelines.pipeline import Extractor
from dataarch.pipelines.runner import run
from dataarch.pipelines.transformers.times import times
from dataarch.pipelines.validators.model_rules import valid
from fixtures.shared_data import shared_file
from pipelines.listed import home, pipeline, product, stored

pytestmark = pytest.mark.pipeline

ANY = DefaultDialect()
COLUMNS = [column.name for column in Product.__table__.columns if isinstance(column.type, Words)]


class Given(NamedTuple):
    """One record: the column that a string stands in, and the string."""

    column: str
    text: str


BROKEN = ("a\r\nb", "\ud800")
"""What makes several lines of one, or bytes that are no text: lines around it are read one by one."""


def naughty(form: str) -> list[str]:
    strings = json.loads(shared_file("naughty-strings", "blns.json").read_bytes())
    assert len(strings) > 500
    strings += [" x ", "\tx\t", "\x00", "nul\x00inside", "\ufffe", "\ufeff", "\u2028", "NULL", "\\N", "\\."]
    return strings if form == "CSV of whole lines" else [*strings, *BROKEN]


def record(number: int, given: Given) -> dict[str, Any]:
    """Return the record of a product that can be found again by its price."""
    return {**product(number), "price": f"{number}.00", given.column: given.text}


def as_csv(file: Path, records: list[dict[str, Any]]) -> None:
    with file.open("w", encoding="utf-8", errors="surrogatepass", newline="") as stream:
        writer = csv.DictWriter(stream, list(records[0]), quoting=csv.QUOTE_ALL)
        writer.writeheader()
        writer.writerows(records)


def as_json_lines(file: Path, records: list[dict[str, Any]]) -> None:
    file.write_text("".join(json.dumps(one) + "\n" for one in records))


FORMATS: Mapping[str, tuple[Extractor, Callable[[Path, list[dict[str, Any]]], None]]] = {
    "CSV": (CsvFiles(), as_csv),
    "CSV of whole lines": (CsvFiles(), as_csv),
    "JSON Lines": (JsonLines(), as_json_lines),
}


def holds(given: Given) -> bool:
    """Say whether a column's type takes a text; what is empty is not given, and each of them is needed."""
    if not given.text:
        return False
    try:
        Product.__table__.columns[given.column].type.process_bind_param(given.text, ANY)  # type: ignore[attr-defined]
    except InvalidValue:
        return False
    return True


def expected(records: list[Given]) -> Iterator[tuple[int, str]]:
    """Give the number and the text of each record whose row must be there at the end.

    Of the same key twice the later record counts; of the same slug twice the earlier.
    """
    last = {given.text: number for number, given in enumerate(records, 1) if given.column == "external_id"}
    slugs: set[str] = set()
    for number, given in enumerate(records, 1):
        if not holds(given) or (given.column == "slug" and given.text in slugs):
            continue
        if given.column == "slug":
            slugs.add(given.text)
        if given.column != "external_id" or last[given.text] == number:
            yield number, given.text


@pytest.mark.parametrize("form", FORMATS)
def test_every_naughty_string_in_every_text_column_is_loaded_as_it_is_or_rejected(
    shared_db: Database, tmp_path: Path, form: str
) -> None:
    extractor, write = FORMATS[form]
    tenant_id = home(shared_db)
    given = [Given(column, text) for column in COLUMNS for text in naughty(form)]
    write(tmp_path / "naughty", [record(number, one) for number, one in enumerate(given, 1)])
    products = replace(pipeline(), extract=extractor, steps=(valid(Product),))
    outcome = run(shared_db, products, tmp_path / "naughty", tenant_id=tenant_id)
    counts = outcome.counts
    assert (outcome.failed, counts.read) == ([], len(given))
    assert found(shared_db, tenant_id, given) == dict(expected(given))
    rejects = rejected(shared_db, tenant_id)
    assert len(rejects) == counts.rejected
    assert all(len(reason) > 20 for reason in rejects.values())
    refused = {number for number, one in enumerate(given, 1) if not holds(one)}
    assert refused <= set(rejects)
    # beside these, slugs that are taken
    assert {given[number - 1].column for number in set(rejects) - refused} <= {"slug"}
    assert counts.loaded == len(stored(shared_db, tenant_id, Product, "id"))
    assert stored(shared_db, tenant_id, PipelineRun, "read", "rejected") == [(counts.read, counts.rejected)]


def found(db: Database, tenant_id: UUID, given: list[Given]) -> dict[int, str]:
    """Return the texts that rows have, by the numbers of their records."""
    rows = stored(db, tenant_id, Product, "price", *COLUMNS)
    texts = {int(price): dict(zip(COLUMNS, columns, strict=True)) for price, *columns in rows}
    return {number: of_row[given[number - 1].column] for number, of_row in texts.items()}


def rejected(db: Database, tenant_id: UUID) -> dict[int, str]:
    """Return the reasons of rejects by the numbers of their records; none has two."""
    rows = stored(db, tenant_id, PipelineReject, "number", "reason")
    assert len(dict(rows)) == len(rows)
    return dict(rows)


@pytest.mark.parametrize("form", FORMATS)
def test_every_labelled_time_is_loaded_as_that_instant_or_rejected(
    shared_db: Database, tmp_path: Path, form: str
) -> None:
    extractor, write = FORMATS[form]
    samples = json.loads(shared_file("formats", "date-time.json").read_bytes())[0]["tests"]
    texts = [(one["data"], one["valid"]) for one in samples if isinstance(one["data"], str)]
    assert len(texts) > 15
    write(tmp_path / "times", [{**product(n), "price": "1", "created_at": text} for n, (text, _) in enumerate(texts)])
    steps = (times("created_at"), valid(Product))
    tenant_id = home(shared_db)
    outcome = run(
        shared_db, replace(pipeline(), extract=extractor, steps=steps), tmp_path / "times", tenant_id=tenant_id
    )
    rejects = rejected(shared_db, tenant_id)
    rows = dict(stored(shared_db, tenant_id, Product, "external_id", "created_at"))
    assert len(rows) + len(rejects) == outcome.counts.read == len(texts)
    for number, (text, right) in enumerate(texts):
        if instant := rows.get(f"T{number}"):
            assert right, text
            assert instant == datetime.fromisoformat(text.upper()).astimezone(UTC), text
        else:
            # a leap second is right, and no timestamp can be it
            assert rejects[number + 1]
            assert not right or ":60" in text, text
