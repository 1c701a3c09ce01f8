"""Celery on RabbitMQ: a prefork worker of two processes, else its defaults."""

from __future__ import annotations

import os
from urllib.parse import urlsplit

from bench.systems.base import Peer

BROKER = os.environ.get("BENCH_RABBITMQ_URL", "amqp://guest:guest@127.0.0.1:5672//")
ADDRESS = urlsplit(BROKER)


class Celery(Peer):
    name = "Celery, RabbitMQ"
    package = "celery"
    modules = ("celery",)
    service = (ADDRESS.hostname or "127.0.0.1", ADDRESS.port or 5672)
    application = "bench.apps.celery_app"
    command = ("celery", "-A", application, "worker", "--pool", "prefork", "--concurrency", "2")
    promise = (
        "Durable queue, persistent messages; acknowledged before the run, so that a killed "
        "worker loses what it runs. No outcome is recorded."
    )

    def own_environment(self) -> dict[str, str]:
        return {"BENCH_BROKER": BROKER, "BENCH_QUEUE": self.token}

    def clear(self) -> None:
        filled = self.tasks
        super().clear()
        if filled:
            self.tasks = 0
            self.run("clear()")
