"""Settings: where they come from, what they refuse, and which URLs can be read."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import SecretStr, ValidationError

from dataarch.database.settings import Settings, database_url
from dataarch.errors import ConfigurationError, DatabaseUrlMissing, InvalidUrl

FROM_ENVIRONMENT = {
    "database_url": ("postgresql://app@db/shop", "postgresql://app@db/shop"),
    "owner_url": ("postgresql://boss@db/shop", "postgresql://boss@db/shop"),
    "replica_url": ("postgresql://app@replica/shop", "postgresql://app@replica/shop"),
    "redis_url": ("redis://cache:6379/1", "redis://cache:6379/1"),
    "server_dir": ("elsewhere", Path("elsewhere")),
    "archive_dir": ("archives", Path("archives")),
    "maintenance_patience": ("600", 600.0),
    "upgrade_lock_timeout": ("0.5", 0.5),
    "upgrade_patience": ("600", 600.0),
    "models": ("app.models:Base", "app.models:Base"),
    "role": ("dataarch_app", "dataarch_app"),
    "application_name": ("web", "web"),
    "connect_timeout": ("2.5", 2.5),
    "statement_timeout": ("1.5", 1.5),
    "lock_timeout": ("0.25", 0.25),
    "idle_in_transaction_timeout": ("7", 7.0),
    "pool_size": ("3", 3),
    "pool_overflow": ("0", 0),
    "pool_timeout": ("4", 4.0),
    "cache_timeout": ("0.1", 0.1),
    "prepare_threshold": ("9", 9),
    "session_idle": ("900", 900.0),
    "session_lifetime": ("86400", 86400.0),
    "session_touch_every": ("0", 0.0),
    "cursor_secret": ("sixteen letters!", SecretStr("sixteen letters!")),
    "openlineage": ("https://lineage.internal", "https://lineage.internal"),
    "openlineage_namespace": ("shop", "shop"),
}

REFUSED = {
    "role": ["Robert'); DROP ROLE x", "", "9lives", "a" * 64],
    "connect_timeout": ["0", "-1", "soon", "inf", "nan"],
    "statement_timeout": ["0", "inf", "2147484"],
    "lock_timeout": ["0", "-inf"],
    "idle_in_transaction_timeout": ["0", "1e9"],
    "pool_size": ["0", "-1", "many", "1.5"],
    "pool_overflow": ["-1"],
    "pool_timeout": ["0"],
    "cache_timeout": ["0", "nan"],
    "maintenance_patience": ["0", "nan"],
    "upgrade_lock_timeout": ["0", "inf"],
    "upgrade_patience": ["0", "forever"],
    "prepare_threshold": ["0", "-1", "often"],
    "session_idle": ["0", "-1", "nan", "1e9"],
    "session_lifetime": ["0", "inf", "1e9"],
    "session_touch_every": ["-1", "nan"],
}


def test_every_field_is_tested_here() -> None:
    assert FROM_ENVIRONMENT.keys() == Settings.model_fields.keys()


@pytest.mark.parametrize("field", FROM_ENVIRONMENT)
def test_a_field_is_read_from_its_variable(field: str, monkeypatch: pytest.MonkeyPatch) -> None:
    written, expected = FROM_ENVIRONMENT[field]
    monkeypatch.setenv(f"DATAARCH_{field.upper()}", written)
    assert getattr(Settings.load(), field) == expected


@pytest.mark.parametrize("field", FROM_ENVIRONMENT)
def test_an_empty_variable_counts_as_not_set(field: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"DATAARCH_{field.upper()}", "")
    assert getattr(Settings.load(), field) == getattr(Settings(), field)


@pytest.mark.parametrize(
    ("field", "value"), [(field, value) for field, values in REFUSED.items() for value in values if value]
)
def test_a_wrong_value_is_refused_and_its_variable_named(
    field: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    variable = f"DATAARCH_{field.upper()}"
    monkeypatch.setenv(variable, value)
    with pytest.raises(ConfigurationError) as refused:
        Settings.load()
    assert (refused.value.value, refused.value.exit_code) == (value, 2)
    assert variable in refused.value.hint


@pytest.mark.parametrize("field", ["database_url", "owner_url", "replica_url"])
def test_a_wrong_url_is_refused_and_its_variable_named(field: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"DATAARCH_{field.upper()}", "mysql://localhost/app")
    with pytest.raises(InvalidUrl) as refused:
        Settings.load()
    assert f"DATAARCH_{field.upper()}" in refused.value.hint
    assert refused.value.exit_code == 2


def test_what_is_given_comes_before_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATAARCH_POOL_SIZE", "3")
    assert Settings.load(pool_size=4).pool_size == 4


def test_a_misspelled_setting_is_refused() -> None:
    with pytest.raises(ConfigurationError) as refused:
        Settings.load(databse_url="postgresql://app@db/shop")
    assert "databse_url" in refused.value.message


def test_a_variable_of_somebody_else_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATAARCH_SOMETHING_NEW", "1")
    assert Settings.load() == Settings()


def test_settings_do_not_change() -> None:
    with pytest.raises(ValidationError):
        Settings().pool_size = 7


@pytest.mark.parametrize("word", ["none", "None", " never "])
def test_statements_are_never_prepared_when_the_threshold_is_none(word: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATAARCH_PREPARE_THRESHOLD", word)
    assert Settings.load().prepare_threshold is None


def test_a_missing_url_is_said_by_name_and_ends_a_command_with_2() -> None:
    with pytest.raises(DatabaseUrlMissing) as missing:
        _ = Settings().application
    assert missing.value.exit_code == 2
    assert "DATAARCH_DATABASE_URL" in str(missing.value)
    with pytest.raises(DatabaseUrlMissing):
        _ = Settings().owner


def test_the_owner_is_the_application_where_no_other_is_given() -> None:
    settings = Settings(database_url="postgresql://app@db/shop")
    assert settings.owner == settings.application


def test_the_owner_has_a_login_of_its_own_where_one_is_given() -> None:
    settings = Settings(database_url="postgresql://app@db/shop", owner_url="postgresql://boss@db/shop")
    assert (settings.application.username, settings.owner.username) == ("app", "boss")


def test_an_owner_alone_is_no_application() -> None:
    settings = Settings(owner_url="postgresql://boss@db/shop")
    assert settings.owner.username == "boss"
    with pytest.raises(DatabaseUrlMissing):
        _ = settings.application


# ── URLs ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", ["postgres", "postgresql", "postgresql+psycopg"])
def test_a_url_of_postgresql_is_read_with_psycopg_3(name: str) -> None:
    url = database_url(f"{name}://app@db:5433/shop")
    assert (url.drivername, url.username, url.host, url.port, url.database) == (
        "postgresql+psycopg",
        "app",
        "db",
        5433,
        "shop",
    )


@pytest.mark.parametrize(
    "value",
    [
        "sqlite:///app.db",
        "mysql://localhost/app",
        "postgresql+psycopg2://localhost/app",
        "postgresql+asyncpg://localhost/app",
        "http://localhost/app",
        "localhost",
        "localhost:5432/app",
        "host=localhost dbname=app",
        "",
        "postgresql://localhost",
        "postgresql://localhost/",
        "postgresql://localhost:port/app",
        "postgresql://app:p@ss@localhost/app",
        "postgresql://[::1/app",
    ],
)
def test_a_url_that_names_no_postgresql_database_is_refused(value: str) -> None:
    with pytest.raises(InvalidUrl):
        database_url(value)


def test_a_percent_encoded_password_is_decoded() -> None:
    assert database_url("postgresql://app:p%40ss%2Fw%3A%25@db/shop").password == "p@ss/w:%"


def test_an_ipv6_address_is_read() -> None:
    url = database_url("postgresql://app@[::1]:5433/shop")
    assert (url.host, url.port) == ("::1", 5433)


def test_the_folder_of_a_unix_socket_is_kept() -> None:
    url = database_url("postgresql://app@/shop?host=/run/postgresql&port=5433")
    assert url.query == {"host": "/run/postgresql", "port": "5433"}
    assert url.host is None


@pytest.mark.parametrize(
    ("value", "hosts"),
    [
        ("postgresql://app:p%40ss@one:5432,two:5433/shop", ("one:5432", "two:5433")),
        ("postgresql://one,two/shop", ("one", "two")),
        ("postgresql://app@/shop?host=one:5432&host=two:5433", ("one:5432", "two:5433")),
    ],
)
def test_several_hosts_are_read_as_libpq_and_as_sqlalchemy_write_them(value: str, hosts: tuple[str, ...]) -> None:
    url = database_url(value)
    assert (url.host, url.query["host"], url.database) == (None, hosts, "shop")


def test_parameters_of_a_url_are_kept() -> None:
    url = database_url("postgresql://one,two/shop?sslmode=verify-full&target_session_attrs=read-write")
    assert (url.query["sslmode"], url.query["target_session_attrs"]) == ("verify-full", "read-write")


# ── passwords ─────────────────────────────────────────────────────────────────────────────────────────────────────

SECRET = "hunter2"


@pytest.mark.parametrize("field", ["database_url", "owner_url", "replica_url"])
@pytest.mark.parametrize(
    "value",
    [
        f"postgresql://app:{SECRET}@db",
        f"postgresql://app:{SECRET}@db/",
        f"postgresql://app@db?password={SECRET}",
        f"postgresql://app:{SECRET}@db:port/shop",
        f"mysql://app:{SECRET}@db/shop",
        f"app:{SECRET}@db/shop",
        f"postgresql://app:p@{SECRET}@db/shop",
        f"postgresql://app:{SECRET}@[::1/shop",
    ],
)
def test_no_password_is_in_the_error_about_a_url(field: str, value: str) -> None:
    with pytest.raises(InvalidUrl) as refused:
        Settings.load(**{field: value})
    error: BaseException | None = refused.value
    while error is not None:
        assert SECRET not in f"{error} {error!r} {vars(error)}"
        assert error.__suppress_context__ or error.__context__ is None
        error = error.__cause__


@pytest.mark.parametrize("field", ["database_url", "owner_url", "replica_url", "redis_url"])
def test_no_password_is_in_the_error_about_a_url_that_is_no_text(field: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        Settings.load(**{field: [f"postgresql://app:{SECRET}@db/shop"]})
    assert SECRET not in f"{refused.value} {vars(refused.value)}"
    assert refused.value.__suppress_context__


@pytest.mark.parametrize("shown", [repr, str, lambda settings: "".join(map(str, settings.__rich_repr__()))])
@pytest.mark.parametrize(
    "value", [f"postgresql://app:{SECRET}@db/shop", f"postgresql://app@db/shop?password={SECRET}&sslpassword={SECRET}"]
)
def test_no_password_is_in_the_representation_of_settings(value: str, shown: object) -> None:
    settings = Settings(
        database_url=value,
        owner_url=value,
        redis_url=f"redis://:{SECRET}@cache:6379/0",
        openlineage=f"https://me:{SECRET}@lineage.internal",
    )
    assert callable(shown)
    text = shown(settings)
    assert SECRET not in text
    assert text.count("db/shop") == 2
    assert "cache:6379" in text


def test_a_redis_url_that_cannot_be_read_is_not_shown() -> None:
    assert SECRET not in repr(Settings(redis_url=f"redis://:{SECRET}@one:1,two:2/0"))


# ── the secret of cursors ─────────────────────────────────────────────────────────────────────────────────────────


def test_the_secret_of_cursors_is_not_shown() -> None:
    settings = Settings(cursor_secret=SecretStr(f"{SECRET} and {SECRET}"))
    assert SECRET not in f"{settings!r} {settings} {settings.model_dump()} {settings.model_dump_json()}"
    assert settings.cursor_secret.get_secret_value() == f"{SECRET} and {SECRET}"


def test_a_secret_of_cursors_that_is_too_short_is_refused_and_not_shown() -> None:
    with pytest.raises(ConfigurationError) as refused:
        Settings.load(cursor_secret=SECRET)
    assert "DATAARCH_CURSOR_SECRET" in refused.value.hint
    assert SECRET not in f"{refused.value} {vars(refused.value)}"


def test_a_process_has_a_secret_of_cursors_that_no_other_has() -> None:
    code = "from dataarch.database.settings import Settings; print(Settings().cursor_secret.get_secret_value())"
    others = [subprocess.check_output([sys.executable, "-c", code], text=True).strip() for _ in range(2)]
    mine = {Settings.load().cursor_secret.get_secret_value(), Settings().cursor_secret.get_secret_value()}
    assert len(mine) == 1
    assert len({*mine, *others}) == 3
    assert all(len(secret) >= 40 for secret in others)
