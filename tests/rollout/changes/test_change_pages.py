"""The pages of the changes show what the command writes: each block of code on them is in its files."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from cli.cli_support import dataarch
from fixtures.databases import ROOT
from rollout.changes.change_support import Project

pytestmark = pytest.mark.migration

PAGES = sorted((ROOT / "docs" / "reference" / "changes").glob("*.md"))

SHOP = """
DROP TABLE orders;
CREATE TABLE users (
    id bigint PRIMARY KEY, email text, full_name text NOT NULL, city text, street text, note text, old_flag boolean
);
CREATE INDEX ix_users_full_name ON users (full_name);
CREATE INDEX ix_users_note ON users (note);
CREATE TABLE orders (id bigint PRIMARY KEY, user_id bigint NOT NULL, amount integer NOT NULL, reference text NOT NULL);
CREATE TABLE old_orders (id bigint PRIMARY KEY);
CREATE TABLE events (id bigserial PRIMARY KEY, created_at timestamptz NOT NULL DEFAULT now(), note text);
"""


def blocks(page: Path, kind: str) -> list[str]:
    return re.findall(rf"```{kind}\n(.*?)```", page.read_text(), re.DOTALL)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_page_shows_what_its_command_writes(project: Project, page: Path) -> None:
    project.sql(SHOP)
    printed = ""
    for line in "".join(blocks(page, "console")).replace("\\\n", "").splitlines():
        if line.startswith("$ dataarch revision"):
            ended = dataarch(project.settings, project.folder, *shlex.split(line)[2:], "--dry-run")
            assert (ended.code, ended.complaints) == (0, ""), line
            printed += ended.printed
    shown = blocks(page, "py")
    assert printed
    assert shown
    assert [block for block in shown if block.strip() not in printed] == []
    named = re.findall(r"`(\d{4}_(?:expand|backfill|contract)_\w+\.py)`", page.read_text())
    assert named
    assert [name for name in named if f"/{name}\n" not in printed] == []
