"""What ``manage.py tasks stats`` writes: the queues now, and the runs of each task of late."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from bgtasks.operations import queues, statistics
from bgtasks.operations.queues import QueueState
from bgtasks.operations.statistics import Range, Runs
from bgtasks.queue.counters import ENDINGS

QUEUE_HEAD = (
    "queue", "waiting", "oldest", "scheduled", "running", "per minute", "ended today",
    "failed today", "",
)  # fmt: skip
TASK_HEAD = (
    "task", "runs", "failed", "ran p50", "p95", "p99", "waited p50", "p95", "p99",
)  # fmt: skip
PERCENTILES = (50, 95, 99)


COUNTS = ("waiting", "scheduled", "running")


def lines(wanted: Range) -> Iterator[str]:
    """Two tables: of the queues, and of the tasks that have run within this range of time."""
    yield from _table(QUEUE_HEAD, [_queue_cells(state) for state in queues.states()])
    yield ""
    tasks = sorted(statistics.by_task(wanted).items())
    yield from _table(TASK_HEAD, [_task_cells(*item) for item in tasks])


def as_json(wanted: Range) -> dict[str, Any]:
    """The same for programs: durations in seconds, times with their zone."""
    tasks = sorted(statistics.by_task(wanted).items())
    return {
        "range": wanted.name,
        "queues": [_queue_as_json(state) for state in queues.states()],
        "tasks": [_runs_as_json(*item) for item in tasks],
    }


def _queue_cells(state: QueueState) -> Sequence[str]:
    return (
        state.name or "(no queue)",
        str(state.waiting),
        statistics.short(state.oldest),
        str(state.scheduled),
        str(state.running),
        f"{state.per_minute:,.3g}",
        f"{state.ended_today:,}",
        f"{state.failed_today:,}",
        "paused" if state.pause else "",
    )


def _task_cells(name: str, runs: Runs) -> Sequence[str]:
    spans = [
        statistics.short(durations.percentile(percent))
        for durations in (runs.ran, runs.waited)
        for percent in PERCENTILES
    ]
    return (name, f"{runs.count:,}", f"{runs.failures:,}", *spans)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """The lines of a table; all columns but the first are aligned to the right."""
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    for first, *others in (head, *rows):
        cells = [f"{cell:>{width}}" for cell, width in zip(others, widths[1:], strict=True)]
        yield "  ".join([f"{first:<{widths[0]}}", *cells]).rstrip()


def _queue_as_json(state: QueueState) -> dict[str, Any]:
    return {
        "queue": state.name,
        **{name: getattr(state, name).number for name in COUNTS},
        "at_least": [name for name in COUNTS if getattr(state, name).at_least],
        "oldest": state.oldest,
        "per_minute": state.per_minute,
        "ended_today": state.ended_today,
        "failed_today": state.failed_today,
        "paused_by": state.pause and state.pause.by,
        "paused_at": state.pause and state.pause.at,
    }


def _runs_as_json(name: str, runs: Runs) -> dict[str, Any]:
    return {
        "name": name,
        **{ending: getattr(runs, ending) for ending in ENDINGS},
        **{
            what: {f"p{each}": getattr(runs, what).percentile(each) for each in PERCENTILES}
            for what in ("waited", "ran")
        },
    }
