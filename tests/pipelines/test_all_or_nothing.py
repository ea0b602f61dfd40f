"""A loader that never refuses a row: what was extracted is not in memory until the rows are committed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

import pytest

from dataarch.database.unit_of_work import Database, TenantSession
from dataarch.models import PipelineReject, Product
from dataarch.models.base import new_id
from dataarch.pipelines.division import Division, Share
from dataarch.pipelines.loaders.append import Append
from dataarch.pipelines.outcome import Counts
from dataarch.pipelines.pipeline import AllOrNothing, Loaded, Pipeline
from dataarch.pipelines.reading import Ready, ready_batches
from dataarch.pipelines.records import Batch, Position, Row, Stage, each
from dataarch.pipelines.runner import Runner, run
from pipelines.listed import Listed, home, name_of, product, stored

pytestmark = pytest.mark.pipeline


@dataclass(frozen=True)
class Promises:
    """Adds products, and says whether it never refuses one."""

    all_or_nothing: bool
    whole: bool = False

    def begin(self, session: TenantSession) -> int:  # noqa: ARG002
        return 0

    def prepare(self, rows: Sequence[Row], tenant_id: UUID) -> Sequence[Row]:  # noqa: ARG002
        return rows

    def load(self, session: TenantSession, rows: Sequence[Row]) -> Loaded:
        return Append(Product).load(session, rows)


def renamed(batch: Batch) -> Batch:
    """Give each product another name."""
    return each(batch, Stage.TRANSFORM, lambda row: {**row, "name": row["name"].upper()})


def other_shop(db: Database, load: Promises | Append) -> tuple[UUID, Pipeline]:
    """Return a tenant, and a pipeline that loads for it."""
    name = name_of(db, other := home(db))
    return other, Pipeline("shop", Listed(), (renamed,), load, tenant_by=lambda _: name)


def names_kept(db: Database, load: Promises | Append) -> list[str]:
    """Return the names of what is kept as extracted while rows of another tenant are loaded."""
    other, given = other_shop(db, load)
    (source,) = given.extract.sources({"a": [product(1), product(2)]})
    (ready,) = ready_batches(given, source, Position(), 10)
    assert isinstance(ready, Ready)
    (found,) = Division(Runner(db, given, home(db))).loads([[Share(ready, new_id())]])
    (share,) = found.others[other].shares
    assert [row["name"] for row in share.batch.rows] == ["TEA 1", "TEA 2"]
    return [row["name"] for row in share.batch.originals]


def test_records_are_kept_as_they_were_extracted_unless_no_row_is_ever_refused(shared_db: Database) -> None:
    assert names_kept(shared_db, Append(Product)) == ["Tea 1", "Tea 2"]
    assert names_kept(shared_db, Promises(all_or_nothing=False)) == ["Tea 1", "Tea 2"]
    assert names_kept(shared_db, Promises(all_or_nothing=True)) == ["TEA 1", "TEA 2"]
    assert isinstance(Promises(all_or_nothing=True), AllOrNothing)


@pytest.mark.parametrize(("promised", "name"), [(False, "Tea 2"), (True, "TEA 2")])
def test_a_row_that_is_refused_all_the_same_is_kept_as_it_would_have_been_loaded(
    shared_db: Database, name: str, *, promised: bool
) -> None:
    other, given = other_shop(shared_db, Promises(all_or_nothing=promised))
    outcome = run(shared_db, given, {"a": [product(1), product(2, slug="No Slug")]}, tenant_id=home(shared_db))
    assert outcome.counts == Counts(read=2, loaded=1, rejected=1)
    ((record,),) = stored(shared_db, other, PipelineReject, "record")
    assert f'"{name}"' in record
