"""Where the servers are and how long to wait for them, read from ``DATAARCH_…`` variables."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationError, ValidationInfo
from pydantic_settings import BaseSettings, SettingsConfigDict
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from dataarch.errors import ConfigurationError, DatabaseUrlMissing, InvalidUrl

__all__ = ["APP_ROLE", "Settings", "database_url"]

APP_ROLE = "dataarch_app"
"""The role that the application runs as: no superuser, no BYPASSRLS, owner of nothing."""

POSTGRESQL_NAMES = frozenset({"postgres", "postgresql", "postgresql+psycopg"})

URL_FIELDS = frozenset({"database_url", "owner_url", "replica_url", "redis_url", "openlineage"})

NEVER_SHOWN = URL_FIELDS | {"cursor_secret"}
"""Fields whose values are in no message."""

LONGEST_TIME = 2_147_483
"""Seconds: PostgreSQL counts milliseconds in 32 bits."""

TEN_YEARS = 315_360_000
"""Seconds; a session that lasts longer is a mistake."""

SEVERAL_HOSTS = re.compile(
    r"(?P<login>[^/@]*//(?:[^/]*@)?)(?P<hosts>[^/?@]*,[^/?@]*)/(?P<database>[^?]*)\??(?P<query>.*)"
)
"""The form in which libpq takes several hosts: ``postgresql://user@one:5432,two:5432/app``."""


def database_url(value: str | URL) -> URL:
    """Return a URL as SQLAlchemy needs it, with psycopg 3 as its driver.

    Raises:
        InvalidUrl: it cannot be read, or names another database or driver than PostgreSQL with psycopg 3.
    """
    try:
        url = make_url(_one_host_each(value) if isinstance(value, str) else value)
    except (ArgumentError, ValueError):
        # nothing of it is shown: the password may be anywhere in what cannot be read
        raise InvalidUrl("The database URL cannot be read.") from None
    if "@" in (url.host or ""):
        raise InvalidUrl("The database URL has two @, so nobody can say where its password ends.")
    if url.drivername not in POSTGRESQL_NAMES:
        raise InvalidUrl(f"The database URL names {url.drivername!r}; dataarch speaks to PostgreSQL through psycopg 3.")
    if not url.database:
        raise InvalidUrl(f"The database URL {_without_password(url)!r} names no database.")
    return url.set(drivername="postgresql+psycopg")


def _one_host_each(value: str) -> str:
    """Return a URL of several hosts in the form that SQLAlchemy reads, and any other as it is."""
    several = SEVERAL_HOSTS.fullmatch(value)
    if several is None:
        return value
    hosts = "&".join(f"host={host}" for host in several["hosts"].split(","))
    rest = f"&{several['query']}" if several["query"] else ""
    return f"{several['login']}/{several['database']}?{hosts}{rest}"


def _without_password(value: str | URL) -> str:
    """Return a URL as it may be shown."""
    try:
        url = make_url(value)
        hidden = dict.fromkeys((name for name in url.query if "password" in name), "hidden")
        return url.update_query_dict(hidden).render_as_string(hide_password=True)
    except (ArgumentError, ValueError):
        return "***"


def _readable_database_url(value: str, info: ValidationInfo) -> str:
    try:
        database_url(value)
    except InvalidUrl as unreadable:
        variable = f"DATAARCH_{(info.field_name or '').upper()}"
        raise InvalidUrl(unreadable.message, hint=f"{unreadable.hint} It comes from {variable}.") from None
    return value


@cache
def _secret_of_this_process() -> SecretStr:
    """Return a secret that no other process has, unless it was forked from this one."""
    return SecretStr(secrets.token_urlsafe(32))


def _never(value: object) -> object:
    return None if isinstance(value, str) and value.strip().lower() in {"none", "never"} else value


DatabaseUrl = Annotated[str, AfterValidator(_readable_database_url)]
Seconds = Annotated[float, Field(gt=0, le=LONGEST_TIME, allow_inf_nan=False)]
SessionSeconds = Annotated[float, Field(gt=0, le=TEN_YEARS, allow_inf_nan=False)]


