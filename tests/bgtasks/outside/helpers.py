"""The adapter as the harness starts it, and what it has printed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.harness.databases import Database
from tests.harness.process import ROOT, children, kill_tree

FOLDER = ROOT / "bench" / "outside"
MANIFEST = json.loads((FOLDER / "adapter.json").read_text())

Record = dict[str, Any]


class Adapter:
    """An adapter that runs, with its lines.

    Args:
        folder: for its files, and those of its worker.
        orders: variables of its environment, by the names of the contract.
    """

    def __init__(self, folder: Path, database: Database, **orders: str) -> None:
        inherited = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        environment = {
            **inherited,
            "PYTHONPATH": str(ROOT),  # where bgtasks is not installed
            "TMPDIR": str(folder),
            "DATABASE_URL": database.url,
            "SCENARIO": "long_horizon",
            "PRODUCER_PACING": "harness",
            "WORKER_COUNT": "2",
            "SAMPLE_EVERY_S": "1",
            **orders,
        }
        self.log = folder / "stderr"
        with self.log.open("a") as log:
            self._popen = subprocess.Popen(
                [sys.executable, "main.py"],
                cwd=FOLDER,
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        self.pid = self._popen.pid
        self._records: list[Record] = []
        self._more = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._popen.stdout
        for line in self._popen.stdout:
            with self._more:
                self._records.append(json.loads(line))  # every line is JSON
                self._more.notify_all()
        with self._more:
            self._more.notify_all()

    @property
    def records(self) -> list[Record]:
        return list(self._records)

    def wait_for(self, what: str, found: Callable[[list[Record]], bool]) -> list[Record]:
        """Wait until what it has printed is such; returns that."""
        with self._more:
            self._more.wait_for(
                lambda: found(self._records) or not self._reader.is_alive(), timeout=60
            )
            assert found(self._records), f"no {what}; it said:\n{self.log.read_text()}"
            return list(self._records)

    def enqueue(self, jobs: int) -> None:
        """Tell it to enqueue so many jobs, as the harness does."""
        assert self._popen.stdin
        self._popen.stdin.write(f"ENQUEUE {jobs}\n")
        self._popen.stdin.flush()

    def worker(self) -> int:
        """The process id of its worker, which it must have started by now."""
        (pid,) = children(self.pid)
        return pid

    def stop(self) -> int:
        """Have it end as the harness does; returns its status."""
        self._popen.terminate()
        return self.wait()

    def kill(self) -> None:
        self._popen.kill()
        self.wait()

    def wait(self) -> int:
        status = self._popen.wait(timeout=60)
        self._reader.join(60)
        for pipe in (self._popen.stdin, self._popen.stdout):
            assert pipe
            pipe.close()
        return status

    def close(self) -> None:
        """End it, whatever became of the test."""
        if self._popen.poll() is None:
            for pid in children(self.pid):
                kill_tree(pid)
            self.kill()


def jobs(records: list[Record], metric: str) -> int:
    """How many jobs the samples of a rate come to, added up as the harness does."""
    samples = [each for each in records if each.get("metric") == metric]
    total: float = sum(each["value"] * each["window_s"] for each in samples)
    return round(total)


def latest(records: list[Record], metric: str) -> float | None:
    """The last value of a metric; None before there is one."""
    values = [each["value"] for each in records if each.get("metric") == metric]
    return values[-1] if values else None
