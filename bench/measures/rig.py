"""A database of its own, rows in it, and workers with default options."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha1
from pathlib import Path
from typing import Any

from tests.harness.databases import Database
from tests.harness.deployment import Deployment, deployments
from tests.harness.process import ROOT, Process
from tests.harness.waiting import eventually

RECORD = struct.Struct("<dd")
TASKS = "bench.project.tasks"


class Skip(Exception):
    """This cannot be measured here; the message says why."""


class Rig(Deployment):
    """A deployment of bench/project.

    Logging is at WARNING, as in a project that does not configure any.
    """

    def environment(self, **more: str) -> dict[str, str]:
        settings = {"DJANGO_SETTINGS_MODULE": "bench.project.settings", "LOG_LEVEL": "WARNING"}
        return super().environment(**settings, **more)

    def worker(self, *arguments: str, **more: str) -> Process:
        """Start process_tasks with no options but the given ones."""
        process = Process("-m", "django", "process_tasks", *arguments, env=self.environment(**more))
        self.workers.append(process)
        return process

    def call(self, code: str) -> Any:
        """Run a function of bench/project/callers.py in a process; returns what it prints."""
        return json.loads(self._finish(self.start(code)))

    def start(self, code: str) -> subprocess.Popen[str]:
        prelude = "import django; django.setup()\nfrom bench.project import callers\ncallers."
        return subprocess.Popen(
            [sys.executable, "-c", prelude + code],
            env=self.environment(),
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )

    def _finish(self, process: subprocess.Popen[str]) -> str:
        output, _ = process.communicate()
        assert process.returncode == 0, "the process that enqueues failed"
        return output

    def fill(self, count: int, task: str = "tick", *arguments: Any) -> None:
        """Have so many rows wait, a millisecond apart and all of them due, and ANALYZE."""
        name, parameters = f"{TASKS}.{task}", json.dumps((arguments, {}))
        fingerprint = sha1((name + parameters).encode()).hexdigest()
        if self.database.on_postgresql:
            due = f"now() - ({count} - i) * interval '1 millisecond'"
            series = f"generate_series(1, {count}) AS i"
            recursive = ""
        else:
            due = f"strftime('%Y-%m-%d %H:%M:%f', 'now', ((i - {count}) / 1000.0) || ' seconds')"
            series = "series"
            step = f"SELECT i + 1 FROM series WHERE i < {count}"
            recursive = f"WITH RECURSIVE series(i) AS (SELECT 1 UNION ALL {step})"
        self.database.query(
            f"{recursive} INSERT INTO background_task (task_name, task_params, task_hash, "
            f"priority, run_at, repeat, attempts, last_error) SELECT '{name}', '{parameters}', "
            f"'{fingerprint}', 0, {due}, 0, 0, '' FROM {series}"
        )
        self.database.query("ANALYZE")

    def executed(self) -> int:
        """How many tasks have ended."""
        try:
            return self.ledger_path.stat().st_size // RECORD.size
        except FileNotFoundError:
            return 0

    def until_executed(self, count: int) -> None:
        """Wait until so many tasks have ended, for as long as there is progress."""
        while (done := self.executed()) < count:
            try:
                eventually(lambda done=done: self.executed() > done, f"task {done + 1} of {count}")
            except AssertionError as error:
                said = "\n".join(worker.output for worker in self.workers)
                raise AssertionError(f"{error}\n{said}") from None

    def until_idle(self) -> None:
        """Wait until the worker has run a task, and so is up."""
        self.fill(1)
        self.until_executed(1)
        eventually(lambda: not self.rows(), "an empty queue")

    def records(self) -> list[tuple[float, float]]:
        """What tasks recorded: their number and the moment (monotonic seconds), in order."""
        whole = self.executed() * RECORD.size
        found = RECORD.iter_unpack(self.ledger_path.read_bytes()[:whole])
        return sorted(found, key=lambda record: record[1])

    def rate(self, first: int, last: int) -> float:
        """Tasks a second from the first-th execution to the last-th."""
        self.until_executed(last)
        records = self.records()
        return (last - first) / (records[last - 1][1] - records[first - 1][1])

    def span(self, count: int) -> float:
        """Seconds from the first start to the last end of tasks that record their start."""
        self.until_executed(count)
        records = self.records()
        return records[-1][1] - min(began for began, _ in records)


@contextmanager
def fresh_rig(**settings: object) -> Iterator[Rig]:
    """A rig on a fresh database, gone afterwards with all its workers."""
    with tempfile.TemporaryDirectory(prefix="rig-") as name:
        maker = deployments(Path(name))
        made = Rig(Path(name), next(maker)(Path(name)).database, **settings)
        try:
            yield made
        finally:
            made.close()
            next(maker, None)


@dataclass(frozen=True)
class Bench:
    """Where and how much is measured.

    Attributes:
        database: sqlite or postgresql.
        small: a trial run, for its own sake and not for the figures.
        make: a deployment in a folder; see ``deployments``.
    """

    database: str
    small: bool
    make: Callable[[Path], Deployment]

    def count(self, full: int, small: int) -> int:
        return small if self.small else full

    @contextmanager
    def rig(self) -> Iterator[Rig]:
        """A fresh database, gone afterwards with all its workers."""
        with tempfile.TemporaryDirectory(prefix="figures-") as name:
            database: Database = self.make(Path(name)).database
            rig = Rig(Path(name), database)
            try:
                yield rig
            finally:
                rig.close()
