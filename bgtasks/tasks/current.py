"""The task that runs here: what it may know of itself, and how it reports its progress."""

from __future__ import annotations

from collections.abc import Sequence
from contextvars import ContextVar
from datetime import datetime, timedelta
from math import isfinite, isnan, nan
from typing import Any, NamedTuple, Protocol

from background_task.models import Task
from django.utils import timezone

from bgtasks.exceptions import InvalidProgress

# How many of the tasks that one attempt enqueues are kept as its children.
MOST_CHILDREN = 1000


class Progress(NamedTuple):
    """How far a task has come.

    Attributes:
        done: how much of `total` is done.
        total: how much there is to do; None where the task does not know.
        message: a text for whoever waits for the result.
    """

    done: float
    total: float | None = None
    message: str = ""

    @property
    def percent(self) -> int | None:
        """Whole percents from 0 to 100; None without a total, or if they are no numbers."""
        if not self.total:
            return None
        share = self.done / self.total  # may be infinite, and also no number at all
        return None if isnan(share) else int(100 * max(0.0, min(1.0, share)))


class Reports(Protocol):
    """A queue of tasks that have reported their progress. Whoever writes progress reads it."""

    def put(self, task: CurrentTask, /) -> None:
        """Add a task, which has something to report for the first time since the last write."""


class CurrentTask:
    """What a running task may know of its run.

    Attributes:
        id: the id of its row, and of its result; None where it runs without a row, by ``.now()``.
        name: the task's name, as rows carry it.
        attempt: the number of this attempt; 1 for the first.
        queue: the queue of its row; None for the default one.
        progress: what it has reported last; None if it has reported nothing.
        started_at: when this attempt began.
        deadline: when this attempt is ended; None without a time-out.
        lonely: whether its worker runs one task at a time.
        children: the ids of the tasks that this attempt has enqueued, but for those above
            `MOST_CHILDREN`.
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
        self._taken = True
        self.progress: Progress | None = None
        self.id: int | None = row.pk
        self.name: str = row.task_name
        self.attempt: int = max(1, row.attempts)
        self.queue: str | None = row.queue
        self.begin(limit)
        self.lonely = lonely
        self.children: Sequence[int] = ()  # a list for each run would take time

    def begin(self, limit: float | None) -> None:
        """Let the time of this attempt begin now.

        Args:
            limit: the seconds that it may take; None for no limit.
        """
        self.started_at: datetime = timezone.now()
        self.deadline: datetime | None = _later(self.started_at, limit)

    @property
    def creator(self) -> Any:
        """The object that enqueued it, if the call named one. It is fetched when it is read."""
        return self._row.creator

    def set_progress(self, done: float, total: float | None = None, message: Any = "") -> None:
        """Report how far this task has come. It takes half a microsecond: call it in a loop.

        The last report is stored about twice a second. In a worker another thread than the task's
        does that, so that others see it while the task is inside a transaction.

        Args:
            done: how much of `total` is done.
            total: how much there is to do; None if that is not known.
            message: a text for whoever waits for the result; None for none. Of anything else its
                `str` is taken.

        Raises:
            InvalidProgress: `done` or `total` is no finite number.
        """
        text = "" if message is None else str(message)
        total = None if total is None else _number(total, "total")
        self.progress = Progress(_number(done, "done"), total, text)
        if self._taken and self._reports is not None:
            self._taken = False
            self._reports.put(self)

    def take_progress(self) -> Progress | None:
        """The progress to be stored.

        The next `set_progress` puts this task into its reports again.
        """
        self._taken = True
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
    """The task that runs here; None outside of a task."""
    return _current.get()


def enter(task: CurrentTask) -> None:
    """Make `task` the current one in this context, from now on."""
    _current.set(task)


def note_children(rows: Sequence[Task]) -> None:
    """Note that the task that runs here has enqueued rows; outside of a task, do nothing."""
    if (task := _current.get()) is not None:
        left = MOST_CHILDREN - len(task.children)
        task.children = [*task.children, *(row.pk for row in rows[: max(0, left)])]


def set_progress(done: float, total: float | None = None, message: Any = "") -> None:
    """Report how far the task that runs here has come; outside of a task, do nothing.

    See `CurrentTask.set_progress`.
    """
    if (task := _current.get()) is not None:
        task.set_progress(done, total, message)
