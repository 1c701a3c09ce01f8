"""What a worker does now, which its heartbeat tells to operators."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from bgtasks.clock import elapsed
from bgtasks.worker.shared_state import Marks, running
from bgtasks.worker.trouble import Trouble

# Of how many runs of one process a heartbeat tells: of those that have run longest.
RUNS = 20

Status = dict[str, Any]
Describe = Callable[[], Status | None]


class Running(Protocol):
    """A process that runs tasks, such as a `bgtasks.supervisor.child.Child`.

    Attributes:
        started: since when it lives, by `bgtasks.clock.elapsed`.
    """

    @property
    def pid(self) -> int: ...
    @property
    def marks(self) -> Marks: ...
    @property
    def started(self) -> float: ...


@dataclass
class Itself:
    """The process that tells its status, if it runs tasks itself; see `Running`."""

    pid: int
    marks: Marks
    started: float


def of(stopping: bool, children: Iterable[Running], troubles: Sequence[Trouble] = ()) -> Status:
    """What a worker does.

    Args:
        stopping: whether it was asked to end.
        children: its processes that run tasks.
        troubles: what keeps it from its work.

    Returns:
        A dict to be written as JSON. Memory is in bytes, and None where this system does not tell;
        times are in seconds since 1970.
    """
    told: Status = {
        "stopping": stopping,
        "memory": _memory(os.getpid()),
        "children": [_child(child) for child in children],
    }
    if troubles:
        told["troubles"] = [
            [_at(elapsed() - each.seconds), each.reason, each.remedy] for each in troubles
        ]
    return told


def _child(child: Running) -> Status:
    runs = running(child.marks)
    oldest = sorted(runs.items(), key=lambda run: run[1])[:RUNS]
    return {
        "pid": child.pid,
        "memory": _memory(child.pid),
        "since": _at(child.started),
        "running": len(runs),
        "runs": [[row_id, _at(began)] for row_id, began in oldest],
    }


def _at(moment: float) -> float:
    """A moment by `elapsed`, in seconds since 1970."""
    return round(time.time() - (elapsed() - moment), 3)


def _memory(pid: int) -> int | None:
    """The bytes of a process that are in the machine's memory; None where there is no /proc."""
    with suppress(OSError, ValueError, IndexError):
        pages = Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")
    return None