class Settings(BaseSettings):
    """How dataarch reaches its servers; each field is read from ``DATAARCH_<FIELD>``.

    All times are seconds. ``database_url`` is the application's login, ``owner_url`` the login that runs migrations
    and maintenance; where only the first is given, it serves both. ``replica_url`` is the application's login to a
    server that follows the first, for units of work that only read. An empty variable counts as not set.

    ``models`` names the declarative base, as ``module:attribute``, whose partitioned tables the command looks after;
    ``archive_dir`` is the folder where it writes the archives of retired partitions, and ``maintenance_patience`` how
    long it tries for a lock, a few milliseconds at a time.

    An upgrade waits ``upgrade_lock_timeout`` for a lock, lets everybody pass, and tries again for
    ``upgrade_patience``.

    ``connect_timeout`` is of whole seconds, 2 at the least, for each address that the URL's host stands for. At most
    ``pool_size + pool_overflow`` connections are open at a time; a unit of work waits ``pool_timeout`` for one.
    ``cache_timeout`` is what connecting to the cache, and each of its answers, may take; longer counts as no answer.
    A user's session ends ``session_idle`` after it was last touched, and ``session_lifetime`` after its beginning; a
    touch is written once every ``session_touch_every`` at the most.
    ``prepare_threshold`` is how often a statement runs on a connection before it is prepared there; behind PgBouncer
    in transaction mode older than 1.22, or without ``max_prepared_statements``, it must be ``none``: never.
    ``cursor_secret``, of 16 characters at the least, seals the cursors of pages. By default each process has a random
    one, so that no other reads its cursors: give the same to all processes that serve one list.
    ``openlineage`` is where runs of pipelines tell of themselves: a file, ``http://…``, or ``client``, which has a
    configuration of its own; ``openlineage_namespace`` is that of their jobs.
    Parameters in a URL, such as ``?application_name=web&connect_timeout=3``, come before these settings.
    """

    model_config = SettingsConfigDict(
        env_prefix="DATAARCH_", env_ignore_empty=True, frozen=True, extra="forbid", hide_input_in_errors=True
    )

    database_url: DatabaseUrl | None = None
    owner_url: DatabaseUrl | None = None
    replica_url: DatabaseUrl | None = None
    redis_url: str | None = None
    server_dir: Path = Path(".dataarch")
    archive_dir: Path | None = None
    maintenance_patience: Seconds = 60.0
    upgrade_lock_timeout: Seconds = 0.1
    upgrade_patience: Seconds = 60.0
    models: str = "dataarch.models:Base"
    role: str | None = Field(default=None, pattern=r"^[a-z_][a-z0-9_]{0,62}$")
    application_name: str = "dataarch"
    connect_timeout: Seconds = 5.0
    statement_timeout: Seconds = 30.0
    lock_timeout: Seconds = 5.0
    idle_in_transaction_timeout: Seconds = 60.0
    pool_size: int = Field(default=5, gt=0)
    pool_overflow: int = Field(default=10, ge=0)
    pool_timeout: Seconds = 10.0
    cache_timeout: Seconds = 0.25
    session_idle: SessionSeconds = 1800.0
    session_lifetime: SessionSeconds = 14 * 86400.0
    session_touch_every: Annotated[float, Field(ge=0, le=TEN_YEARS, allow_inf_nan=False)] = 60.0
    openlineage: str | None = None
    openlineage_namespace: str = Field(default="dataarch", min_length=1)
    prepare_threshold: Annotated[int | None, Field(ge=1), BeforeValidator(_never)] = 5
    cursor_secret: SecretStr = Field(default_factory=_secret_of_this_process, min_length=16)

    @classmethod
    def load(cls, **given: object) -> Settings:
        """Return the settings of this process: what is given, then the environment, then the defaults.

        Raises:
            ConfigurationError: a variable has a value that its field refuses; the message names it.
        """
        try:
            return cls(**given)  # type: ignore[arg-type]  # pydantic validates what it is given
        except ValidationError as invalid:
            first = invalid.errors()[0]
            field = str(first["loc"][0])
            raise ConfigurationError(
                f"The setting {field!r} cannot be used: {first['msg']}.",
                hint=f"Correct DATAARCH_{field.upper()}.",
                value=None if field in NEVER_SHOWN else first.get("input"),
            ) from None

    @property
    def application(self) -> URL:
        """The application's database; raises :class:`DatabaseUrlMissing` where none is known."""
        if self.database_url is None:
            raise DatabaseUrlMissing
        return database_url(self.database_url)

    @property
    def owner(self) -> URL:
        """The owner's login to the same database: the application's where no other is given."""
        return database_url(self.owner_url) if self.owner_url else self.application

    @property
    def replica(self) -> URL | None:
        """Where units of work go that only read; None where they go to the application's database."""
        return database_url(self.replica_url) if self.replica_url else None

    def __repr_args__(self) -> Iterable[tuple[str | None, object]]:
        """Give what a representation shows: no password."""
        for name, value in super().__repr_args__():
            yield name, _without_password(value) if name in URL_FIELDS and isinstance(value, str) else value
