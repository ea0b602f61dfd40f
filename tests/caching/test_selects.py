"""A select says itself what it reads; what may depend on anything else is refused by name, with what to do."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import (
    BigInteger,
    Column,
    DateTime,
    Integer,
    MetaData,
    Sequence,
    String,
    Table,
    bindparam,
    cast,
    column,
    delete,
    exists,
    func,
    insert,
    literal,
    literal_column,
    select,
    table,
    tablesample,
    text,
    true,
    type_coerce,
    union,
    union_all,
    update,
    values,
)
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import Bundle, aliased, joinedload, with_loader_criteria
from sqlalchemy.sql.expression import ColumnElement

from dataarch.caching.fingerprints import fingerprint
from dataarch.caching.pure_functions import PURE_FUNCTIONS, SYNTAX
from dataarch.caching.selects import asked
from dataarch.database.settings import Settings
from dataarch.errors import InvalidValue
from dataarch.models import Inventory, Product, User, UserProfile, UserSettings
from dataarch.models.types import Money
from fixtures.catalogs import owner_connection

pytestmark = pytest.mark.cache

Users: Any = User.__table__
Other = aliased(User)
Tree = select(User.id.label("id")).cte("tree", recursive=True)


class Now(ColumnElement[datetime]):
    """An element that says neither in its name nor in its parts what it is."""

    type = DateTime(timezone=True)
    inherit_cache = True


@compiles(Now)
def _as_sql(_element: Now, _compiler: object, **_: object) -> str:
    return "clock_timestamp()"


def has_stock() -> Any:
    return with_loader_criteria(User, lambda cls: cls.id.in_(select(Inventory.product_id)))


READS: dict[str, tuple[Any, set[str]]] = {
    "columns": (select(User.id, User.full_name), {"users"}),
    "a table": (select(Users), {"users"}),
    "an alias": (select(Other.id), {"users"}),
    "a join": (select(User.id, UserProfile.bio).join(User.profile), {"users", "user_profiles"}),
    "an outer join of an alias": (select(Product.id).outerjoin(Other, true()), {"products", "users"}),
    "a subquery": (
        select(User.id).where(User.id.in_(select(UserSettings.user_id).where(UserSettings.locale == "de"))),
        {"users", "user_settings"},
    ),
    "FROM a subquery": (select(select(Product.id).subquery()), {"products"}),
    "a column that is a subquery": (
        select(User.id, select(func.count(Product.id)).scalar_subquery()),
        {"users", "products"},
    ),
    "EXISTS": (select(User.id).where(exists().where(UserProfile.bio == "x")), {"users", "user_profiles"}),
    "a relationship": (select(User.id).where(User.profile.has(UserProfile.bio == "x")), {"users", "user_profiles"}),
    "a correlated subquery": (
        select(User.id).where(
            select(UserProfile.bio).where(UserProfile.user_id == User.id).correlate(User).scalar_subquery() == "x"
        ),
        {"users", "user_profiles"},
    ),
    "WITH": (select(select(Product.id).cte("some")), {"products"}),
    "WITH RECURSIVE": (select(Tree.union_all(select(UserProfile.user_id)).c.id), {"users", "user_profiles"}),
    "LATERAL": (
        select(User.id, select(Product.name).limit(1).lateral().c.name),
        {"users", "products"},
    ),
    "a union": (union_all(select(User.id), select(Product.id)), {"users", "products"}),
    "a union in a subquery": (
        select(union(select(User.id), select(Product.id)).subquery().c.id).join(Inventory, true()),
        {"users", "products", "inventory"},
    ),
    "ORDER BY a subquery": (
        select(User.id).order_by(select(func.max(Product.id)).scalar_subquery()),
        {"users", "products"},
    ),
    "HAVING a subquery": (
        select(User.email).group_by(User.email).having(func.count() > select(func.count(Product.id)).scalar_subquery()),
        {"users", "products"},
    ),
    "criteria that an option adds": (select(User.id).options(has_stock()), {"users", "inventory"}),
    "a function of rows": (
        select(func.jsonb_each(UserSettings.preferences).table_valued("key", "value").c.key).select_from(UserSettings),
        {"user_settings"},
    ),
    "a list of values": (
        select(User.id).join(values(column("n", Integer), name="v").data([(1,)]), true()),
        {"users"},
    ),
}


@pytest.mark.parametrize("case", READS)
def test_the_tables_are_found_in(case: str) -> None:
    statement, tables = READS[case]
    # twice: what is known of a form must be the same
    assert [{one.name for one in asked(statement).tables} for _ in range(2)] == [tables] * 2


BY_VALUE = r"Call it in Python and give its result as a value"

REFUSED: dict[str, tuple[Any, str]] = {
    "text": (text("SELECT id FROM users"), r"written as text .* which tables it reads\. Use select\(\)"),
    "text with columns": (text("SELECT id FROM users").columns(User.id), "written as text"),
    "text in a condition": (select(User.id).where(text("true")), "with the text 'true' in it"),
    "text in a union": (union(select(User.id), text("SELECT 1").columns(column("id"))), "with the text 'SELECT 1'"),
    "a prefix": (select(User.id).prefix_with("/* any */"), "with the text"),
    "a hint": (select(User.id).with_statement_hint("FOR UPDATE"), r"with the hint 'FOR UPDATE' .*Leave it out"),
    "a literal column": (select(User.id, literal_column("now()")), r"with literal_column\('now\(\)'\)"),
    "FOR UPDATE": (select(User.id).with_for_update(), r"that locks rows .*Execute it"),
    "FOR SHARE in a subquery": (
        select(select(User.id).with_for_update(read=True).subquery()),
        "that locks rows",
    ),
    "INSERT": (insert(User), "is no select but Insert"),
    "UPDATE": (update(User), "is no select but Update"),
    "DELETE": (delete(User), "is no select but Delete"),
    "a write in WITH": (select(update(Users).values(full_name="x").returning(Users.c.id).cte()), "writes to users"),
    "an insert in WITH": (select(insert(Users).values(full_name="x").returning(Users.c.id).cte()), "writes to users"),
    "a deletion in WITH": (select(delete(Users).returning(Users.c.id).cte()), "writes to users"),
    "an entity": (select(User), r"for whole User objects .*Select columns: select\(User\.…"),
    "an entity beside columns": (select(Product.id, User), "for whole User objects"),
    "an alias of an entity": (select(Other), "for whole User objects"),
    "an entity with an eager join": (select(User).options(joinedload(User.profile)), "for whole User objects"),
    "a bundle": (select(Bundle("both", User.id, User.email)), r"Bundle.*Select the columns of both"),
    "no table": (select(literal(1)), "reads no table"),
    "a column without a table": (select(column("full_name")), "reads no table"),
    "a table of which only the name is known": (select(table("users", column("id"))), "Use the model"),
    "a sequence": (select(User.id, Sequence("numbers").next_value()), r"next_value\(\)"),
    "a sample": (select(tablesample(Users, func.bernoulli(10)).c.id), r"bernoulli\(\)"),
    "a function of somebody's": (select(User.id, func.find_activity("{}")), r"find_activity\(\)"),
    "a function in a schema": (select(func.private.lower(User.full_name)), r"private\.lower\(\)"),
    "an element with SQL of its own": (select(User.id).where(User.created_at < Now()), "with a Now in it"),
    "an instant that is text": (select(User.id).where(Users.c.created_at < cast("now", DateTime)), "'now' as an inst"),
    "text cast to an instant": (select(cast(User.full_name, DateTime)), r"to an instant .*to_date\(\)"),
    "a parameter without a value": (select(User.id).where(User.full_name == bindparam("x", type_=String)), "params"),
    "a value of any type": (select(User.id).where(User.full_name == bindparam("x", object())), "that is a object"),
    "another schema for its tables": (
        select(User.id).execution_options(schema_translate_map={None: "archive"}),
        "schema_translate_map",
    ),
    "a string": ("SELECT 1", "is no select but str"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_is(case: str) -> None:
    statement, says = REFUSED[case]
    # twice: nothing that is refused may be known of afterwards
    for _ in range(2):
        with pytest.raises(InvalidValue, match=says) as refused:
            asked(statement)
        assert refused.value.hint


@pytest.mark.parametrize(
    "name",
    [
        "now",
        "current_timestamp",
        "current_date",
        "localtime",
        "transaction_timestamp",
        "statement_timestamp",
        "clock_timestamp",
        "timeofday",
        "random",
        "gen_random_uuid",
        "uuid_v7",
        "nextval",
        "currval",
        "setval",
        "current_user",
        "session_user",
        "user",
        "current_setting",
        "set_config",
        "txid_current",
        "pg_sleep",
        "pg_advisory_lock",
        "age",
        "version",
        "pg_backend_pid",
        "inet_client_addr",
        "query_to_xml",
        "dblink",
    ],
)
def test_a_function_that_tells_more_than_its_arguments_is_refused(name: str) -> None:
    for called in (getattr(func, name)(), getattr(func.pg_catalog, name)(), getattr(func, name.upper())()):
        with pytest.raises(InvalidValue, match=BY_VALUE):
            asked(select(User.id).where(User.full_name == called))


def test_no_function_that_is_let_through_is_volatile(settings: Settings) -> None:
    with owner_connection(settings) as connection:
        rows = connection.execute(
            "SELECT proname, bool_or(provolatile = 'v') FROM pg_proc"
            " WHERE pronamespace = 'pg_catalog'::regnamespace AND proname = ANY (%s) GROUP BY proname",
            [sorted(PURE_FUNCTIONS)],
        ).fetchall()
    assert [name for name, volatile in rows if volatile] == []
    newer = {"any_value", "range_agg", "range_intersect_agg", "erf", "regexp_count", "regexp_instr", "regexp_like"}
    unknown = PURE_FUNCTIONS - {str(name) for name, _ in rows} - set(SYNTAX.split()) - newer
    assert unknown == set()


# ── names ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def by(value: Any) -> str:
    return asked(select(User.id).where(User.full_name == bindparam("it", value))).name


SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False),
    st.decimals(allow_nan=False),
    st.text(),
    st.characters(categories=["Cs"]),
    st.binary(),
    st.uuids(),
    st.dates(),
    st.datetimes(timezones=st.just(UTC)),
    st.timedeltas(),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=4),
    max_leaves=8,
)


def exactly(value: Any) -> Any:
    """Return what two values have in common only if they are the same in each of their parts' types."""
    if isinstance(value, list):
        return list, [exactly(one) for one in value]
    if isinstance(value, dict):
        return dict, {key: exactly(one) for key, one in value.items()}
    return type(value), repr(value)


