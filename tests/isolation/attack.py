"""How an attempt is described, made and judged.

An attempt has a name, something that acme's session does, and the one outcome it must have: a value, an error by its
class, or :data:`OWN`, which is "something came back, and nothing of it is the rival's". Whatever it is, nothing of
the rival may have come back, and the rival's rows and the database's defences must be as before; both are read by the
owner, who stands outside the policies.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import psycopg
import pytest
from sqlalchemy import CursorResult, Row, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from dataarch.database.error_mapping import named_error
from dataarch.database.unit_of_work import Database, TenantSession
from dataarch.models import Base
from dataarch.models.tenancy import tenant_column
from fixtures.tenants import Inhabited

DEFENCES = """
SELECT 'table ' || relname, concat_ws(' ', relrowsecurity, relforcerowsecurity, relowner::regrole, relacl)
FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p', 'v', 'm')
UNION ALL SELECT 'policy ' || tablename || policyname, concat_ws(' ', permissive, roles, cmd, qual, with_check)
FROM pg_policies
UNION ALL SELECT 'function ' || oid::regprocedure,
                 concat_ws(' ', md5(prosrc), proowner::regrole, prosecdef, proconfig, proacl)
FROM pg_proc WHERE pronamespace = 'public'::regnamespace
UNION ALL SELECT 'role ' || rolname, concat_ws(' ', rolsuper, rolbypassrls, rolcreaterole, rolcreatedb, rolreplication)
FROM pg_roles WHERE rolname = 'dataarch_app'
UNION ALL SELECT 'member of ' || roleid::regrole, '' FROM pg_auth_members WHERE member = 'dataarch_app'::regrole
"""


class Own:
    """Something came back, and nothing of it is the rival's."""

    def __repr__(self) -> str:
        return "OWN"


OWN: Final = Own()


@dataclass(frozen=True)
class Target:
    """The attacker, the attacked, and a word that stands in every row of the attacked and that no attempt knows."""

    db: Database
    acme: Inhabited
    rival: Inhabited
    secret: str

    def fill(self, statement: str) -> str:
        """Return a statement with the ids that an attacker might know written into it."""
        known = {
            "<acme>": self.acme.id,
            "<acme_user>": self.acme.user_id,
            "<acme_product>": self.acme.product_id,
            "<acme_activity>": self.acme.activity_id,
            "<rival>": self.rival.id,
            "<rival_user>": self.rival.user_id,
            "<rival_product>": self.rival.product_id,
            "<rival_run>": self.rival.run_id,
            "<rival_activity>": self.rival.activity_id,
            "<rival_slug>": self.rival.slug,
            "<rival_email>": "ada@rival.example.com",
        }
        for word, value in known.items():
            statement = statement.replace(word, str(value))
        return statement


Run = Callable[[TenantSession, Target], object]


@dataclass(frozen=True)
class Attempt:
    """One attempt: what it is, what it does, what must come of it.

    ``echoes`` says that the outcome repeats what the attacker himself wrote, an id or slug of the rival among it.
    """

    name: str
    run: Run
    expect: object
    echoes: bool = False


def params(attempts: Sequence[Attempt]) -> list[Any]:
    """Return attempts for ``parametrize``, each under its name."""
    names = [attempt.name for attempt in attempts]
    assert len(set(names)) == len(names), "two attempts have one name"
    return [pytest.param(attempt, id=attempt.name.replace(" ", "_")) for attempt in attempts]


# ── what is done ──────────────────────────────────────────────────────────────────────────────────────────────────


def through_session(session: Session, statement: str) -> object:
    """Send a statement as ``text()``; give its rows, or how many it touched."""
    result = session.execute(text(re.sub(r"(?<!:):(?=\w)", r"\\:", statement)))
    return result.rowcount if isinstance(result, CursorResult) and not result.returns_rows else list(result.all())


def driver(session: Session) -> psycopg.Connection[tuple[Any, ...]]:
    """Return the driver's own connection, which no guard of the client watches."""
    connection = session.connection().connection.driver_connection
    assert isinstance(connection, psycopg.Connection)
    return connection


