"""The endings and the progress of a worker's runs, until they are recorded."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from bgtasks.queue.ending import Ending
from bgtasks.tasks.current import CurrentTask
from bgtasks.worker.bell import KeeperBell


class Outbox:
    """Hands endings and progress from the threads that run rows to the thread that records them.

    Args:
        lock: the lock of the workload. Whoever calls `put`, `take`, `put_back` or `held` holds it.
        bell: wakes the keeper.

    Attributes:
        endings: the endings that nobody has taken yet.
        unrecorded: how many endings are not in the database yet. Those that are being recorded
            are among them.
        reports: the tasks that have reported their progress.
    """

    def __init__(self, lock: threading.Condition, bell: KeeperBell) -> None:
        self.endings: list[Ending] = []
        self._being_recorded: set[int] = set()
        self.unrecorded = 0
        self.reports = ProgressReports(lock, bell)

    def put(self, ending: Ending) -> None:
        """Leave the ending of a run."""
        self.endings.append(ending)
        self.unrecorded += 1

    def take(self) -> list[Ending]:
        """Take all endings, to record them. They count as held until `put_back` is called."""
        taken, self.endings = self.endings, []
        self._being_recorded |= {ending.row.id for ending in taken}
        return taken

    def put_back(self, taken: Sequence[Ending], rest: Sequence[Ending]) -> None:
        """Note that the endings that were taken are recorded, and put the rest of them back.

        Args:
            taken: what `take` returned.
            rest: those of them that could not be recorded.
        """
        self._being_recorded -= {ending.row.id for ending in taken}
        self.endings = [*rest, *self.endings]
        self.unrecorded -= len(taken) - len(rest)

    def held(self) -> set[int]:
        """The ids of the rows whose endings are not in the database yet."""
        return self._being_recorded | {ending.row.id for ending in self.endings}


class ProgressReports:
    """The running tasks that have reported their progress since it was last written.

    Args:
        lock: the lock of the workload.
        bell: wakes the keeper.
    """

    def __init__(self, lock: threading.Condition, bell: KeeperBell) -> None:
        self._lock = lock
        self._bell = bell
        self._tasks: list[CurrentTask] = []

    def __bool__(self) -> bool:
        return bool(self._tasks)

    def put(self, task: CurrentTask) -> None:
        """Note that a running task has reported its progress.

        It calls this once, and not again before its progress was taken.
        """
        with self._lock:
            self._tasks.append(task)
        self._bell.ring()

    def take(self) -> list[CurrentTask]:
        """The tasks that have reported their progress since this was called last."""
        with self._lock:
            taken, self._tasks = self._tasks, []
            return taken
