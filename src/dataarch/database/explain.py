"""Ask the server for the plan of a statement, exactly as a session would send it.

The statement goes through the session as ever: the tenant's criteria, the ORM's own way of writing it, the defaults of
its columns and every guard. It is caught where the driver would get it, and EXPLAIN of it is sent in its place.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

from psycopg import sql
from sqlalchemy import Connection, Executable, event, text
from sqlalchemy.orm import Session

from dataarch.database.changes import without_texts
from dataarch.database.plan_nodes import Catalog, IndexFacts, TableFacts
from dataarch.database.plans import Plan, plan_of
from dataarch.database.tenancy import INTERNAL, refuse_switch
from dataarch.errors import InvalidValue

__all__ = ["explain", "explain_each"]

MARK = "dataarch_explain"
"""Execution option of the statement that is to be caught."""

PLANNED = re.compile(r"\s*\(*\s*(?:select|insert|update|delete|merge|with|values|table)\b", re.IGNORECASE)
SEVERAL = re.compile(r";\s*\S")
PLACEHOLDER = re.compile(r"%(?:%|\((?P<name>[^)]+)\)s)")

OURS: Mapping[str, Any] = {INTERNAL: True}

TABLES = """
SELECT named.relname, root.relname, nullif(named.reltuples, -1)::bigint,
       CASE root.relkind WHEN 'p' THEN (SELECT count(*) FROM pg_partition_tree(root.oid) WHERE isleaf) ELSE 0 END,
       row_security_active(root.oid)
FROM pg_class AS named
JOIN pg_class AS root ON root.oid = coalesce(pg_partition_root(named.oid), named.oid)
WHERE named.relname = ANY (%(names)s) AND named.relkind IN ('r', 'p', 'm', 'f') AND pg_table_is_visible(named.oid)
"""

INDEXES = """
SELECT named.relname, root.relname
FROM pg_class AS named
JOIN pg_class AS root ON root.oid = coalesce(pg_partition_root(named.oid), named.oid)
WHERE named.relname = ANY (%(names)s) AND named.relkind IN ('i', 'I') AND pg_table_is_visible(named.oid)
"""

AVAILABLE = """
SELECT index.relname, whole.relname, amname,
       ARRAY(SELECT pg_get_indexdef(indexrelid, number, true) FROM generate_series(1, indnkeyatts) AS number)