@given(VALUES, VALUES)
def test_values_have_the_same_name_only_if_they_and_their_types_are_the_same(one: Any, other: Any) -> None:
    assert (fingerprint(one) == fingerprint(other)) == (exactly(one) == exactly(other))


@given(st.lists(VALUES, max_size=3), st.lists(VALUES, max_size=3))
def test_what_follows_what_is_part_of_the_name(some: list[Any], others: list[Any]) -> None:
    assert (fingerprint(*some) == fingerprint(*others)) == (exactly(some) == exactly(others))


def test_values_that_python_calls_equal_are_different_questions() -> None:
    alike: list[Any] = [1, "1", True, 1.0, Decimal(1), Decimal("1.0"), b"1", [1], (1,), {1}, frozenset({1}), {1: 1}]
    alike += [date(2026, 1, 1), datetime(2026, 1, 1, tzinfo=UTC), "2026-01-01", UUID(int=1), str(UUID(int=1))]
    assert len({by(value) for value in alike}) == len(alike)


NAMES = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


@given(NAMES, NAMES, st.lists(NAMES, max_size=3), st.lists(NAMES, max_size=3))
def test_a_statement_built_anew_is_the_same_question_and_another_value_another(
    name: str, other: str, some: list[str], others: list[str]
) -> None:
    def question(one: str, several: list[str]) -> str:
        return asked(select(User.id).where(User.full_name == one, User.email.in_(several)).limit(7)).name

    assert question(name, some) == question(name, list(some))
    assert (question(name, some) == question(other, others)) == ((name, some) == (other, others))