def through_driver(session: Session, statement: str) -> object:
    """Send the same past SQLAlchemy; give the rows, or the count, of the last part that the server ran."""
    cursor = driver(session).cursor()
    cursor.execute(statement.encode())
    while cursor.nextset():
        pass
    return list(cursor.fetchall()) if cursor.description else cursor.rowcount


def sql(name: str, statement: str, expect: object, *, echoes: bool = False) -> Attempt:
    """Return the attempt to send one statement, as ``text()``."""
    return Attempt(name, lambda session, target: through_session(session, target.fill(statement)), expect, echoes)


def by_driver(name: str, statement: str, expect: object, *, echoes: bool = False) -> Attempt:
    """Return the attempt to send one statement, or several, past SQLAlchemy."""
    return Attempt(name, lambda session, target: through_driver(session, target.fill(statement)), expect, echoes)


# ── what came of it ───────────────────────────────────────────────────────────────────────────────────────────────


def outcome(attempt: Attempt, target: Target) -> object:
    """Make an attempt in a unit of work of its own; give what came back, or the error."""
    try:
        with target.db.tenant(target.acme.id) as session:
            return attempt.run(session, target)
    except psycopg.Error as error:
        return named_error(error) or error
    except DBAPIError as error:
        return error.orig
    except Exception as error:  # noqa: BLE001  # which error it is, is the finding
        return error


def parts(value: object) -> list[object] | None:
    """Return what a row, a loaded object or an error is made of; None for a single value."""
    if isinstance(value, Mapping):
        return [*value.keys(), *value.values()]
    if isinstance(value, Row | list | tuple | set | frozenset):
        return list(value)
    if isinstance(value, Base):
        return [item for key, item in vars(value).items() if key != "_sa_instance_state"]
    if isinstance(value, psycopg.Error):
        return [str(value), value.diag.message_detail, value.diag.message_hint, value.diag.context]
    if isinstance(value, BaseException):
        return [str(value), *map(str, vars(value).values()), value.__cause__ or value.__context__]
    return None


def pieces(value: object) -> Iterator[str]:
    """Give every text in a value."""
    inner = parts(value)
    if inner is not None:
        for item in inner:
            yield from pieces(item)
    elif isinstance(value, bytes | bytearray | memoryview):
        yield bytes(value).decode(errors="replace")
    else:
        yield str(value)


def leaked(value: object, target: Target, *, echoes: bool) -> list[str]:
    """Return what of the rival is in a value; where the attacker's words are echoed, the unknown word alone."""
    secrets = [target.secret]
    if not echoes and not isinstance(value, BaseException):
        rival = target.rival
        ids = (rival.id, rival.user_id, rival.product_id, rival.activity_id)
        secrets += [rival.slug, "rival.example.com", *map(str, ids), *(one.hex for one in ids)]
    return [secret for secret in secrets for piece in pieces(value) if secret in piece]


Picture = dict[str, str]


def every_row(tenant: Inhabited) -> str:
    """Return SQL that gives each row of a tenant, in all tables, as text."""
    selects = []
    for table in Base.metadata.sorted_tables:
        column = tenant_column(table)
        assert column is not None
        whose = f"{column.name} = '{tenant.id}'"
        selects.append(f"SELECT 'row of {table.name}: ' || t, '' FROM {table.name} AS t WHERE {whose}")
    return " UNION ALL ".join(selects)


def picture(db: Database, tenant: Inhabited) -> Picture:
    """Return every row of a tenant and every defence of the database, as the owner sees them."""
    with db.owner() as session:
        found = session.connection().exec_driver_sql(f"{every_row(tenant)} UNION ALL {DEFENCES}")
        return {str(name): str(value) for name, value in found}


def judge(attempt: Attempt, target: Target, before: Picture) -> None:
    """Make an attempt and fail unless it came to nothing, in the one way that it says."""
    came = outcome(attempt, target)
    assert leaked(came, target, echoes=attempt.echoes) == [], f"something of the rival came back: {came!r}"
    assert picture(target.db, target.rival) == before, f"something changed; the attempt itself gave {came!r}"
    if isinstance(attempt.expect, type):
        assert type(came) is attempt.expect, f"expected {attempt.expect.__name__}, and came {came!r}"
    elif attempt.expect is OWN:
        assert not isinstance(came, BaseException), repr(came)
        assert came, "nothing came back, not even the attacker's own"
    else:
        assert came == attempt.expect
