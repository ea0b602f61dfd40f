"""Results of selects under load, at their end, without a cache, and with values that break software."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import event, func, insert, select, update

from dataarch.caching.database import Database
from dataarch.caching.fencing import Timing
from dataarch.database.settings import Settings
from dataarch.errors import DataArchError, InvalidValue
from dataarch.models import User
from fixtures.caches import PATIENCE, opened, quicken, until
from fixtures.questions import Questions, counted
from fixtures.shared_data import shared_file
from fixtures.tenants import Inhabited, inhabit

pytestmark = pytest.mark.cache

NAMES = select(User.full_name).order_by(User.full_name)


@pytest.fixture
def questions(cached: Database) -> Iterator[Questions]:
    with counted(cached.engine) as questions:
        yield questions


def test_two_hundred_who_ask_at_once_cost_one_query(settings: Settings) -> None:
    # time enough for a machine on which so many threads stand in each other's way
    patient = settings.model_copy(update={"cache_timeout": 20.0})
    quicken(settings, lease_ms=2000)
    gathered = threading.Barrier(200)
    answers: list[Any] = []

    def ask(db: Database, tenant: UUID) -> None:
        gathered.wait()
        answers.append(db.cache.queries.all(tenant, NAMES))

    with (
        Database(patient) as one,
        Database(patient) as other,
        counted(one.engine) as here,
        counted(other.engine) as there,
    ):
        doors = (opened(one), opened(other))
        home = inhabit(one, "home")
        for db in doors:
            db.cache.fencing.timing = Timing(wait=PATIENCE)
        threads = [threading.Thread(target=ask, args=(doors[number % 2], home.id)) for number in range(200)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert answers == [["Ada Lovelace"]] * 200
    assert len(here) + len(there) == 1


def test_who_asks_for_another_time_to_live_has_an_answer_of_his_own(
    cached: Database, home: Inhabited, questions: Questions
) -> None:
    for _ in range(2):
        cached.cache.queries.all(home.id, NAMES, ttl=3600)
        cached.cache.queries.all(home.id, NAMES, ttl=60)
        cached.cache.queries.all(home.id, NAMES, ttl=60, soft_ttl=30)
    assert len(questions) == 2


def test_an_answer_ends_with_its_time_to_live(cached: Database, home: Inhabited, questions: Questions) -> None:
    def asked_again() -> bool:
        cached.cache.queries.all(home.id, NAMES, ttl=0.05)
        return len(questions) > 1

    until(asked_again)


def test_after_its_soft_time_to_live_an_answer_is_read_anew(
    cached: Database, home: Inhabited, questions: Questions
) -> None:
    def asked_again() -> bool:
        assert cached.cache.queries.all(home.id, NAMES, ttl=600, soft_ttl=0.05) == ["Ada Lovelace"]
        return len(questions) > 1

    until(asked_again)


@pytest.mark.parametrize("url", ["redis://127.0.0.1:1/0", None, "memory://"], ids=["down", "none", "memory"])
def test_whatever_cache_there_is_the_database_answers(settings: Settings, url: str | None) -> None:
    quicken(settings)
    with Database(settings.model_copy(update={"redis_url": url})) as db:
        home = inhabit(db, "home")
        for name in ("Ada King", "Ada Byron"):
            with db.tenant(home.id) as session:
                session.execute(update(User).values(full_name=name))
            assert [db.cache.queries.all(home.id, NAMES) for _ in range(3)] == [[name]] * 3
        with pytest.raises(InvalidValue):
            db.cache.queries.all(home.id, select(User))


def test_who_cannot_keep_anything_does_not_wait_for_others(settings: Settings) -> None:
    """Each of two readers sees the other one reading: neither stands in line."""
    quicken(settings)
    with Database(settings.model_copy(update={"redis_url": None})) as db:
        home = inhabit(db, "home")
        db.cache.fencing.timing = Timing(wait=3600)
        both = threading.Barrier(2, timeout=30)
        event.listen(db.engine, "before_cursor_execute", lambda *given: both.wait() if "users" in given[2] else None)
        answers: list[Any] = []
        threads = [
            threading.Thread(target=lambda: answers.append(db.cache.queries.all(home.id, NAMES))) for _ in range(2)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert answers == [["Ada Lovelace"]] * 2


def test_a_naughty_string_is_a_question_of_its_own_or_refused_by_name(cached: Database, home: Inhabited) -> None:
    naughty: list[str] = json.loads(shared_file("naughty-strings", "blns.json").read_bytes())
    strings = list(dict.fromkeys([*naughty, "\x00", "\ud800", "{x}", "!all", "da:x"]))
    assert len(strings) > 500
    wrong: list[str] = []

    def answer(name: str, db: Database = cached) -> Any:
        try:
            return db.cache.queries.all(home.id, select(User.id, func.length(User.full_name)).where(User.email == name))
        except DataArchError as refused:
            return type(refused)

    for name in strings:
        before = cached.cache.stats()["query"].set
        first = answer(name)
        kept = cached.cache.stats()["query"].set - before
        if answer(name) != first or kept != (0 if isinstance(first, type) else 1):
            wrong.append(name)
    assert wrong == []


def test_each_naughty_string_gets_the_row_that_has_it(cached: Database, home: Inhabited) -> None:
    naughty: list[str] = json.loads(shared_file("naughty-strings", "blns.json").read_bytes())
    names = list(dict.fromkeys(one for one in naughty if 0 < len(one) <= 200 and "\x00" not in one))
    with cached.tenant(home.id) as session:
        session.execute(
            insert(User),
            [{"tenant_id": home.id, "external_id": f"n{n}", "full_name": one} for n, one in enumerate(names)],
        )
    for _ in range(2):
        found = [
            cached.cache.queries.all(home.id, select(User.full_name).where(User.full_name == one)) for one in names
        ]
        assert found == [[one] for one in names]
    assert cached.cache.stats()["query"].hit == len(names)


def test_ids_are_told_from_their_text(cached: Database, home: Inhabited) -> None:
    def of(user: UUID | str) -> list[str]:
        return cached.cache.queries.all(home.id, select(User.full_name).where(User.id == user))

    assert of(home.user_id) == of(home.user_id) == ["Ada Lovelace"]
    assert opened(cached).cache.stats()["query"].hit == 1
