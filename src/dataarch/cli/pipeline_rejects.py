"""Rejects written to a file: for a spreadsheet, or for a program."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from dataarch.cli.pipeline_tables import REJECT_FIELDS, reject_described
from dataarch.errors import ConfigurationError, shown
from dataarch.models import PipelineReject

__all__ = ["write_csv", "write_json_lines"]


def write_csv(file: Path, rejects: Iterable[PipelineReject]) -> int:
    """Write rejects with a header; the record is JSON, or the text that no record could be made of. Return how many."""
    count = 0
    with _opened(file) as stream:
        writer = csv.DictWriter(stream, REJECT_FIELDS)
        writer.writeheader()
        for reject in rejects:
            described = reject_described(reject)
            record = reject.record if reject.form == "record" else described["record"]
            writer.writerow({**described, "record": record})
            count += 1
    return count


def write_json_lines(file: Path, rejects: Iterable[PipelineReject]) -> int:
    """Write each reject as a JSON object on a line of its own; return how many there are."""
    count = 0
    with _opened(file) as stream:
        for reject in rejects:
            stream.write(json.dumps(reject_described(reject), default=str) + "\n")
            count += 1
    return count


@contextmanager
def _opened(file: Path) -> Iterator[TextIO]:
    try:
        with file.open("w", encoding="utf-8", errors="backslashreplace", newline="") as stream:
            yield stream
    except OSError as refused:
        raise ConfigurationError(
            f"The file {shown(str(file))} cannot be written ({refused.strerror}).", hint="Name another one."
        ) from refused
