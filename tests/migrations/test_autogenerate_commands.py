"""``alembic revision --autogenerate`` and ``alembic check`` as people run them, in a copy of the script folder."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from dataarch.database.settings import Settings
from fixtures.alembic_runs import revision_ids, run, started
from fixtures.catalogs import described
from fixtures.databases import ROOT
from migrations.autogenerate_support import execute

pytestmark = pytest.mark.migration

NEWEST = revision_ids()[-1]


@pytest.fixture
def scripts(tmp_path: Path) -> list[str]:
    """The arguments that let alembic work on a copy of the script folder."""
    shutil.copytree(ROOT / "alembic", tmp_path / "alembic")
    ini = (ROOT / "alembic.ini").read_text().replace("%(here)s", str(tmp_path))
    (tmp_path / "alembic.ini").write_text(ini)
    return ["-c", str(tmp_path / "alembic.ini")]


def generated(settings: Settings, scripts: list[str]) -> str:
    """Generate a revision, and return what was written."""
    run(settings, *scripts, "revision", "--autogenerate", "-m", "generated", "--rev-id", "generated")
    return (Path(scripts[1]).parent / "alembic" / "versions" / "generated_generated.py").read_text()


def test_a_revision_for_an_unchanged_schema_is_empty(settings: Settings, scripts: list[str]) -> None:
    assert generated(settings, scripts).count("    pass\n") == 2


def test_a_generated_revision_runs_goes_back_and_runs_again(settings: Settings, scripts: list[str]) -> None:
    complete = _names(settings)
    execute(
        settings,
        "DROP INDEX idx_metadata_gin",
        "ALTER POLICY tenant_isolation ON users USING (true)",
        "CREATE POLICY leak ON products USING (true)",
    )
    written = generated(settings, scripts)
    for operation in ("create_partitioned_index", "enable_tenant_isolation", "drop_object(RowPolicy("):
        assert f"op.{operation}" in written
    assert "from dataarch.models.declared import RowPolicy\n" in written
    run(settings, *scripts, "upgrade", "head")
    assert _names(settings) == complete
    assert "No new upgrade operations detected." in run(settings, *scripts, "check")
    run(settings, *scripts, "downgrade", "-1")
    assert not any("idx_metadata_gin" in line for line in described(settings))
    run(settings, *scripts, "upgrade", "head")
    assert _names(settings) == complete


def _names(settings: Settings) -> list[str]:
    """Everything in the database, but the names of the partitions' indexes, which nobody chooses."""
    lines = [line for line in described(settings) if "alembic_version" not in line]
    return sorted(line for line in lines if not line.startswith("index CREATE INDEX user_activity_log_"))


def test_check_fails_on_a_partitioning_that_the_model_does_not_have(settings: Settings) -> None:
    execute(
        settings,
        "DO $$ DECLARE one regclass; BEGIN FOR one IN SELECT inhrelid::regclass FROM pg_inherits"
        " WHERE inhparent = 'user_activity_log'::regclass LOOP EXECUTE format('DROP TABLE %s', one); END LOOP; END $$",
        "CREATE TABLE leap_day PARTITION OF user_activity_log FOR VALUES FROM ('2016-02-29 UTC') TO ('2016-03-01 UTC')",
    )
    process = started(settings, "check")
    _, said = process.communicate(timeout=60)
    assert process.returncode != 0
    assert "modify_partitioning" in said
    assert "RANGE (created_at) by day" in said


def test_a_generated_revision_can_be_printed_as_sql(settings: Settings, scripts: list[str]) -> None:
    execute(settings, "CREATE POLICY leak ON products USING (name LIKE '%:x%')")
    generated(settings, scripts)
    assert 'DROP POLICY "leak" ON "products";' in run(None, *scripts, "upgrade", f"{NEWEST}:head", "--sql")
    back = run(None, *scripts, "downgrade", f"generated:{NEWEST}", "--sql")
    assert "USING ((name ~~ '%:x%'::text));" in back


def test_a_change_that_cannot_be_made_is_refused_as_sql_too(settings: Settings, scripts: list[str]) -> None:
    versions = Path(scripts[1]).parent / "alembic" / "versions"
    (versions / "changed.py").write_text(
        '"""Change."""\n\nfrom alembic import op\n\n'
        f'revision = "changed"\ndown_revision = "{NEWEST}"\n\n\n'
        "def upgrade() -> None:\n"
        '    op.partitioning_changed("users", was=None, becomes="RANGE (created_at)")\n'
    )
    process = started(None, *scripts, "upgrade", f"{NEWEST}:head", "--sql")
    _, said = process.communicate(timeout=60)
    assert process.returncode != 0
    assert "PostgreSQL cannot change that in place" in said
    assert "Traceback" not in said
