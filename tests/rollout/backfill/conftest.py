"""A database for a whole file of tests, each of which makes tables of its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from fixtures.servers import Servers
from rollout.backfill.backfill_support import Ground, ground_of


@pytest.fixture(scope="module")
def ground(servers: Servers) -> Iterator[Ground]:
    """A database without tables, reached as the owner."""
    with ground_of(servers) as made:
        yield made
