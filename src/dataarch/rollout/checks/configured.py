"""The project of the folder where a command or a test is started."""

from __future__ import annotations

import sys
from collections.abc import Collection
from importlib import import_module
from pathlib import Path

from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import MetaData
from sqlalchemy.orm import DeclarativeBase

from dataarch.database.settings import Settings
from dataarch.errors import ConfigurationError
from dataarch.rollout.checks.project import Project
from dataarch.rollout.revisions import revisions

__all__ = ["configured"]

INI = "alembic.ini"


def configured(ini: str | None = None, *, only: Collection[str] = (), citus: bool = False) -> Project:
    """Return the project: revisions of ``alembic.ini``, models of ``DATAARCH_MODELS``.

    ``after = 0041`` in section ``[dataarch]`` of the file leaves out that revision and those before it.

    Args:
        ini: the file that configures Alembic; by default the one of the present folder, or dataarch's own revisions
            where there is none.
        only: ids or files of the revisions that are to be checked; all where it is empty.
        citus: whether the schema is to run on Citus; ``citus = true`` in that section says so too.

    Raises:
        ConfigurationError: the file, its revisions or the models cannot be read.
    """
    settings = Settings.load()
    if ini is not None and not Path(ini).is_file():
        raise ConfigurationError(f"There is no file {ini!r}.", hint="Name Alembic's configuration.", value=ini)
    config = Config(ini or INI) if ini is not None or Path(INI).is_file() else revisions(settings)
    # a folder of revisions may import what stands beside it
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.insert(0, here)
    try:
        list(ScriptDirectory.from_config(config).walk_revisions())
    except Exception as broken:
        said = " ".join(str(broken).split())
        raise ConfigurationError(
            f"The revisions cannot be read: {type(broken).__name__}: {said}.", hint="See `alembic history`."
        ) from broken
    section = config.get_section("dataarch", {})
    asked = citus or section.get("citus", "").lower() in {"true", "yes", "on", "1"}
    return Project(config, _models(settings.models), tuple(only), asked, section.get("after"))


def _models(where: str) -> type[DeclarativeBase] | MetaData:
    module, _, attribute = where.partition(":")
    try:
        found = getattr(import_module(module), attribute or "Base")
    except (ImportError, AttributeError, ValueError) as missing:
        raise ConfigurationError(
            f"The models {where!r} cannot be imported: {missing}.",
            hint="Name them as module:attribute in DATAARCH_MODELS, for example app.models:Base.",
            value=where,
        ) from missing
    if not isinstance(found, MetaData) and not isinstance(getattr(found, "metadata", None), MetaData):
        raise ConfigurationError(f"{where!r} is no declarative base.", hint="Correct DATAARCH_MODELS.", value=where)
    models: type[DeclarativeBase] | MetaData = found
    return models
