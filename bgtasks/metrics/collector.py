"""The metrics as `prometheus_client` collects them: read from the tables when somebody asks."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from itertools import accumulate

from bgtasks.exceptions import MetricsMissing
from bgtasks.models import CELLS, Worker
from bgtasks.operations import queues, totals
from bgtasks.operations.unserved import LEASE
from bgtasks.queue import database as db
from bgtasks.queue import pauses, workers

try:
    from prometheus_client import CollectorRegistry
    from prometheus_client.core import (
        CounterMetricFamily,
        GaugeMetricFamily,
        HistogramMetricFamily,
        Metric,
    )
    from prometheus_client.exposition import choose_encoder
    from prometheus_client.registry import Collector
except ImportError:
    raise MetricsMissing(
        "The package prometheus-client cannot be imported, of which the metrics are made. Run "
        '`pip install "django-bgtasks[metrics]"`.'
    ) from None

# A run that took less than 2 to the power of i milliseconds is in cell i of a counter. Every
# second cell is the bound of a bucket, which keeps the number of series low.
BOUNDS = range(0, CELLS - 1, 2)
LABELS = ("queue", "task")


class TaskCollector(Collector):
    """Reads the metrics from the tables."""

    def collect(self) -> Iterator[Metric]:
        all_ = totals.totals()
        yield from _of_depths({(each.queue, each.name) for each in all_})
        yield _of_workers()
        yield from _of_runs(all_)


def exposition(accept: str) -> tuple[bytes, str]:
    """The metrics as they are now, and their media type.

    Args:
        accept: the header of the request that says which formats it takes.
    """
    registry = CollectorRegistry(auto_describe=False)
    registry.register(TaskCollector())
    encode, content_type = choose_encoder(accept)
    return encode(registry), content_type


def _of_depths(known: Collection[queues.Key]) -> Iterator[Metric]:
    """What waits and runs, and which queues are paused.

    Args:
        known: tasks that have run, each in each of its queues. They have a sample also while none
            of their rows is there.
    """
    depths, running = queues.depths(), queues.running()
    keys = sorted({*depths, *running, *known})[: totals.MOST]
    found = [depths.get(key, queues.Depth()) for key in keys]
    most = f"No more than {queues.MOST} rows of a queue are counted."
    for name, text, values in (
        ("waiting", f"Tasks that are due, and that no worker has. {most}",
         [depth.waiting.number for depth in found]),
        ("scheduled", f"Tasks that are not due yet. {most}",
         [depth.scheduled.number for depth in found]),
        ("running", f"Tasks that a worker has claimed, {queues.MOST} of all queues at most.",
         [running.get(key, queues.Count()).number for key in keys]),
        ("oldest_waiting_seconds", "How long the first of the waiting tasks has been due.",
         [depth.oldest or 0.0 for depth in found]),
    ):  # fmt: skip
        metric = GaugeMetricFamily(f"bgtasks_{name}", text, labels=LABELS)
        for key, value in zip(keys, values, strict=True):
            metric.add_metric(key, float(value))
        yield metric
    paused = {each.queue for each in pauses.paused()}
    text = "Whether workers claim nothing from the queue."
    metric = GaugeMetricFamily("bgtasks_queue_paused", text, labels=["queue"])
    for queue in sorted({queue for queue, _ in keys} | paused):
        metric.add_metric([queue], float(queue in paused))
    yield metric


def _of_workers() -> Metric:
    """How many workers there are in each state: each has a sample, so that none is missing."""
    peers = workers.peers("", LEASE)
    lost = {peer.name for peer in peers if peer.left is not None and peer.left <= 0}
    found = Worker.objects.using(db.alias()).values_list("name", "status")
    stopping = {name for name, status in found if isinstance(status, dict) and status["stopping"]}
    text = "Workers. Those that are lost have not renewed their lease."
    metric = GaugeMetricFamily("bgtasks_workers", text, labels=["state"])
    metric.add_metric(["alive"], len(peers) - len(lost | stopping))
    metric.add_metric(["stopping"], len(stopping - lost))
    metric.add_metric(["lost"], len(lost))
    return metric


def _of_runs(all_: Iterable[totals.Total]) -> Iterator[Metric]:
    runs = CounterMetricFamily("bgtasks_runs", "Runs that have ended.", labels=[*LABELS, "outcome"])
    for each in all_:
        for outcome, count in each.endings.items():
            runs.add_metric([each.queue, each.name, outcome], count)
    yield runs
    for name, text in (
        ("latency", "From when a task was due until it started."),
        ("duration", "From the start of a run to its end."),
    ):
        metric = HistogramMetricFamily(f"bgtasks_{name}_seconds", text, labels=LABELS)
        for each in all_:
            histogram = each.waited if name == "latency" else each.ran
            metric.add_metric([each.queue, each.name], _buckets(histogram.cells), histogram.sum)
        yield metric


def _buckets(cells: Iterable[int]) -> list[tuple[str, float]]:
    """Buckets as Prometheus has them: each has also what is in the ones before."""
    below = list(accumulate(cells))
    bounds = [(str(2**cell / 1000), float(below[cell])) for cell in BOUNDS]
    return [*bounds, ("+Inf", float(below[-1]))]
