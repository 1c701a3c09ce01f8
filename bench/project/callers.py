"""What a process that enqueues does. Each function prints one JSON value."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from django.db import connection
from django.test.utils import CaptureQueriesContext

from bench.project import tasks
from bgtasks.dialects.django_q import async_task
from bgtasks.queue import outcomes, partitions

# A call in each dialect, and those that may need a statement more.
CALLS: dict[str, Callable[[int], Any]] = {
    "@background, called": lambda number: tasks.tick(number),
    "@background, delay": lambda number: tasks.tick.delay(number),
    "shared_task, delay": lambda number: tasks.add.delay(number, 5),
    "async_task": lambda number: async_task("bench.project.tasks.function", number, 5),
    "@task, enqueue": lambda number: tasks.framework.enqueue(number, 5),
    "unique": lambda number: tasks.once(number),
    "expires": lambda number: tasks.tick.apply_async([number], expires=3600),
}
# What begins and ends a transaction, and the word to idle workers, of which a process sends one
# in 50 ms at most.
BESIDES = ("BEGIN", "COMMIT", "NOTIFY")


def steadily(times: int, pause: float) -> None:
    """Enqueue rows one by one, in autocommit; prints the seconds that each call took."""
    tasks.tick()  # connects
    took = []
    for _ in range(times):
        time.sleep(pause)
        began = time.perf_counter()
        tasks.tick()
        took.append(time.perf_counter() - began)
    print(json.dumps(took))


def partitions_of(days: int) -> None:
    """Make partitions for so many days until yesterday; prints their tables, the oldest first."""
    today = datetime.now(UTC).date()
    for ago in range(days, 0, -1):
        partitions.make(today - timedelta(days=ago))
    print(json.dumps([each.place for each in partitions.partitions()]))


def call_unique(times: int) -> None:
    """Enqueue a unique task with new keys; prints the seconds that each call took."""
    tasks.once(0)  # connects
    took = []
    for number in range(1, times + 1):
        began = time.perf_counter()
        tasks.once(number)
        took.append(time.perf_counter() - began)
    print(json.dumps(took))


def read_results(ids: list[int]) -> None:
    """Look up what became of tasks, one by one; prints the seconds that each look took."""
    outcomes.find(ids[0])  # connects
    took = []
    for task_id in ids:
        began = time.perf_counter()
        assert outcomes.find(task_id)
        took.append(time.perf_counter() - began)
    print(json.dumps(took))


def now_and_then(times: int, shortest: float, longest: float, queue: str | None = None) -> None:
    """Enqueue rows at random intervals (seconds) that say when they were enqueued."""
    tasks.late(time.monotonic(), queue=queue)  # connects
    for _ in range(times):
        time.sleep(random.uniform(shortest, longest))
        tasks.late(time.monotonic(), queue=queue)
    print(json.dumps(times))


def in_bulk(rows: int) -> None:
    """Enqueue many rows with one call; prints the seconds, or null where there is no `map`."""
    if not hasattr(tasks.tick, "map"):
        print(json.dumps(None))
        return
    tasks.tick.map([0])  # connects
    began = time.perf_counter()
    tasks.tick.map(range(rows))
    print(json.dumps(time.perf_counter() - began))


def counted(times: int) -> None:
    """Enqueue in every dialect, in autocommit; prints the statements of each call."""
    found = {}
    for name, call in CALLS.items():
        call(-1)  # connects
        with CaptureQueriesContext(connection) as captured:
            for number in range(times):
                call(number)
        said = [query["sql"] for query in captured.captured_queries]
        found[name] = len([sql for sql in said if not sql.startswith(BESIDES)]) / times
    print(json.dumps(found))


def there_and_back(times: int, shortest: float, longest: float) -> None:
    """Enqueue and wait for the result, at random intervals; prints the seconds that each took."""
    took = []
    for number in range(times + 1):
        time.sleep(random.uniform(shortest, longest))
        began = time.perf_counter()
        assert tasks.add.delay(number, 5).get(timeout=60) == number + 5
        took.append(time.perf_counter() - began)
    print(json.dumps(took[1:]))  # the first one connects
