"""Where a unit of work comes from, and how code that has only its session opens another one beside it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager, AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import TypeVar

from sqlalchemy.orm import Session
from sqlalchemy.util import await_only

from dataarch.database.settings import Settings

__all__ = ["Origin", "awaited"]

Opened = TypeVar("Opened")


@dataclass(frozen=True, slots=True)
class Origin:
    """The database that a unit of work was opened by.

    Attributes:
        settings: the database's.
        session: opens another unit of work of the same role, of no tenant, on a connection of its own: for what must be
            committed before the first one goes on, such as the partition of a month. Each takes one more connection of
            the pool while it lasts, so it must be short.
        owner: whether the role is the owner of the tables, outside the policies.
    """

    settings: Settings
    session: Callable[[], AbstractContextManager[Session]]
    owner: bool = False


@contextmanager
def awaited(manager: AbstractAsyncContextManager[Opened]) -> Iterator[Opened]:
    """Enter and leave an asynchronous context from code that ``run_sync`` runs."""
    opened = await_only(manager.__aenter__())
    try:
        yield opened
    except BaseException:
        if not await_only(manager.__aexit__(*sys.exc_info())):
            raise
    else:
        await_only(manager.__aexit__(None, None, None))
