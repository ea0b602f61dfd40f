"""Events of OpenLineage: a run tells when it began, what it read and wrote, and how it ended.

They go through the project's own client, to a file, over HTTP, or wherever the client is configured to send them. What
goes wrong with that is a warning in the log, and never an error of the run.
"""

from __future__ import annotations

import logging
from typing import Any
from uuid import UUID

from dataarch.database.settings import Settings
from dataarch.pipelines.lineage_client import Client, emitter
from dataarch.pipelines.lineage_events import Events
from dataarch.pipelines.observer import Begun
from dataarch.pipelines.outcome import Outcome
from dataarch.pipelines.sending import Sending

__all__ = ["OpenLineage", "openlineage_of"]

NAMESPACE = "dataarch"
PATIENCE = 5.0

log = logging.getLogger("dataarch.lineage")


class OpenLineage:
    """Tells OpenLineage of runs; see :class:`dataarch.pipelines.observer.Observer`.

    Args:
        to: a file, to which one line is added for each event; ``http://…`` or ``https://…``; or ``client``, for the
            client's own configuration (``openlineage.yml``, ``OPENLINEAGE_…`` variables).
        namespace: of the jobs.
        patience: seconds that the end of a run waits for its events to be sent.

    Raises:
        ConfigurationError: events cannot go there.
        DependencyMissing: the client is not installed.

    Safe to share between runs and threads. Events are sent by a thread of their own while the run goes on, in order.
    """

    def __init__(self, to: str, *, namespace: str = NAMESPACE, patience: float = PATIENCE) -> None:
        self._client: Client = emitter(to)
        self._events = Events(namespace)
        self._patience = patience
        self._under_way: dict[UUID, Sending[Any]] = {}

    def begun(self, run: Begun) -> None:
        """Tell that a run has begun, and that those which never ended were killed."""
        sending: Sending[Any] = Sending(lambda make: self._client(make()))
        self._under_way[run.run.id] = sending
        for killed in run.killed:
            sending.put(lambda killed=killed: self._events.killed(run, killed))
        sending.put(lambda: self._events.start(run))

    def ended(self, run: Begun, outcome: Outcome, error: BaseException | None) -> None:
        """Tell how a run has ended, and wait a little until that is said."""
        sending = self._under_way.pop(run.run.id)
        sending.put(lambda: self._events.end(run, outcome, error))
        if why := sending.finish(self._patience):
            log.warning("OpenLineage was not told all of run %s of %s: %s.", run.run.id, run.pipeline.name, why)


def openlineage_of(settings: Settings) -> OpenLineage | None:
    """Return who is told of runs by the settings, if anybody is."""
    if not settings.openlineage:
        return None
    return OpenLineage(settings.openlineage, namespace=settings.openlineage_namespace)
