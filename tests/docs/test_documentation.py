"""The documentation is true: its code runs, its links lead somewhere, its promises name tests that exist."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from dataarch.database.settings import Settings
from docs.write_promises import named_tests, page
from fixtures.zygote import zygote

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCKS = [
    pytest.param(block, id=f"{page.relative_to(ROOT)}-{number}")
    for page in PAGES
    for number, block in enumerate(re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL), 1)
]
LINK = re.compile(r"\]\((?!https?:)([^)#]+)")
TEST_FUNCTIONS = {name for name, _ in named_tests()}


@pytest.mark.parametrize("block", BLOCKS)
def test_code_in_the_documentation_runs(block: str, settings: Settings) -> None:
    servers = {"DATAARCH_DATABASE_URL": settings.database_url, "DATAARCH_OWNER_URL": settings.owner_url}
    environment = {**os.environ, **{name: url for name, url in servers.items() if url}}
    code, _, complaints = zygote().run([], ROOT, environment, block)
    assert code == 0, complaints.decode()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_files(page: Path) -> None:
    missing = [link for link in LINK.findall(page.read_text()) if not (page.parent / link).exists()]
    assert missing == []


def test_the_promises_are_kept_by_tests_that_exist() -> None:
    named = re.findall(r"`(test_\w+)`", (ROOT / "docs" / "promises.md").read_text())
    assert len(named) >= 20
    assert [name for name in named if name not in TEST_FUNCTIONS] == []


def test_every_test_named_after_a_promise_is_on_the_page_of_promises() -> None:
    promises = (ROOT / "docs" / "promises.md").read_text()
    after_promises = {name for name in TEST_FUNCTIONS if re.match(r"test_m\d\d_", name)}
    assert sorted(name for name in after_promises if f"`{name}`" not in promises) == []


def test_the_page_of_promises_is_up_to_date() -> None:
    assert (ROOT / "docs" / "promises.md").read_text() == page(), "run: make promises"
