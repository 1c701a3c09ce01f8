"""A project as the tests of the defects use it: on either engine, with apps of a test's own.

With ``ENGINE=stock`` in the environment it runs without our engine, on django-background-tasks
alone.
"""

from __future__ import annotations

import json
import os
import signal
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.harness.databases import Database
from tests.harness.deployment import Deployment
from tests.harness.process import ROOT, Process
from tests.harness.waiting import eventually

STOCK = os.environ.get("ENGINE") == "stock"
# Seconds to wait for what should happen. The stock engine is waited for in vain.
PATIENCE = 6.0 if STOCK else 40.0

PRELUDE = """\
import json
from background_task.models import CompletedTask, Task
from background_task.tasks import TaskSchedule, tasks as registry
project = tasks
result = None
"""
EPILOGUE = "\nprint(json.dumps(result))\n"


class Project(Deployment):
    """A deployment on either engine.

    Attributes:
        gate: a path where no file is until `open_gate`; tasks wait for it.
        log_level: of its processes.
        database_options: what follows the question mark in the URL of its database.
    """

    def __init__(self, folder: Path, database: Database, **settings: Any) -> None:
        super().__init__(folder, database, **settings)
        self.gate = str(folder / "gate")
        self.log_level = "INFO"
        self.database_options = ""
        self._apps: list[str] = []

    def environment(self, **more: str) -> dict[str, str]:
        if STOCK:
            more["ENGINE_APPS"] = "background_task"
        if self._apps:
            more["MORE_APPS"] = ",".join(self._apps)
            more["PYTHONPATH"] = os.pathsep.join([str(ROOT), str(self.folder)])
        return super().environment(
            DATABASE_URL=self.database.url + self.database_options,
            LOG_LEVEL=self.log_level,
            **more,
        )

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

    def value(self, code: str) -> Any:
        """Run Python, with the tasks as ``project``; returns what it leaves in ``result``."""
        return json.loads(self.run(PRELUDE + textwrap.dedent(code) + EPILOGUE).splitlines()[-1])

    def enqueue(self, name: str, *args: Any, **options: Any) -> int:
        """Call a task of the project's; returns the row's id."""
        return int(self.value(f"result = project.{name}(*{args!r}, **{options!r}).pk"))

    def worker(self, *arguments: str, **more: str) -> Process:
        """Start process_tasks in a session of its own, so that a signal reaches all of it."""
        return super().worker(*arguments, session=True, **more)

    def stop_workers(self, signal_: signal.Signals = signal.SIGTSTP) -> None:
        """Stop them; by default in the way that lets running tasks finish on either engine."""
        while self.workers:
            self.workers.pop().stop(signal_)

    # --- what came of it

    def make_due(self) -> None:
        """Spare the test the wait before a further attempt."""
        self.database.query("UPDATE background_task SET run_at = datetime('now', '-1 minute')")

    def retried(self, row_id: int, attempts: int = 1) -> bool:
        """Whether a row waits again after so many attempts."""
        waiting = [row for row in self.rows() if row["id"] == row_id and not row["locked_by"]]
        return any(row["attempts"] == attempts for row in waiting)

    def noted(self, *words: object) -> int:
        """How many lines of the ledger begin with these words."""
        return len(self.ledger(*map(str, words)))

    def open_gate(self) -> None:
        Path(self.gate).touch()

    def eventually(self, condition: Callable[[], object]) -> None:
        """Wait until a condition holds; with all that is known if it never does."""
        eventually(condition, self._story, PATIENCE)

    def _story(self) -> str:
        output = [worker.output for worker in self.workers]
        lines = [" ".join(words) for words in self.ledger()]
        parts = ["It never came to that. The ledger:", *lines, "The rows:"]
        return "\n".join([*parts, *map(str, self.rows()), "The workers:", *output])
