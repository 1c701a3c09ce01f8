"""The task that runs: what it may know of itself, and how it tells how far it has come."""

from __future__ import annotations

from contextvars import ContextVar
from datetime import datetime, timedelta
from math import isfinite, nan
from typing import Any, NamedTuple, Protocol

from background_task.models import Task
from django.utils import timezone

from bgtasks.exceptions import InvalidProgress


class Progress(NamedTuple):
    """How far a task has come.

    Attributes:
        done: so much of `total`.
        total: None where the task does not know.
        message: a text for whoever waits.
    """

    done: float
    total: float | None = None
    message: str = ""

    @property
    def percent(self) -> int | None:
        """Whole percents from 0 to 100; None without a total."""
        if not self.total:
            return None
        return max(0, min(100, int(100 * self.done / self.total)))


class Reports(Protocol):
    """A queue of tasks that have reported their progress. Whoever writes progress reads it."""

    def put(self, task: CurrentTask, /) -> None:
        """Add a task, which has something to report for the first time since the last write."""


class CurrentTask:
    """A run of a task, for the task itself.

    Attributes:
        id: of its row, and of its result; None where it runs without a row, by ``.now()``.
        name: what rows call the task.
        attempt: 1 for the first.
        queue: None for the default one.
        started_at: when this attempt began.
        deadline: when it is ended; None without a time-out.
        lonely: whether its worker runs one task at a time.
    """

    def __init__(
        self,
        row: Task,
        limit: float | None = None,
        reports: Reports | None = None,
        lonely: bool = False,
    ) -> None:
        self._row = row
        self._reports = reports
        self._told = True
        self.progress: Progress | None = None
        self.id: int | None = row.pk
        self.name: str = row.task_name
        self.attempt: int = max(1, row.attempts)
        self.queue: str | None = row.queue
        self.started_at = timezone.now()
        self.deadline: datetime | None = _later(self.started_at, limit)
        self.lonely = lonely

    @property
    def creator(self) -> Any:
        """Who enqueued it, if the call said so; fetched when it is asked for."""
        return self._row.creator

    def set_progress(self, done: float, total: float | None = None, message: Any = "") -> None:
        """Tell how far this has come. It takes half a microsecond: call it in a loop.

        What was told last is written about twice a second, by another thread than the task's, so
        that it is seen while the task is inside a transaction.

        Args:
            done: how much is done, of `total`.
            message: a text for whoever waits; None for none, and of anything else its `str`.

        Raises:
            InvalidProgress: `done` or `total` is no finite number.
        """
        told = "" if message is None else str(message)
        total = None if total is None else _number(total, "total")
        self.progress = Progress(_number(done, "done"), total, told)
        if self._told and self._reports is not None:
            self._told = False
            self._reports.put(self)

    def take_progress(self) -> Progress | None:
        """The progress to be written; whatever is told from now on is reported again."""
        self._told = True
        return self.progress

    @property
    def row(self) -> Task:
        """The row as it was claimed."""
        return self._row


def _number(value: Any, name: str) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        number = nan
    if not isfinite(number):
        raise InvalidProgress(f"{name} of set_progress() is {value!r}: give a finite number.")
    return number


def _later(moment: datetime, limit: float | None) -> datetime | None:
    try:
        return None if limit is None else moment + timedelta(seconds=limit)
    except OverflowError:
        return None


_current: ContextVar[CurrentTask | None] = ContextVar("bgtasks_current", default=None)


def current_task() -> CurrentTask | None:
    """The task that runs here; None outside of one."""
    return _current.get()


def enter(task: CurrentTask) -> None:
    """From here on, in this context, `task` runs."""
    _current.set(task)


def set_progress(done: float, total: float | None = None, message: Any = "") -> None:
    """Tell how far the task that runs here has come; outside of one, do nothing.

    See `CurrentTask.set_progress`.
    """
    if (task := _current.get()) is not None:
        task.set_progress(done, total, message)
