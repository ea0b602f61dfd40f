"""Names as changes write them: in SQL, in the names of files, and for what belongs to a change."""

from __future__ import annotations

import re
from hashlib import sha256

from sqlalchemy.dialects import postgresql

__all__ = ["listed", "quoted", "slug", "string", "trimmed", "word"]

LONGEST = 63
"""Bytes of a name that PostgreSQL keeps."""

LONGEST_WHAT = 44
"""Signs of a change's name, so that what is called after it is not cut off."""


def quoted(name: str, schema: str | None = None) -> str:
    """Return a name as people write it in SQL: in double quotes where it needs them."""
    # another style would double each percent sign
    prepare = postgresql.dialect(paramstyle="named").identifier_preparer  # type: ignore[no-untyped-call]
    parts = (name,) if schema is None else (schema, name)
    return ".".join(prepare.quote(part) for part in parts)


def listed(names: tuple[str, ...] | list[str]) -> str:
    """Return names as SQL lists them."""
    return ", ".join(quoted(name) for name in names)


def string(value: str) -> str:
    """Return text as a literal of SQL."""
    return "'" + value.replace("'", "''") + "'"


def word(*parts: str) -> str:
    """Return the name of a change: small letters, digits and underscores, and never so long that it is cut off."""
    whole = "_".join(parts)
    made = slug(whole)
    if len(made) <= LONGEST_WHAT and made.isascii():
        return made
    return (
        f"{slug(whole.encode('ascii', 'ignore').decode())[: LONGEST_WHAT - 9]}_{sha256(whole.encode()).hexdigest()[:8]}"
    )


def slug(text: str) -> str:
    """Return text as Alembic makes file names of messages."""
    return "_".join(re.findall(r"\w+", text)).lower()


def trimmed(name: str) -> str:
    """Return a name of at most 63 bytes; a longer one ends in its digest, so that two never become one."""
    encoded = name.encode()
    if len(encoded) <= LONGEST:
        return name
    return f"{encoded[: LONGEST - 9].decode(errors='ignore')}_{sha256(encoded).hexdigest()[:8]}"
