"""The names of a table's columns, as a source gives them and as somebody expects them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from dataarch.errors import InvalidValue, shown
from dataarch.pipelines.extractors.opening import Unreadable

__all__ = ["check_columns", "expected_columns"]

MEND = "Give each column a name of its own, of signs that can be printed."


def expected_columns(
    columns: Iterable[str] | None, optional: Iterable[str]
) -> tuple[tuple[str, ...] | None, tuple[str, ...]]:
    """Return what somebody expects as tuples.

    Raises:
        InvalidValue: a name is expected twice, or some are optional where any may come.
    """
    if isinstance(columns, str) or isinstance(optional, str):
        raise InvalidValue("Columns are given as a list of names, not as one text.", hint="Write columns=('a', 'b').")
    wanted = None if columns is None else tuple(columns)
    also = tuple(optional)
    names = [*(wanted or ()), *also]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InvalidValue(
            f"The column {shown(twice[0])} is expected twice.", hint="Name each one once.", value=twice[0]
        )
    if also and wanted is None:
        raise InvalidValue(
            "Optional columns say nothing where any column may come.", hint="Give columns, or leave optional out."
        )
    return wanted, also


def check_columns(header: Sequence[str], columns: Sequence[str] | None, optional: Sequence[str]) -> None:
    """Check that a source's columns can be told apart, and are those that are expected, in any order.

    Raises:
        Unreadable: they are not.
    """
    for at, name in enumerate(header, 1):
        if not name.strip():
            raise Unreadable(f"has no name for its column {at} of {len(header)}", MEND)
        if not name.isprintable():
            raise Unreadable(f"has a column named {shown(name)}, which cannot be printed", MEND)
    if len(set(header)) < len(header):
        twice = next(name for at, name in enumerate(header) if name in header[:at])
        raise Unreadable(f"has two columns named {shown(twice)}", MEND)
    if columns is None:
        return
    missing = [name for name in columns if name not in header]
    known = {*columns, *optional}
    unknown = [name for name in header if name not in known]
    if missing or unknown:
        told = [f"lacks {_list(missing)}"] if missing else []
        told += [f"has {_list(unknown)}, which nobody expects"] if unknown else []
        also = f", and maybe {_list(optional)}" if optional else ""
        raise Unreadable(f"has other columns: it {' and '.join(told)}", f"Expected are {_list(columns)}{also}.")


def _list(names: Sequence[str]) -> str:
    return ", ".join(shown(name) for name in names)