def test_values_given_by_params_make_another_question_wherever_they_are_given() -> None:
    kept = select(User.id).where(User.full_name == bindparam("name", "Ada"))
    within = select(User.id).where(User.id.in_(kept))
    union = kept.union_all(select(User.id).where(User.email == "a@example.com"))
    for statement in (kept, within, union):
        names = [asked(one).name for one in (statement, *(statement.params(name=name) for name in ("Bob", "Eve")))]
        assert len(set(names)) == 3
        assert asked(statement.params(name="Bob")).name == names[1]
    inside = [asked(select(User.id).where(User.id.in_(kept.params(name=name)))).name for name in ("Bob", "Eve")]
    assert len(set(inside)) == 2


FORMS: list[Callable[[], Any]] = [
    lambda: select(User.id),
    lambda: select(Other.id),
    lambda: select(User.id, User.email),
    lambda: select(User.email, User.id),
    lambda: select(User.id.label("email")),
    lambda: select(User.id).distinct(),
    lambda: select(User.id).order_by(User.id),
    lambda: select(User.id).order_by(User.id.desc()),
    lambda: select(User.id).limit(1),
    lambda: select(User.id).limit(2),
    lambda: select(User.id).offset(1),
    lambda: select(User.id).where(User.full_name == "Ada"),
    lambda: select(User.id).where(User.full_name != "Ada"),
    lambda: select(User.id).where(User.email == "Ada"),
    lambda: select(User.id).where(User.full_name.in_(["Ada"])),
    lambda: select(User.id).where(User.full_name.in_(["Ada", "Bob"])),
    lambda: select(User.id).options(has_stock()),
    lambda: select(Product.price),
    lambda: select(type_coerce(Product.price, BigInteger)),
]


