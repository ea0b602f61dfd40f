"""What every error has: a message, a hint, and what it is about."""

from __future__ import annotations

from typing import ClassVar, TypedDict, Unpack
from uuid import UUID

SHOWN_VALUE_LENGTH = 80


class About(TypedDict, total=False):
    """What an error can be about; see :class:`DataArchError`."""

    table: str | None
    column: str | None
    constraint: str | None
    value: object
    tenant_id: UUID | None
    sqlstate: str | None


class DataArchError(Exception):
    """The root of everything that dataarch raises.

    Attributes:
        hint: what to do about it, as a sentence or a command; may be empty.
        table: name of the table it is about, if it is about one.
        column: name of the column, if it is about one.
        constraint: name of the constraint that refused, if one did.
        value: the value that was refused, if there is one.
        tenant_id: the tenant it is about, if it is about one.
        sqlstate: the five characters of PostgreSQL's error code, if it comes from there.
    """

    exit_code: ClassVar[int] = 1
    default_hint: ClassVar[str] = ""

    def __init__(self, message: str, *, hint: str | None = None, **about: Unpack[About]) -> None:
        self.message = message
        self.hint = self.default_hint if hint is None else hint
        self.table = about.get("table")
        self.column = about.get("column")
        self.constraint = about.get("constraint")
        self.value = about.get("value")
        self.tenant_id = about.get("tenant_id")
        self.sqlstate = about.get("sqlstate")
        super().__init__(f"{message} {self.hint}".strip())

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle and copy without calling ``__init__``: what it takes differs from class to class."""
        return _rebuilt, (type(self), self.args, self.__dict__)


def _rebuilt(kind: type[DataArchError], args: tuple[object, ...], state: dict[str, object]) -> DataArchError:
    error = kind.__new__(kind, *args)
    error.__dict__.update(state)
    return error


def shown(value: object) -> str:
    """Return a value as an error message may show it: escaped, on one line, and of bounded length."""
    text = ascii(value)
    return text if len(text) <= SHOWN_VALUE_LENGTH else f"{text[: SHOWN_VALUE_LENGTH - 1]}…"
