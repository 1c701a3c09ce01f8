"""A task as the pages show it: each fact as a text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache

from django.utils import timezone

from bgtasks.admin import times
from bgtasks.admin.times import When
from bgtasks.operations import arguments
from bgtasks.operations.states import State
from bgtasks.operations.task_list import Listed
from bgtasks.queue import progress
from bgtasks.serialize.tracebacks import gist
from bgtasks.tasks import policies, registry
from bgtasks.tasks.current import Progress

WAITING = {State.WAITING, State.RETRYING}


@dataclass(frozen=True)
class Row:
    """A task for a template.

    Attributes:
        task: the task as the list has it.
        arguments: of its call.
        attempts: how many runs there were, and of how many at most, if this process knows the task.
        progress: what it has reported last.
        waited: how long it waited, or waits, for its run.
        ran: how long it ran, or runs.
        worker: the name of the worker that has or had it.
        error: the line that names what it raised last.
    """

    task: Listed
    arguments: str
    attempts: str
    progress: Progress | None
    due: When | None
    started: When | None
    finished: When | None
    waited: str
    ran: str
    worker: str
    error: str

    @property
    def short_arguments(self) -> str:
        return arguments.shortened(self.arguments)

    @property
    def short_error(self) -> str:
        return arguments.shortened(self.error)


def of(tasks: Sequence[Listed]) -> list[Row]:
    """The tasks, for a template."""
    reported, now = progress.read_many([task.id for task in tasks]), timezone.now()
    return [_row(task, reported.get(task.id), now) for task in tasks]


def _row(task: Listed, reported: Progress | None, now: datetime) -> Row:
    return Row(
        task,
        arguments.shown(task.name, task.params),
        _attempts(task),
        reported,
        times.when(task.due_at),
        times.when(task.started_at),
        times.when(task.finished_at),
        times.duration(_waited(task, now)),
        times.duration(_ran(task, now)),
        task.claim.partition(".")[0],
        gist(task.error) if task.state is not State.SUCCEEDED else "",
    )


def _attempts(task: Listed) -> str:
    if task.name not in known_tasks().names:
        return str(task.attempts)
    return f"{task.attempts} of {policies.of(task.name).most_attempts}"


def _waited(task: Listed, now: datetime) -> timedelta | None:
    if task.state in WAITING and task.due_at and task.due_at <= now:
        return now - task.due_at
    return task.waited


def _ran(task: Listed, now: datetime) -> timedelta | None:
    if task.state is State.RUNNING and task.started_at:
        return now - task.started_at
    return task.ran


@dataclass(frozen=True)
class Known:
    """The tasks that this process knows.

    Attributes:
        names: their names.
        problems: why some are not known: modules that cannot be imported.
    """

    names: frozenset[str]
    problems: tuple[str, ...]


@cache
def known_tasks() -> Known:
    """Import every app's ``tasks.py``, as a worker does; a web process may have imported none.

    How often a task is tried, and whether it is unique, is known only where it is declared.
    """
    problems = tuple(str(error) for error in registry.import_task_modules())
    return Known(frozenset(registry.names()), problems)
