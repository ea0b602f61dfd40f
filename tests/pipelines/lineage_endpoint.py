"""An endpoint for OpenLineage events that keeps what it gets, and what the specification asks of each of them."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlparse
from uuid import UUID

STATES = {"START", "RUNNING", "COMPLETE", "ABORT", "FAIL", "OTHER"}

REQUIRED: dict[str, dict[str, type]] = {
    "processing_engine": {"version": str},
    "nominalTime": {"nominalStartTime": str},
    "errorMessage": {"message": str, "programmingLanguage": str},
    "jobType": {"processingType": str, "integration": str},
    "parent": {"run": dict, "job": dict},
    "inputStatistics": {"rowCount": int, "size": int},
    "outputStatistics": {"rowCount": int},
    "tags": {"tags": list},  # the client adds its version
    "dataarch_run": {"read": int, "rejected": int},
}
"""What each facet must have; where the specification asks for nothing, what ours is made for."""


class Endpoint(ThreadingHTTPServer):
    """Keeps each event that is posted to it, and answers with a status; it waits before, if it is told to."""

    def __init__(self, status: int = 201) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.status = status
        self.paths: list[str] = []
        self.events: list[dict[str, Any]] = []
        self.hold = threading.Event()
        self.hold.set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: Endpoint

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.hold.wait()
        self.server.paths.append(self.path)
        self.server.events.append(json.loads(body))
        self.send_response(self.server.status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@contextmanager
def endpoint(status: int = 201) -> Iterator[Endpoint]:
    """Serve until the end of the block."""
    with Endpoint(status) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server
        finally:
            server.hold.set()
            server.shutdown()
            thread.join()


def problems(event: dict[str, Any]) -> list[str]:
    """Return what the specification would refuse of a run event: what is missing, or is not what it must be."""
    found = [
        f"no {name}" for name in ("eventTime", "producer", "schemaURL", "eventType", "run", "job") if name not in event
    ]
    if found:
        return found
    found += [] if event["eventType"] in STATES else [f"eventType {event['eventType']}"]
    found += [] if datetime.fromisoformat(event["eventTime"]).tzinfo else ["eventTime without a zone"]
    found += [f"{name} is no URI" for name in ("producer", "schemaURL") if not urlparse(event[name]).scheme]
    found += [] if event["schemaURL"].endswith("OpenLineage.json#/$defs/RunEvent") else ["schemaURL of something else"]
    found += _unless(lambda: UUID(event["run"]["runId"]), "runId")
    found += _facets(event["run"], "facets")
    for one in (event["job"], *event.get("inputs", ()), *event.get("outputs", ())):
        found += [f"no {name}" for name in ("namespace", "name") if not one.get(name)]
        found += [wrong for kind in ("facets", "inputFacets", "outputFacets") for wrong in _facets(one, kind)]
    return found


def _facets(of: dict[str, Any], kind: str) -> Iterator[str]:
    for name, facet in of.get(kind, {}).items():
        for key in ("_producer", "_schemaURL"):
            if not urlparse(facet.get(key, "")).scheme:
                yield f"{name}: {key} is no URI"
        for key, form in REQUIRED[name].items():
            if type(facet.get(key)) is not form:
                yield f"{name}: {key} is {facet.get(key)!r}"
        if name == "nominalTime" and datetime.fromisoformat(facet["nominalStartTime"]).tzinfo is None:
            yield "nominalTime without a zone"
        if name == "parent":
            yield from _unless(lambda run=facet["run"]: UUID(run["runId"]), "parent's runId")


def _unless(works: Any, name: str) -> list[str]:
    try:
        works()
    except (KeyError, ValueError, TypeError) as error:
        return [f"{name}: {error!r}"]
    return []
