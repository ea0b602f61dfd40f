"""The body of the trigger's function: what it does with a row, in PL/pgSQL.

Everything in it is written with its schema, and whether values are the same is asked of their types: the search path
of whoever writes changes nothing. Where a %-mark stands, the server puts in what only it knows: :class:`Marks`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from textwrap import indent

from dataarch.partitions.quoting import ident, literal
from dataarch.rollout.dual_write.forms import Forms

__all__ = ["CONFLICT", "Marks", "body"]

CONFLICT = "DA008"
"""SQLSTATE of a row whose forms say different things."""


@dataclass(frozen=True)
class Marks:
    """Where the server's parts stand in the body: numbers of arguments of ``format()``.

    First come the calls that compute a column, the new form's before the old one's; then what is said here.
    """

    columns: int

    def call(self, number: int) -> str:
        """The call that computes a column, counted from 0."""
        return f"%{number + 1}$s"

    def absent(self, *, new: bool) -> str:
        """The condition that a form is not given: each of its columns is NULL or its default."""
        return f"%{self.columns + (1 if new else 2)}$s"

    def same(self, *, new: bool) -> str:
        """The condition that a form is what follows from the other one."""
        return f"%{self.columns + (3 if new else 4)}$s"

    @property
    def moved(self) -> str:
        """The condition that something has changed which the followed form is computed from."""
        return f"%{self.columns + 5}$s"


@dataclass(frozen=True)
class Side:
    """One form, and how it is computed from the other one."""

    columns: tuple[str, ...]
    calls: tuple[str, ...]
    absent: str
    same: str

    def __bool__(self) -> bool:
        """Whether there is anything to compute."""
        return bool(self.columns)

    @property
    def compute(self) -> str:
        """Statements that compute it."""
        return "\n".join(
            f"NEW.{column} := {call};" for column, call in zip(map(_ident, self.columns), self.calls, strict=True)
        )

    @property
    def unchanged(self) -> str:
        """The condition that an UPDATE has not changed it, to the byte."""
        new, old = (_row(record, self.columns) for record in ("NEW", "OLD"))
        return f"pg_catalog.record_image_eq({new}, {old})"


def body(write: Forms) -> str:
    """Return the body, for ``format()``."""
    marks = Marks(len(write.forward) + len(write.backward))
    new = _side(write.forward, marks, first=0, new=True)
    old = _side(write.backward, marks, first=len(write.forward), new=False)
    followed, other = (new, old) if new else (old, new)
    return f"""
-- made by dataarch; a change to it is noticed, and blocks the contract
BEGIN
    IF TG_OP OPERATOR(pg_catalog.=) 'INSERT' THEN
{_then(followed.absent, followed.compute)}
{_leave(followed.same)}
{_then(other.absent, other.compute) if other else ""}
    ELSE
        IF {followed.unchanged} THEN
{indent(_then(marks.moved, followed.compute, "END IF;"), "    ")}
            RETURN NEW;
        END IF;
{_leave(followed.same)}
{_then(other.unchanged, other.compute) if other else ""}
    END IF;
{_leave(other.same, depth=4) if other else ""}
{indent(_conflict(write, new, old), "    ")}
    RETURN NEW;
END
"""


def _side(columns: Mapping[str, str], marks: Marks, *, first: int, new: bool) -> Side:
    calls = tuple(marks.call(first + number) for number in range(len(columns)))
    return Side(tuple(columns), calls, marks.absent(new=new), marks.same(new=new))


def _then(condition: str, statements: str, end: str = "    RETURN NEW;\nEND IF;") -> str:
    return indent(f"IF {condition} THEN\n{indent(statements, '    ')}\n{end}", " " * 8)


def _leave(condition: str, *, depth: int = 8) -> str:
    return indent(f"IF {condition} THEN\n    RETURN NEW;\nEND IF;", " " * depth)


def _conflict(write: Forms, new: Side, old: Side) -> str:
    if write.on_conflict == "refuse":
        return _refusal(write)
    return new.compute if write.on_conflict == "old" else old.compute


def _refusal(write: Forms) -> str:
    columns = ", ".join((*write.forward, *write.backward))
    said = {
        "ERRCODE": CONFLICT,
        "MESSAGE": f'dual write "{write.name}": the old and the new form of a row of "{write.table}" differ',
        "DETAIL": f"Columns that do not follow from the others: {columns}.",
        "HINT": "Write one of the forms, or both so that they say the same.",
        "TABLE": write.table,
        "CONSTRAINT": write.name,
    }
    using = ",\n    ".join(f"{option} = {_literal(text)}" for option, text in said.items())
    return f"RAISE EXCEPTION USING\n    {using};"


def _row(record: str, columns: Iterable[str]) -> str:
    return f"ROW({', '.join(f'{record}.{_ident(column)}' for column in columns)})"


def _ident(name: str) -> str:
    # format() reads percent signs
    return ident(name).replace("%", "%%")


def _literal(text: str) -> str:
    return literal(text).replace("%", "%%")
