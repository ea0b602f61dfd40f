"""A project of Alembic's, whatever its ``alembic.ini``: its database asked, and its revisions written."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

from alembic.config import Config
from alembic.runtime.environment import EnvironmentContext
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError, rev_id

from dataarch.errors import ConfigurationError, InvalidChange
from dataarch.rollout.drafting.code import Code
from dataarch.rollout.drafting.draft import Change, Draft
from dataarch.rollout.drafting.naming import slug

__all__ = ["drafted", "write"]

Answer = TypeVar("Answer")

NUMBER = re.compile(r"\d+")

LENGTH_OF_IDS = 12
"""Signs of the ids that Alembic makes; one of them may be all digits."""


def drafted(config: Config, change: Change) -> dict[Path, str]:
    """Return the files of a change: where each would be written, and its text.

    Args:
        config: of any project; its ``env.py`` says where the database is, which has to be at the newest revision.
        change: what is to be changed.

    Raises:
        InvalidChange: the change does not fit what is there, or the database is not at the newest revision.
        ConfigurationError: the project's revisions cannot be read, or have several heads.

    Guarantee: nothing is written, neither to the database nor to the project.
    """
    script = _script(config)
    codes = _asked(config, script, lambda context: _codes(context, script, change))
    with TemporaryDirectory() as folder:
        made = _generated(script, codes, Path(folder))
        home = _home(script)
        return {home / path.relative_to(folder): path.read_text() for path in made}


def write(config: Config, change: Change) -> list[Path]:
    """Write the files of a change, and return where they are; the arguments and errors are those of :func:`drafted`.

    Guarantee: no file is overwritten, and all of them are written or none. Hooks of the project run on each.
    """
    script = _script(config)
    codes = _asked(config, script, lambda context: _codes(context, script, change))
    home = _home(script)
    with TemporaryDirectory() as folder:
        wanted = [home / path.relative_to(folder) for path in _generated(script, codes, Path(folder))]
    for path in wanted:
        if path.exists():
            raise InvalidChange(f"The file {path} is there already.", hint="Remove or rename it.", value=str(path))
    try:
        return _generated(script, codes, home)
    except BaseException:
        for path in wanted:
            path.unlink(missing_ok=True)
        raise


def _script(config: Config) -> ScriptDirectory:
    try:
        script = ScriptDirectory.from_config(config)
        heads = script.get_heads()
    except CommandError as wrong:
        raise ConfigurationError(
            f"The project's revisions cannot be read: {wrong}.", hint="See its alembic.ini."
        ) from wrong
    if len(heads) > 1:
        raise ConfigurationError(
            f"The revisions have several heads: {', '.join(sorted(heads))}.",
            hint="Join them with: alembic merge heads.",
        )
    return script


def _asked(config: Config, script: ScriptDirectory, question: Callable[[MigrationContext], Answer]) -> Answer:
    """Return what a question finds out on the connection that the project's own ``env.py`` makes."""
    answers: list[Answer] = []

    def ask(_revision: object, context: MigrationContext) -> list[Any]:
        answers.append(question(context))
        return []

    with EnvironmentContext(config, script, fn=ask, dont_mutate=True):
        script.run_env()
    return answers[0]


def _codes(context: MigrationContext, script: ScriptDirectory, change: Change) -> list[tuple[Draft, Code]]:
    head, at = script.get_current_head(), context.get_current_heads()
    if set(at) != ({head} if head else set()):
        raise InvalidChange(
            f"The database is at revision {', '.join(at) or 'none'}, the newest is {head or 'none'}.",
            hint="A change is made for the schema as it is at the newest: run alembic upgrade head first.",
        )
    if context.connection is None:
        raise ConfigurationError("The project's env.py has made no connection.", hint="It has to run online.")
    return [(draft, Code(draft)) for draft in change.drafts(context.connection)]


def _locations(script: ScriptDirectory) -> list[Path]:
    return [Path(one).absolute() for one in script.version_locations or [str(Path(script.dir, "versions"))]]


def _home(script: ScriptDirectory) -> Path:
    """Return the folder that the next revision belongs in: that of the newest."""
    head, locations = script.get_current_head(), _locations(script)
    if head is None:
        return locations[0]
    newest = Path(script.get_revision(head).path).absolute()
    return next((one for one in locations if one in newest.parents), locations[0])


def _generated(script: ScriptDirectory, codes: list[tuple[Draft, Code]], folder: Path) -> list[Path]:
    """Write the revisions into a folder, with the template, the file names and the numbers of the project."""
    made: list[Path] = []
    head = script.get_current_head()
    for draft, code in codes:
        number = _next(head)
        revision = _writer(script, folder, f"{draft.phase}_{slug(draft.what)}").generate_revision(
            number,
            _docstring(draft.text),
            head=head or "base",
            version_path=folder,
            upgrades=code.upgrade,
            downgrades=code.downgrade,
            imports=code.imports,
        )
        if revision is not None:
            made.append(Path(revision.path))
        head = number
    return made


def _writer(script: ScriptDirectory, folder: Path, name: str) -> ScriptDirectory:
    """Return the same project with another folder beside its own, and the name that the next file is given."""
    own = _locations(script)
    return ScriptDirectory(
        script.dir,
        # the slug would be made of the whole docstring
        file_template=re.sub(r"%\(slug\)[^a-z]*s", name, script.file_template),
        version_locations=[str(one) for one in (own if folder in own else [*own, folder])],
        sourceless=script.sourceless,
        output_encoding=script.output_encoding,
        timezone=script.timezone,
        # they find their own settings from where the file is
        hooks=script.hooks if folder in own else [],
        recursive_version_locations=script.recursive_version_locations,
        messaging_opts={**script.messaging_opts, "quiet": True},
    )


def _next(head: str | None) -> str:
    """Return the number after the newest; an id as Alembic makes them where the project does not number."""
    if head is None:
        return "0001"
    return f"{int(head) + 1:0{len(head)}d}" if NUMBER.fullmatch(head) and len(head) < LENGTH_OF_IDS else rev_id()


def _docstring(text: str) -> str:
    """Return text as it may stand between three double quotes."""
    return text.replace("\\", "\\\\").replace('"""', r"\"\"\"").strip()
