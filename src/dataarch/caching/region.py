"""Regions: dogpile.cache as everybody knows it, one region for each kind of value."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import cache
from typing import Any
from uuid import UUID

from dogpile.cache import CacheRegion, register_backend

from dataarch.caching.backend import KindBackend
from dataarch.caching.counters import KindStats
from dataarch.caching.fencing import Fencing
from dataarch.caching.kinds import Kind
from dataarch.database.commit_hooks import current_unit
from dataarch.errors import InvalidValue

__all__ = ["Region", "make_region"]

BACKEND = "dataarch.kind"


class Region(CacheRegion):
    """A region of dogpile.cache with its kind.

    ``get_or_create``, ``get_or_create_multi`` and ``cache_on_arguments`` do what dogpile.cache says of them, and are
    never wrong after a commit. ``set`` alone is refused: what it is given may be older than a commit.
    """

    kind: Kind

    def key(self, *parts: Any, tenant: UUID | str | None = None) -> str:
        """Return a key of this kind; in an open unit of work of a tenant, its key where the kind is a tenant's."""
        if tenant is None and self.kind.owned:
            unit = current_unit()
            tenant = None if unit is None else unit.tenant_id
        return self.kind.key(*parts, tenant=tenant)

    @property
    def kind_backend(self) -> KindBackend:
        """The backend, as what it is."""
        backend: KindBackend = self.backend
        return backend

    @property
    def ttl(self) -> float:
        """Seconds for which a value is served at the most."""
        return self.kind.ttl


def make_region(kind: Kind, fencing: Fencing, stats: KindStats) -> Region:
    """Return the region of a kind."""
    _register()
    region = Region(name=kind.name)
    region.kind = kind
    region.function_key_generator = _keys_of(region)
    arguments = {"kind": kind, "fencing": fencing, "stats": stats}
    return region.configure(BACKEND, expiration_time=kind.soft_ttl, arguments=arguments)


@cache
def _register() -> None:
    register: Any = register_backend
    register(BACKEND, "dataarch.caching.backend", "KindBackend")


def _keys_of(region: Region) -> Callable[..., Callable[..., str]]:
    """Return dogpile's maker of makers of keys: a function's name and arguments, and the tenant it was called for."""

    def generator(namespace: str | None, function: Any, **_: object) -> Callable[..., str]:
        signature = inspect.signature(function)
        first = next(iter(signature.parameters), None)
        own = first in {"self", "cls"}
        name = namespace or f"{function.__module__}.{function.__qualname__}"

        def key(*given: Any, **named: Any) -> str:
            bound = signature.bind(*given, **named)
            bound.apply_defaults()
            arguments = dict(list(bound.arguments.items())[1:] if own else bound.arguments)
            tenant = arguments.pop("tenant_id", None)
            return region.key(name, *(_part(value) for value in arguments.values()), tenant=tenant)

        return key

    return generator


def _part(value: Any) -> str:
    """Return an argument as part of a key; what is not the same of the same type is another part."""
    if value is None or isinstance(value, str | int | float | UUID):
        return f"{type(value).__name__}:{value}"
    raise InvalidValue(
        f"A function cannot be remembered by an argument that is a {type(value).__name__}.",
        hint="Give it text, numbers, None or UUIDs; a unit of work opens itself inside it.",
        value=value,
    )
