"""What the rules look at: the revisions, the models, and where each of them is written."""

from __future__ import annotations

import inspect
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from alembic.config import Config
from sqlalchemy import MetaData, Table
from sqlalchemy.orm import DeclarativeBase

from dataarch.errors import ConfigurationError
from dataarch.rollout.checks.catalog import Catalog
from dataarch.rollout.checks.rendered import RevisionSql, Sent, rendered
from dataarch.rollout.checks.tokens import in_schema

__all__ = ["Project"]


@dataclass(frozen=True)
class Project:
    """The revisions of a folder and the models of a base.

    Attributes:
        config: Alembic's configuration; its ``env.py`` is not run.
        models: the declarative base, or the metadata; None where there are revisions alone.
        only: ids or files of the revisions that are to be checked; all where it is empty. What the others make is
            known all the same.
        citus: whether the schema is to run on Citus.
        after: id of a revision: it and those before it are history, which is not checked any more.
    """

    config: Config
    models: type[DeclarativeBase] | MetaData | None = None
    only: Collection[str] = field(default=())
    citus: bool = False
    after: str | None = None

    @property
    def metadata(self) -> MetaData | None:
        """The tables of the models."""
        return self.models if isinstance(self.models, MetaData) or self.models is None else self.models.metadata

    @cached_property
    def every_revision(self) -> list[RevisionSql]:
        """All revisions, the oldest first."""
        return rendered(self.config)

    @cached_property
    def revisions(self) -> list[RevisionSql]:
        """Those that are to be checked.

        Raises:
            ConfigurationError: one that was named is not there.
        """
        chosen = [one for one in self._present if not self.only or self._names(one) & set(self.only)]
        known = set().union(*(self._names(one) for one in chosen))
        for missing in sorted(set(self.only) - known):
            raise ConfigurationError(
                f"There is no revision {missing!r}.", hint="Name a revision's id, or its file.", value=missing
            )
        return chosen

    @property
    def _present(self) -> list[RevisionSql]:
        if self.after is None or self.only:
            return self.every_revision
        ids = [one.revision for one in self.every_revision]
        if self.after not in ids:
            raise ConfigurationError(
                f"There is no revision {self.after!r}.", hint="Correct `after` in section [dataarch].", value=self.after
            )
        return self.every_revision[ids.index(self.after) + 1 :]

    def _names(self, revision: RevisionSql) -> set[str]:
        own = {revision.revision, str(revision.file), revision.file.name}
        return own | {name for name in self.only if Path(name).resolve() == revision.file.resolve()}

    @cached_property
    def catalog(self) -> Catalog:
        """The tables that all of them make."""
        return Catalog(self.every_revision, self.metadata)

    @property
    def tables(self) -> list[Table]:
        """The tables of the models; none where single revisions are checked."""
        return [] if self.only or self.metadata is None else list(self.metadata.sorted_tables)

    def upgrades(self) -> Iterator[tuple[RevisionSql, Sent, list[str]]]:
        """Yield each statement on the way up."""
        for revision in self.revisions:
            for sent in revision.up:
                for words in sent.statements:
                    yield revision, sent, words

    @cached_property
    def places(self) -> dict[str, tuple[Path, int, int]]:
        """File, first and last line of each table's class."""
        registry = getattr(self.models, "registry", None)
        found = {}
        for mapper in registry.mappers if registry is not None else ():
            place = _written(mapper.class_)
            if place is not None and isinstance(mapper.local_table, Table):
                found[in_schema(mapper.local_table.name, mapper.local_table.schema)] = place
        return found

    def place(self, table: str, schema: str | None) -> tuple[Path | None, int]:
        """Return where a model's table is written."""
        file, line, _ = self.places.get(in_schema(table, schema), (None, 1, 1))
        return file, line


def _written(model: type[Any]) -> tuple[Path, int, int] | None:
    try:
        lines, first = inspect.getsourcelines(model)
        return Path(inspect.getfile(model)), first, first + len(lines)
    except (OSError, TypeError):
        return None
