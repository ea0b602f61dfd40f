"""What things are called in the cache: keys, and the tags that say what a value was made from.

A key is readable text: ``user_profile:<id>:v1``, with ``{<tenant>}:`` before it where it belongs to a tenant. The
braces are the hash tag of a Redis Cluster, so that all of a tenant's keys lie in one slot.
"""

from __future__ import annotations

import hashlib
import re
from urllib.parse import unquote_to_bytes
from uuid import UUID

from dataarch.errors import InvalidValue, shown

__all__ = [
    "ALL",
    "LONGEST",
    "Part",
    "cache_key",
    "kind_tag",
    "lease_of",
    "parts_of_text",
    "rows_tag",
    "table_tag",
    "tenant_of_key",
    "tenant_tag",
]

Part = str | int | UUID
"""What a key is made of. Two parts are the same when their text is: a UUID, and its text in the usual form."""

LONGEST = 200
"""Characters of a key; what would be longer is hashed (SHA-256)."""

KIND = re.compile(r"[a-z][a-z0-9_]{0,62}")
UNSAFE = re.compile(r"[^A-Za-z0-9_.@+=/-]")
TENANT = re.compile(r"\{([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})\}")


def cache_key(kind: str, *parts: Part, version: int = 1, tenant: UUID | str | None = None) -> str:
    """Return the key of a value.

    Args:
        kind: what it is: a small letter, then up to 62 small letters, digits or ``_``.
        parts: which one it is; any text, lone surrogates included.
        version: of the value's form; a new one makes all older entries invisible at once.
        tenant: whose it is, if it is a tenant's.

    Returns:
        ASCII of at most 200 characters: ``kind:part:…:v1``, or ``{tenant}:kind:part:…:v1``.

    Raises:
        InvalidValue: the kind, the version or the tenant cannot be one, or a part is of another type.

    Guarantee: other arguments give another key, as far as SHA-256 keeps long ones apart; the same give the same in
    every process.
    """
    if not KIND.fullmatch(kind):
        raise InvalidValue(
            f"{shown(kind)} is no kind of value: it is part of every key.",
            hint="Use small letters, digits and _, beginning with a letter, at most 63.",
            value=kind,
        )
    if isinstance(version, bool) or version < 0:
        raise InvalidValue(f"{shown(version)} is no version.", hint="Give 0, 1, 2, …", value=version)
    body = "".join(f":{_escaped(part)}" for part in parts)
    before = "" if tenant is None else f"{{{_tenant(tenant)}}}:"
    key = f"{before}{kind}{body}:v{version}"
    if len(key) <= LONGEST:
        return key
    # no part is ever written with a #
    return f"{before}{kind}:#{hashlib.sha256(body.encode()).hexdigest()}:v{version}"


def lease_of(entry: str) -> str:
    """Return the name of the lease of an entry; no key ends like this."""
    return f"{entry}!"


def tenant_of_key(key: str) -> UUID | None:
    """Return the tenant that a key belongs to, if it is a tenant's."""
    found = TENANT.match(key)
    return None if found is None else UUID(found[1])


def _tenant(tenant: UUID | str) -> UUID:
    try:
        return tenant if isinstance(tenant, UUID) else UUID(tenant)
    except (ValueError, AttributeError, TypeError):
        raise InvalidValue(f"{shown(tenant)} is not the id of a tenant.", hint="Give a UUID.", value=tenant) from None


def _escaped(part: Part) -> str:
    if isinstance(part, bool) or not isinstance(part, str | int | UUID):
        raise InvalidValue(
            f"A key cannot be made of {shown(part)}, a {type(part).__name__}.",
            hint="Give text, a whole number or a UUID.",
            value=part,
        )
    # % and : among the characters that are replaced keep the parts apart
    return UNSAFE.sub(_percent, str(part))


def _percent(found: re.Match[str]) -> str:
    return "".join(f"%{byte:02X}" for byte in found[0].encode("utf-8", "surrogatepass"))


# ── tags ──────────────────────────────────────────────────────────────────────────────────────────────────────────

ALL = "!all"
"""Everything that is remembered."""


def kind_tag(kind: str) -> str:
    """Return the tag of all values of a kind."""
    return f"!kind:{kind}"


def tenant_tag(tenant: UUID | None) -> str:
    """Return the tag of all that was made from a tenant's rows, or from rows that belong to nobody."""
    return "!" if tenant is None else f"{{{tenant}}}!"


def table_tag(tenant: UUID | None, table: str) -> str:
    """Return the tag of what depends on a whole table: any row that is written changes it."""
    return f"{tenant_tag(tenant)}{table}"


def rows_tag(tenant: UUID | None, table: str) -> str:
    """Return the tag of what is made from single rows: it changes when rows were written and nobody can say which."""
    return f"{tenant_tag(tenant)}{table}!"


def parts_of_text(body: str) -> tuple[str, ...] | None:
    """Return the parts of a key as they stand in it; None where they do not: it was too long, and is hashed."""
    if body.startswith("#"):
        return None
    return tuple(unquote_to_bytes(part).decode("utf-8", "surrogatepass") for part in body.split(":")) if body else ()
