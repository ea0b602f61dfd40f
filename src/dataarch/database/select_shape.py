"""What of a select would be lost if its rows were read in parts: page by page, or window by window."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sqlalchemy import ClauseElement, Label, Over, Select
from sqlalchemy.sql import visitors

__all__ = ["combines_rows", "unadorned", "unwrapped"]


def unwrapped(selected: Any) -> Any:
    """Return the column behind an attribute or a label."""
    while not isinstance(selected, ClauseElement) and hasattr(selected, "__clause_element__"):
        selected = selected.__clause_element__()
    return selected.element if isinstance(selected, Label) else selected


def combines_rows(statement: Select[*tuple[Any, ...]]) -> str | None:
    """Return why a row of a select depends on others that may be in another part; None where it does not."""
    if statement.compare(statement.distinct()):
        return "it is DISTINCT"
    if any(isinstance(part, Over) for column in _expressions(statement) for part in visitors.iterate(column)):
        return "it has a window function"
    return None


def unadorned(statement: Select[*tuple[Any, ...]]) -> Select[*tuple[Any, ...]]:
    """Return a select without order, limit, offset and groups."""
    return statement.order_by(None).limit(None).offset(None).fetch(None).group_by(None)


def _expressions(statement: Select[*tuple[Any, ...]]) -> Iterator[ClauseElement]:
    for description in statement.column_descriptions:
        if isinstance(expression := unwrapped(description["expr"]), ClauseElement):
            yield expression
