"""What ``process_tasks`` was told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Options:
    """The worker's options.

    Attributes:
        processes: children.
        threads: rows that each child runs at the same time, but for those of coroutines.
        coroutines: rows of ``async def`` tasks that each child runs at the same time.
        queues: only rows of these; None for all.
        sleep: seconds between looks at an empty queue.
        duration: seconds after which it stops by itself; 0 for never.
        drain: it stops when nothing is ready.
    """

    processes: int = 1
    threads: int = 1
    coroutines: int = 200
    queues: Sequence[str] | None = None
    sleep: float = 5.0
    duration: float = 0.0
    drain: bool = False
