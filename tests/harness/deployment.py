"""A project with a database of its own and real worker processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from tests.harness import warm
from tests.harness.databases import Database
from tests.harness.process import Process, kill_tree, run_python, state, thaw
from tests.harness.waiting import eventually

PRELUDE = f"{warm.PRELUDE}from tests.bgtasks.project import tasks\n"


class Deployment:
    """A project in a folder: its database, its ledger, its workers.

    Args:
        settings: of the project, by their own names. Changes hold for what starts later.
    """

    def __init__(self, folder: Path, database: Database, **settings: Any) -> None:
        self.folder = folder
        self.database = database
        self.settings = settings
        self.ledger_path = folder / "ledger"
        self.workers: list[Process] = []

    def environment(self, **more: str) -> dict[str, str]:
        inherited = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        return {
            **inherited,
            "DATABASE_URL": self.database.url,
            **warm.FIXED,
            "LEDGER": str(self.ledger_path),
            "MORE_SETTINGS": json.dumps(self.settings),
            "PYTHONUNBUFFERED": "1",
            "TMPDIR": str(self.folder),  # where workers prove that they live
            **more,
        }

    def manage(self, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
        return run_python("-m", "django", *arguments, env=self.environment(**more))

    def run(self, code: str, **more: str) -> str:
        """Run Python in the project, with its tasks as ``tasks``; returns what it prints."""
        done = run_python("-c", PRELUDE + code, env=self.environment(**more))
        assert done.returncode == 0, done.stderr
        return done.stdout

    def python(self, code: str) -> Process:
        """Start Python in the project, with its tasks as ``tasks``."""
        process = Process("-c", PRELUDE + code, env=self.environment(), forked=True)
        self.workers.append(process)
        return process

    def worker(self, *arguments: str, session: bool = False, **more: str) -> Process:
        """Start process_tasks.

        Args:
            session: in a session of its own, so that a signal reaches all of it.
        """
        command = ["-m", "django", "process_tasks", "--sleep", "0.1", *arguments]
        process = Process(*command, env=self.environment(**more), session=session, forked=True)
        self.workers.append(process)
        return process

    def drain(self, *arguments: str, **more: str) -> str:
        """Run everything that is ready; returns what the worker said."""
        worker = self.worker("--drain", *arguments, **more)
        assert worker.wait() == 0, worker.output
        return worker.output

    def rows(self, table: str = "background_task", where: str = "true") -> list[dict[str, Any]]:
        return self.database.query(f"SELECT * FROM {table} WHERE {where} ORDER BY 1")

    def completed(self, where: str = "true") -> list[dict[str, Any]]:
        return self.rows("background_task_completedtask", where)

    def attempts(self) -> list[dict[str, Any]]:
        return self.rows("bgtasks_attempt")

    def hurry(self, attempts: int = 1) -> None:
        """Make what backs off ready now, but for rows that a worker is writing at this moment.

        Args:
            attempts: rows with fewer are left alone. With 0 also those are hurried that are for
                later, or that snooze.
        """
        found = (
            "SELECT id FROM background_task WHERE locked_by IS NULL "
            f"AND attempts >= {attempts} AND run_at > '2000-01-01 00:00:00'"
        )
        if self.database.on_postgresql:  # to wait for several rows could be a deadlock
            found += " FOR UPDATE SKIP LOCKED"
        self.database.query(
            f"UPDATE background_task SET run_at = '2000-01-01 00:00:00' WHERE id IN ({found})"
        )

    def ledger(self, *words: str) -> list[list[str]]:
        """The ledger's lines that begin with the given words; the last word is the pid."""
        text = self.ledger_path.read_text() if self.ledger_path.exists() else ""
        lines = [line.split() for line in text.splitlines()]
        return [line for line in lines if line[: len(words)] == list(words)]

    def wait_for(self, *words: str, count: int = 1) -> list[list[str]]:
        """Wait until the ledger has so many lines that begin with the given words."""
        return eventually(
            lambda: found if len(found := self.ledger(*words)) >= count else [],
            f"{count} times {words} in the ledger",
        )

    def freeze(self, pids: Sequence[int]) -> None:
        """Stop processes, but not in the middle of a write: others would wait for its locks."""

        def frozen() -> bool:
            for pid in pids:
                os.kill(pid, signal.SIGSTOP)
            eventually(lambda: all(state(pid) == "T" for pid in pids), f"{pids} stopped")
            if not self.database.is_locked():
                return True
            thaw(pids)
            return False

        eventually(frozen, f"{pids} stopped without a lock")

    def close(self) -> None:
        for worker in self.workers:
            if worker.alive:
                kill_tree(worker.pid)
            worker.wait()
        self.database.release()


def deployments(folder: Path) -> Iterator[Callable[..., Deployment]]:
    """Makes deployments whose databases are copies of one that is migrated once."""
    template = Database(folder)
    migrated = Deployment(folder, template).manage("migrate", "--verbosity", "0")
    assert migrated.returncode == 0, migrated.stderr

    def make(place: Path, **settings: Any) -> Deployment:
        return Deployment(place, Database(place, template), **settings)

    yield make
    template.drop()
