"""Celery on RabbitMQ beside a database: with its results there, and as the engine of our rows."""

from __future__ import annotations

import json
import subprocess
import sys

from bench.systems.base import ROOT, Drained, end
from bench.systems.celery_rabbitmq import BROKER, Celery
from bench.systems.ours import OnPostgreSQL, Ours
from bench.systems.tables import Tables
from tests.harness.waiting import eventually


class WithResults(Tables):
    """Plain ``.delay()``, with results in PostgreSQL by django-celery-results."""

    name = "Celery, RabbitMQ, results in PostgreSQL"
    package = "django-celery-results"
    modules = ("celery", "django_celery_results")
    service = Celery.service
    kind = "postgresql"
    engine = "django_celery_results"
    more = ""
    application = "bench.apps.celery_results_app"
    command = ("celery", "-A", application, *Celery.command[3:])
    promise = (
        "A message is sent although the transaction may be rolled back; a killed worker loses what "
        "it runs. Every outcome is recorded in the database."
    )

    def own_environment(self) -> dict[str, str]:
        return {**super().own_environment(), "BENCH_BROKER": BROKER, "BENCH_QUEUE": self.token}

    def clear(self) -> None:
        _remove_queue(self)
        super().clear()


def _remove_queue(system: Tables) -> None:
    if system.tasks and system.deployment:
        while system.workers:
            end(system.workers.pop())
        system.tasks = 0
        system.run("clear()")


class Engine(OnPostgreSQL):
    """Our rows in PostgreSQL, run by a worker of Celery."""

    name = "bgtasks by Celery, RabbitMQ, PostgreSQL"
    modules = ("celery",)
    service = Celery.service
    limit = None
    application = "bench.apps.celery_engine_app"
    command = ("celery", "-A", application, *Celery.command[3:])
    promise = Ours.promise

    def own_environment(self) -> dict[str, str]:
        engine = {"ENGINE": "celery", "APP": f"{self.application}.app"}
        return {
            **super().own_environment(),
            "BENCH_BROKER": BROKER,
            "BENCH_QUEUE": self.token,
            "MORE_SETTINGS": json.dumps({"BGTASKS_ENGINE": engine}),
        }

    def drain(self) -> Drained:
        worker = self.start()
        self._start_relay()
        self.await_executions(worker)
        eventually(lambda: not self.count("background_task"), "the last outcomes")
        self.account()
        ran = self.ledger.read(self.tasks)
        seconds = max(ran.last, self.last_outcome()) - ran.first
        return Drained(self.tasks, (self.tasks - 1) / seconds, ran.duplicates)

    def _start_relay(self) -> None:
        self.workers.append(
            subprocess.Popen(
                [sys.executable, "-m", "django", "process_tasks"],
                env=self.environment(),
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        )

    def clear(self) -> None:
        _remove_queue(self)
        super().clear()
