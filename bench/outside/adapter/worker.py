"""The worker: ``process_tasks`` in a process of its own, as any project starts it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from . import leash, reports
from .orders import Orders

MANAGE = Path(__file__).parents[1] / "manage.py"
FAREWELL = 4.0  # seconds that it has to end; the adapter has five


def shape(concurrency: int, cores: int) -> tuple[int, int]:
    """How many processes, and threads in each, so that exactly so many jobs run at once.

    There are as many processes as divide the number, and no more than cores: that is how the docs
    have you use all cores.
    """
    processes = max(n for n in range(1, concurrency + 1) if concurrency % n == 0 and n <= cores)
    return processes, concurrency // processes


def cores() -> int:
    """The cores that this process may use, where the system tells that; else all."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def command(orders: Orders) -> list[str]:
    processes, threads = shape(orders.concurrency, cores())
    line = [sys.executable, str(MANAGE), "process_tasks"]
    line += ["--processes", str(processes), "--threads", str(threads)]
    if orders.queues > 1:
        line += ["--queue", *(name for name in orders.queue_names() if name)]
    return line


class Worker:
    """The worker, once it was started.

    Attributes:
        reports: the reading end of the pipe through which its jobs report.
    """

    def __init__(self, orders: Orders) -> None:
        self.reports, writer = os.pipe()
        environment = {**leash.of_this_process(), reports.VARIABLE: str(writer)}
        # What it prints goes to stderr: stdout is for the harness.
        self._process = subprocess.Popen(
            command(orders),
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=sys.stderr,
            pass_fds=[writer],
        )
        os.close(writer)

    def status(self) -> int | None:
        """With what it has ended; None while it runs."""
        return self._process.poll()

    def stop(self) -> None:
        """Let it finish what runs and hand back the rest; after that, kill it."""
        self._process.terminate()
        try:
            self._process.wait(FAREWELL)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