FROM pg_index
JOIN pg_class AS index ON index.oid = indexrelid
JOIN pg_class AS whole ON whole.oid = indrelid
JOIN pg_am ON pg_am.oid = index.relam
WHERE whole.relname = ANY (%(names)s) AND pg_table_is_visible(whole.oid) AND indisvalid
ORDER BY index.relname
"""


class _Caught(Exception):
    """A statement that was about to be sent."""

    def __init__(self, statement: str, parameters: Any) -> None:
        super().__init__(statement)
        self.statement = statement
        self.parameters = parameters


def explain(
    session: Session,
    statement: Executable | str,
    parameters: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None,
    *,
    analyze: bool = False,
    generic: bool = False,
) -> Plan:
    """Return the plan of a statement as this session would send it, with its tenant and its role.

    Args:
        session: an open unit of work; of asyncio's, through ``await session.run_sync(explain, …)``.
        statement: of the ORM, of Core, or SQL as text.
        parameters: for its bound parameters; of several rows, what the first trip would carry is explained.
        analyze: run it, to measure rows, pages and times; whatever it writes is undone.
        generic: the plan for any values, which a statement that was prepared gets when it has been run often.

    Returns:
        Its plan.

    Raises:
        InvalidValue: it has no plan, such as DDL, or is several statements.
        TenantNotSet: the session has no tenant and the statement needs one.
        DataArchError: whatever the server refuses.

    What the session has not flushed is flushed first, as when the statement is executed. It runs in a savepoint that
    is rolled back, so that the transaction goes on as if nothing had been asked, also after an error, and no cache
    hears of it. What no rollback undoes stays done: numbers of sequences, messages sent by functions.
    """
    marked = text(statement) if isinstance(statement, str) else statement
    connection = session.connection()
    token = object()

    def catch(_connection: object, cursor: Any, sent: str, given: Any, context: Any, _many: object) -> None:
        if context is not None and context.execution_options.get(MARK) is token:
            cursor.close()
            raise _Caught(sent, given)

    with _listening(connection, catch):
        try:
            session.execute(marked, parameters, execution_options={MARK: token})
        except _Caught as caught:
            sent, given = caught.statement, caught.parameters
        else:
            raise InvalidValue("Nothing was sent for the statement, so there is no plan to explain.")
    return _explained(connection, sent, given, analyze=analyze, generic=generic)


def explain_each(
    session: Session, work: Callable[[], object], *, analyze: bool = False, generic: bool = False
) -> tuple[Plan, ...]:
    """Return the plan of every statement that a piece of code sends through a session, in their order.

    Args:
        session: an open unit of work.
        work: what sends them; it gets its answers as ever, and what it writes stays written.
        analyze: run each once more, right before it is sent, and undo it.
        generic: as for :func:`explain`.

    Returns:
        A plan for each trip that has one; a SAVEPOINT, for example, has none.
    """
    plans: list[Plan] = []
    ours = session.connection()

    def note(connection: Connection, _cursor: object, sent: str, given: Any, context: Any, _many: object) -> None:
        if (
            connection is ours
            and context is not None
            and not context.execution_options.get(INTERNAL)
            and PLANNED.match(without_texts(sent))
        ):
            plans.append(_explained(connection, sent, given, analyze=analyze, generic=generic))

    with _listening(ours, note):
        work()
    return tuple(plans)


@contextmanager
def _listening(connection: Connection, note: Callable[..., None]) -> Iterator[None]:
    """Listen to what is sent."""
    # each unit of work has an engine of its own; on its connection SQLAlchemy 2.0.24 takes no listener
    event.listen(connection.engine, "before_cursor_execute", note)
    try:
        yield
    finally:
        event.remove(connection.engine, "before_cursor_execute", note)


def _explained(connection: Connection, statement: str, parameters: Any, *, analyze: bool, generic: bool) -> Plan:
    # ours goes unguarded, and this one is caught before the engine's own guard sees it
    refuse_switch(connection, statement)
    _refuse_without_plan(statement)
    first = parameters if isinstance(parameters, Mapping) or not parameters else parameters[0]
    options = "ANALYZE, WAL, " if analyze else ""
    explaining = f"EXPLAIN ({options}BUFFERS, SETTINGS, SUMMARY, FORMAT JSON)"
    if generic:
        document = _generic(connection, explaining, statement, first or {})
    else:
        with _undone(connection):
            document = _one(connection, f"{explaining} {statement}", first or None)
    return plan_of(statement, document, _catalog(connection, document["Plan"]))


def _refuse_without_plan(statement: str) -> None:
    plain = without_texts(statement)
    if not PLANNED.match(plain):
        raise InvalidValue(
            "The statement has no plan.", hint="SELECT, INSERT, UPDATE, DELETE, MERGE, VALUES and WITH have one."
        )
    if SEVERAL.search(plain):
        raise InvalidValue("These are several statements.", hint="Explain them one by one.")


@contextmanager
def _undone(connection: Connection) -> Iterator[None]:
    """Undo whatever happens in the block, errors included."""
    savepoint = connection.begin_nested()
    try:
        yield
    finally:
        savepoint.rollback()


def _one(connection: Connection, statement: str, parameters: Any = None) -> dict[str, Any]:
    answer = connection.exec_driver_sql(statement, parameters, execution_options=OURS).scalar_one()
    return answer[0]  # type: ignore[no-any-return]  # PostgreSQL's own JSON


def _generic(connection: Connection, explaining: str, statement: str, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return the plan of a statement that is prepared on the server, as the driver prepares it."""
    name = f"dataarch_{uuid4().hex}"
    numbers: dict[str, int] = {}

    def numbered(found: re.Match[str]) -> str:
        return f"${numbers.setdefault(found['name'], len(numbers) + 1)}" if found["name"] else "%"

    prepared = PLACEHOLDER.sub(numbered, statement)
    values = ", ".join(sql.Literal(parameters[one]).as_string() for one in numbers)
    call = f"EXECUTE {name} ({values})" if values else f"EXECUTE {name}"
    try:
        with _undone(connection):
            _send(connection, f"SET LOCAL plan_cache_mode = force_generic_plan; PREPARE {name} AS {_escaped(prepared)}")
            return _one(connection, f"{explaining} {_escaped(call)}")
    finally:
        # no rollback takes a prepared statement away, except that the driver then discards all of its own
        if _rows(connection, "SELECT FROM pg_prepared_statements WHERE name = ANY (%(names)s)", [name]):
            _send(connection, f"DEALLOCATE {name}")


def _send(connection: Connection, statement: str) -> None:
    connection.exec_driver_sql(statement, execution_options=OURS)


def _escaped(statement: str) -> str:
    """Return SQL as the driver takes it, in which one % begins a parameter."""
    return statement.replace("%", "%%")


# ── what the names stand for ──────────────────────────────────────────────────────────────────────────────────────


def _catalog(connection: Connection, plan: Mapping[str, Any]) -> Catalog:
    relations, indexes = (sorted(set(_named(plan, key))) for key in ("Relation Name", "Index Name"))
    tables = {row[0]: TableFacts(*row) for row in _rows(connection, TABLES, relations)}
    attached = {row[0]: row[1] for row in _rows(connection, INDEXES, indexes)}
    roots = sorted({one.table for one in tables.values()})
    available = [
        IndexFacts(name, table, method, tuple(columns))
        for name, table, method, columns in _rows(connection, AVAILABLE, roots)
    ]
    return Catalog(tables, attached, tuple(available))


def _named(plan: Mapping[str, Any], key: str) -> Iterator[str]:
    if key in plan:
        yield plan[key]
    for below in plan.get("Plans", ()):
        yield from _named(below, key)


def _rows(connection: Connection, query: str, names: list[str]) -> Sequence[Any]:
    return connection.exec_driver_sql(query, {"names": names}, execution_options=OURS).all() if names else ()
