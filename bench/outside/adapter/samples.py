"""The lines that the harness reads: a descriptor at the start, and samples at every tick."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from django.db import connection
from django.db.migrations.recorder import MigrationRecorder

import bgtasks

from .controls import Controls
from .depths import Observer
from .orders import Orders
from .producer import Herder
from .tally import WINDOW, Tally

FOLDER = Path(__file__).parents[1]
MANIFEST: dict[str, Any] = json.loads((FOLDER / "adapter.json").read_text())


class Sample(NamedTuple):
    """A value of a metric.

    Attributes:
        window: seconds to which the value applies; 0 for this moment.
    """

    metric: str
    value: float
    window: float


def now() -> str:
    text = datetime.now(UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")


def write(records: list[dict[str, Any]]) -> None:
    """Print records, one a line, at once.

    Raises:
        BrokenPipeError: nobody reads any more.
    """
    print("\n".join(json.dumps(record) for record in records), flush=True)


def descriptor(orders: Orders) -> dict[str, Any]:
    """What was started: the harness compares it with the manifest, and keeps it with the results.

    Needs the database, migrated.
    """
    applied = MigrationRecorder(connection).applied_migrations()
    return {
        "kind": "descriptor",
        "system": MANIFEST["system"],
        "event_tables": MANIFEST["event_tables"],
        "event_indexes": MANIFEST["event_indexes"],
        "extensions": MANIFEST["extensions"],
        "version": version(),
        "schema_version": max(name for app, name in applied if app == "bgtasks"),
        "db_name": connection.settings_dict["NAME"],
        "started_at": now(),
        "instance_id": orders.instance,
    }


def version() -> str:
    """That of bgtasks, with the commit of its wheel if whoever made that has left a note."""
    note = FOLDER / "REVISION"
    return (
        f"{bgtasks.__version__}+{note.read_text().strip()}"
        if note.exists()
        else bgtasks.__version__
    )


def ticks(every: int, stop: threading.Event) -> Iterator[None]:
    """The moments whose seconds are a multiple of ``every``, as all systems of a run have them."""
    due = (time.time() // every + 1) * every
    while not stop.wait(max(0.0, due - time.time())):
        yield
        due = max(due + every, (time.time() // every + 1) * every)


class Sampler:
    """Prints all samples at every tick."""

    def __init__(
        self,
        orders: Orders,
        controls: Controls,
        tally: Tally,
        observer: Observer,
        herder: Herder,
        stop: threading.Event,
    ) -> None:
        self._orders = orders
        self._tally = tally
        self._observer = observer
        self._controls = controls
        self._herder = herder
        self._stop = stop
        self._told: Counter[str] = Counter()

    def run(self) -> None:
        for _ in ticks(self._orders.every, self._stop):
            self.tell()

    def tell(self) -> None:
        """Print what there is to tell at this moment."""
        at = now()
        write(
            [
                {
                    "t": at,
                    "system": MANIFEST["system"],
                    "kind": "adapter",
                    "subject_kind": "adapter",
                    "subject": "",
                    "metric": sample.metric,
                    "value": sample.value,
                    "window_s": sample.window,
                    "instance_id": self._orders.instance,
                }
                for sample in self._samples()
            ]
        )

    def _samples(self) -> Iterator[Sample]:
        counts = self._tally.counts()
        since = Counter({name: counts[name] - self._told[name] for name in counts})
        self._told = counts
        yield from self._latencies()
        yield from self._rates(since)
        if self._orders.instance == 0:
            yield from self._depths()
        if self._orders.herd_file and (counts["herd_enqueued"] or counts["herd_started"]):
            yield from self._herds(counts)

    def _latencies(self) -> Iterator[Sample]:
        found = self._tally.latencies()
        found["subscriber"] = found["claim"]  # another word of the harness for the same
        for name, percentiles in found.items():
            for which, value in percentiles.items():
                yield Sample(f"{name}_{which}_ms", value, WINDOW)

    def _rates(self, since: Counter[str]) -> Iterator[Sample]:
        """Rates by the nominal window.

        The harness adds up rate times window to find lost jobs, and so gets the true number, also
        when a tick comes late.
        """
        told = {
            "enqueue_rate": since["enqueued"],
            "completion_rate": since["ended"] + since["recovered"],
        }
        if self._orders.failures_file:
            told["injected_failure_rate"] = since["failed"] + since["exhausted"]
            told["retried_completion_rate"] = since["recovered"]
            told["poison_exhausted_rate"] = since["exhausted"]
        if self._orders.herd_file:
            told["scheduled_completion_rate"] = since["herd_ended"]
        for metric, number in told.items():
            yield Sample(metric, number / self._orders.every, self._orders.every)

    def _depths(self) -> Iterator[Sample]:
        """What is the same for all replicas, so that one tells it."""
        seen = self._observer.latest
        fixed = self._orders.mode == "fixed"
        yield Sample("queue_depth", seen.waiting, 0)
        yield Sample("running_depth", seen.running, 0)
        yield Sample("retryable_depth", seen.retrying, 0)
        yield Sample("scheduled_depth", seen.scheduled, 0)
        yield Sample("total_backlog", seen.all, 0)
        yield Sample("producer_target_rate", self._controls.rate() if fixed else 0.0, 0)

    def _herds(self, counts: Counter[str]) -> Iterator[Sample]:
        for which, value in self._tally.lateness().items():
            yield Sample(f"schedule_lateness_{which}_ms", value, 0)
        for what in ("started", "enqueued", "early"):
            yield Sample(f"schedule_{what}_total", counts[f"herd_{what}"], 0)
        if self._herder.took is not None:
            yield Sample("schedule_preload_s", self._herder.took, 0)


def give_up_stdout() -> None:
    """Have the interpreter not complain, when it ends, that nobody reads its stdout."""
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, sys.stdout.fileno())
    os.close(nothing)
