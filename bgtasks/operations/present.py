"""What the queue does at this moment: what runs and how far it is, and what has ended last."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bgtasks.models import PausedQueue
from bgtasks.operations import task_list, unserved
from bgtasks.operations.states import ENDED, State
from bgtasks.operations.task_list import Filter, Listed
from bgtasks.operations.unserved import Unserved
from bgtasks.queue import pauses, progress
from bgtasks.tasks.current import Progress


@dataclass(frozen=True)
class Present:
    """What the queue does at this moment.

    Attributes:
        workers: how many workers live.
        unserved: what waits and will not be run.
        paused: the paused queues.
        running: tasks that run, the one that has run the longest first.
        progress: what they have reported, by their ids.
        waiting: tasks that wait or are tried again, those with the lowest ids first.
        ended: the newest tasks that have ended, the one that has ended last first.
    """

    workers: int
    unserved: Sequence[Unserved]
    paused: Sequence[PausedQueue]
    running: Sequence[Listed]
    progress: Mapping[int, Progress]
    waiting: Sequence[Listed]
    ended: Sequence[Listed]


def present(queue: str | None = None, most: int = 20) -> Present:
    """What the queue does now.

    Args:
        queue: only tasks of this queue; "" for those without one, None for all.
        most: how many tasks of each kind at most.
    """
    running = _tasks({State.RUNNING}, queue, most)
    running.sort(key=lambda task: str(task.started_at))
    ended = _tasks(set(ENDED), queue, most)
    ended.sort(key=lambda task: str(task.finished_at), reverse=True)
    return Present(
        workers=len(unserved.living()),
        unserved=unserved.unserved(),
        paused=pauses.paused(),
        running=running,
        progress=progress.read_many([task.id for task in running]),
        waiting=_tasks({State.WAITING, State.RETRYING}, queue, most)[::-1],
        ended=ended,
    )


def _tasks(states: set[State], queue: str | None, most: int) -> list[Listed]:
    wanted = Filter(states=frozenset(states), queue=queue)
    return list(task_list.page(wanted, size=most).tasks)
