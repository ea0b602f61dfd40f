"""Forms of statements: what is the same of all that differ in nothing but their values, found out once for each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

__all__ = ["Forms", "values_of"]

MOST_FORMS = 1024
"""Forms that are remembered of one sort, so that statements are not compiled at each call."""

Form = TypeVar("Form")


class Forms(Generic[Form]):
    """The forms of statements that were seen; safe to share between threads."""

    def __init__(self) -> None:
        self._found: dict[Any, Form] = {}

    def of(self, statement: Any, make: Callable[[Any], Form]) -> tuple[Form, Any]:
        """Return a statement's form, and SQLAlchemy's key of the statement, which has its values.

        Args:
            statement: a select.
            make: is given the key, and makes the form of a statement whose like was not seen before.
        """
        # as in SQLAlchemy's own example of a cache; None where some element does not say what it is made of
        cached = statement._generate_cache_key()
        form = None if cached is None else self._found.get(cached.key)
        if form is None:
            form = make(cached)
            if cached is not None:
                if len(self._found) >= MOST_FORMS:
                    self._found.clear()
                self._found[cached.key] = form
        return form, cached


def values_of(compiled: Any, cached: Any) -> dict[str, Any]:
    """Return the parameters of a statement by their names in the SQL.

    Args:
        compiled: the statement, or its like.
        cached: SQLAlchemy's key of the statement itself.

    Raises:
        InvalidRequestError: a parameter has no value.
    """
    extracted = None if cached is None else cached.bindparams
    # SQLAlchemy 2.1 keeps what params() gave beside the statement, 2.0 in it
    given = getattr(cached, "params", None)
    values: dict[str, Any] = compiled.construct_params(given, extracted_parameters=extracted, escape_names=False)
    return values
