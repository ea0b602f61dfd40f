"""``dataarch lint`` finds nothing in what the changes write: what they do on purpose, they say."""

from __future__ import annotations

import pytest

from cli.cli_support import dataarch
from rollout.changes.change_support import Project
from rollout.changes.traffic_cases import CASES, Case
from rollout.changes.traffic_road import prepared

pytestmark = pytest.mark.migration


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_lint_finds_nothing_in_the_revisions_of_a_change(project: Project, case: Case) -> None:
    prepared(project, case, 10)
    names = project.write(case.change)
    ended = dataarch(project.settings, project.folder, "lint", *(name[:4] for name in names))
    assert (ended.printed.split(" in ")[0], ended.complaints, ended.code) == ("no findings", "", 0)
