"""The queues as they are now: what waits and runs in each. No count goes beyond `MOST`."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from django.utils import timezone

from bgtasks import conf
from bgtasks.models import PausedQueue
from bgtasks.operations import statistics
from bgtasks.queue import database as db
from bgtasks.queue import pauses
from bgtasks.queue.deliveries import IS_PUBLISHED, IS_RUNNING
from bgtasks.queue.indexes import FREE

# How many rows are counted at most.
MOST = 10_000
# How many queues are shown.
QUEUES = 50


@dataclass(frozen=True)
class Count:
    """A number of rows.

    Attributes:
        at_least: there may be more, which were not counted.
    """

    number: int = 0
    at_least: bool = False

    def __add__(self, other: Count) -> Count:
        return Count(self.number + other.number, self.at_least or other.at_least)

    def __str__(self) -> str:
        return f"{self.number:,}{'+' if self.at_least else ''}"


@dataclass(frozen=True)
class QueueState:
    """A queue.

    Attributes:
        name: "" for the tasks without a queue.
        waiting: tasks that are due, and that have not begun.
        scheduled: tasks that are not due yet.
        running: tasks that a worker has claimed.
        oldest: for how many seconds the first of those that wait has been due; None if none waits.
        failed_today, ended_today: since midnight.
        per_minute: how many runs have ended in a minute, of late.
        pause: since when, and by whom, it is paused; None if it is not.
    """

    name: str
    waiting: Count = Count()
    scheduled: Count = Count()
    running: Count = Count()
    oldest: float | None = None
    failed_today: int = 0
    ended_today: int = 0
    per_minute: float = 0.0
    pause: PausedQueue | None = None


@dataclass(frozen=True)
class Depth:
    """What some of the rows are that no worker has.

    Attributes:
        waiting, scheduled, oldest: as those of `QueueState`.
    """

    waiting: Count = Count()
    scheduled: Count = Count()
    oldest: float | None = None

    def __add__(self, other: Depth) -> Depth:
        since = [age for age in (self.oldest, other.oldest) if age is not None]
        return Depth(
            self.waiting + other.waiting,
            self.scheduled + other.scheduled,
            max(since, default=None),
        )


# The name of a queue, and that of a task.
Key = tuple[str, str]


def states() -> list[QueueState]:
    """The queues that have tasks, or had some today, or are paused, by name."""
    waiting = {queue: depth for (queue, _), depth in _waiting(_ANY).items()}
    running = {queue: count for (queue, _), count in _running(_ANY).items()}
    today, minutes = statistics.today(), statistics.per_minute()
    paused = {each.queue: each for each in pauses.paused()}
    names = {*waiting, *running, *today, *minutes, *paused}
    return [
        QueueState(
            name,
            waiting=(depth := waiting.get(name, Depth())).waiting,
            scheduled=depth.scheduled,
            running=running.get(name, Count()),
            oldest=depth.oldest,
            failed_today=today[name].failed if name in today else 0,
            ended_today=today[name].count if name in today else 0,
            per_minute=minutes.get(name, 0.0),
            pause=paused.get(name),
        )
        for name in sorted(names)[:QUEUES]
    ]


def depths() -> dict[Key, Depth]:
    """What waits of each task in each queue. Beyond `MOST` rows of a queue, none is counted."""
    return _waiting("task_name")


def running() -> dict[Key, Count]:
    """How many rows of each task in each queue a worker has claimed."""
    return _running("task_name")


# SQL that stands for the name of the task where that does not matter.
_ANY = "''"
# SQL for the first rows in the order of the indexes, so that no more than these are read. Of each
# priority those that are due come first.
_FIRST = f"ORDER BY priority, run_at, id LIMIT {MOST}"
# SQL for what is known of some rows: how many, how many are due, and how long the first has been.
_FACTS = "COUNT(*), SUM(CASE WHEN run_at <= %s THEN 1 ELSE 0 END), {oldest}"


def _facts() -> str:
    return _FACTS.format(oldest=db.age(db.date_or_null("MIN(run_at)")))


def _waiting(name: str) -> dict[Key, Depth]:
    """What waits in each queue.

    Args:
        name: SQL by which the rows of a queue are told apart.

    The first rows are counted, whatever their queue. If there are more than `MOST`, each named
    queue is counted by itself. What has no queue has no index of its own: of that, only what is
    among the first rows is known then.
    """
    now = db.moment(timezone.now())
    free = _free(name, now)
    # What was sent to a fleet, and has not begun there, waits too.
    sent = _depths(db.fetch(_first(name, IS_PUBLISHED), [now]), False) if conf.engine() else {}
    return {key: free.get(key, Depth()) + sent.get(key, Depth()) for key in {**free, **sent}}


def _first(name: str, where: str, order: str = f"LIMIT {MOST}") -> str:
    """SQL for what is known of the first rows, by queue and name."""
    return (
        f"SELECT COALESCE(queue, ''), name, {_facts()} FROM (SELECT queue, run_at, {name} AS name "
        f"FROM {db.TASKS} WHERE {where} {order}) AS first GROUP BY 1, 2"
    )


def _free(name: str, now: Any) -> dict[Key, Depth]:
    """What waits in each queue, and no worker has it; see `_waiting`."""
    found = db.fetch(_first(name, FREE, _FIRST), [now])
    if sum(count for _, _, count, *_ in found) < MOST:
        return _depths(found, partial=False)
    named = _each(_names(), name, now)
    counted = {queue for queue, _ in named}
    return {**named, **_depths((each for each in found if each[0] not in counted), partial=True)}


def _depths(found: Iterable[tuple[Any, ...]], partial: bool) -> dict[Key, Depth]:
    return {
        (str(queue), str(name)): _depth(int(count), int(due), age, partial)
        for queue, name, count, due, age in found
    }


def _depth(count: int, due: int, age: Any, partial: bool) -> Depth:
    oldest = float(age) if due and age is not None and math.isfinite(age) else None
    return Depth(Count(due, partial), Count(count - due, partial), oldest)


def _names() -> list[str]:
    """The names of the queues in which rows wait: each is found by one step into the index."""
    first = f"SELECT queue FROM {db.TASKS} WHERE {FREE} AND queue IS NOT NULL"
    sql = (
        f"WITH RECURSIVE found(queue) AS (SELECT * FROM ({first} ORDER BY queue LIMIT 1) AS head "
        f"UNION ALL SELECT ({first} AND {db.TASKS}.queue > found.queue "
        f"ORDER BY {db.TASKS}.queue LIMIT 1) FROM found WHERE found.queue IS NOT NULL) "
        f"SELECT queue FROM found WHERE queue IS NOT NULL LIMIT {QUEUES}"
    )
    return [queue for (queue,) in db.fetch(sql) if queue]


def _each(queues: Iterable[str], name: str, now: Any) -> dict[Key, Depth]:
    """What waits in each of these queues, by one statement."""
    part = (
        f"SELECT %s, name, {_facts()} FROM (SELECT run_at, {name} AS name FROM {db.TASKS} "
        f"WHERE {FREE} AND queue = %s {_FIRST}) AS first GROUP BY name"
    )
    chosen = list(queues)
    if not chosen:
        return {}
    sql = " UNION ALL ".join(f"SELECT * FROM ({part}) AS part" for _ in chosen)
    found = db.fetch(sql, [value for queue in chosen for value in (queue, now, queue)])
    of_queue = defaultdict(list)
    for each in found:
        of_queue[each[0]].append(each)
    depths: dict[Key, Depth] = {}
    for rows in of_queue.values():
        depths |= _depths(rows, partial=sum(count for _, _, count, *_ in rows) >= MOST)
    return depths


def _running(name: str) -> dict[Key, Count]:
    sql = (
        f"SELECT COALESCE(queue, ''), name, COUNT(*) FROM (SELECT queue, {name} AS name "
        f"FROM {db.TASKS} WHERE {IS_RUNNING} LIMIT {MOST}) AS held GROUP BY 1, 2"
    )
    found = db.fetch(sql)
    partial = sum(count for *_, count in found) >= MOST
    return {(str(queue), str(name)): Count(count, partial) for queue, name, count in found}
