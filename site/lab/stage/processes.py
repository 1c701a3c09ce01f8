"""The processes of the lab: each ends with the process that has started it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from django.conf import settings

from lab import sizes
from lab.tasks import QUEUE

HERE = Path(__file__).parent
# So many requests a usual WSGI server handles at a time, and so many plain tasks the worker.
WSGI_THREADS = 4
WORKER_THREADS = 10
# Seconds to wait for a process that was asked to end; `tied.GRACE` is shorter.
PATIENCE = 12.0


class Ended(Exception):
    """A part of the lab has ended by itself, or could not start."""


class Ports(NamedTuple):
    """Where the servers listen, on this host."""

    api: int
    smtp: int
    wsgi: int


class Processes:
    """Starts the servers and the worker, and ends them."""

    def __init__(self) -> None:
        self._running: dict[str, subprocess.Popen[str]] = {}
        self._stopping = False
        path = (str(settings.BASE_DIR), str(settings.BASE_DIR / "site"))
        self._env = os.environ | {"PYTHONPATH": os.pathsep.join(path)}

    def start(self, wsgi_port: int) -> Ports:
        """Start all.

        Args:
            wsgi_port: on which the WSGI server listens; 0 for any that is free.

        Raises:
            Ended: one of them could not start.
        """
        seconds = (sizes.API_SECONDS, sizes.CALL_SECONDS, sizes.SMTP_SECONDS)
        self._start("slow servers", "-m", "lab.stage.slow", *map(str, seconds))
        self._start("WSGI server", "-m", "lab.stage.wsgi_server", str(wsgi_port), str(WSGI_THREADS))
        self._start(
            "worker", str(settings.BASE_DIR / "manage.py"), "process_tasks",
            "--queue", QUEUE, "--threads", str(WORKER_THREADS), "--sleep", "0.1",
        )  # fmt: skip
        return Ports(**self._ports("slow servers"), **self._ports("WSGI server"))

    def _start(self, name: str, *arguments: str) -> None:
        if self._stopping:  # another thread has not waited for the start
            raise Ended(f"The lab ends, and does not start its {name}.")
        command = [sys.executable, str(HERE / "tied.py"), sys.executable, *arguments]
        stdout = None if name == "worker" else subprocess.PIPE
        self._running[name] = subprocess.Popen(  # noqa: S603  our own programs
            command,
            stdin=subprocess.PIPE,
            stdout=stdout,
            text=True,
            start_new_session=True,  # Ctrl-C in the terminal is for the lab, which then ends it
            cwd=settings.BASE_DIR,
            env=self._env,
        )

    def _ports(self, name: str) -> dict[str, int]:
        output = self._running[name].stdout
        line = output.readline() if output else ""
        if not line:
            raise Ended(f"The lab's {name} did not start; what it said is above.")
        ports: dict[str, int] = json.loads(line)
        return ports

    def check(self) -> None:
        """See whether all still run.

        Raises:
            Ended: one does not.
        """
        for name, process in self._running.items():
            if process.poll() is not None:
                raise Ended(
                    f"The lab's {name} has ended by itself, with exit code {process.returncode}; "
                    "what it said is above."
                )

    def stop(self) -> None:
        self._stopping = True
        running = list(self._running.values())
        for process in running:
            if process.stdin:
                process.stdin.close()
        for process in running:
            try:
                process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
