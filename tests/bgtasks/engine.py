"""A project of its own for a test: its database file, its settings, its workers, its ledger.

With ``ENGINE=stock`` in the environment it runs without our engine, on django-background-tasks
alone.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.process import ROOT, Process

STOCK = os.environ.get("ENGINE") == "stock"
# Seconds to wait for what should happen. The stock engine is waited for in vain.
PATIENCE = 6.0 if STOCK else 40.0

PRELUDE = """\
import json
import django
django.setup()
from background_task.models import CompletedTask, Task
from background_task.tasks import TaskSchedule, tasks as registry
from tests.bgtasks.project import tasks as project
result = None
"""
EPILOGUE = "\nprint(json.dumps(result))\n"


class Project:
    """The minimal project in a folder of its own.

    Attributes:
        settings: more settings, as JSON can carry them; changes hold for what starts later.
        gate: a path where no file is until `open_gate`; tasks wait for it.
    """

    def __init__(self, folder: Path, database_url: str = "") -> None:
        self.folder = folder
        self.database = folder / "database.sqlite3"
        self.settings: dict[str, Any] = {}
        self.environment: dict[str, str] = {}
        self.gate = str(folder / "gate")
        self.database_url = database_url or f"sqlite:///{self.database}"
        self._ledger = folder / "ledger"
        self._apps: list[str] = []
        self._workers: list[Process] = []

    @property
    def env(self) -> dict[str, str]:
        return {
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "tests.bgtasks.project.settings",
            "PYTHONPATH": os.pathsep.join([str(ROOT), str(self.folder)]),
            "PYTHONUNBUFFERED": "1",
            "TMPDIR": str(self.folder),
            "DATABASE_URL": self.database_url,
            "ENGINE_APPS": "background_task" if STOCK else "bgtasks,background_task",
            "MORE_APPS": ",".join(self._apps),
            "MORE_SETTINGS": json.dumps(self.settings),
            "LEDGER": str(self._ledger),
            **self.environment,
        }

    def add_app(self, name: str, tasks: str, config: str = "") -> None:
        """Write an app with a ``tasks.py`` and list it, by its AppConfig if it has one."""
        package = self.folder / name
        package.mkdir()
        (package / "__init__.py").touch()
        (package / "tasks.py").write_text(textwrap.dedent(tasks))
        if config:
            (package / "apps.py").write_text(textwrap.dedent(config))
        self._apps.append(f"{name}.apps.Config" if config else name)

    def add_admin(self) -> None:
        """Its classes can be imported then; its tables and pages are not there."""
        self._apps.append("django.contrib.admin")

    # --- processes

    def manage(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self._python("-m", "django", *arguments)

    def migrate(self) -> None:
        done = self.manage("migrate", "--verbosity", "0")
        assert done.returncode == 0, done.stdout

    def migrate_like(self, template: Project) -> None:
        shutil.copy(template.database, self.database)

    def run(self, code: str) -> Any:
        """Run Python in this project; returns what it leaves in ``result``."""
        done = self._python("-c", PRELUDE + textwrap.dedent(code) + EPILOGUE)
        assert done.returncode == 0, done.stdout
        return json.loads(done.stdout.splitlines()[-1])

    def enqueue(self, name: str, *args: Any, **options: Any) -> int:
        """Call a task of the project's; returns the row's id."""
        return int(self.run(f"result = project.{name}(*{args!r}, **{options!r}).pk"))

    def worker(self, *options: str) -> Process:
        """Start ``process_tasks`` in a session of its own, so that a signal reaches all of it."""
        command = ("-m", "django", "process_tasks", "--sleep", "0.1", *options)
        process = Process(*command, env=self.env, session=True)
        self._workers.append(process)
        return process

    def stop_workers(self, signal_: signal.Signals = signal.SIGTSTP) -> None:
        """Stop them; by default in the way that lets running tasks finish on either engine."""
        while self._workers:
            self._workers.pop().stop(signal_)

    def _python(self, *command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *command],
            cwd=ROOT,
            env=self.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=60,
        )

    # --- what came of it

    def execute(self, sql: str, *params: Any) -> list[dict[str, Any]]:
        """Run a statement on the database, past Django."""
        connection = sqlite3.connect(self.database, timeout=20)
        connection.row_factory = sqlite3.Row
        try:
            with connection:
                return [dict(row) for row in connection.execute(sql, params)]
        finally:
            connection.close()

    def rows(self, table: str = "background_task") -> list[dict[str, Any]]:
        return self.execute(f"SELECT * FROM {table} ORDER BY id")

    def completed(self) -> list[dict[str, Any]]:
        return self.rows("background_task_completedtask")

    def make_due(self) -> None:
        """Spare the test the wait before a further attempt."""
        self.execute("UPDATE background_task SET run_at = datetime('now', '-1 minute')")

    def retried(self, row_id: int, attempts: int = 1) -> bool:
        """Whether a row waits again after so many attempts."""
        waiting = [row for row in self.rows() if row["id"] == row_id and not row["locked_by"]]
        return any(row["attempts"] == attempts for row in waiting)

    def ledger(self) -> list[str]:
        return self._ledger.read_text().splitlines() if self._ledger.exists() else []

    def noted(self, *words: object) -> int:
        """How many lines of the ledger begin with these words."""
        beginning = [str(word) for word in words]
        return sum(line.split()[: len(words)] == beginning for line in self.ledger())

    def open_gate(self) -> None:
        Path(self.gate).touch()

    def eventually(self, condition: Callable[[], object]) -> None:
        """Wait until a condition holds; with all that is known if it never does."""
        deadline = time.monotonic() + PATIENCE
        while not condition():
            if time.monotonic() > deadline:
                raise AssertionError(self._story())
            time.sleep(0.02)

    def _story(self) -> str:
        output = [worker.output for worker in self._workers]
        parts = ["It never came to that. The ledger:", *self.ledger(), "The rows:"]
        return "\n".join([*parts, *map(str, self.rows()), "The workers:", *output])
