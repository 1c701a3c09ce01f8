"""The workers as their heartbeats show them: who lives, who is lost, and what each runs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from django.utils import timezone

from bgtasks.models import Task, Worker
from bgtasks.operations.times import at
from bgtasks.operations.unserved import LEASE
from bgtasks.queue import database as db

ALIVE, STOPPING, LOST = "alive", "stopping", "lost"
# How many workers are shown.
MOST = 200


@dataclass(frozen=True)
class RunningTask:
    """A run, as the last heartbeat of its worker told of it.

    Attributes:
        name: the task's; "" if its row is gone meanwhile: then it has ended.
        since: when it began.
    """

    id: int
    name: str
    since: datetime


@dataclass(frozen=True)
class Child:
    """A process of a worker that runs tasks.

    Attributes:
        memory: the bytes that it has of the machine's memory; None if that is not known.
        running: how many tasks it runs; `runs` has those that have run longest.
    """

    pid: int
    memory: int | None
    since: datetime
    running: int
    runs: Sequence[RunningTask]


@dataclass(frozen=True)
class Member:
    """A worker.

    Attributes:
        state: "alive"; "stopping": it was asked to end; "lost": its lease has run out.
        age: seconds since its last heartbeat; None if that cannot be read.
        started: when it started; None if that cannot be read.
        memory: bytes, of all its processes; None if that is not known.
        children: its processes that run tasks; empty if it has told nothing of them yet.
    """

    name: str
    host: str
    pid: int
    version: str
    queues: Sequence[str] | None
    processes: int
    threads: int
    state: str
    age: float | None
    started: datetime | None
    memory: int | None = None
    children: Sequence[Child] = field(default_factory=list)


def members() -> list[Member]:
    """The workers in the table, those that started last first."""
    sql = (
        f"SELECT name, {db.age('started_at', utc=True)}, {db.age('heartbeat_at', utc=True)} "
        f"FROM {db.WORKERS} ORDER BY started_at DESC LIMIT {MOST}"
    )
    ages = {name: (_number(started), _number(beat)) for name, started, beat in db.fetch(sql)}
    # The dates are not fetched: one that Python cannot hold would make the whole fetch fail.
    rows = Worker.objects.using(db.alias()).defer("started_at", "heartbeat_at").in_bulk(list(ages))
    names = _names_of([rows[name].status for name in ages if name in rows])
    return [_member(rows[name], *ages[name], names) for name in ages if name in rows]


def _number(age: Any) -> float | None:
    known = age is not None and math.isfinite(age)
    return float(age) if known else None


def _names_of(statuses: Sequence[Any]) -> dict[int, str]:
    """The names of the tasks that run, by their ids."""
    ids = [pk for status in statuses for child in _children(status) for pk, _ in child["runs"]]
    tasks = Task.objects.using(db.alias()).filter(pk__in=ids)
    return dict(tasks.values_list("pk", "task_name")) if ids else {}


def _children(status: Any) -> Sequence[Mapping[str, Any]]:
    return status["children"] if status else []


def _member(
    row: Worker, started: float | None, beat: float | None, names: Mapping[int, str]
) -> Member:
    lease = row.lease if row.lease > 0 else LEASE
    is_lost = beat is None or beat > lease
    status = row.status or {}
    children = [_child(each, names) for each in _children(row.status)]
    stopping = STOPPING if status.get("stopping") else ALIVE
    parts = {row.pid: status.get("memory"), **{child.pid: child.memory for child in children}}
    known = [part for part in parts.values() if part is not None]
    return Member(
        row.name, row.host, row.pid, row.version, row.queues, row.processes, row.threads,
        LOST if is_lost else stopping,
        beat,
        None if started is None else timezone.now() - timedelta(seconds=started),
        sum(known) if known else None,
        children,
    )  # fmt: skip


def _child(told: Mapping[str, Any], names: Mapping[int, str]) -> Child:
    runs = [RunningTask(pk, names.get(pk, ""), at(since)) for pk, since in told["runs"]]
    return Child(told["pid"], told["memory"], at(told["since"]), told["running"], runs)
