"""The Celery app of the tests' project. Its broker and its queue come from the environment."""

from __future__ import annotations

import os
from typing import Any

from celery import Celery, signals
from kombu import Queue

QUEUE = os.environ.get("FLEET_QUEUE", "bgtasks-tests")
# What nobody uses any more is deleted by the broker (RabbitMQ).
GONE_AFTER = 600.0  # seconds


def _queue(name: str) -> Queue:
    return Queue(name, routing_key=name, expires=GONE_AFTER, durable=True)


app = Celery("fleet")
app.conf.update(
    broker_url=os.environ.get("FLEET_BROKER", "memory://"),
    broker_transport_options={"global_keyprefix": f"{QUEUE}:"},
    broker_connection_retry_on_startup=True,
    task_default_queue=QUEUE,
    task_queues=[_queue(QUEUE), _queue(f"{QUEUE}-urgent")],
    task_create_missing_queues=False,
    task_acks_late=bool(os.environ.get("FLEET_ACKS_LATE")),
    worker_hijack_root_logger=False,
    worker_prefetch_multiplier=1,
    worker_proc_alive_timeout=60.0,
    # Which keep a connection and a queue more for each worker.
    worker_enable_remote_control=False,
)


@signals.worker_init.connect
def _forget(**_: Any) -> None:
    """Forget a task, as a worker that is older than it."""
    if name := os.environ.get("FORGET"):
        from background_task.tasks import tasks

        from bgtasks.tasks import registry

        list(registry.import_task_modules())
        tasks._tasks.pop(name)