def test_each_form_of_a_statement_has_a_name_of_its_own() -> None:
    # the last two differ in nothing but what comes of the same number in Python
    first, again = ([asked(make()).name for make in FORMS] for _ in range(2))
    assert first == again
    assert len(set(first)) == len(FORMS)


def test_two_precisions_of_one_type_are_two_questions() -> None:
    names = set()
    for scale in (2, 3):
        amounts = Table("amounts", MetaData(), Column("amount", Money(scale=scale)))
        names.add(asked(select(amounts)).name)
    assert len(names) == 2


def test_criteria_with_other_values_are_another_question() -> None:
    def only(name: str) -> str:
        return asked(select(User.id).options(with_loader_criteria(User, lambda cls: cls.full_name == name))).name

    assert only("Ada") == only("Ada") != only("Bob")


PROCESS = """
from dataarch.caching.selects import asked
from dataarch.models import User, UserProfile
from sqlalchemy import select
question = select(User.id, UserProfile.bio).join(User.profile).where(User.full_name == "Ada", User.email.in_(["a"]))
print(asked(question).name)
"""


def test_another_process_gives_a_question_the_same_name() -> None:
    said = {
        subprocess.run(
            [sys.executable, "-c", PROCESS], env={"PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True
        ).stdout.strip()
        for seed in ("1", "2")
    }
    question = select(User.id, UserProfile.bio).join(User.profile)
    question = question.where(User.full_name == "Ada", User.email.in_(["a"]))
    assert said == {asked(question).name}
