"""Requests and responses of HTTP as plain values, of no framework; RFC 9110, "HTTP Semantics"."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from urllib.parse import parse_qsl

from dataarch.errors import InvalidValue, shown

__all__ = ["Request", "Response", "entity_tag", "is_known", "not_modified", "only_head", "with_header"]

Headers = tuple[tuple[str, str], ...]

NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
"""A token of RFC 9110, section 5.6.2."""

VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
"""A field's value of RFC 9110, section 5.5: a line break in it would begin another field, or the body."""

TAG = re.compile(r'(?:W/)?("[\x21\x23-\x7e\x80-\xff]*")')
"""An entity tag of RFC 9110, section 8.8.3; without the mark of a weak one in its group."""

IN_304 = frozenset({"cache-control", "content-location", "date", "etag", "expires", "vary"})
"""What 304 repeats of the response in whose place it stands; RFC 9110, section 15.4.5."""


@dataclass(frozen=True, slots=True)
class Request:
    """What was asked.

    Attributes:
        method: in any case.
        path: as the application routes it.
        query: what stands behind the ``?``, as it came.
        headers: pairs of name and value, as they came.
    """

    method: str
    path: str
    query: str = ""
    headers: Headers = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "method", self.method.upper())
        object.__setattr__(self, "headers", tuple((name, value) for name, value in self.headers))

    def header(self, name: str) -> str | None:
        """Return a header's value, several of one name put together with commas; None where it was not sent."""
        return _joined(self.headers, name)

    def arguments(self) -> list[tuple[str, str]]:
        """Return the query's arguments in the order of their names; those of one name stay in theirs.

        Bytes that are no UTF-8 stay apart from each other.
        """
        pairs = parse_qsl(self.query, keep_blank_values=True, errors="surrogateescape")
        return sorted(pairs, key=lambda pair: pair[0])


@dataclass(frozen=True, slots=True)
class Response:
    """What is answered.

    Attributes:
        status: 100 to 599.
        headers: pairs of name and value.
        body: bytes.

    Raises:
        InvalidValue: the status, a header or the body cannot be sent.
    """

    status: int = 200
    headers: Headers = ()
    body: bytes = b""

    def __post_init__(self) -> None:
        object.__setattr__(self, "headers", tuple((name, value) for name, value in self.headers))
        if not 100 <= self.status <= 599:
            raise InvalidValue(f"{self.status} is no status of HTTP.", hint="Give 100 to 599.", value=self.status)
        if not isinstance(self.body, bytes):
            raise InvalidValue(
                f"A body is bytes, not {type(self.body).__name__}.", hint="Encode it.", value=type(self.body).__name__
            )
        for name, value in self.headers:
            if not (NAME.fullmatch(name) and VALUE.fullmatch(value)):
                raise InvalidValue(
                    f"The header {shown(name)} cannot be sent with the value {shown(value)}.",
                    hint="Take line breaks and control characters out; encode what is not Latin-1 (RFC 8187).",
                    value=value,
                )

    def header(self, name: str) -> str | None:
        """Return a header's value, several of one name put together with commas; None where there is none."""
        return _joined(self.headers, name)


def _joined(headers: Headers, name: str) -> str | None:
    wanted = name.lower()
    values = [value.strip(" \t") for one, value in headers if one.lower() == wanted]
    return ", ".join(values) if values else None


def with_header(response: Response, name: str, value: str) -> Response:
    """Return a response with a header in the place of all of its name."""
    others = tuple(pair for pair in response.headers if pair[0].lower() != name.lower())
    return replace(response, headers=(*others, (name, value)))


def entity_tag(body: bytes) -> str:
    """Return the strong entity tag of a body."""
    return f'"{hashlib.sha256(body).hexdigest()}"'


def is_known(request: Request, tag: str | None) -> bool:
    """Return whether the client has this representation already: ``If-None-Match``, RFC 9110, section 13.1.2.

    Tags are compared weakly. A field that is no list of tags is as if it were not there.
    """
    given = request.header("If-None-Match")
    if given is None or tag is None:
        return False
    if given == "*":
        return True
    if TAG.sub("", given).strip(", \t"):
        return False
    opaque = TAG.fullmatch(tag)
    return opaque is not None and opaque[1] in TAG.findall(given)


def not_modified(response: Response) -> Response:
    """Return the 304 that stands for a response."""
    return Response(304, _only(response.headers, IN_304))


def only_head(response: Response) -> Response:
    """Return what HEAD gets where GET gets this: the same without the body, and how long that would be."""
    if response.header("Content-Length") is None and response.status != 204:
        response = with_header(response, "Content-Length", str(len(response.body)))
    return replace(response, body=b"")


def _only(headers: Headers, names: Iterable[str]) -> Headers:
    return tuple(pair for pair in headers if pair[0].lower() in names)
