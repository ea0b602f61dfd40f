"""Run what is due, each once, however many processes look at the same time; the system's clock calls this.

Nothing is kept but the runs themselves: each has the time that it was due for. One that was killed is due again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import text

from dataarch.clock import utcnow
from dataarch.database.unit_of_work import Database
from dataarch.errors import ConfigurationError, InputMissing, PipelineBusy, ServerUnreachable
from dataarch.pipelines.books import KILLED, guarded
from dataarch.pipelines.outcome import Outcome
from dataarch.pipelines.runner import Runner
from dataarch.pipelines.schedulers.schedule import Past, Schedule, Standing, distinct, standing
from dataarch.pipelines.tenants import find_tenant

__all__ = ["PAST", "Ran", "past_of", "run_due", "tenant_of_schedule"]

PAST = text(
    """
    WITH scheduled AS NOT MATERIALIZED (
        SELECT scheduled_for, started_at, state, state = 'running' OR error IS NOT DISTINCT FROM :killed AS killed
        FROM pipeline_runs WHERE tenant_id = :tenant AND pipeline = :pipeline AND scheduled_for IS NOT NULL
    ), done AS (SELECT scheduled_for, started_at FROM scheduled WHERE NOT killed ORDER BY started_at DESC LIMIT 1),
    latest AS (SELECT scheduled_for, started_at, killed FROM scheduled ORDER BY started_at DESC LIMIT 20)
    SELECT (SELECT scheduled_for FROM done) AS done,
           (SELECT max(scheduled_for) FROM latest
            WHERE killed AND started_at >= coalesce((SELECT started_at FROM done), '-infinity')) AS killed,
           (SELECT state FROM scheduled ORDER BY started_at DESC LIMIT 1) AS state
    """
)
"""The index gives the newest first: however many runs there were, a few of them are read; a limit has it used."""


@dataclass(frozen=True, slots=True)
class Ran:
    """What became of a schedule that something was due of.

    Attributes:
        schedule: which.
        due: the time that its run was due for.
        outcome: what became of the run; None where it did not come to its end.
        nothing: why there was nothing to read; empty where there was.
        busy: whether the pipeline was running already.
        error: what went wrong, if anything did.
    """

    schedule: Schedule
    due: datetime | None = None
    outcome: Outcome | None = None
    nothing: str = ""
    busy: bool = False
    error: Exception | None = None

    @property
    def failed(self) -> bool:
        """Whether somebody has to look at it; that it runs already, or that there is nothing, is no failure."""
        return self.error is not None or bool(self.outcome and self.outcome.failed)


def run_due(db: Database, schedules: Iterable[Schedule], now: datetime | None = None) -> Iterator[Ran]:
    """Run what is due of schedules, one after another, and give what became of each when it has ended.

    Args:
        db: the database, as the application role.
        schedules: any number; what nothing is due of is passed over.
        now: the time; without it, that of the clock.

    Raises:
        InvalidValue: two schedules are for one pipeline and tenant.
        ServerUnreachable: so that none can run.

    Safe to run at the same time in any number of processes: each due run is done by one of them. What goes wrong with
    one schedule does not stop the others.
    """
    for schedule in distinct(schedules):
        if (ran := _attempt(db, schedule, now or utcnow())) is not None:
            yield ran


def past_of(db: Database, tenant_id: UUID, schedule: Schedule) -> Past:
    """Return what is stored of the runs of a schedule."""
    parameters = {"tenant": tenant_id, "pipeline": schedule.pipeline.name, "killed": KILLED}
    with db.tenant(tenant_id) as session:
        found = session.execute(PAST, parameters).one()
    return Past(found.done, found.killed, found.state or "")


def tenant_of_schedule(db: Database, schedule: Schedule) -> UUID:
    """Return the tenant that a schedule is for; raises :class:`ConfigurationError` where there is none."""
    if (found := find_tenant(db, schedule.tenant)) is None:
        raise ConfigurationError(
            f"There is no tenant {schedule.tenant}, for which {schedule.pipeline.name} is scheduled.",
            hint="Check its slug, and which database this is.",
            value=schedule.tenant,
        )
    return found


def _attempt(db: Database, schedule: Schedule, now: datetime) -> Ran | None:
    due: datetime | None = None
    try:
        tenant_id = tenant_of_schedule(db, schedule)
        if (due := _stands(db, tenant_id, schedule, now).due) is None:
            return None
        # no pipeline has a name with a blank: this lock is the schedule's, from looking to the run's end
        with guarded(db, tenant_id, f"{schedule.pipeline.name} on schedule"):
            # somebody else may have done it since
            if (due := _stands(db, tenant_id, schedule, now).due) is None:
                return None
            return _run(db, tenant_id, schedule, due)
    except ServerUnreachable:
        raise
    except PipelineBusy:
        return Ran(schedule, due, busy=True)
    except Exception as error:  # noqa: BLE001  a mistake in one pipeline does not stop the others
        return Ran(schedule, due, error=error)


def _stands(db: Database, tenant_id: UUID, schedule: Schedule, now: datetime) -> Standing:
    return standing(schedule, past_of(db, tenant_id, schedule), now)


def _run(db: Database, tenant_id: UUID, schedule: Schedule, due: datetime) -> Ran:
    runner = Runner(db, schedule.pipeline, tenant_id, scheduled_for=due)
    try:
        return Ran(schedule, due, runner.run(schedule.given))
    except InputMissing as missing:
        # a folder where files arrive is often empty; the run is stored, or it would be due until one comes
        with runner.under_way():
            pass
        return Ran(schedule, due, runner.outcome, nothing=missing.message)
