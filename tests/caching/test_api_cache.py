"""Rendered responses: once until rows change, apart by tenant and by what they vary by, with 304 for who has one."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import quote

import pytest
from sqlalchemy import select, text, update

from dataarch.caching.api_cache import Request, Response
from dataarch.caching.database import AsyncDatabase, Database
from dataarch.caching.fencing import Timing
from dataarch.caching.http_messages import entity_tag
from dataarch.database.settings import Settings
from dataarch.errors import InvalidValue, TenantNotSet
from dataarch.models import Product, User
from fixtures.caches import PATIENCE, opened, quicken, until
from fixtures.shared_data import shared_file
from fixtures.tenants import Inhabited, inhabit

pytestmark = pytest.mark.cache

LIST = Request("GET", "/users")


@dataclass
class Page:
    """A page that lists users; counts how often it was rendered."""

    db: Database
    tenant: Inhabited
    rendered: int = 0
    status: int = 200
    headers: tuple[tuple[str, str], ...] = (("Content-Type", "text/plain"),)
    request: Request = LIST
    options: dict[str, Any] = field(default_factory=lambda: {"reads": (User,), "ttl": 600.0})

    def render(self) -> Response:
        self.rendered += 1
        with self.db.tenant(self.tenant.id) as session:
            names = session.scalars(select(User.full_name).order_by(User.full_name)).all()
        return Response(self.status, self.headers, "\n".join(names).encode())

    def get(self, request: Request | None = None, **options: Any) -> Response:
        respond = self.db.cache.responses.respond
        return respond(self.tenant.id, request or self.request, self.render, **{**self.options, **options})


@pytest.fixture
def page(cached: Database, home: Inhabited) -> Page:
    return Page(cached, home)


def rename(db: Database, tenant: Inhabited, name: str) -> None:
    with db.tenant(tenant.id) as session:
        session.execute(update(User).values(full_name=name))


# ── what is answered ──────────────────────────────────────────────────────────────────────────────────────────────


def test_a_response_is_rendered_once_and_lets_the_client_ask_again(page: Page) -> None:
    first, *others = [page.get() for _ in range(3)]
    assert others == [first, first]
    assert page.rendered == 1
    assert (first.status, first.body) == (200, b"Ada Lovelace")
    assert first.header("content-type") == "text/plain"
    assert first.header("ETag") == entity_tag(b"Ada Lovelace")
    assert first.header("Cache-Control") == "private, max-age=0, must-revalidate"
    assert first.header("Vary") is None


def test_who_has_it_already_gets_304_without_a_body(page: Page) -> None:
    tag = page.get(vary=("Accept-Language",)).header("ETag")
    assert tag is not None
    answer = page.get(replace(LIST, headers=(("if-none-match", f'"other", W/{tag}'),)), vary=("Accept-Language",))
    assert answer.status == 304
    assert answer.body == b""
    assert dict(answer.headers) == {
        "ETag": tag,
        "Vary": "Accept-Language",
        "Cache-Control": "private, max-age=0, must-revalidate",
    }
    assert page.rendered == 1


def test_after_a_change_the_tag_is_another_and_no_304_is_given(page: Page) -> None:
    tag = page.get().header("ETag")
    rename(page.db, page.tenant, "Ada King")
    answer = page.get(replace(LIST, headers=(("If-None-Match", str(tag)),)))
    assert (answer.status, answer.body) == (200, b"Ada King")
    assert answer.header("ETag") != tag


def test_a_first_request_gets_304_too_when_its_tag_is_right(page: Page) -> None:
    asked = replace(LIST, headers=(("If-None-Match", entity_tag(b"Ada Lovelace")),))
    assert page.get(asked).status == 304
    assert page.get().status == 200
    assert page.rendered == 1


def test_head_gets_what_get_gets_without_the_body(page: Page) -> None:
    head = replace(LIST, method="HEAD")
    first, whole, again = page.get(head), page.get(), page.get(head)
    assert page.rendered == 1
    assert first == again
    assert first.body == b""
    assert first.header("Content-Length") == "12"
    assert dict(first.headers) == {**dict(whole.headers), "Content-Length": "12"}
    assert whole.body == b"Ada Lovelace"


def test_what_a_framework_renders_for_head_alone_is_never_given_to_get(page: Page) -> None:
    respond = page.db.cache.responses.respond
    for _ in range(2):
        bare = respond(page.tenant.id, replace(LIST, method="HEAD"), lambda: Response(200), **page.options)
        assert bare == Response(200)
    assert page.get().body == b"Ada Lovelace"


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "QUERY"])
def test_other_methods_are_carried_out_each_time(page: Page, method: str) -> None:
    page.get()
    for _ in range(2):
        assert page.get(replace(LIST, method=method)).headers == page.headers
    assert page.rendered == 3


def test_a_method_may_be_written_in_any_case(page: Page) -> None:
    assert page.get() == page.get(replace(LIST, method="get"))
    assert page.rendered == 1


# ── what is remembered ────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("status", [200, 203, 204, 301, 404, 410])
def test_remembered_is_the_status(page: Page, status: int) -> None:
    page.status = status
    assert [page.get().status for _ in range(3)] == [status] * 3
    assert page.rendered == 1
    known = page.get(replace(LIST, headers=(("If-None-Match", "*"),)))
    assert known.status == (304 if status in {200, 203} else status)


@pytest.mark.parametrize("status", [201, 202, 206, 302, 303, 307, 308, 400, 401, 403, 405, 422, 429, 500, 502, 503])
def test_not_remembered_is_the_status(page: Page, status: int) -> None:
    page.status = status
    expected = Response(status, page.headers, b"Ada Lovelace")
    assert [page.get(replace(LIST, headers=(("If-None-Match", "*"),))) for _ in range(3)] == [expected] * 3
    assert page.rendered == 3


@pytest.mark.parametrize(
    "header",
    [
        ("Set-Cookie", "session=1"),
        ("set-cookie", ""),
        ("Cache-Control", "no-store"),
        ("Cache-Control", "max-age=60, Private"),
        ("cache-control", 'private="Authorization"'),
        ("Cache-Control", "no-cache"),
        ("Vary", "*"),
        ("Vary", "Accept-Language, Cookie"),
    ],
    ids=": ".join,
)
def test_not_remembered_is_what_says_so(page: Page, header: tuple[str, str]) -> None:
    page.headers = (header,)
    expected = Response(200, (header,), b"Ada Lovelace")
    assert [page.get(vary=("Accept-Language",)) for _ in range(3)] == [expected] * 3
    assert page.rendered == 3


def test_once_a_response_may_be_remembered_again_it_is(page: Page) -> None:
    page.status = 503
    page.get()
    page.status = 200
    assert [page.get().body for _ in range(4)] == [b"Ada Lovelace"] * 4
    # the second call found out, the third filled the cache
    assert page.rendered == 3


def test_headers_that_were_rendered_are_kept(page: Page) -> None:
    page.headers = (
        ("ETag", 'W/"7"'),
        ("cache-control", "public, max-age=5"),
        ("Vary", "accept-language"),
        ("Link", "</a>; rel=next"),
        ("Link", "</b>; rel=last"),
        ("X-Name", "Zoë"),
    )
    first, again = (page.get(vary=("Accept-Language", "Accept")) for _ in range(2))
    assert first == again
    assert [value for name, value in again.headers if name == "Link"] == ["</a>; rel=next", "</b>; rel=last"]
    assert again.header("ETag") == 'W/"7"'
    assert again.header("Cache-Control") == "public, max-age=5"
    assert again.header("Vary") == "Accept-Language, Accept"
    assert page.rendered == 1
    assert (
        page.get(replace(LIST, headers=(("If-None-Match", '"7"'),)), vary=("Accept-Language", "Accept")).status == 304
    )


def test_what_rendering_raises_is_raised_and_nothing_is_kept(page: Page) -> None:
    def broken() -> Response:
        raise ZeroDivisionError

    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            page.db.cache.responses.respond(page.tenant.id, LIST, broken, **page.options)
    assert page.get().body == b"Ada Lovelace"
    assert page.db.cache.stats()["response"].set == 1


# ── borders ───────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("elsewhere", [False, True], ids=["here", "by another process"])
def test_m18_after_a_commit_nobody_gets_what_was_rendered_before_it(
    page: Page, another: Callable[[], Database], elsewhere: bool
) -> None:
    there = Page(another(), page.tenant)
    assert page.get() == there.get()
    assert page.rendered + there.rendered == 1
    writer = there.db if elsewhere else page.db
    rename(writer, page.tenant, "Ada King")
    assert page.get().body == there.get().body == b"Ada King"
    with writer.tenant(page.tenant.id) as session:
        session.execute(text("UPDATE users SET full_name = 'Ada Byron'"))
    assert there.get().body == page.get().body == b"Ada Byron"


def test_writes_to_tables_that_are_not_read_leave_it_remembered(page: Page) -> None:
    page.get()
    with page.db.tenant(page.tenant.id) as session:
        session.execute(update(Product).values(name="Coffee pot"))
    rename(page.db, inhabit(page.db, "abroad"), "Bob")
    page.get()
    assert page.rendered == 1
    page.get(reads=(User, Product))
    assert page.rendered == 2


@pytest.mark.isolation
def test_m18_each_tenant_gets_its_own_response_to_the_same_request(page: Page) -> None:
    abroad = Page(page.db, inhabit(page.db, "abroad"))
    rename(page.db, abroad.tenant, "Bob")
    for _ in range(2):
        assert page.get().body == b"Ada Lovelace"
        assert abroad.get().body == b"Bob"
    assert (page.rendered, abroad.rendered) == (1, 1)


def test_without_a_tenant_only_what_reads_no_tenants_table_is_remembered(page: Page) -> None:
    respond = page.db.cache.responses.respond
    with pytest.raises(TenantNotSet):
        respond(None, LIST, page.render, reads=(User,))
    for _ in range(2):
        assert respond(None, Request("GET", "/about"), page.render, reads=()).body == b"Ada Lovelace"
    assert page.rendered == 1


def test_a_unit_of_work_that_has_written_gets_its_own_and_keeps_none_of_it(page: Page) -> None:
    page.get()
    with pytest.raises(ZeroDivisionError), page.db.tenant(page.tenant.id) as session:
        session.execute(update(User).values(full_name="Ada King"))
        body = "\n".join(session.scalars(select(User.full_name))).encode()
        own = page.db.cache.responses.respond(page.tenant.id, LIST, lambda: Response(200, (), body), **page.options)
        assert own.body == b"Ada King"
        raise ZeroDivisionError
    assert page.get().body == b"Ada Lovelace"
    assert page.rendered == 1


async def test_under_asyncio_it_is_called_by_run_sync(page: Page) -> None:
    async with AsyncDatabase(page.db.settings) as db:
        until(db.cache.fencing.readable)
        rendered = []

        def answer(session: Any) -> Response:
            def render() -> Response:
                rendered.append(1)
                return Response(200, (), session.scalar(select(User.full_name)).encode())

            return db.cache.responses.respond(page.tenant.id, LIST, render, **page.options)

        for _ in range(3):
            async with db.tenant(page.tenant.id) as session:
                assert (await session.run_sync(answer)).body == b"Ada Lovelace"
        assert len(rendered) == 1


# ── what is the same request ──────────────────────────────────────────────────────────────────────────────────────


def test_a_request_is_told_by_path_arguments_and_what_it_varies_by(page: Page) -> None:
    def of(path: str = "/users", query: str = "", **headers: str) -> Request:
        return Request("GET", path, query, tuple((name.replace("_", "-"), value) for name, value in headers.items()))

    different = [
        of(),
        of("/users/"),
        of("/Users"),
        of("/users", "a=1"),
        of("/users", "a=2"),
        of("/users", "A=1"),
        of("/users", "a=1&a=2"),
        of("/users", "a=2&a=1"),
        of("/users", "a=1&b=2"),
        of("/users", "a=1%26b%3D2"),
        of("/users", "a=%ff"),
        of("/users", "a=%fe"),
        of("/users", "a=%EF%BF%BD"),
        of("/usersa", "=1"),
        of(accept_language=""),
        of(accept_language="de"),
        of(accept_language="de, en"),
        of(accept="de"),
        of(accept_language="d", accept="e"),
    ]
    for _ in range(2):
        for request in different:
            page.get(request, vary=("Accept-Language", "Accept"))
        assert page.rendered == len(different)
    same = [
        of("/users", "b=2&a=1"),
        of("/users", "&a=1&&b=2&"),
        of("/users", "%61=1&b=%32"),
        of(ACCEPT_LANGUAGE=" de "),
        of(accept_language="de", user_agent="curl"),
    ]
    for request in same:
        page.get(request, vary=("accept", "ACCEPT-LANGUAGE", "Accept"))
    assert page.rendered == len(different)


# ── bad input ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_naughty_strings_in_path_query_and_headers_are_requests_of_their_own(page: Page) -> None:
    naughty: list[str] = json.loads(shared_file("naughty-strings", "blns.json").read_bytes())
    strings = list(dict.fromkeys(one.strip(" \t") for one in [*naughty, "\x00", "\ud800", "\r\n", '"', "*", "W/"]))[
        :200
    ]
    respond = page.db.cache.responses.respond
    for _ in range(2):
        for number, one in enumerate(strings):
            asked = Request("GET", one, f"q={quote(one, errors='surrogatepass')}", (("X-One", one), ("Host", one)))
            body = str(number).encode()
            given = respond(page.tenant.id, asked, lambda body=body: Response(body=body), reads=(), vary=("X-One",))  # type: ignore[misc]
            assert given.body == body, one
    assert page.db.cache.stats()["response"].hit == len(strings)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda page: Response(99), "99 is no status"),
        (lambda page: Response(600), "600 is no status"),
        (lambda page: Response(body="text"), "A body is bytes, not str"),  # type: ignore[arg-type]  # the mistake
        (lambda page: page.get(vary=("Accept Language",)), "'Accept Language' is not the name of a header"),
        (lambda page: page.get(vary=("",)), "is not the name of a header"),
        (lambda page: page.get(vary=("*",)), "is not the name of a header"),
        (lambda page: page.get(ttl=0.0), "its ttl of 0.0 seconds"),
        (lambda page: page.get(reads=("users",)), "neither a model nor a table"),
        (lambda page: page.db.cache.responses.respond(page.tenant.id, LIST, lambda: b"", reads=()), "is a bytes"),
        (
            lambda page: page.db.cache.responses.respond(page.tenant.id, Request("POST", "/"), lambda: None, reads=()),
            "is a NoneType",
        ),
    ],
)
def test_refused_by_name_is(page: Page, make: Callable[[Page], Any], says: str) -> None:
    with pytest.raises(InvalidValue, match=says) as refused:
        make(page)
    assert str(refused.value)


# ── at once, and without a cache ──────────────────────────────────────────────────────────────────────────────────


def test_two_hundred_requests_at_once_are_rendered_once(settings: Settings) -> None:
    patient = settings.model_copy(update={"cache_timeout": 20.0})
    quicken(settings, lease_ms=2000)
    gathered = threading.Barrier(200)
    answers: list[Response] = []
    with Database(patient) as db:
        page = Page(opened(db), inhabit(db, "home"))
        db.cache.fencing.timing = Timing(wait=PATIENCE)

        def ask() -> None:
            gathered.wait()
            answers.append(page.get())

        threads = [threading.Thread(target=ask) for _ in range(200)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert [answer.body for answer in answers] == [b"Ada Lovelace"] * 200
    assert page.rendered == 1


@pytest.mark.parametrize("url", ["redis://127.0.0.1:1/0", None, "memory://"], ids=["down", "none", "memory"])
def test_whatever_cache_there_is_requests_are_answered_the_same(settings: Settings, url: str | None) -> None:
    quicken(settings)
    with Database(settings.model_copy(update={"redis_url": url})) as db:
        page = Page(db, inhabit(db, "home"))
        for name in ("Ada King", "Ada Byron"):
            rename(db, page.tenant, name)
            tag = entity_tag(name.encode())
            assert [(page.get().body, page.get().header("ETag")) for _ in range(2)] == [(name.encode(), tag)] * 2
            assert page.get(replace(LIST, headers=(("If-None-Match", tag),))).status == 304
            assert page.get(replace(LIST, method="HEAD")).header("Content-Length") == str(len(name))
