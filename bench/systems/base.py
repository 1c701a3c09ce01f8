"""What every system under comparison can do, and how its worker is started and ended."""

from __future__ import annotations

import importlib.util
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from abc import ABC, abstractmethod
from contextlib import suppress
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import ClassVar

from bench import ledger
from bench.ledger import Ledger
from tests.harness.process import children

ROOT = Path(__file__).parents[2]
SILENCE = 60.0  # seconds without a task after which a worker counts as stuck
FAREWELL = 10.0  # seconds that a worker has after SIGTERM
LINGER = 0.3  # seconds in which a task that runs twice may still show


@dataclass(frozen=True)
class Drained:
    """What one round came to: so many tasks at so many a second."""

    tasks: int
    rate: float
    duplicates: int = 0


class System(ABC):
    """A task queue with a worker, filled and drained anew each round.

    Attributes:
        promise: what it promises at the speed that is measured here.
        package: the distribution whose version is told.
        modules: what must be importable.
        service: host and port of the broker that it needs.
        most: more tasks than this take it too long.
        limit: the name of the system that shows how fast its tables can be.
    """

    name: ClassVar[str]
    promise: ClassVar[str]
    package: ClassVar[str] = ""
    modules: ClassVar[tuple[str, ...]] = ()
    service: ClassVar[tuple[str, int] | None] = None
    most: ClassVar[int | None] = None
    limit: ClassVar[str | None] = None

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.place = folder
        self.tasks = 0
        self.workers: list[subprocess.Popen[bytes]] = []

    def unavailable(self) -> str | None:
        """Why it cannot be measured here, or None."""
        for module in self.modules:
            if importlib.util.find_spec(module) is None:
                return f"{module} is not installed"
        return unreachable(self.service) if self.service else None

    def version(self) -> str:
        return metadata.version(self.package)

    def fill(self, tasks: int) -> None:
        """Enqueue so many tasks in a place of their own."""
        self.place = Path(tempfile.mkdtemp(dir=self.folder))
        self.tasks = tasks
        self.enqueue()

    @abstractmethod
    def enqueue(self) -> None:
        """Put `tasks` tasks into an empty queue."""

    @abstractmethod
    def drain(self) -> Drained:
        """Run them all, and account for each of them."""

    def clear(self) -> None:
        """End what a round started and remove what it left."""
        while self.workers:
            end(self.workers.pop())
        if self.place != self.folder:
            shutil.rmtree(self.place, ignore_errors=True)

    def close(self) -> None:
        """Remove also what all rounds share."""
        self.clear()


class Peer(System):
    """A system whose worker is a command that never ends by itself."""

    application: ClassVar[str]
    command: ClassVar[tuple[str, ...]]

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.token = f"bench-{secrets.token_hex(6)}"

    @property
    def ledger(self) -> Ledger:
        return Ledger(self.place / "ledger")

    def own_environment(self) -> dict[str, str]:
        """Variables that its application reads."""
        return {}

    def environment(self) -> dict[str, str]:
        inherited = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        return {
            **inherited,
            "PYTHONPATH": str(ROOT),
            "TMPDIR": str(self.place),
            ledger.VARIABLE: str(self.ledger.path),
            **self.own_environment(),
        }

    def run(self, call: str) -> None:
        """Call a function of its application, in a process of its own."""
        code = f"from {self.application} import *; {call}"
        run([sys.executable, "-c", code], self.environment())

    def enqueue(self) -> None:
        self.run(f"fill({self.tasks})")

    def start(self) -> subprocess.Popen[bytes]:
        """Start its worker, the leader of a process group of its own."""
        with (self.place / "log").open("wb") as log:
            worker = subprocess.Popen(
                [sys.executable, "-m", *self.command],
                env=self.environment(),
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.workers.append(worker)
        return worker

    def await_executions(self, worker: subprocess.Popen[bytes]) -> None:
        """Wait until the ledger has a record for each task."""
        seen, since = 0, time.monotonic()
        while (records := self.ledger.records()) < self.tasks:
            if records > seen:
                seen, since = records, time.monotonic()
            silent = time.monotonic() - since > SILENCE
            if silent or (worker.poll() is not None and self.ledger.records() < self.tasks):
                what = "is stuck" if silent else f"ended with {worker.returncode}"
                raise RuntimeError(f"its worker {what} at {records} tasks: {self.last_words()}")
            time.sleep(0.05)

    def last_words(self) -> str:
        """The last line that its worker wrote: of a traceback, the exception."""
        return (self.place / "log").read_text(errors="replace").strip().rpartition("\n")[2]

    def drain(self) -> Drained:
        self.await_executions(self.start())
        time.sleep(LINGER)
        ran = self.ledger.read(self.tasks)
        return Drained(self.tasks, (self.tasks - 1) / (ran.last - ran.first), ran.duplicates)


def run(command: list[str], environment: dict[str, str]) -> None:
    """Run a command to its end; an error with what it said if it fails."""
    done = subprocess.run(
        command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(done.stderr.strip().rpartition("\n")[2])


def unreachable(service: tuple[str, int]) -> str | None:
    try:
        socket.create_connection(service, timeout=3).close()
    except OSError as error:
        return f"nothing answers at {service[0]}:{service[1]} ({error})"
    return None


def descendants(pid: int) -> list[int]:
    """All processes below one."""
    return [found for child in children(pid) for found in (child, *descendants(child))]


def end(worker: subprocess.Popen[bytes]) -> None:
    """End a worker for certain, with all that it started."""
    below = descendants(worker.pid)
    if worker.poll() is None:
        worker.terminate()
        with suppress(subprocess.TimeoutExpired):
            worker.wait(FAREWELL)
    with suppress(ProcessLookupError):
        os.killpg(worker.pid, signal.SIGKILL)
    worker.wait()
    for pid in below:  # those that left the group; a pid is not given out again so soon
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
