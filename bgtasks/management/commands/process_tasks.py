"""The command ``manage.py process_tasks``, which runs a worker."""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.utils import autoreload

from bgtasks import conf, logs
from bgtasks.exceptions import BgtasksError
from bgtasks.launch import launch, require_tables
from bgtasks.queue.database import alias
from bgtasks.tasks import registry
from bgtasks.worker.options import Options


def positive(text: str) -> int:
    """An argument that is a whole number, 1 or more."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is not 1 or more")
    return number


def seconds(text: str) -> float:
    """An argument that is a number of seconds, 0 or more."""
    number = float(text)
    if not 0 <= number < math.inf:
        raise argparse.ArgumentTypeError(f"{text} is not a number of seconds, 0 or more")
    return number


def duration(text: str) -> float:
    """An argument that is a number of seconds; 0 or less means for ever, as upstream has it."""
    number = float(text)
    if not math.isfinite(number):
        raise argparse.ArgumentTypeError(f"{text} is not a number of seconds")
    return number


def address(text: str) -> tuple[str, int]:
    """An argument that is a port, with or without a host and a colon before it."""
    host, _, port = text.rpartition(":")
    if not (port.isascii() and port.isdecimal() and int(port) < 65536):
        raise argparse.ArgumentTypeError(f"{text} is no port, nor a host and a port: 0.0.0.0:9100")
    return host.strip("[]") or "127.0.0.1", int(port)


class Command(BaseCommand):
    help = (
        "Run the tasks that wait in the queue, until SIGTERM or Ctrl-C. Running tasks then have "
        "BGTASKS_GRACE seconds (25) to finish. A second signal ends them at once."
    )

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        add = parser.add_argument
        add("--processes", type=positive, default=1, metavar="N", help="Child processes (1).")
        add(
            "--threads",
            type=positive,
            metavar="N",
            help="Tasks that each process runs at the same time (1, or with "
            "BACKGROUND_TASK_RUN_ASYNC as many as BACKGROUND_TASK_ASYNC_THREADS).",
        )
        add(
            "--coroutines",
            type=positive,
            metavar="N",
            help="Tasks that are coroutines and run at the same time in each process "
            "(BGTASKS_COROUTINES, 200).",
        )
        add(
            "--queue",
            nargs="+",
            action="extend",
            metavar="Q",
            help="Only these queues (all): --queue a b, or --queue a,b.",
        )
        add(
            "--sleep",
            type=seconds,
            default=5.0,
            metavar="S",
            help="Seconds between polls of an empty queue (5).",
        )
        add(
            "--duration",
            type=duration,
            default=0,
            metavar="S",
            help="Stop after this many seconds; running tasks may finish (0 or less: never).",
        )
        add("--drain", action="store_true", help="Stop when nothing is ready to run.")
        add(
            "--metrics-port",
            type=address,
            metavar="[HOST:]PORT",
            help="Serve metrics for Prometheus there (127.0.0.1, unless a host is named).",
        )
        add(
            "--heartbeat-file",
            metavar="PATH",
            help="Renew the time of this file with each heartbeat, for liveness probes.",
        )
        add(
            "--log-std",
            action="store_true",
            help=f"Log what tasks print, to {logs.logger.name}.",
        )
        add(
            "--dev",
            action="store_true",
            help="Restart when code changes, which ends running tasks. Not for production.",
        )
        add(
            "--check",
            action="store_true",
            help="Run nothing; check that the database is ready and all tasks can be imported.",
        )

    def check(self, *args: Any, **given: Any) -> None:
        """Run Django's checks, but none that ask a database, unless it is named.

        The worker waits for a database that is away or locked. Django 6 would refuse to start it.
        """
        given.setdefault("databases", [])
        super().check(*args, **given)

    def handle(self, *args: Any, **given: Any) -> None:
        options = Options(
            processes=given["processes"],
            threads=given["threads"] or conf.threads(),
            coroutines=given["coroutines"] or conf.coroutines(),
            queues=_queues(given["queue"]),
            sleep=max(0.0, given["sleep"]),  # call_command() does not ask `seconds`
            duration=max(0.0, given["duration"]),
            drain=given["drain"],
            metrics=given["metrics_port"],
            heartbeat_file=given["heartbeat_file"],
        )
        if given["check"]:
            self._check()
        elif given["dev"]:
            autoreload.run_with_reloader(self._run, options, given["log_std"], dev=True)
        else:
            self._run(options, given["log_std"])

    def _run(self, options: Options, log_std: bool, dev: bool = False) -> None:
        if dev:
            autoreload.raise_last_exception()
        logs.show_worker_log()
        with logs.std_to_log(log_std):
            try:
                launch(options, fork=not dev)
            except BgtasksError as error:
                raise CommandError(str(error)) from error

    def _check(self) -> None:
        """Check everything that the worker needs.

        Raises:
            CommandError: it names all that is wrong.
        """
        problems = [str(error) for error in registry.import_task_modules()]
        try:
            self.check(databases=[alias()])
            require_tables()
        except BgtasksError as error:
            problems.append(str(error))
        if problems:
            raise CommandError("\n".join(problems))
        self.stdout.write(f"Ready: {len(registry.names())} tasks.")


def _queues(given: str | Sequence[str] | None) -> list[str] | None:
    """The names of the queues; None for all.

    The command line gives a list, and ``call_command("process_tasks", queue="a")`` the text. Each
    may name several queues, with commas between them.
    """
    texts = [given] if isinstance(given, str) else given or []
    names = [name.strip() for text in texts for name in text.split(",")]
    return [name for name in names if name] or None
