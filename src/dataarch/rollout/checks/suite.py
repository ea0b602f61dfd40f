"""The checks as a test of a project's own: ``from dataarch.rollout.checks.suite import test_the_schema_is_safe``."""

from __future__ import annotations

from dataarch.rollout.checks import findings
from dataarch.rollout.checks.configured import configured

__all__ = ["test_the_schema_is_safe"]


def test_the_schema_is_safe() -> None:
    """Pass where neither the revisions of ``alembic.ini`` nor the models of ``DATAARCH_MODELS`` are a danger."""
    found = findings(configured())
    if found:
        raise AssertionError("\n".join(["the schema is not safe:", *map(str, found)]))
