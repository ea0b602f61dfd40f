"""Rendered responses of HTTP, remembered under the tables that they were made from; of no framework.

::

    response = db.cache.responses.respond(tenant_id, Request("GET", "/users"), render, reads=(User,), ttl=60)

What is remembered, and for whom, is as RFC 9111 ("HTTP Caching") has it for a cache that belongs to the server itself:
nothing in it is ever older than the rows, so what a client's ``Cache-Control`` asks of caches on the way is not asked
of this one. Conditional requests are RFC 9110, section 13.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any
from uuid import UUID

from dataarch.caching.counters import KindStats
from dataarch.caching.fencing import Fencing
from dataarch.caching.fingerprints import fingerprint
from dataarch.caching.http_messages import (
    NAME,
    Request,
    Response,
    entity_tag,
    is_known,
    not_modified,
    only_head,
    with_header,
)
from dataarch.caching.layer import RESPONSE, Layer
from dataarch.errors import InvalidValue, shown

__all__ = ["Request", "Response", "Responses"]

Render = Callable[[], Response]

STATUSES = frozenset({200, 203, 204, 301, 404, 410})
"""What is remembered; other statuses tell of this one request."""

WITH_CONTENT = frozenset({200, 203})

CACHE_CONTROL = "private, max-age=0, must-revalidate"
"""Only the client itself may keep it, and it asks each time whether it has changed."""

NOT_TO_BE_STORED = frozenset({"no-store", "no-cache", "private"})


class Responses:
    """Rendered responses, as ``db.cache.responses``; safe to share between threads.

    Guarantee: once a commit has returned that wrote to one of the tables, nobody gets what was rendered before it.
    """

    def __init__(self, fencing: Fencing, stats: KindStats) -> None:
        """Take what keeps it right, and where it counts."""
        self._layer = Layer(RESPONSE, fencing, stats, Response)

    def respond(
        self,
        tenant_id: UUID | str | None,
        request: Request,
        render: Render,
        *,
        reads: tuple[Any, ...],
        ttl: float = 60.0,
        vary: tuple[str, ...] = (),
    ) -> Response:
        """Return the response to a request, rendered if nobody has rendered it before.

        Args:
            tenant_id: whose it is; None only where no tenant's table is read.
            request: the request. Two are the same when path, arguments and the headers of ``vary`` are; arguments of
                different names may stand in any order.
            render: makes the response. It must give GET's response to HEAD too; one without a body is not remembered.
            reads: models or tables that it is made from.
            ttl: seconds for which it is remembered.
            vary: names of the headers that it depends on. **Whoever may ask in the tenant's name gets the same
                response**: see that he may before, and let one that depends on the user vary by what names him.

        Returns:
            304 without a body where the client has it already, and no body to HEAD. What is no GET or HEAD, has another
            status than 200, 203, 204, 301, 404 or 410, sets cookies, varies by other headers, or has no-store, no-cache
            or private in its Cache-Control, is given as it was rendered, and not remembered.

        Raises:
            InvalidValue: a name in ``vary`` is none, ``ttl`` is no time, or what was rendered is no response.
            TenantNotSet: there is no tenant, but a tenant's table.
            Exception: whatever ``render`` raises; nothing is remembered then.
        """
        if request.method not in {"GET", "HEAD"}:
            return _checked(render())
        names = _names(vary)
        region = self._layer.region(ttl, None, tuple(reads))
        tables = [table.fullname for table in region.kind.reads]
        varied = [(name, request.header(name)) for name in names]
        asked = fingerprint(request.path, request.arguments(), varied, tables, float(ttl))
        rendering = _Rendering(render, request.method, vary)
        key = self._layer.key(region, asked, tenant_id)
        response = self._layer.remembered(region, key, rendering, lambda _: rendering.passed is None)
        if rendering.passed is not None:
            return rendering.passed
        if response.status in WITH_CONTENT and is_known(request, response.header("ETag")):
            return not_modified(response)
        return only_head(response) if request.method == "HEAD" else response


class _Rendering:
    """One call of ``render``; what may not be remembered is noted as passed."""

    def __init__(self, render: Render, method: str, vary: tuple[str, ...]) -> None:
        self._render = render
        self._method = method
        self._vary = vary
        self.passed: Response | None = None

    def __call__(self) -> Response:
        response = _checked(self._render())
        # one that has no body may be what a framework gives to HEAD alone
        whole = self._method == "GET" or bool(response.body)
        if not (whole and _storable(response, self._vary)):
            self.passed = response
            return response
        return _complete(response, self._vary)


def _checked(response: Any) -> Response:
    if not isinstance(response, Response):
        raise InvalidValue(
            f"What was rendered is a {type(response).__name__}.",
            hint="Give dataarch.caching.api_cache.Response(status, headers, body).",
        )
    return response


def _names(vary: Iterable[str]) -> list[str]:
    """Return the headers that tell requests apart, each once and in one order."""
    for name in vary:
        # * would say that no two requests are the same
        if name == "*" or not NAME.fullmatch(name):
            raise InvalidValue(
                f"{shown(name)} is not the name of a header.", hint="Give names, as in Accept-Language.", value=name
            )
    return sorted({name.lower() for name in vary})


def _listed(field: str | None) -> set[str]:
    """Return the names in a list of names or directives, without what they are set to."""
    return {one.split("=")[0].strip().lower() for one in (field or "").split(",")} - {""}


def _storable(response: Response, vary: Iterable[str]) -> bool:
    return (
        response.status in STATUSES
        and response.header("Set-Cookie") is None
        and not _listed(response.header("Cache-Control")) & NOT_TO_BE_STORED
        and _listed(response.header("Vary")) <= set(_names(vary))
    )


def _complete(response: Response, vary: tuple[str, ...]) -> Response:
    """Return a response with all that lets a client ask again."""
    if response.status in WITH_CONTENT and response.header("ETag") is None:
        response = with_header(response, "ETag", entity_tag(response.body))
    if vary:
        response = with_header(response, "Vary", ", ".join(vary))
    if response.header("Cache-Control") is None:
        response = with_header(response, "Cache-Control", CACHE_CONTROL)
    return response
