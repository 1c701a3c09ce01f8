"""What the runs of a worker have come to, until it is recorded."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from bgtasks.queue.ending import Ending
from bgtasks.tasks.current import CurrentTask
from bgtasks.worker.bell import KeeperBell


class Outbox:
    """Endings and progress, from those who run rows to the thread that records them.

    Args:
        lock: of the workload. Whoever calls `put`, `take`, `put_back` or `held` holds it.
        bell: of the keeper.

    Attributes:
        endings: those that are to be taken.
        unrecorded: how many endings are not in the database yet, with those being recorded.
        reports: the tasks that have reported their progress.
    """

    def __init__(self, lock: threading.Condition, bell: KeeperBell) -> None:
        self.endings: list[Ending] = []
        self._being_recorded: set[int] = set()
        self.unrecorded = 0
        self.reports = ProgressReports(lock, bell)

    def put(self, ending: Ending) -> None:
        self.endings.append(ending)
        self.unrecorded += 1

    def take(self) -> list[Ending]:
        """The endings since the last time. They are held until they are put back or recorded."""
        taken, self.endings = self.endings, []
        self._being_recorded |= {ending.row.pk for ending in taken}
        return taken

    def put_back(self, taken: Sequence[Ending], rest: Sequence[Ending]) -> None:
        """What was taken is recorded, but for the rest of it."""
        self._being_recorded -= {ending.row.pk for ending in taken}
        self.endings = [*rest, *self.endings]
        self.unrecorded -= len(taken) - len(rest)

    def held(self) -> set[int]:
        """The ids of the rows whose endings are not in the database yet."""
        return self._being_recorded | {ending.row.pk for ending in self.endings}


class ProgressReports:
    """The running tasks that have reported their progress since it was last written."""

    def __init__(self, lock: threading.Condition, bell: KeeperBell) -> None:
        self._lock = lock
        self._bell = bell
        self._tasks: list[CurrentTask] = []

    def __bool__(self) -> bool:
        return bool(self._tasks)

    def put(self, task: CurrentTask) -> None:
        with self._lock:
            self._tasks.append(task)
        self._bell.ring()

    def take(self) -> list[CurrentTask]:
        """The tasks since the last time."""
        with self._lock:
            taken, self._tasks = self._tasks, []
            return taken
