"""Revisions of a test's own, checked as ``dataarch lint`` checks them."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent, indent
from typing import Any

from alembic.config import Config
from sqlalchemy import MetaData

from dataarch.rollout.checks import Finding, Project, findings

HEAD = '''"""A revision."""
import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "{revision}"
down_revision = {parent!r}
'''

SHOP = """
op.execute("CREATE TABLE tenants (id uuid PRIMARY KEY)")
op.execute("CREATE TABLE users (tenant_id uuid, id uuid, PRIMARY KEY (tenant_id, id))")
op.execute(
    "CREATE TABLE orders (tenant_id uuid, id uuid, user_id uuid, at timestamptz, note text, extra jsonb, tags text[],"
    " price numeric(10, 2), PRIMARY KEY (tenant_id, id, at)) PARTITION BY RANGE (at)"
)
op.enable_tenant_isolation("users")
op.enable_tenant_isolation("orders")
"""
"""What is there before the revision that is tested."""


class Folder:
    """A folder of revisions, the first of which makes a small shop."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "versions").mkdir(parents=True)
        (folder / "alembic.ini").write_text(f"[alembic]\nscript_location = {folder}\npath_separator = os\n")
        self.written: list[Path] = []
        self.write(SHOP)

    def write(self, up: str, down: str = "pass", *, name: str = "expand_more", comment: str = "") -> Path:
        """Add a revision with the bodies of its two functions."""
        number = len(self.written) + 1
        head = HEAD.format(revision=f"{number:04d}", parent=f"{number - 1:04d}" if number > 1 else None)
        bodies = [
            f"\n\ndef {n}():\n{indent(dedent(b).strip(), '    ')}\n" for n, b in (("upgrade", up), ("downgrade", down))
        ]
        path = self.folder / "versions" / f"{number:04d}_{name}.py"
        path.write_text(head + comment + "\n" + "".join(bodies))
        self.written.append(path)
        return path

    def config(self) -> Config:
        """Return Alembic's configuration."""
        return Config(self.folder / "alembic.ini")

    def found(self, *, with_squawk: bool = False, **project: Any) -> list[Finding]:
        """Check the revision that was written last, or all with ``only=()``."""
        only = project.pop("only", (str(self.written[-1]),))
        models: MetaData | None = project.pop("models", None)
        return findings(Project(self.config(), models, only, **project), with_squawk=with_squawk)


def line_of(path: Path, text: str) -> int:
    """Return the number of the line that has a text."""
    (number,) = [number for number, line in enumerate(path.read_text().splitlines(), start=1) if text in line]
    return number
