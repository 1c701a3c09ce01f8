"""Engines: our own workers, or a fleet with a real broker, and the processes that they need."""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import Callable, Sequence
from contextlib import closing
from typing import Any
from urllib.parse import urlsplit

from tests.harness.deployment import Deployment
from tests.harness.needs import missing
from tests.harness.process import Process, state

APP = "tests.bgtasks.project.fleet"
BROKERS = {
    "rabbitmq": os.environ.get("TEST_RABBITMQ_URL", "amqp://guest:guest@127.0.0.1:5672//"),
    "redis": os.environ.get("TEST_REDIS_URL", "redis://127.0.0.1:6379/0"),
}
CELERY = tuple(f"celery-{broker}" for broker in BROKERS)
ENGINES = ("builtin", *CELERY, "django-q", "rq")
# Soon, so that what has got lost is published again within a test.
AGAIN = 1.0


def need(broker: str) -> str:
    """The URL of a broker; skips the test where there is none."""
    url = BROKERS[broker]
    parts = urlsplit(url)
    try:
        with closing(socket.create_connection((parts.hostname, parts.port), timeout=3)):
            return url
    except OSError as error:
        missing(f"a broker at TEST_{broker.upper()}_URL ({error})")
        raise


class Fleet:
    """A project whose rows are run by one engine, and the processes that do it.

    Args:
        engine: one of `ENGINES`.
        broker: the URL of the broker, if it is another one than the tests' own.
    """

    def __init__(self, project: Deployment, engine: str, broker: str = "") -> None:
        self.project = project
        self.engine = engine
        self.queue = f"bgtasks-{secrets.token_hex(6)}"
        self.environment: dict[str, str] = {}
        setup = {"celery": self._set_up_celery, "django": self._set_up_q, "rq": self._set_up_rq}
        if engine != "builtin":
            setup[engine.partition("-")[0]](broker)

    def _set_up_celery(self, broker: str) -> None:
        broker = broker or need(self.engine.partition("-")[2])
        self.environment |= {"FLEET_BROKER": broker, "FLEET_QUEUE": self.queue}
        queues = {"urgent": f"{self.queue}-urgent"}
        self._choose("celery", APP=f"{APP}.app", QUEUES=queues)

    def _set_up_q(self, broker: str) -> None:
        self.environment["MORE_APPS"] = "django_q"
        self.project.settings["Q_CLUSTER"] = {
            "name": self.queue,
            "redis": broker or need("redis"),
            "workers": 2,
            "scheduler": False,
            "poll": 0.05,
        }
        self._choose("django_q")

    def _set_up_rq(self, broker: str) -> None:
        """RQ as the backend of Django's tasks framework."""
        self.environment["MORE_APPS"] = "django_tasks,django_rq,django_tasks_rq"
        self.project.settings["RQ_QUEUES"] = {self.queue: {"URL": broker or need("redis")}}
        self.project.settings["TASKS"] = {
            "fleet": {"BACKEND": "django_tasks_rq.RQBackend", "QUEUES": [self.queue]}
        }
        self._choose("django_tasks", BACKEND="fleet", QUEUE=self.queue, OWN_PROCESSES=True)

    def _choose(self, engine: str, **options: Any) -> None:
        chosen = {"ENGINE": engine, "AGAIN_AFTER": AGAIN, **options}
        self.project.settings["BGTASKS_ENGINE"] = chosen

    def start(self, processes: int = 2) -> None:
        """Start everything that is needed to run rows."""
        if self.engine == "builtin":
            self.project.worker("--processes", str(processes)).wait_for("is ready")
            return
        self.relay()
        if self.engine in CELERY:
            self.workers(processes)
        elif self.engine == "rq":
            for _ in range(processes):
                self._command("rqworker", self.queue, "--job-class", "django_tasks_rq.Job")
        else:
            self._command("qcluster")

    def relay(self) -> Process:
        """Start the process that sends rows to the fleet."""
        relay = self.project.worker(**self.environment)
        relay.wait_for("is ready")
        return relay

    def workers(self, processes: int = 2, *arguments: str, **more: str) -> Process:
        """Start a worker of the fleet, with its processes."""
        workers = self.celery(
            "worker", "--concurrency", str(processes), "--loglevel", "INFO",
            "--without-gossip", "--without-mingle", *(arguments or ("--queues", self.queues)),
            **more,
        )  # fmt: skip
        workers.wait_for("ready.")
        return workers

    def celery(self, *arguments: str, **more: str) -> Process:
        """Start a command of Celery's."""
        process = Process(
            "-m", "celery", "-A", APP, *arguments,
            env=self.project.environment(**self.environment, **more),
            session=True,
        )  # fmt: skip
        self.project.workers.append(process)
        return process

    def _command(self, *arguments: str) -> Process:
        process = Process(
            "-m", "django", *arguments, env=self.project.environment(**self.environment),
            session=True,
        )  # fmt: skip
        self.project.workers.append(process)
        return process

    @property
    def queues(self) -> str:
        return f"{self.queue},{self.queue}-urgent"

    def forget(self, task_id: str) -> None:
        """End a task that would run for ever, so that the next test has all processes."""
        self.run(f"from bgtasks import AsyncResult; AsyncResult({task_id}).revoke(terminate=True)")

    def manage(self, *arguments: str) -> None:
        """Run a management command in an environment that knows the broker."""
        done = self.project.manage(*arguments, **self.environment)
        assert done.returncode == 0, done.stderr

    def run(self, code: str) -> str:
        """Run Python in the project, in an environment that knows the broker."""
        return self.project.run(code, **self.environment)


class MakeFleet:
    """Makes fleets of one engine, each with a project of its own.

    Attributes:
        broker: the URL of their broker.
    """

    def __init__(self, deploy: Callable[..., Deployment], engine: str) -> None:
        self._deploy, self._engine = deploy, engine
        self.broker = need(engine.partition("-")[2])

    def __call__(self, broker: str = "", **settings: Any) -> Fleet:
        return Fleet(self._deploy(**settings), self._engine, broker)


def lives(pid: int) -> bool:
    return state(pid) not in ("", "Z")


def pids(lines: Sequence[Sequence[str]]) -> list[int]:
    """The processes that wrote these lines of the ledger."""
    return [int(line[-1]) for line in lines]
