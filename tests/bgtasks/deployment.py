"""A project with a database of its own and real worker processes."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit, urlunsplit

import psycopg
from psycopg.rows import dict_row

from tests import settings
from tests.process import ROOT, Process

T = TypeVar("T")

IDLE_IN_TRANSACTION = (
    "SELECT pid FROM pg_stat_activity "
    "WHERE datname = current_database() AND state LIKE 'idle in transaction%'"
)


def eventually(condition: Callable[[], T], what: str, timeout: float = 60) -> T:
    """Wait for what other processes do to a database or a file, which tell nobody."""
    deadline = time.monotonic() + timeout
    while not (found := condition()):
        assert time.monotonic() < deadline, f"{what}: not within {timeout} s"
        time.sleep(0.01)
    return found


class Database:
    """A database that only one deployment uses."""

    def __init__(self, folder: Path, template: Database | None = None) -> None:
        self.on_postgresql = settings.DATABASE == "postgresql"
        self.name = f"bgtasks_test_{secrets.token_hex(6)}"
        if self.on_postgresql:
            self.url = urlunsplit(urlsplit(settings.POSTGRES_URL)._replace(path=f"/{self.name}"))
            copied = f'TEMPLATE "{template.name}"' if template else ""
            self._administer(f'CREATE DATABASE "{self.name}" {copied}')
        else:
            self.path = folder / f"{self.name}.sqlite3"
            self.url = f"sqlite:///{self.path}"
            if template:
                shutil.copy(template.path, self.path)

    def _administer(self, statement: str) -> None:
        with psycopg.connect(settings.POSTGRES_URL, autocommit=True) as connection:
            connection.execute(statement)  # type: ignore[call-overload]

    def query(self, sql: str) -> list[dict[str, Any]]:
        if self.on_postgresql:
            with psycopg.connect(self.url, row_factory=dict_row, autocommit=True) as connection:
                cursor = connection.execute(sql)  # type: ignore[call-overload]
                return cursor.fetchall() if cursor.description else []
        with closing(sqlite3.connect(self.path, timeout=20, isolation_level=None)) as connection:
            connection.row_factory = sqlite3.Row
            return [dict(row) for row in connection.execute(sql)]

    def is_locked(self) -> bool:
        """Whether somebody is in the middle of a write that may keep others from writing."""
        if self.on_postgresql:
            return bool(self.query(IDLE_IN_TRANSACTION))
        with closing(sqlite3.connect(self.path, timeout=0, isolation_level=None)) as connection:
            try:
                connection.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError:
                return True
            connection.execute("ROLLBACK")
            return False

    def drop(self) -> None:
        if self.on_postgresql:
            self._administer(f'DROP DATABASE IF EXISTS "{self.name}" WITH (FORCE)')


class Deployment:
    """A project in a folder: its database, its ledger, its workers.

    Args:
        extra: settings of the project, by their own names.
    """

    def __init__(self, folder: Path, database: Database, **extra: Any) -> None:
        self.folder = folder
        self.database = database
        self.extra = extra
        self.ledger_path = folder / "ledger"
        self.workers: list[Process] = []

    def environment(self, **more: str) -> dict[str, str]:
        inherited = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        return {
            **inherited,
            "DATABASE_URL": self.database.url,
            "DJANGO_SETTINGS_MODULE": "tests.bgtasks.project.settings",
            "LEDGER": str(self.ledger_path),
            "MORE_SETTINGS": json.dumps(self.extra),
            "PYTHONPATH": str(ROOT),
            "PYTHONUNBUFFERED": "1",
            "TMPDIR": str(self.folder),  # where workers prove that they live
            **more,
        }

    def manage(self, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "django", *arguments],
            env=self.environment(**more),
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )

    def run(self, code: str, **more: str) -> str:
        """Run Python in the project, with its tasks as ``tasks``; returns what it prints."""
        prelude = "import django; django.setup()\nfrom tests.bgtasks.project import tasks\n"
        done = subprocess.run(
            [sys.executable, "-c", prelude + code],
            env=self.environment(**more),
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def worker(self, *arguments: str, **more: str) -> Process:
        """Start process_tasks."""
        command = ["-m", "django", "process_tasks", "--sleep", "0.1", *arguments]
        process = Process(*command, env=self.environment(**more))
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

    def hurry(self) -> None:
        """Make what backs off ready now."""
        self.database.query(
            "UPDATE background_task SET run_at = '2000-01-01 00:00:00' "
            "WHERE locked_by IS NULL AND attempts > 0"
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
            kill_tree(worker.pid)
            worker.wait()
        self.database.drop()


def children(pid: int) -> list[int]:
    """The child processes of a process."""
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def state(pid: int) -> str:
    """The state of a process as ``ps`` shows it; empty if there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return ""


def thaw(pids: Sequence[int]) -> None:
    """Let stopped processes go on, the children before their supervisor.

    They have not heard yet what that is about to learn.
    """
    for pid in reversed(pids):
        os.kill(pid, signal.SIGCONT)


def kill_tree(pid: int) -> None:
    for victim in (*children(pid), pid):
        with suppress(ProcessLookupError):
            os.kill(victim, signal.SIGKILL)


def deployments(folder: Path) -> Iterator[Callable[..., Deployment]]:
    """Makes deployments whose databases are copies of one that is migrated once."""
    template = Database(folder)
    migrated = Deployment(folder, template).manage("migrate", "--verbosity", "0")
    assert migrated.returncode == 0, migrated.stderr

    def make(place: Path, **extra: Any) -> Deployment:
        return Deployment(place, Database(place, template), **extra)

    yield make
    template.drop()
