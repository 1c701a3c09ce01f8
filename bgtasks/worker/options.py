"""The options of ``manage.py process_tasks``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Options:
    """The options of a worker.

    Attributes:
        processes: the number of child processes.
        threads: how many rows of plain functions each child runs at the same time.
        coroutines: how many rows of ``async def`` tasks each child runs at the same time.
        queues: the names of the queues whose rows it runs; None for all.
        sleep: the poll interval: seconds between polls of an empty queue.
        duration: seconds after which it stops by itself; 0 for never.
        drain: whether it stops when no row is ready.
        metrics: the address and the port from which its metrics can be read; None: from none.
        heartbeat_file: the path of the file that each heartbeat renews; None: there is none.
    """

    processes: int = 1
    threads: int = 1
    coroutines: int = 200
    queues: Sequence[str] | None = None
    sleep: float = 5.0
    duration: float = 0.0
    drain: bool = False
    metrics: tuple[str, int] | None = None
    heartbeat_file: str | None = None
